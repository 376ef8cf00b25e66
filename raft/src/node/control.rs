//! What an operator does to a cluster: bootstrap, membership, hand-over, snapshots.
//!
//! Bootstrap is explicit and happens once, on one node: it asks every founding node who it is, and refuses if one of
//! them belongs to a cluster. Where two nodes are told to bootstrap at the same moment, at most one of the two clusters
//! can ever have a quorum, because each disk is admitted to one cluster for good.
//!
//! Node ids are never used again. A machine whose disk was lost joins under a new id, and the old id is removed: its
//! old disk may have acknowledged entries that the new one does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::RaftError;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::{
    CallError, ControlError, HANDOVER_TIMEOUT, Inner, Node, RETRY_PAUSE, SMALL_TIMEOUT, refused,
};
use crate::messages::{ControlAnswer, ControlRequest, Introduction};
use crate::runtime::random_u128;
use crate::transport::Lane;
use crate::types::{Member, NodeId};
use crate::wire::{ClusterId, Kind};

/// How long a change of the membership may take, with a learner catching up.
const MEMBERSHIP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a learner may take to catch up before whoever asks is told to ask again.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(50);
/// How long a snapshot that was asked for may take.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(120);

/// Where a node is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `host:port` where it serves its peers.
    pub peer: String,
    /// `host:port` where it serves clients.
    pub http: String,
}

impl Node {
    /// Bootstraps a cluster of `founders`, this node among them, and gives its id. All of them must be running and
    /// belong to no cluster.
    pub async fn initialize(
        &self,
        founders: BTreeMap<NodeId, Address>,
    ) -> Result<String, ControlError> {
        let inner = Arc::clone(&self.inner);
        // It goes on when nobody waits for it any more: half a bootstrap is worse than a whole one.
        let work = tokio::spawn(async move { inner.bootstrap(founders).await });
        work.await.unwrap_or(Err(ControlError::Unknown))
    }

    /// Hands leadership to `to`, or to the other voter that is furthest. Works on any node.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> ControlAnswer {
        self.control(ControlRequest::TransferLeader { to }).await
    }

    /// Takes a running node that belongs to no cluster in: first as a learner, until it has caught up, then as a voter.
    /// Works on any node.
    pub async fn add_node(&self, id: NodeId, address: Address) -> ControlAnswer {
        self.control(ControlRequest::AddNode {
            id,
            peer: address.peer,
            http: address.http,
        })
        .await
    }

    /// Removes a node for good. Works on any node.
    pub async fn remove_node(&self, id: NodeId) -> ControlAnswer {
        self.control(ControlRequest::RemoveNode { id }).await
    }

    /// Has this node build a snapshot now, and gives the last index that it covers.
    pub async fn snapshot(&self) -> Result<u64, ControlError> {
        let wanted = *self.inner.progress.applied.borrow();
        let mut newest = self.inner.progress.snapshot_index.subscribe();
        self.inner
            .raft
            .trigger()
            .snapshot()
            .await
            .map_err(|error| ControlError::Refused(error.to_string()))?;
        let built = newest.wait_for(|index| index.is_some_and(|index| index >= wanted));
        match tokio::time::timeout(SNAPSHOT_TIMEOUT, built).await {
            Ok(Ok(index)) => Ok(index.unwrap_or(0)),
            Ok(Err(_)) | Err(_) => Err(ControlError::Unknown),
        }
    }

    async fn control(&self, request: ControlRequest) -> ControlAnswer {
        let inner = &self.inner;
        if inner.peers.identity.cluster().is_none() {
            return Err(ControlError::NotInitialized);
        }
        let end = Instant::now() + SMALL_TIMEOUT * 6;
        loop {
            let answer = match inner.leader() {
                Some(leader) if leader == inner.peers.identity.party.node => {
                    inner.control_as_leader(request.clone()).await
                }
                Some(leader) => inner.control_through(leader, &request).await,
                None => Err(ControlError::NoLeader),
            };
            if answer != Err(ControlError::NoLeader) || Instant::now() >= end {
                return answer;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

impl Inner {
    async fn bootstrap(&self, founders: BTreeMap<NodeId, Address>) -> Result<String, ControlError> {
        let identity = &self.peers.identity;
        let us = identity.party;
        let failed = |error: &dyn std::fmt::Display| ControlError::Refused(error.to_string());
        let begun = identity.founded().map_err(|error| failed(&error))?;
        let unfinished = begun.is_some() && begun == identity.cluster();
        let initialized = self
            .raft
            .is_initialized()
            .await
            .map_err(|error| failed(&error))?;
        if initialized || (identity.cluster().is_some() && !unfinished) {
            return Err(ControlError::AlreadyInitialized);
        }
        if !founders.contains_key(&us.node) {
            return Err(ControlError::Refused(
                "this node is not among the founders".to_owned(),
            ));
        }
        let mut members = BTreeMap::new();
        for (id, address) in founders {
            let storage = if id == us.node {
                us.storage
            } else {
                self.introduce(id, &address.peer).await?.storage
            };
            let member = Member {
                peer: address.peer,
                http: address.http,
                storage,
            };
            members.insert(id, member);
        }
        let cluster = identity
            .found(ClusterId(random_u128()))
            .await
            .map_err(|error| failed(&error))?;
        self.raft
            .initialize(members)
            .await
            .map_err(|error| match error {
                RaftError::APIError(_) => ControlError::AlreadyInitialized,
                RaftError::Fatal(fatal) => ControlError::Refused(fatal.to_string()),
            })?;
        tracing::info!(%cluster, "a new cluster was bootstrapped");
        Ok(cluster.to_string())
    }

    async fn control_through(&self, leader: NodeId, request: &ControlRequest) -> ControlAnswer {
        let member = self.member(leader).ok_or(ControlError::NoLeader)?;
        let call = self.peers.call(
            Lane::Forward,
            Kind::Control,
            (leader, &member),
            request,
            MEMBERSHIP_TIMEOUT,
        );
        match call.await {
            Ok(answer) => answer,
            Err(CallError::Lost(_)) => Err(ControlError::Unknown),
            Err(CallError::Unreachable(_) | CallError::Refused(_) | CallError::NoCluster) => {
                Err(ControlError::NoLeader)
            }
        }
    }

    /// Carries a request out. The work goes on when nobody waits for it any more: a change of the membership that was
    /// begun must be ended.
    pub(crate) async fn control_as_leader(
        self: &Arc<Self>,
        request: ControlRequest,
    ) -> ControlAnswer {
        if !self.raft.is_leader() {
            return Err(ControlError::NoLeader);
        }
        let inner = Arc::clone(self);
        let work = tokio::spawn(async move {
            match request {
                ControlRequest::TransferLeader { to } => inner.hand_over(to).await,
                ControlRequest::AddNode { id, peer, http } => {
                    let _turn = inner.turn_to_change().await?;
                    inner.admit(id, peer, http).await
                }
                ControlRequest::RemoveNode { id } => {
                    let _turn = inner.turn_to_change().await?;
                    inner.dismiss(id).await
                }
            }
        });
        match tokio::time::timeout(MEMBERSHIP_TIMEOUT, work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(ControlError::Unknown),
        }
    }

    /// Waits for the changes of the membership that are under way: whoever asks again because no answer came is told
    /// how what was begun has ended.
    async fn turn_to_change(&self) -> Result<MutexGuard<'_, ()>, ControlError> {
        let turn = async {
            let turn = self.changing.lock().await;
            self.last_change_committed().await.map(|()| turn)
        };
        tokio::time::timeout(MEMBERSHIP_TIMEOUT, turn)
            .await
            .unwrap_or_else(|_| {
                Err(ControlError::Refused(
                    "another change of the membership is under way; ask again when it is done"
                        .to_owned(),
                ))
            })
    }

    /// Waits for a change that this node may have inherited from an earlier leader.
    async fn last_change_committed(&self) -> ControlAnswer {
        let mut metrics = self.raft.server_metrics();
        loop {
            {
                let metrics = metrics.borrow_and_update();
                let committed = metrics.committed_membership_config.log_id();
                if metrics.membership_config.log_id() == committed {
                    return Ok(());
                }
                if metrics.current_leader != Some(self.peers.identity.party.node) {
                    return Err(ControlError::NoLeader);
                }
            }
            if metrics.changed().await.is_err() {
                return Err(ControlError::Unknown);
            }
        }
    }

    /// Asks the node at `address` who it is, and makes sure that it is `id` and free to join.
    async fn introduce(&self, id: NodeId, address: &str) -> Result<Introduction, ControlError> {
        let answer = self
            .peers
            .identify::<Introduction>(id, address, SMALL_TIMEOUT * 4)
            .await;
        let introduction = answer.map_err(|error| {
            ControlError::Refused(format!("node {id} at {address} does not answer: {error}"))
        })?;
        if introduction.node != id {
            return Err(ControlError::Refused(format!(
                "node {} listens at {address}, not {id}",
                introduction.node
            )));
        }
        if introduction.cluster.is_some() {
            return Err(ControlError::Refused(format!(
                "node {id} belongs to a cluster already"
            )));
        }
        Ok(introduction)
    }

    /// Takes a node in. Asked again, it goes on where it was left: a learner is waited for and promoted, a voter is
    /// what was wanted.
    async fn admit(&self, id: NodeId, peer: String, http: String) -> ControlAnswer {
        let refuse = |why: String| Err(ControlError::Refused(why));
        let record = self.progress.record.lock().clone();
        if record.is_removed(id) {
            return refuse(format!(
                "node id {id} was used before; a new node needs a new id"
            ));
        }
        let member = match self.member(id) {
            Some(member) if member.peer == peer && member.http == http => member,
            Some(_) => return refuse(format!("node {id} is a member already, at another address")),
            None => {
                let storage = self.introduce(id, &peer).await?.storage;
                Member {
                    peer,
                    http,
                    storage,
                }
            }
        };
        if !record.has_room_for(&member) {
            return refuse(
                "the cluster has too many members, past ones counted, to add one".to_owned(),
            );
        }
        let (voters, joint) = self.voters();
        if voters.contains(&id) && !joint {
            return Ok(());
        }
        let mut begun = false;
        if !voters.contains(&id) {
            self.raft
                .add_learner(id, member, false)
                .await
                .map_err(|error| refused(&error))?;
            self.wait_for_learner(id).await.map_err(half_done)?;
            begun = true;
        }
        let promote = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
        self.raft
            .change_membership(promote, true)
            .await
            .map_err(|error| refused(&error))
            .map_err(|error| if begun { half_done(error) } else { error })?;
        Ok(())
    }

    /// Waits until a learner has everything that was in the log when it came. A learner that is promoted before would
    /// cost the cluster a failure that it could bear, and one that never answers would cost it for good. (What openraft
    /// itself waits for is a lag below its threshold, which a log shorter than that meets with a learner that is down.)
    async fn wait_for_learner(&self, id: NodeId) -> ControlAnswer {
        let mut metrics = self.raft.metrics();
        let wanted = metrics.borrow_watched().last_log_index;
        let caught_up = async {
            loop {
                {
                    let metrics = metrics.borrow_and_update();
                    let Some(replication) = &metrics.replication else {
                        return Err(ControlError::NoLeader);
                    };
                    let matched = replication.get(&id).and_then(Option::as_ref);
                    if matched.map(|log_id| log_id.index) >= wanted {
                        return Ok(());
                    }
                }
                if metrics.changed().await.is_err() {
                    return Err(ControlError::Unknown);
                }
            }
        };
        let late = || {
            Err(ControlError::Refused(format!(
                "node {id} is a learner and has not caught up yet; ask again to wait for it"
            )))
        };
        tokio::time::timeout(CATCH_UP_TIMEOUT, caught_up)
            .await
            .unwrap_or_else(|_| late())
    }

    /// Removes a node; one that was removed before is gone, as was wanted.
    async fn dismiss(&self, id: NodeId) -> ControlAnswer {
        if self.member(id).is_none() {
            let gone = self.progress.record.lock().is_removed(id);
            let never = || ControlError::Refused(format!("node {id} is not a member"));
            return if gone { Ok(()) } else { Err(never()) };
        }
        let (voters, joint) = self.voters();
        let begun = voters.contains(&id) || joint;
        if begun {
            let demote = ChangeMembers::RemoveVoters(BTreeSet::from([id]));
            self.raft
                .change_membership(demote, true)
                .await
                .map_err(|error| refused(&error))?;
        }
        let remove = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
        self.raft
            .change_membership(remove, false)
            .await
            .map_err(|error| refused(&error))
            .map_err(|error| if begun { half_done(error) } else { error })?;
        Ok(())
    }

    /// The voters, and whether they are being changed just now.
    fn voters(&self) -> (BTreeSet<NodeId>, bool) {
        let metrics = self.raft.server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let membership = membership.membership();
        (
            membership.voter_ids().collect(),
            membership.get_joint_config().len() > 1,
        )
    }

    /// Hands leadership over and waits until another node leads.
    pub(super) async fn hand_over(&self, to: Option<NodeId>) -> ControlAnswer {
        let us = self.peers.identity.party.node;
        let to = match to {
            Some(to) if to == us => return Ok(()),
            Some(to) => to,
            None => self.furthest_other_voter().ok_or_else(|| {
                ControlError::Refused("no other voter is up to take leadership".to_owned())
            })?,
        };
        let mut metrics = self.raft.server_metrics();
        let is_voter = metrics
            .borrow_watched()
            .membership_config
            .membership()
            .voter_ids()
            .any(|voter| voter == to);
        if !is_voter {
            return Err(ControlError::Refused(format!("node {to} is not a voter")));
        }
        self.raft
            .trigger()
            .transfer_leader(to)
            .await
            .map_err(|error| ControlError::Refused(error.to_string()))?;
        let handed = async {
            loop {
                let leader = metrics.borrow_and_update().current_leader;
                if leader.is_some_and(|leader| leader != us) || metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(HANDOVER_TIMEOUT, handed)
            .await
            .map_err(|_| ControlError::Unknown)
    }

    fn furthest_other_voter(&self) -> Option<NodeId> {
        let us = self.peers.identity.party.node;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref()?;
        let voters = metrics
            .membership_config
            .membership()
            .voter_ids()
            .filter(|id| *id != us);
        let heard = |id: &NodeId| {
            metrics
                .heartbeat
                .as_ref()
                .and_then(|beats| beats.get(id))
                .copied()
                .flatten()
        };
        // Of two that are equally far, the one heard of last is the likelier to be up.
        voters.max_by_key(|id| {
            (
                replication.get(id).copied().flatten().map(|log| log.index),
                heard(id),
            )
        })
    }
}

/// What a failure means once the first of two steps was decided: that there is no leader any more would say that nothing
/// was done.
fn half_done(error: ControlError) -> ControlError {
    match error {
        ControlError::NoLeader => ControlError::Unknown,
        other => other,
    }
}
