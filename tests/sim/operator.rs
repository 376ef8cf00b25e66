//! The operator: founds the cluster, lays the space out, and carries out what the plan has operators do.
//!
//! It speaks to the cluster as operators do, over HTTP, on a node that may be down; so each job is tried until its
//! outcome is known.

use std::sync::Arc;
use std::time::Duration;

use mesto_raft::NodeId;
use serde_json::json;

use crate::checker::history::Id;
use crate::clients::{SPACE, space_document};
use crate::coverage::Event;
use crate::dice::Dice;
use crate::front::{Request, Response};
use crate::machine::{OPERATOR, place};
use crate::shared::note;
use crate::town::{Job, Told, Town};

/// How long the operator waits for an answer, in milliseconds.
const PATIENCE_MS: u64 = 8_000;

/// The operator.
pub(crate) struct Operator {
    town: Arc<Town>,
    dice: Dice,
}

impl Operator {
    /// An operator who has nothing to do yet.
    pub(crate) fn new(town: &Arc<Town>) -> Self {
        Self {
            town: Arc::clone(town),
            dice: Dice::new(town.plan.seed, "operator"),
        }
    }

    /// Carries out one job after another.
    pub(crate) async fn live(mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let job = {
                let mut jobs = self.town.jobs.lock();
                jobs.working = jobs.waiting.pop_front();
                jobs.working
            };
            if let Some(job) = job {
                note!(self.town.shared, "operator begins: {job:?}");
                let done = self.carry_out(job).await;
                note!(self.town.shared, "operator ends: {job:?}, {done}");
                self.town.jobs.lock().working = None;
            }
        }
    }

    async fn carry_out(&mut self, job: Job) -> &'static str {
        match job {
            Job::Open => self.open().await,
            Job::Add(id) => self.add(id).await,
            Job::Remove(id) => self.remove(id).await,
            Job::Transfer => {
                let request =
                    Request::new("POST", "/api/v1/cluster/transfer-leader").body(json!({}));
                self.once(None, request, Event::LeaderTransferred).await
            }
            Job::Snapshot(id) => {
                let request = Request::new("POST", "/api/v1/cluster/snapshot");
                self.once(Some(id), request, Event::SnapshotTaken).await
            }
        }
    }

    async fn once(&mut self, node: Option<NodeId>, request: Request, event: Event) -> &'static str {
        match self.ask(node, request).await {
            Told::Answer(response) if response.is_success() => {
                self.town.count(event);
                "done"
            }
            _ => "not done",
        }
    }

    async fn ask(&mut self, node: Option<NodeId>, request: Request) -> Told {
        let node = node.unwrap_or_else(|| *self.dice.pick(&self.town.nodes.lock()));
        self.town
            .ask(node, request.token(OPERATOR), PATIENCE_MS)
            .await
    }

    /// Asks again and again until somebody succeeds or refuses for good.
    async fn insist(&mut self, node: Option<NodeId>, request: Request) -> Arc<Response> {
        loop {
            let told = self.ask(node, request.clone()).await;
            if let Told::Answer(response) = told
                && (response.is_success() || response.status == 409)
            {
                return response;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn open(&mut self) -> &'static str {
        let init = Request::new("POST", "/api/v1/cluster/init");
        loop {
            // It is refused for as long as a founder does not answer.
            let response = self.insist(Some(1), init.clone()).await;
            if response.is_success() || response.code() == "already_initialized" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let desks = self.town.plan.load.desks;
        let document = Request::new("PUT", format!("/api/v1/admin/spaces/{SPACE}"))
            .body(space_document(desks, 30));
        self.insist(None, document).await;
        let space = Request::new("GET", format!("/api/v1/spaces/{SPACE}"));
        let space = self.insist(None, space).await;
        let rows = space.body["halls"][0]["desks"]
            .as_array()
            .into_iter()
            .flatten();
        let ids: Vec<Id> = rows
            .filter_map(|desk| desk["id"].as_str().map(Id::from))
            .collect();
        self.town.lay_out(ids, space.index.unwrap_or(0));
        self.town.jobs.lock().open = true;
        "done"
    }

    async fn add(&mut self, id: NodeId) -> &'static str {
        {
            let mut jobs = self.town.jobs.lock();
            jobs.joining = Some(id);
            jobs.members.insert(id);
        }
        let place = place(id);
        let body = json!({"id": id, "http": place.http, "peer": place.peer});
        let request = Request::new("POST", "/api/v1/cluster/nodes").body(body);
        loop {
            let response = self.insist(None, request.clone()).await;
            if response.is_success() {
                let mut jobs = self.town.jobs.lock();
                jobs.joining = None;
                drop(jobs);
                self.town.nodes.lock().push(id);
                self.town.count(Event::NodeAdded);
                return "done";
            }
            note!(
                self.town.shared,
                "node {id} was not added: {}",
                response.body["detail"]
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn remove(&mut self, id: NodeId) -> &'static str {
        self.town.jobs.lock().leaving = Some(id);
        // Who operates a cluster asks the nodes that stay.
        self.town.nodes.lock().retain(|node| *node != id);
        let request = Request::new("DELETE", format!("/api/v1/cluster/nodes/{id}"));
        loop {
            let response = self.insist(None, request.clone()).await;
            if response.is_success() {
                let mut jobs = self.town.jobs.lock();
                jobs.leaving = None;
                jobs.members.remove(&id);
                jobs.gone.insert(id);
                drop(jobs);
                self.town.count(Event::NodeRemoved);
                return "done";
            }
            note!(
                self.town.shared,
                "node {id} was not removed: {}",
                response.body["detail"]
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
