//! The bodies of the messages that are this package's own; those of Raft itself are openraft's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::node::ControlError;
use crate::submit::Traced;
use crate::types::{NodeId, SnapshotMeta, StorageId, Types, Vote};
use crate::wire::ClusterId;

/// A piece of a snapshot's file.
#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotChunk {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    /// The length of the whole file in bytes.
    pub(crate) total_bytes: u64,
    /// Where this piece begins.
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
}

/// What the receiver of a piece says.
#[derive(Serialize, Deserialize)]
pub(crate) enum SnapshotAnswer {
    /// It wants the piece at this offset next: 0 where it lost what it had.
    Continue { offset: u64 },
    /// The file was whole, and is installed, or refused because of a higher vote.
    Done(openraft::raft::SnapshotResponse<Types>),
    /// The file could not be stored.
    Failed,
}

/// What became of a forwarded command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// In the log at `index`, and answered.
    Applied { index: u64, reply: Bytes },
    /// Certainly never appended: this node does not lead.
    NotLeader,
    /// Certainly never appended: too much is in flight.
    Overloaded,
    /// It may or may not take effect.
    Unknown,
}

/// Commands for the leader.
#[derive(Serialize, Deserialize)]
pub(crate) struct ProposeBatch {
    pub(crate) commands: Vec<Traced>,
}

/// Who a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Introduction {
    pub(crate) node: NodeId,
    pub(crate) storage: StorageId,
    pub(crate) cluster: Option<ClusterId>,
}

/// A node's place in the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PeerStatus {
    pub(crate) state: String,
    /// The last index of its log, once it knows.
    pub(crate) last_log: Option<u64>,
    pub(crate) applied: u64,
    /// The state's digest at `applied`.
    pub(crate) digest: String,
}

/// An operator's request to the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ControlRequest {
    TransferLeader {
        to: Option<NodeId>,
    },
    AddNode {
        id: NodeId,
        peer: String,
        http: String,
    },
    RemoveNode {
        id: NodeId,
    },
}

pub(crate) type ControlAnswer = Result<(), ControlError>;
