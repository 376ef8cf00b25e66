//! What the service layer needs of a node, and nothing more.
//!
//! A [`Replica`] takes a command as bytes, has it replicated and decided, and gives the reply back; it lets the local
//! state be read, and says how far and how fresh that state is. It is implemented over consensus by the node, and by
//! [`LocalReplica`], a single one in memory, for tests of what lies above.
//!
//! The errors are chosen by what the caller may conclude. A refusal by the domain is not an error: it travels in the
//! reply. [`ProposeError::Unknown`] is the one case in which nobody can say whether the command took effect; every other
//! variant promises that it did not.

mod local;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;
use thiserror::Error;

pub use local::{Fault, LocalReplica};

use crate::booking::Store;

/// One node of the replicated state machine.
pub trait Replica: Send + Sync + 'static {
    /// Replicates and applies `command`, wherever the leader is, and answers what was decided.
    ///
    /// Retries inside are safe, because every envelope carries its dedup key. `request_id` follows the command to the
    /// leader and into its log lines. The future ends within `deadline`, give or take a scheduling delay.
    fn propose<'a>(
        &'a self,
        command: Bytes,
        deadline: Duration,
        request_id: &'a str,
    ) -> BoxFuture<'a, Result<Decided, ProposeError>>;

    /// A linearizable read barrier: when it answers, this node has applied at least everything that was acknowledged
    /// anywhere before the call. Answers the index that was reached.
    fn read_barrier(&self, deadline: Duration) -> BoxFuture<'_, Result<u64, ReadError>>;

    /// Waits until this node has applied `index`.
    fn wait_applied(&self, index: u64, deadline: Duration) -> BoxFuture<'_, Result<(), ReadError>>;

    /// Runs `f` once on one consistent view of the local state, under the state's read lock: `f` must be quick, and
    /// must not wait for anything.
    fn view(&self, f: &mut dyn FnMut(&dyn Store, Viewed)) -> Result<(), ReadError>;

    /// The applied index, and a wake-up for every change of it.
    fn applied(&self) -> tokio::sync::watch::Receiver<u64>;

    /// How old this node's state may be at most; `None` where the node cannot vouch for any bound.
    fn staleness(&self) -> Option<Duration>;

    /// The cluster as this node sees it.
    fn cluster(&self) -> ClusterView;
}

/// What an operator does to a cluster. Implemented by the node beside [`Replica`].
pub trait Control: Send + Sync + 'static {
    /// Bootstraps a new cluster, once and explicitly, with this node as its first voter or with all configured nodes.
    /// Answers the cluster id.
    fn initialize(&self) -> BoxFuture<'_, Result<String, ControlError>>;

    /// Hands leadership to node `to`, or to the most advanced other voter.
    fn transfer_leader(&self, to: Option<u64>) -> BoxFuture<'_, Result<(), ControlError>>;

    /// Takes a snapshot on this node. Answers the last log index that it covers.
    fn snapshot(&self) -> BoxFuture<'_, Result<u64, ControlError>>;

    /// Adds a node, first as a learner, then as a voter.
    fn add_node(&self, node: NewNode) -> BoxFuture<'_, Result<(), ControlError>>;

    /// Removes a node from the membership for good.
    fn remove_node(&self, id: u64) -> BoxFuture<'_, Result<(), ControlError>>;
}

/// A node that is to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// Never used before in this cluster.
    pub id: u64,
    /// `host:port` where it serves clients.
    pub http: String,
    /// `host:port` where it serves its peers.
    pub peer: String,
}

/// A command that went through the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The log index of the entry.
    pub index: u64,
    /// The encoded reply of the state machine; a refusal travels here too.
    pub reply: Bytes,
}

/// Which state a view shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewed {
    /// The last applied log index.
    pub index: u64,
    /// The replicated time of that entry, in milliseconds since the epoch.
    pub now_ms: u64,
}

/// Why a command has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Nobody led within the deadline. Not applied.
    #[error("no leader was found in time")]
    NoLeader,
    /// There is no cluster yet. Not applied.
    #[error("the cluster is not initialized yet")]
    NotInitialized,
    /// Too much is in flight. Not applied.
    #[error("the replication queue is full")]
    Overloaded,
    /// Longer than one log entry may be. Not applied.
    #[error("the command is longer than a log entry may be")]
    TooLarge,
    /// It may or may not have taken effect, or may yet do so.
    #[error("the outcome of the command is unknown")]
    Unknown,
}

/// Why the state could not be read as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReadError {
    /// No leader confirmed the read within the deadline.
    #[error("no leader confirmed the read in time")]
    NoLeader,
    /// There is no cluster yet.
    #[error("the cluster is not initialized yet")]
    NotInitialized,
    /// This node did not apply the wanted index in time.
    #[error("the wanted index was not applied in time")]
    Timeout,
    /// This node cannot vouch for the wanted freshness.
    #[error("the local state may be older than was asked for")]
    TooStale,
    /// The state of this node cannot be read at all: it is stopping, or its store has failed.
    #[error("the local state cannot be read")]
    Unavailable,
}

/// Why an operator's request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ControlError {
    /// The cluster exists already.
    #[error("the cluster is already initialized")]
    AlreadyInitialized,
    /// There is no cluster yet.
    #[error("the cluster is not initialized yet")]
    NotInitialized,
    /// No leader was found in time. Nothing was changed.
    #[error("no leader was found in time")]
    NoLeader,
    /// The request cannot be carried out as asked; the text is for the operator and names no secret.
    #[error("{0}")]
    Refused(String),
    /// It may or may not have been carried out.
    #[error("the outcome is unknown")]
    Unknown,
}

/// The cluster as one node sees it: the answer of `GET /cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterView {
    /// The cluster's id, once it is initialised.
    pub cluster: Option<String>,
    /// The node that answers.
    pub node: u64,
    /// What that node is now: `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub state: String,
    /// The leader as far as this node knows.
    pub leader: Option<u64>,
    /// The current term.
    pub term: u64,
    /// The last log index of this node.
    pub last_log: u64,
    /// The last log index that this node knows to be committed.
    pub commit: u64,
    /// The last log index that this node has applied.
    pub applied: u64,
    /// The last log index that this node's newest snapshot covers.
    pub snapshot: Option<u64>,
    /// The last log index that this node has purged.
    pub purged: Option<u64>,
    /// The digest of this node's state at `applied`, in hexadecimal.
    pub digest: String,
    /// How old this node's state may be, in milliseconds; absent where it cannot vouch for any bound.
    pub staleness_ms: Option<u64>,
    /// Every member, by id.
    pub nodes: Vec<NodeView>,
}

/// One member of the cluster as another sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// The node's id.
    pub id: u64,
    /// `host:port` where it serves clients.
    pub http: String,
    /// `host:port` where it serves its peers.
    pub peer: String,
    /// `leader`, `follower`, `candidate`, `learner`, `stopped`, or `unknown` where it did not answer.
    pub state: String,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it was heard of lately.
    pub up: bool,
    /// The last log index that it has applied, as far as is known.
    pub applied: Option<u64>,
    /// The digest of its state at `applied`, in hexadecimal, as far as is known.
    pub digest: Option<String>,
    /// How many entries it is behind the answering node's commit index, as far as is known.
    pub lag: Option<u64>,
}
