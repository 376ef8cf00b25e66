//! The cluster as all of its nodes see it together.
//!
//! Every node is asked for itself, because only a node knows its own state; what a node says about
//! the others is used for members that the configuration does not name. Two digests are compared
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
/// How long one node may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// The whole picture.
#[derive(Debug)]
pub(super) struct Status {
    /// What the configuration calls the cluster, if it was read.
    pub(super) name: Option<String>,
    cluster: Option<String>,
    leader: Option<u64>,
    term: u64,
    nodes: Vec<NodeStatus>,
    digests: Agreement,
}

#[derive(Clone, Debug)]
struct NodeStatus {
    id: u64,
    http: String,
    state: String,
    up: bool,
    /// Why it is not up, for people.
    trouble: Option<String>,
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
    let mut digests = Digests::default();
    let mut nodes = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(ROUND_PAUSE).await;
        }
        nodes = ask_all(client, &asked).await;
        for node in nodes.iter().filter(|node| node.up) {
            digests.note(node.id, &node.view);
        }
        let up = nodes.iter().filter(|node| node.up).count();
        match digests.agreement() {
            Agreement::Equal { nodes, .. } if nodes >= up => break,
            Agreement::Differ { .. } => break,
            _ if up < 2 => break,
            _ => {}
        }
    }
    assemble(nodes, &digests)
}

async fn ask_all(client: &Client, asked: &[(Option<u64>, Address)]) -> Vec<NodeStatus> {
    let asks = asked.iter().map(|(id, address)| ask(client, *id, address));
    futures_util::future::join_all(asks).await
}

async fn ask(client: &Client, id: Option<u64>, address: &Address) -> NodeStatus {
    let key = new_key();
    let call = client.try_once(address, Method::GET, VIEW_PATH, None, &key);
    let down = |trouble: String| NodeStatus {
        id: id.unwrap_or(0),
        http: address.to_string(),
        state: "unreachable".to_owned(),
        up: false,
        trouble: Some(trouble),
        view: Value::Null,
    };
    match tokio::time::timeout(ASK_TIMEOUT, call).await {
        Ok(Ok(answer)) if answer.is_success() => NodeStatus {
            id: answer.body["node"].as_u64().or(id).unwrap_or(0),
            http: address.to_string(),
            state: answer.body["state"]
                .as_str()
                .unwrap_or("unknown")
                .to_owned(),
            up: true,
            trouble: None,
            view: answer.body,
        },
        Ok(Ok(answer)) => down(format!("answers {} {}", answer.status, answer.code())),
        Ok(Err(error)) => down(root_cause(&error)),
        Err(_elapsed) => down(format!("no answer within {} s", ASK_TIMEOUT.as_secs())),
    }
}

fn assemble(mut nodes: Vec<NodeStatus>, digests: &Digests) -> Status {
    // The newest term knows best who leads; a deposed leader may not have noticed yet.
    let newest = nodes.iter().filter(|node| node.up).max_by_key(|node| {
        let led = node.view["leader"].is_u64();
        (node.view["term"].as_u64(), led)
    });
    let term = newest
        .and_then(|node| node.view["term"].as_u64())
        .unwrap_or(0);
    let leader = newest.and_then(|node| node.view["leader"].as_u64());
    let cluster = nodes
        .iter()
        .find_map(|node| node.view["cluster"].as_str())
        .map(str::to_owned);
    let known: BTreeSet<u64> = nodes.iter().map(|node| node.id).collect();
    let mut strangers = BTreeMap::new();
    for member in nodes
        .iter()
        .flat_map(|node| node.view["nodes"].as_array().into_iter().flatten())
    {
        if let Some(id) = member["id"].as_u64().filter(|id| !known.contains(id)) {
            strangers.entry(id).or_insert_with(|| stranger(id, member));
        }
    }
    nodes.extend(strangers.into_values());
    nodes.sort_by_key(|node| node.id);
    Status {
        name: None,
        cluster,
        leader,
        term,
        nodes,
        digests: digests.agreement(),
    }
}

/// A member that the configuration does not name: known by hearsay only.
fn stranger(id: u64, member: &Value) -> NodeStatus {
    NodeStatus {
        id,
        http: member["http"].as_str().unwrap_or_default().to_owned(),
        state: member["state"].as_str().unwrap_or("unknown").to_owned(),
        up: member["up"].as_bool().unwrap_or(false),
        trouble: Some("not in the configuration".to_owned()),
        view: member.clone(),
    }
}

impl Status {
    /// Whether a leader is known, every node is up, and no two digests differ.
    pub(super) fn is_healthy(&self) -> bool {
        let agrees = !matches!(self.digests, Agreement::Differ { .. });
        self.leader.is_some() && agrees && self.nodes.iter().all(|node| node.up)
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
        let leader = self.leader.map_or_else(
            || "nobody leads".to_owned(),
            |id| format!("node {id} leads"),
        );
        let cluster = self.cluster.as_deref().unwrap_or("not initialized");
        let mut lines = vec![
            format!(
                "cluster {} ({cluster}): {leader}, term {}",
                self.name.as_deref().unwrap_or("at these addresses"),
                self.term
            ),
            String::new(),
        ];
        let heading = [
            "node", "http", "state", "applied", "commit", "snapshot", "lag", "digest", "",
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
        lines
    }
}

impl NodeStatus {
    fn to_json(&self) -> Value {
        let mut object = json!({
            "id": self.id,
            "http": self.http,
            "state": self.state,
            "up": self.up,
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
            "lag",
        ] {
            if !self.view[name].is_null() {
                object[name] = self.view[name].clone();
            }
        }
        if let Some(trouble) = &self.trouble {
            object["trouble"] = json!(trouble);
        }
        object
    }

    fn to_row(&self) -> Vec<String> {
        let number = |name: &str| {
            self.view[name]
                .as_u64()
                .map_or_else(|| "-".to_owned(), |value| value.to_string())
        };
        let lag = match (self.view["commit"].as_u64(), self.view["applied"].as_u64()) {
            (Some(commit), Some(applied)) => commit.saturating_sub(applied).to_string(),
            _ => number("lag"),
        };
        let digest: String = self.view["digest"]
            .as_str()
            .unwrap_or("-")
            .chars()
            .take(12)
            .collect();
        let mut row = vec![self.id.to_string(), self.http.clone(), self.state.clone()];
        row.extend([
            number("applied"),
            number("commit"),
            number("snapshot"),
            lag,
            digest,
        ]);
        row.push(self.trouble.clone().unwrap_or_default());
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
            trouble: view.is_null().then(|| "connection refused".to_owned()),
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
        assert_eq!((status.leader, status.term), (Some(2), 5));
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
        assert!(status.to_lines()[0].contains("nobody leads"));
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
        assert_eq!(json["nodes"][1]["trouble"], "not in the configuration");
    }
}
