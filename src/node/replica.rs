//! [`Replica`] and [`Control`] over consensus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mesto_raft::{Address, Node};
use tokio::sync::watch;

use super::adapter::Reading;
use crate::booking::Store;
use crate::replica::{
    ClusterView, Control, ControlError, Decided, NewNode, NodeView, ProposeError, ReadError,
    Replica, Viewed,
};

/// A replica that is one of many.
#[derive(Clone)]
pub struct ClusterReplica {
    node: Node,
    /// The nodes that a new cluster begins with.
    founders: BTreeMap<u64, Address>,
    /// Set when a read of the state has failed. From then on this node answers no linearizable read and is not ready, so
    /// that clients are sent to nodes whose stores are whole.
    damaged: Arc<AtomicBool>,
}

impl ClusterReplica {
    /// The replica of `node`; `founders` are the nodes that [`Control::initialize`] begins a cluster with.
    pub fn new(node: Node, founders: BTreeMap<u64, Address>) -> Self {
        Self {
            node,
            founders,
            damaged: Arc::default(),
        }
    }
}

impl Replica for ClusterReplica {
    fn propose<'a>(
        &'a self,
        command: Bytes,
        deadline: Duration,
        request_id: &'a str,
    ) -> BoxFuture<'a, Result<Decided, ProposeError>> {
        async move {
            let decided = self.node.propose(command, deadline, request_id).await;
            decided
                .map(|decided| Decided {
                    index: decided.index,
                    reply: decided.reply,
                })
                .map_err(|error| match error {
                    mesto_raft::ProposeError::NoLeader => ProposeError::NoLeader,
                    mesto_raft::ProposeError::NoCluster => ProposeError::NotInitialized,
                    mesto_raft::ProposeError::Overloaded => ProposeError::Overloaded,
                    mesto_raft::ProposeError::TooLarge => ProposeError::TooLarge,
                    mesto_raft::ProposeError::Unknown => ProposeError::Unknown,
                })
        }
        .boxed()
    }

    fn read_barrier(&self, deadline: Duration) -> BoxFuture<'_, Result<u64, ReadError>> {
        async move {
            if self.damaged.load(Ordering::Relaxed) {
                return Err(ReadError::Unavailable);
            }
            let reached = self.node.read_barrier(deadline).await;
            reached.map_err(read_error)
        }
        .boxed()
    }

    fn wait_applied(&self, index: u64, deadline: Duration) -> BoxFuture<'_, Result<(), ReadError>> {
        async move {
            self.node
                .wait_applied(index, deadline)
                .await
                .map_err(read_error)
        }
        .boxed()
    }

    fn view(&self, f: &mut dyn FnMut(&dyn Store, Viewed)) -> Result<(), ReadError> {
        self.node.state().read(|view| {
            let reading = Reading::new(view);
            let applied = view.applied();
            f(
                &reading,
                Viewed {
                    index: applied.index,
                    now_ms: applied.now_ms,
                },
            );
            if reading.has_failed() {
                self.damaged.store(true, Ordering::Relaxed);
                Err(ReadError::Unavailable)
            } else {
                Ok(())
            }
        })
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.node.applied()
    }

    fn staleness(&self) -> Option<Duration> {
        self.node.staleness()
    }

    fn cluster(&self) -> ClusterView {
        let status = self.node.status();
        let nodes = status.members.into_iter().map(|member| {
            let seen = member.seen;
            NodeView {
                id: member.id,
                http: member.member.http,
                peer: member.member.peer,
                state: seen
                    .as_ref()
                    .map_or_else(|| "unknown".to_owned(), |seen| seen.state.clone()),
                voter: member.voter,
                up: seen.is_some(),
                applied: seen.as_ref().map(|seen| seen.applied),
                lag: seen
                    .as_ref()
                    .map(|seen| status.commit.saturating_sub(seen.applied)),
                digest: seen.map(|seen| seen.digest),
            }
        });
        ClusterView {
            nodes: nodes.collect(),
            cluster: status.cluster,
            node: status.node,
            state: status.state.to_owned(),
            leader: status.leader,
            term: status.term,
            last_log: status.last_log,
            commit: status.commit,
            applied: status.applied,
            snapshot: status.snapshot,
            purged: status.purged,
            digest: status.digest,
            staleness_ms: self
                .staleness()
                .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl Control for ClusterReplica {
    fn initialize(&self) -> BoxFuture<'_, Result<String, ControlError>> {
        async move {
            self.node
                .initialize(self.founders.clone())
                .await
                .map_err(control_error)
        }
        .boxed()
    }

    fn transfer_leader(&self, to: Option<u64>) -> BoxFuture<'_, Result<(), ControlError>> {
        async move { self.node.transfer_leader(to).await.map_err(control_error) }.boxed()
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<u64, ControlError>> {
        async move { self.node.snapshot().await.map_err(control_error) }.boxed()
    }

    fn add_node(&self, node: NewNode) -> BoxFuture<'_, Result<(), ControlError>> {
        let address = Address {
            peer: node.peer,
            http: node.http,
        };
        async move {
            self.node
                .add_node(node.id, address)
                .await
                .map_err(control_error)
        }
        .boxed()
    }

    fn remove_node(&self, id: u64) -> BoxFuture<'_, Result<(), ControlError>> {
        async move { self.node.remove_node(id).await.map_err(control_error) }.boxed()
    }
}

fn read_error(error: mesto_raft::ReadError) -> ReadError {
    match error {
        mesto_raft::ReadError::NoLeader => ReadError::NoLeader,
        mesto_raft::ReadError::NoCluster => ReadError::NotInitialized,
        mesto_raft::ReadError::NotApplied => ReadError::Timeout,
        mesto_raft::ReadError::Overloaded => ReadError::Unavailable,
    }
}

fn control_error(error: mesto_raft::ControlError) -> ControlError {
    match error {
        mesto_raft::ControlError::AlreadyInitialized => ControlError::AlreadyInitialized,
        mesto_raft::ControlError::NotInitialized => ControlError::NotInitialized,
        mesto_raft::ControlError::NoLeader => ControlError::NoLeader,
        mesto_raft::ControlError::Refused(why) => ControlError::Refused(why),
        mesto_raft::ControlError::Unknown => ControlError::Unknown,
    }
}
