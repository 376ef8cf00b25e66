//! How a node and its cluster are.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;

use super::{CallError, Inner, MemberStatus, Node, SMALL_TIMEOUT, Seen, Status};
use crate::messages::PeerStatus;
use crate::transport::Lane;
use crate::types::NodeId;
use crate::wire::Kind;

/// The state of a member whose disk no longer has what it acknowledged.
const LOST_LOG: &str = "lost-log";

/// How long what a member said of itself counts as lately.
const SEEN_FOR: Duration = Duration::from_millis(1_500);

impl Node {
    /// The cluster as this node sees it. Other members' own words are at most a second and a half old.
    pub fn status(&self) -> Status {
        self.inner.status()
    }
}

impl Inner {
    fn status(&self) -> Status {
        let own = self.own_status();
        let metrics = self.raft.metrics().borrow_watched().clone();
        let us = self.peers.identity.party.node;
        let membership = metrics.membership_config.membership();
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        let mut seen = self.seen.lock().clone();
        let now = Instant::now();
        let mine = Seen {
            state: own.state.clone(),
            applied: own.applied,
            digest: own.digest.clone(),
        };
        seen.insert(us, (now, mine));
        let members = membership.nodes().map(|(id, member)| MemberStatus {
            id: *id,
            member: member.clone(),
            voter: voters.contains(id),
            seen: seen
                .remove(id)
                .filter(|(at, _)| now - *at <= SEEN_FOR)
                .map(|(_, seen)| seen),
        });
        Status {
            cluster: self.peers.identity.cluster().map(|id| id.to_string()),
            node: us,
            state: state_name(metrics.running_state.is_ok(), metrics.state),
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_log: metrics.last_log_index.unwrap_or(0),
            commit: metrics.local_committed.map_or(0, |id| id.index),
            applied: own.applied,
            snapshot: *self.progress.snapshot_index.borrow(),
            purged: metrics.purged.map(|id| id.index),
            digest: own.digest,
            members: members.collect(),
        }
    }

    /// What this node says of itself.
    pub(crate) fn own_status(&self) -> PeerStatus {
        let metrics = self.raft.metrics();
        let (running, state, last_log) = {
            let metrics = metrics.borrow_watched();
            (
                metrics.running_state.is_ok(),
                metrics.state,
                metrics.last_log_index,
            )
        };
        // Index and digest are read together, so that two nodes at the same index can be compared.
        let (applied, digest) = self
            .state
            .read(|view| (view.applied().index, view.digest()));
        PeerStatus {
            state: state_name(running, state).to_owned(),
            last_log,
            applied,
            digest: hexadecimal(digest.to_bytes()),
        }
    }

    pub(super) async fn ask_members(&self) {
        let us = self.peers.identity.party.node;
        let metrics = self.raft.server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let asked = membership
            .membership()
            .nodes()
            .filter(|(id, _)| **id != us)
            .map(|(id, member)| async move {
                let call = self.peers.call(
                    Lane::Forward,
                    Kind::Status,
                    (*id, member),
                    &(),
                    SMALL_TIMEOUT,
                );
                (*id, call.await)
            });
        // What a leader knows each member to have, and to be committed: no sane log is ever shorter.
        let owed = self.owed_logs();
        let answers = futures_util::future::join_all(asked).await;
        for (id, answer) in answers {
            self.note_status(id, answer, owed.get(&id).copied());
        }
    }

    /// The last committed index that each member has acknowledged, where this node leads.
    fn owed_logs(&self) -> BTreeMap<NodeId, u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let committed = metrics.local_committed.map_or(0, |id| id.index);
        let matched = metrics.replication.iter().flatten();
        matched
            .filter_map(|(id, matched)| Some((*id, matched.as_ref()?.index.min(committed))))
            .collect()
    }

    fn note_status(&self, id: NodeId, answer: Result<PeerStatus, CallError>, owed: Option<u64>) {
        let now = Instant::now();
        let mut seen = self.seen.lock();
        let before = seen.get(&id).filter(|(at, _)| now - *at <= SEEN_FOR);
        let before = before.map(|(_, seen)| seen.state.clone());
        match answer {
            Ok(status) => {
                let lost = matches!((status.last_log, owed), (Some(has), Some(owed)) if has < owed);
                let state = if lost { LOST_LOG } else { &status.state };
                if lost && before.as_deref() != Some(LOST_LOG) {
                    tracing::error!(
                        member = id,
                        has = status.last_log,
                        acknowledged = owed,
                        "a member has lost log entries that it had acknowledged: remove it, and let a new node join"
                    );
                } else if before.is_none() {
                    tracing::info!(
                        member = id,
                        state,
                        applied = status.applied,
                        "a member is up"
                    );
                }
                let now_seen = Seen {
                    state: state.to_owned(),
                    applied: status.applied,
                    digest: status.digest,
                };
                seen.insert(id, (now, now_seen));
            }
            // Said once, when it stops answering, and not again every half second.
            Err(error) if before.is_none() && seen.remove(&id).is_some() => {
                tracing::warn!(member = id, %error, "a member is down");
            }
            Err(_) => {}
        }
    }
}

fn state_name(running: bool, state: ServerState) -> &'static str {
    match state {
        _ if !running => "stopped",
        ServerState::Learner => "learner",
        ServerState::Follower => "follower",
        ServerState::Candidate => "candidate",
        ServerState::Leader => "leader",
        ServerState::Shutdown => "stopped",
    }
}

fn hexadecimal(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}
