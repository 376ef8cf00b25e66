//! The cluster as all of its nodes see it together.
//!
//! Every node is asked for itself, because only a node knows its own state; what a node says about
//! the others is used for members that the configuration does not name. A node that merely answers
//! may be out all the same, so each is also asked whether it can serve (`/readyz`), and what it says
//! is held against the others: the cluster's id, its members, the greatest committed index. Two digests are compared
//! only where they belong to the same applied index: nodes that are asked one after the other while
//! bookings go on are at different indexes, and that is no disagreement. So they are asked several
//! times, and every index at which two of them were met counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{new_key, root_cause};
use super::output::table;
use super::{Client, Method};
use crate::config::Address;

/// What a node says about itself, without waiting for anyone else.
pub(super) const VIEW_PATH: &str = "/api/v1/cluster?consistency=local";
/// How often the nodes are asked until all were met at one index.
const ROUNDS: usize = 6;
/// The pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(60);
/// What a node answers with success when a linearizable read goes through it now.
const READY_PATH: &str = "/readyz";
/// A node that serves may be so many entries behind the greatest commit seen: nodes are asked one
/// after the other while writes go on.
const MAX_LAG: u64 = 1_000;
/// How long one node may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// The whole picture.
#[derive(Debug)]
pub(super) struct Status {
    /// What the configuration calls the cluster, if it was read.
    pub(super) name: Option<String>,
    cluster: Option<String>,
    /// Who leads, as a node knows that can serve; so it has a quorum.
    leader: Option<u64>,
    /// Who takes itself for the leader, or is taken for it, while no node can serve.
    claimed: Option<u64>,
    /// Unknown where no node told.
    term: Option<u64>,
    nodes: Vec<NodeStatus>,
    digests: Agreement,
}

#[derive(Clone, Debug)]
struct NodeStatus {
    id: u64,
    http: String,
    state: String,
    up: bool,
    /// Whether it can serve; unknown where it was not asked.
    ready: Option<bool>,
    /// Whether the cluster counts it among its nodes; unknown where nobody told.
    member: Option<bool>,
    /// What was committed somewhere, and it has not applied.
    lag: Option<u64>,
    /// What keeps it from being healthy, for people.
    troubles: Vec<String>,
    /// What is worth knowing, but no trouble.
    note: Option<&'static str>,
    view: Value,
}

/// Whether replicas are equal where they can be compared.
#[derive(Debug, PartialEq, Eq)]
enum Agreement {
    /// So many nodes had the same digest at this index, and none differed anywhere.
    Equal { index: u64, nodes: usize },
    /// Two nodes had different digests at this index: the promise is broken.
    Differ { index: u64 },
    /// No two nodes were met at one index.
    NotCompared,
}

/// Applied index → digest → the nodes that had it.
#[derive(Debug, Default)]
struct Digests(BTreeMap<u64, BTreeMap<String, BTreeSet<u64>>>);

impl Digests {
    fn note(&mut self, node: u64, view: &Value) {
        if let (Some(index), Some(digest)) = (view["applied"].as_u64(), view["digest"].as_str()) {
            let nodes = self
                .0
                .entry(index)
                .or_default()
                .entry(digest.to_owned())
                .or_default();
            nodes.insert(node);
        }
    }

    fn agreement(&self) -> Agreement {
        if let Some((index, _)) = self.0.iter().find(|(_, digests)| digests.len() > 1) {
            return Agreement::Differ { index: *index };
        }
        let met = |digests: &BTreeMap<String, BTreeSet<u64>>| {
            digests.values().map(BTreeSet::len).max().unwrap_or(0)
        };
        match self
            .0
            .iter()
            .map(|(index, digests)| (met(digests), *index))
            .max()
        {
            Some((nodes, index)) if nodes > 1 => Agreement::Equal { index, nodes },
            _ => Agreement::NotCompared,
        }
    }
}

/// Asks each of these nodes, a few times. A node whose number is not known says it itself.
pub(super) async fn gather(client: &Client, asked: Vec<(Option<u64>, Address)>) -> Status {
    let readiness = asked.iter().map(|(_, address)| ask_ready(client, address));
    let (readiness, (mut nodes, digests)) = tokio::join!(
        futures_util::future::join_all(readiness),
        ask_repeatedly(client, &asked)
    );
    for (node, readiness) in nodes.iter_mut().zip(readiness) {
        node.note_readiness(readiness);
    }
    let mut strangers = strangers(&nodes);
    let asks = strangers.iter().map(|node| async {
        match node.http.parse() {
            Ok(address) => ask_ready(client, &address).await,
            Err(_unusable) => Err("its address is not known".to_owned()),
        }
    });
    let readiness = futures_util::future::join_all(asks).await;
    for (node, readiness) in strangers.iter_mut().zip(readiness) {
        node.up = readiness.is_ok();
        match &readiness {
            Ok(_) => node.note_readiness(readiness),
            Err(trouble) => node.troubles.push(trouble.clone()),
        }
    }
    nodes.extend(strangers);
    assemble(nodes, &digests)
}

async fn ask_repeatedly(
    client: &Client,
    asked: &[(Option<u64>, Address)],
) -> (Vec<NodeStatus>, Digests) {
    let mut digests = Digests::default();
    let mut nodes = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(ROUND_PAUSE).await;
        }
        nodes = ask_all(client, asked).await;
        for node in nodes.iter().filter(|node| node.has_told()) {
            digests.note(node.id, &node.view);
        }
        let told = nodes.iter().filter(|node| node.has_told()).count();
        match digests.agreement() {
            Agreement::Equal { nodes, .. } if nodes >= told => break,
            Agreement::Differ { .. } => break,
            _ if told < 2 => break,
            _ => {}
        }
    }
    (nodes, digests)
}

/// Whether a node can serve. The error says why it did not answer at all. No token is presented:
/// strangers are asked at addresses that nobody here has written down.
async fn ask_ready(client: &Client, address: &Address) -> Result<bool, String> {
    let client = client.clone().without_token();
    let call = client.try_once(address, Method::GET, READY_PATH, None, "");
    match tokio::time::timeout(ASK_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer.is_success()),
        Ok(Err(error)) => Err(root_cause(&error)),
        Err(_elapsed) => Err(format!("no answer within {} s", ASK_TIMEOUT.as_secs())),
    }
}

async fn ask_all(client: &Client, asked: &[(Option<u64>, Address)]) -> Vec<NodeStatus> {
    let asks = asked.iter().map(|(id, address)| ask(client, *id, address));
    futures_util::future::join_all(asks).await
}

async fn ask(client: &Client, id: Option<u64>, address: &Address) -> NodeStatus {
    let key = new_key();
    let call = client.try_once(address, Method::GET, VIEW_PATH, None, &key);
    let blank = |state: &str, up: bool, troubles: Vec<String>, view: Value| NodeStatus {
        id: view["node"].as_u64().or(id).unwrap_or(0),
        http: address.to_string(),
        state: view["state"].as_str().unwrap_or(state).to_owned(),
        up,
        ready: None,
        member: None,
        lag: None,
        troubles,
        note: None,
        view,
    };
    let down = |trouble: String| blank("unreachable", false, vec![trouble], Value::Null);
    match tokio::time::timeout(ASK_TIMEOUT, call).await {
        Ok(Ok(answer)) if answer.is_success() => blank("unknown", true, Vec::new(), answer.body),
        Ok(Ok(answer)) => {
            let said = format!("{} {}", answer.status, answer.code());
            let trouble = match answer.status {
                401 | 403 => format!("refuses the operator token ({said})"),
                _ => format!("does not tell its state ({said})"),
            };
            blank("unknown", true, vec![trouble], Value::Null)
        }
        Ok(Err(error)) => down(root_cause(&error)),
        Err(_elapsed) => down(format!("no answer within {} s", ASK_TIMEOUT.as_secs())),
    }
}

fn assemble(mut nodes: Vec<NodeStatus>, digests: &Digests) -> Status {
    // A node that can serve knows who leads with a quorum; without one, the newest term knows best,
    // for a deposed leader may not have noticed yet.
    let best = nodes
        .iter()
        .filter(|node| node.has_told())
        .max_by_key(|node| {
            let led = node.view["leader"].is_u64();
            let leads = node.state == "leader";
            let ready = node.ready == Some(true);
            (ready, node.view["term"].as_u64(), led, leads)
        });
    let term = best.and_then(|node| node.view["term"].as_u64());
    let claimed = best.and_then(|node| node.view["leader"].as_u64());
    let leader = claimed.filter(|_| best.is_some_and(|node| node.ready == Some(true)));
    let cluster = best
        .and_then(|node| node.view["cluster"].as_str())
        .or_else(|| nodes.iter().find_map(|node| node.view["cluster"].as_str()))
        .map(str::to_owned);
    let members = best.map(members_of).unwrap_or_default();
    let commit = nodes
        .iter()
        .filter(|node| node.view["cluster"].as_str() == cluster.as_deref())
        .filter_map(|node| node.view["commit"].as_u64())
        .max();
    for node in &mut nodes {
        node.judge(cluster.as_deref(), &members, commit);
    }
    nodes.sort_by_key(|node| node.id);
    Status {
        name: None,
        cluster,
        leader,
        claimed,
        term,
        nodes,
        digests: digests.agreement(),
    }
}

/// The nodes of the cluster as one of them knows them. Empty where it knows none.
fn members_of(node: &NodeStatus) -> BTreeSet<u64> {
    let members = node.view["nodes"].as_array().into_iter().flatten();
    members.filter_map(|member| member["id"].as_u64()).collect()
}

/// Members that were not asked: known by hearsay only.
fn strangers(nodes: &[NodeStatus]) -> Vec<NodeStatus> {
    let known: BTreeSet<u64> = nodes.iter().map(|node| node.id).collect();
    let mut strangers = BTreeMap::new();
    for member in nodes
        .iter()
        .flat_map(|node| node.view["nodes"].as_array().into_iter().flatten())
    {
        if let Some(id) = member["id"].as_u64().filter(|id| !known.contains(id)) {
            strangers.entry(id).or_insert_with(|| NodeStatus {
                id,
                http: member["http"].as_str().unwrap_or_default().to_owned(),
                state: member["state"].as_str().unwrap_or("unknown").to_owned(),
                up: member["up"].as_bool().unwrap_or(false),
                ready: None,
                member: Some(true),
                lag: None,
                troubles: Vec::new(),
                note: Some("not in the configuration, so its state was not asked for"),
                view: Value::Null,
            });
        }
    }
    strangers.into_values().collect()
}

impl Status {
    /// Whether a leader with a quorum is known, every node is a member that is up, can serve and is
    /// not far behind, and no two digests differ.
    pub(super) fn is_healthy(&self) -> bool {
        let agrees = !matches!(self.digests, Agreement::Differ { .. });
        self.leader.is_some() && agrees && self.nodes.iter().all(NodeStatus::is_healthy)
    }

    fn headline(&self) -> String {
        let told = self.nodes.iter().any(NodeStatus::has_told);
        let name = self.name.as_deref().unwrap_or("at these addresses");
        let cluster = match &self.cluster {
            Some(id) => id,
            None if told => "not initialized",
            None => "nothing is known of it: no node tells its state",
        };
        let leader = match (self.leader, self.claimed) {
            (Some(id), _) => format!(", node {id} leads"),
            (None, Some(id)) => {
                format!(", no node can serve; node {id} was the leader, but no quorum confirms it")
            }
            (None, None) if told => ", nobody leads".to_owned(),
            (None, None) => String::new(),
        };
        let term = self
            .term
            .map_or_else(String::new, |term| format!(", term {term}"));
        format!("cluster {name} ({cluster}){leader}{term}")
    }

    /// The object that the contract describes, with more fields.
    pub(super) fn to_json(&self) -> Value {
        let nodes: Vec<Value> = self.nodes.iter().map(NodeStatus::to_json).collect();
        let digests = match self.digests {
            Agreement::Equal { index, nodes } => {
                json!({ "verdict": "equal", "index": index, "nodes": nodes })
            }
            Agreement::Differ { index } => json!({ "verdict": "differ", "index": index }),
            Agreement::NotCompared => json!({ "verdict": "not_compared" }),
        };
        json!({
            "name": self.name,
            "cluster": self.cluster,
            "leader": self.leader,
            "term": self.term,
            "healthy": self.is_healthy(),
            "digests": digests,
            "nodes": nodes,
        })
    }

    /// A table for people.
    pub(super) fn to_lines(&self) -> Vec<String> {
        let mut lines = vec![self.headline(), String::new()];
        let heading = [
            "node", "http", "state", "ready", "applied", "commit", "snapshot", "lag", "digest", "",
        ];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(self.nodes.iter().map(NodeStatus::to_row));
        lines.extend(table(&rows));
        lines.push(String::new());
        lines.push(match &self.digests {
            Agreement::Equal { index, nodes } => format!("{nodes} nodes have the same state at index {index}"),
            Agreement::Differ { index } => {
                format!("THE STATES DIFFER at index {index}: stop the cluster and keep its data for an inquiry")
            }
            Agreement::NotCompared => "no two nodes were met at one index, so their states were not compared".to_owned(),
        });
        let verdict = if self.is_healthy() {
            "healthy"
        } else {
            "NOT HEALTHY"
        };
        lines.push(verdict.to_owned());
        lines
    }
}

impl NodeStatus {
    /// Whether it said how it is.
    fn has_told(&self) -> bool {
        !self.view.is_null()
    }

    fn is_healthy(&self) -> bool {
        self.up && self.ready == Some(true) && self.troubles.is_empty()
    }

    /// No answer to that question says nothing of its own: the node is down, or not ready.
    fn note_readiness(&mut self, readiness: Result<bool, String>) {
        self.ready = Some(readiness.unwrap_or(false));
    }

    /// Holds what it says against what the others know.
    fn judge(&mut self, cluster: Option<&str>, members: &BTreeSet<u64>, commit: Option<u64>) {
        if !members.is_empty() {
            self.member = Some(members.contains(&self.id));
        }
        let applied = self.view["applied"].as_u64();
        self.lag = commit
            .zip(applied)
            .map(|(commit, applied)| commit.saturating_sub(applied));
        let own = self.view["cluster"].as_str();
        match (own, cluster) {
            (Some(own), Some(cluster)) if own != cluster => {
                self.troubles
                    .push(format!("belongs to another cluster, {own}"));
            }
            (None, Some(_)) if self.has_told() && self.member == Some(true) => {
                let trouble = "is a member, but has no data: replace it under a new number";
                self.troubles.push(trouble.to_owned());
            }
            _ => {}
        }
        if self.member == Some(false) {
            self.troubles.push("not a member of the cluster".to_owned());
        }
        if self.up && self.ready == Some(false) {
            self.troubles.push("not ready".to_owned());
        }
        if let Some(lag) = self.lag
            && (lag > MAX_LAG || (lag > 0 && self.ready == Some(false)))
        {
            self.troubles.push(format!("{lag} entries behind"));
        }
    }

    fn to_json(&self) -> Value {
        let mut object = json!({
            "id": self.id,
            "http": self.http,
            "state": self.state,
            "up": self.up,
            "ready": self.ready,
            "member": self.member,
            "healthy": self.is_healthy(),
        });
        for name in [
            "peer",
            "term",
            "applied",
            "commit",
            "last_log",
            "snapshot",
            "purged",
            "digest",
            "staleness_ms",
            "voter",
        ] {
            if !self.view[name].is_null() {
                object[name] = self.view[name].clone();
            }
        }
        if let Some(lag) = self.lag {
            object["lag"] = json!(lag);
        }
        if !self.remarks().is_empty() {
            object["trouble"] = json!(self.remarks());
        }
        object
    }

    /// Why it is not healthy, and what else is to be said of it.
    fn remarks(&self) -> String {
        let troubles = self.troubles.iter().map(String::as_str);
        let remarks: Vec<&str> = troubles.chain(self.note).collect();
        remarks.join("; ")
    }

    fn to_row(&self) -> Vec<String> {
        let number = |name: &str| {
            self.view[name]
                .as_u64()
                .map_or_else(|| "-".to_owned(), |value| value.to_string())
        };
        let lag = self
            .lag
            .map_or_else(|| "-".to_owned(), |lag| lag.to_string());
        let ready = match self.ready {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        let digest: String = self.view["digest"]
            .as_str()
            .unwrap_or("-")
            .chars()
            .take(12)
            .collect();
        let mut row = vec![self.id.to_string(), self.http.clone(), self.state.clone()];
        row.push(ready.to_owned());
        row.extend([
            number("applied"),
            number("commit"),
            number("snapshot"),
            lag,
            digest,
        ]);
        row.push(self.remarks());
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, view: Value) -> NodeStatus {
        NodeStatus {
            id,
            http: format!("127.0.0.1:{}", 8100 + id),
            state: view["state"].as_str().unwrap_or("unreachable").to_owned(),
            up: !view.is_null(),
            ready: Some(!view.is_null()),
            member: None,
            lag: None,
            troubles: if view.is_null() {
                vec!["connection refused".to_owned()]
            } else {
                Vec::new()
            },
            note: None,
            view,
        }
    }

    fn view(
        id: u64,
        state: &str,
        term: u64,
        leader: Option<u64>,
        applied: u64,
        digest: &str,
    ) -> NodeStatus {
        node(
            id,
            json!({
                "cluster": "c-1", "node": id, "state": state, "term": term, "leader": leader,
                "applied": applied, "commit": applied, "digest": digest,
            }),
        )
    }

    fn status(nodes: Vec<NodeStatus>) -> Status {
        let mut digests = Digests::default();
        for node in &nodes {
            digests.note(node.id, &node.view);
        }
        let mut nodes = nodes;
        nodes.extend(strangers(&nodes));
        assemble(nodes, &digests)
    }

    #[test]
    fn a_whole_cluster_is_healthy_and_says_what_the_contract_says() {
        let status = status(vec![
            view(1, "follower", 5, Some(2), 812, "aa"),
            view(2, "leader", 5, Some(2), 812, "aa"),
            view(3, "follower", 5, Some(2), 811, "bb"),
        ]);
        assert!(status.is_healthy());
        let json = status.to_json();
        assert_eq!(
            (json["leader"].as_u64(), json["term"].as_u64()),
            (Some(2), Some(5))
        );
        assert_eq!(json["nodes"][0]["id"], 1);
        assert_eq!(json["nodes"][0]["http"], "127.0.0.1:8101");
        assert_eq!(json["nodes"][0]["state"], "follower");
        assert_eq!(json["nodes"][0]["up"], true);
        assert_eq!(json["nodes"][0]["applied"], 812);
        assert_eq!(
            json["digests"],
            json!({ "verdict": "equal", "index": 812, "nodes": 2 })
        );
    }

    #[test]
    fn different_digests_at_one_index_are_shouted_about() {
        let status = status(vec![
            view(1, "follower", 5, Some(2), 812, "aa"),
            view(2, "leader", 5, Some(2), 812, "bb"),
        ]);
        assert!(!status.is_healthy());
        assert_eq!(status.digests, Agreement::Differ { index: 812 });
        assert!(
            status
                .to_lines()
                .join("\n")
                .contains("THE STATES DIFFER at index 812")
        );
    }

    #[test]
    fn different_indexes_are_no_disagreement() {
        let status = status(vec![
            view(1, "follower", 5, Some(2), 811, "aa"),
            view(2, "leader", 5, Some(2), 812, "bb"),
        ]);
        assert_eq!(status.digests, Agreement::NotCompared);
        assert!(status.is_healthy());
    }

    #[test]
    fn a_deposed_leader_is_not_believed() {
        let status = status(vec![
            view(1, "leader", 4, Some(1), 700, "aa"),
            view(2, "leader", 5, Some(2), 812, "bb"),
            node(3, Value::Null),
        ]);
        assert_eq!((status.leader, status.term), (Some(2), Some(5)));
        assert!(!status.is_healthy(), "node 3 is down");
        let json = status.to_json();
        assert_eq!(json["nodes"][2]["state"], "unreachable");
        assert_eq!(json["nodes"][2]["up"], false);
        assert!(json["nodes"][2].get("applied").is_none());
    }

    #[test]
    fn nobody_up_is_said_plainly() {
        let status = status(vec![node(1, Value::Null), node(2, Value::Null)]);
        assert!(!status.is_healthy());
        assert_eq!(status.to_json()["leader"], Value::Null);
        let headline = &status.to_lines()[0];
        assert!(headline.contains("nothing is known of it"), "{headline}");
        assert!(!headline.contains("not initialized") && !headline.contains("term"));
    }

    #[test]
    fn a_member_that_the_configuration_does_not_name_is_shown() {
        let mut first = view(1, "leader", 5, Some(1), 812, "aa");
        first.view["nodes"] = json!([
            { "id": 1, "http": "127.0.0.1:8101", "state": "leader", "up": true },
            { "id": 4, "http": "127.0.0.1:8104", "state": "learner", "up": true, "applied": 800 },
        ]);
        let json = status(vec![first]).to_json();
        assert_eq!(json["nodes"][1]["id"], 4);
        assert_eq!(json["nodes"][1]["state"], "learner");
        let trouble = json["nodes"][1]["trouble"].as_str().unwrap_or_default();
        assert!(trouble.contains("not in the configuration"), "{trouble}");
    }

    /// Three nodes of which the third is changed; it must make the whole unhealthy, for this reason.
    fn third_is_out(change: impl FnOnce(&mut NodeStatus), reason: &str) {
        let nodes = json!([{ "id": 1 }, { "id": 2 }, { "id": 3 }]);
        let mut three: Vec<NodeStatus> = vec![
            view(1, "follower", 5, Some(2), 812, "aa"),
            view(2, "leader", 5, Some(2), 812, "aa"),
            view(3, "follower", 5, Some(2), 812, "aa"),
        ];
        for node in &mut three {
            node.view["nodes"] = nodes.clone();
        }
        assert!(status(three.clone()).is_healthy());
        change(&mut three[2]);
        let status = status(three);
        assert!(!status.is_healthy(), "{reason}");
        assert_eq!(status.leader, Some(2));
        let json = status.to_json();
        let trouble = json["nodes"][2]["trouble"].as_str().unwrap_or_default();
        assert!(trouble.contains(reason), "{trouble}");
    }

    #[test]
    fn a_node_that_answers_but_is_out_is_not_healthy() {
        third_is_out(|node| node.ready = Some(false), "not ready");
        third_is_out(
            |node| {
                // It knows of no later entries, so that its own commit tells nothing; and it has
                // tried to be elected since, in vain.
                node.ready = Some(false);
                node.view["applied"] = json!(800);
                node.view["commit"] = json!(800);
                node.view["term"] = json!(9);
                node.view["leader"] = Value::Null;
            },
            "12 entries behind",
        );
        third_is_out(
            |node| {
                node.view["cluster"] = Value::Null;
                node.view["applied"] = json!(0);
                node.view["nodes"] = json!([]);
            },
            "is a member, but has no data",
        );
        third_is_out(
            |node| node.view["cluster"] = json!("c-2"),
            "another cluster, c-2",
        );
    }

    #[test]
    fn far_behind_is_not_healthy_and_a_little_behind_is() {
        let with_lag = |lag: u64| {
            status(vec![
                view(1, "leader", 5, Some(1), 5_000, "aa"),
                view(2, "follower", 5, Some(1), 5_000 - lag, "bb"),
            ])
        };
        assert!(with_lag(MAX_LAG).is_healthy());
        let far = with_lag(MAX_LAG + 1);
        assert!(!far.is_healthy());
        assert_eq!(far.to_json()["nodes"][1]["lag"], MAX_LAG + 1);
    }

    #[test]
    fn a_removed_node_is_no_member() {
        let mut leader = view(1, "leader", 5, Some(1), 812, "aa");
        leader.view["nodes"] = json!([{ "id": 1 }]);
        let status = status(vec![leader, view(2, "follower", 4, Some(1), 700, "bb")]);
        assert!(!status.is_healthy());
        let json = status.to_json();
        assert_eq!(json["nodes"][1]["member"], false);
        assert!(status.to_lines().join("\n").contains("not a member"));
    }

    #[test]
    fn a_leader_without_a_quorum_does_not_lead() {
        let mut alone = view(3, "leader", 5, Some(3), 812, "aa");
        alone.ready = Some(false);
        let status = status(vec![node(1, Value::Null), node(2, Value::Null), alone]);
        assert!(!status.is_healthy());
        assert_eq!(status.to_json()["leader"], Value::Null);
        assert!(status.to_lines()[0].contains("no quorum confirms it"));
    }
}
