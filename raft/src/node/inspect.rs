//! What a checker of the whole cluster looks at: cheap, consistent enough to compare, and changing nothing.
//!
//! [`Node::status`] is for people and costs accordingly; what is here is read at every step of a simulation.

use std::collections::BTreeSet;
use std::io;

use openraft::async_runtime::watch::WatchReceiver;

use super::Node;
use crate::types::{NodeId, decode_entry};

/// How a node is, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// Whether consensus runs; it ends for good when the disk fails.
    pub running: bool,
    /// Whether this node takes itself for the leader.
    pub leads: bool,
    /// Whom it takes for the leader.
    pub leader: Option<NodeId>,
    /// The current term.
    pub term: u64,
    /// The first index that is still in the log.
    pub first_log: Option<u64>,
    /// The last index in the log, or purged from it.
    pub last_log: u64,
    /// The last index that is known to be durable here, or purged.
    pub durable_log: u64,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last index applied.
    pub applied: u64,
    /// The state's digest at that index.
    pub digest: [u8; 16],
    /// The last index that the newest snapshot covers.
    pub snapshot: Option<u64>,
}

/// A log entry, to be compared with that of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryMark {
    /// Its place.
    pub index: u64,
    /// The term in which it was appended.
    pub term: u64,
    /// A hash of all of it, as it is stored.
    pub hash: [u8; 16],
}

impl Node {
    /// How this node is now.
    pub fn vitals(&self) -> Vitals {
        let inner = &self.inner;
        let (running, term, leads, leader, commit) = {
            let metrics = inner.raft.metrics();
            let metrics = metrics.borrow_watched();
            (
                metrics.running_state.is_ok(),
                metrics.current_term,
                metrics.state.is_leader(),
                metrics.current_leader,
                metrics.local_committed.map_or(0, |id| id.index),
            )
        };
        let (applied, digest) = inner
            .state
            .read(|view| (view.applied().index, view.digest().to_bytes()));
        let last = inner.log.last().map(|record| record.index);
        // Of an empty log, what was purged. Consensus' own metrics tell of a purge later than it is done.
        let durable_log = inner.log.stats().durable.unwrap_or(0);
        Vitals {
            running,
            leads: running && leads,
            leader,
            term,
            first_log: inner.log.first_index(),
            last_log: last.unwrap_or(durable_log),
            durable_log,
            commit,
            applied,
            digest,
            snapshot: *inner.progress.snapshot_index.borrow(),
        }
    }

    /// The voters as this node knows them; two sets while the membership changes, and a quorum of each is needed then.
    pub fn voters(&self) -> Vec<BTreeSet<NodeId>> {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        membership.get_joint_config().clone()
    }

    /// The entries with `from <= index < to` that are in the log.
    ///
    /// # Errors
    /// What the log says when it cannot be read.
    pub fn log_marks(&self, from: u64, to: u64) -> io::Result<Vec<EntryMark>> {
        let records = self.inner.log.read(from, to, usize::MAX);
        let marks = records
            .map_err(io::Error::other)?
            .into_iter()
            .map(|record| {
                let entry = decode_entry(record.index, &record.bytes).map_err(io::Error::other)?;
                let mut hash = [0; 16];
                hash.copy_from_slice(&blake3::hash(&record.bytes).as_bytes()[..16]);
                Ok(EntryMark {
                    index: record.index,
                    term: *entry.log_id.leader_id,
                    hash,
                })
            });
        marks.collect()
    }
}
