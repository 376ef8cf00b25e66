//! What consensus carries: commands and replies as bytes, members, and the stored form of a log entry.
//!
//! openraft is configured here, once. A term has at most one leader (`leader_id_std`), as in the Raft paper, so a log
//! id is a term and an index. The stored form of an entry is this package's own, not openraft's: a log on disk outlives
//! a release of a library.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_std;
use openraft::{EntryPayload, Membership};
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::runtime::Runtime;

/// Names a node. Never used twice in the life of a cluster.
pub type NodeId = u64;

openraft::declare_raft_types!(
    /// openraft's types, as this package configures them.
    pub(crate) Types:
        D = Command,
        R = Reply,
        NodeId = NodeId,
        Node = Member,
        LeaderId = leader_id_std::LeaderId<u64, NodeId>,
        AsyncRuntime = Runtime,
);

pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;

/// What a client wants done, with the time that the leader stamped on it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    /// The leader's wall clock, in milliseconds since the epoch.
    pub(crate) stamp_ms: u64,
    /// The application's own encoding.
    pub(crate) bytes: Bytes,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bytes may hold a password's hash: they never reach a log line.
        write!(
            f,
            "Command({} bytes at {} ms)",
            self.bytes.len(),
            self.stamp_ms
        )
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the application answered.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Reply(pub(crate) Bytes);

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({} bytes)", self.0.len())
    }
}

/// Names one incarnation of a node's disk: made at random when the disk is first used. A wiped disk has another one,
/// and is therefore not the member that the cluster knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct StorageId(pub u128);

impl fmt::Debug for StorageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for StorageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A member of the cluster: where it is, and which disk it is known by.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// `host:port` where it serves its peers.
    pub peer: String,
    /// `host:port` where it serves clients.
    pub http: String,
    /// The incarnation of its disk.
    pub storage: StorageId,
}

/// A log id in its stored form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredLogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl From<LogId> for StoredLogId {
    fn from(id: LogId) -> Self {
        Self {
            term: *id.leader_id,
            index: id.index,
        }
    }
}

impl From<StoredLogId> for LogId {
    fn from(id: StoredLogId) -> Self {
        LogId {
            leader_id: id.term.into(),
            index: id.index,
        }
    }
}

/// A membership in its stored form: the voters (two sets while it changes), and every member.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Members {
    pub(crate) voters: Vec<BTreeSet<NodeId>>,
    pub(crate) nodes: BTreeMap<NodeId, Member>,
}

impl Members {
    pub(crate) fn from_membership(membership: &Membership<NodeId, Member>) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            nodes: membership
                .nodes()
                .map(|(id, node)| (*id, node.clone()))
                .collect(),
        }
    }

    pub(crate) fn to_membership(&self) -> Result<Membership<NodeId, Member>, CodecError> {
        if self.voters.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(self.voters.clone(), self.nodes.clone())
            .map_err(|_| CodecError::Impossible("a voter that is no member"))
    }
}

#[derive(Serialize, Deserialize)]
enum StoredPayload {
    Blank,
    Command(Command),
    Members(Members),
}

#[derive(Serialize, Deserialize)]
struct StoredEntry {
    term: u64,
    payload: StoredPayload,
}

/// The stored form of `entry`; its index is kept beside it, by the log.
pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let payload = match &entry.payload {
        EntryPayload::Blank => StoredPayload::Blank,
        EntryPayload::Normal(command) => StoredPayload::Command(command.clone()),
        EntryPayload::Membership(membership) => {
            StoredPayload::Members(Members::from_membership(membership))
        }
    };
    Bytes::from(codec::encode(&StoredEntry {
        term: *entry.log_id.leader_id,
        payload,
    }))
}

/// The entry at `index` from its stored form.
pub(crate) fn decode_entry(index: u64, bytes: &[u8]) -> Result<Entry, CodecError> {
    let stored: StoredEntry = codec::decode(bytes)?;
    let payload = match stored.payload {
        StoredPayload::Blank => EntryPayload::Blank,
        StoredPayload::Command(command) => EntryPayload::Normal(command),
        StoredPayload::Members(members) => EntryPayload::Membership(members.to_membership()?),
    };
    Ok(Entry {
        log_id: StoredLogId {
            term: stored.term,
            index,
        }
        .into(),
        payload,
    })
}
