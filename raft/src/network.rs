//! openraft's view of the network: one client a peer and a lane, over [`Peers`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::machine::{Blocking, SnapshotFile};
use crate::messages::{SnapshotAnswer, SnapshotChunk};
use crate::peers::{CallError, Peers};
use crate::transport::Lane;
use crate::types::{Member, NodeId, StoredLogId, Types, Vote};
use crate::wire::Kind;

/// The size of the pieces that a snapshot travels in, in bytes.
const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;
/// How long one piece may take.
const SNAPSHOT_CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) peers: Peers,
    /// How long an append that carries entries may take. openraft would allow it no more than a heartbeat's interval.
    pub(crate) append_timeout: Duration,
    pub(crate) blocking: Blocking,
}

pub(crate) struct Client {
    network: Network,
    target: NodeId,
    member: Member,
    lane: Lane,
}

impl Network {
    fn client(&self, target: NodeId, member: &Member, lane: Lane) -> Client {
        Client {
            network: self.clone(),
            target,
            member: member.clone(),
            lane,
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Client {
        self.client(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Member) -> Client {
        self.client(target, node, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &Member) -> Client {
        self.client(target, node, Lane::Snapshot)
    }
}

impl Client {
    async fn ask<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        lane: Lane,
        kind: Kind,
        request: &Q,
        timeout: Duration,
    ) -> Result<A, RPCError<Types>> {
        let answer = self
            .network
            .peers
            .call(lane, kind, (self.target, &self.member), request, timeout)
            .await;
        answer.map_err(|error| match error {
            // A peer that cannot be reached, or that refuses us, is tried again after a pause.
            CallError::Unreachable(_) | CallError::Refused(_) | CallError::NoCluster => {
                RPCError::Unreachable(Unreachable::new(&error))
            }
            CallError::Lost(_) => RPCError::Network(NetworkError::new(&error)),
        })
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let timeout = if rpc.entries.is_empty() {
            option.hard_ttl()
        } else {
            self.network.append_timeout
        };
        if rpc.entries.is_empty() && self.lane == Lane::Log {
            // It only tells what is committed. On the one thread of consensus the answers to clients, which the same
            // commit released, go first.
            tokio::task::yield_now().await;
        }
        self.ask(self.lane, Kind::AppendEntries, &rpc, timeout)
            .await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask(Lane::Heartbeat, Kind::Vote, &rpc, option.hard_ttl())
            .await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask(Lane::Heartbeat, Kind::PreVote, &rpc, option.hard_ttl())
            .await
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let wire = TransferLeader {
            from_leader: *req.from_leader(),
            to: *req.to_node_id(),
            last_log_id: req.last_log_id().map(|id| StoredLogId::from(*id)),
        };
        self.ask(
            Lane::Heartbeat,
            Kind::TransferLeader,
            &wire,
            option.hard_ttl(),
        )
        .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<
            openraft::alias::CommittedLeaderIdOf<Types>,
            NodeId,
            Member,
            SnapshotFile,
        >,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let transfer = self.transfer(vote, snapshot);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = tokio::time::timeout(option.hard_ttl(), transfer) => sent.unwrap_or_else(|_| {
                Err(StreamingError::Network(NetworkError::from_string("the snapshot took too long to send")))
            }),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        // Short at first, so that a restarted peer is served at once; never longer than half a second.
        let pauses_ms = [20_u64, 50, 100, 200, 300]
            .into_iter()
            .chain(std::iter::repeat(500));
        Some(Backoff::new(pauses_ms.map(Duration::from_millis)))
    }
}

/// A request to hand leadership over; openraft's own type does not travel.
#[derive(Serialize, serde::Deserialize)]
pub(crate) struct TransferLeader {
    pub(crate) from_leader: Vote,
    pub(crate) to: NodeId,
    pub(crate) last_log_id: Option<StoredLogId>,
}

impl Client {
    async fn transfer(
        &self,
        vote: Vote,
        snapshot: Snapshot<
            openraft::alias::CommittedLeaderIdOf<Types>,
            NodeId,
            Member,
            SnapshotFile,
        >,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let network_error = |error: &dyn std::fmt::Display| {
            StreamingError::Network(NetworkError::from_string(format!(
                "cannot send the snapshot: {error}"
            )))
        };
        let reader = snapshot
            .snapshot
            .files
            .open(&snapshot.snapshot.name)
            .map_err(|error| network_error(&error))?;
        let total_bytes = reader.len();
        let mut offset = 0;
        let mut restarts = 0;
        loop {
            let left = usize::try_from(total_bytes - offset).unwrap_or(usize::MAX);
            let data = vec![0; left.min(SNAPSHOT_CHUNK_BYTES)];
            let file = Arc::clone(&reader);
            let read = move |data: &mut Vec<u8>| file.read_at(offset, data).map(|()| true);
            let data = match self.network.blocking.run(data, read).await {
                Ok(read) => read.map_err(|error| network_error(&error))?,
                Err(error) => return Err(network_error(&error)),
            };
            let chunk = SnapshotChunk {
                vote,
                meta: snapshot.meta.clone(),
                total_bytes,
                offset,
                data: Bytes::from(data),
            };
            let last = offset + chunk.data.len() as u64 == total_bytes;
            // The last piece is answered after the whole file was installed.
            let timeout = if last {
                SNAPSHOT_CHUNK_TIMEOUT * 6
            } else {
                SNAPSHOT_CHUNK_TIMEOUT
            };
            match self
                .ask(Lane::Snapshot, Kind::SnapshotChunk, &chunk, timeout)
                .await?
            {
                SnapshotAnswer::Done(response) => return Ok(response),
                SnapshotAnswer::Failed => {
                    // It may be the receiver's disk, or our own file.
                    snapshot.snapshot.suspicion.raise();
                    return Err(network_error(&"the receiver could not store it"));
                }
                SnapshotAnswer::Continue { offset: wanted } => {
                    restarts += u32::from(wanted <= offset);
                    if restarts > 3 || wanted > total_bytes {
                        return Err(network_error(&"the receiver keeps losing it"));
                    }
                    offset = wanted;
                }
            }
        }
    }
}
