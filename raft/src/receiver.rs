//! The receiving end of peers' messages: checks who speaks, then hands the message to openraft or to the node.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use mesto_storage::{SnapshotWriter, snapshot};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use openraft::storage::Snapshot;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::codec;
use crate::machine::{Progress, SnapshotFile, snapshot_name};
use crate::messages::{ControlRequest, Introduction, ProposeBatch, SnapshotAnswer, SnapshotChunk};
use crate::network::TransferLeader;
use crate::node::Inner;
use crate::peers::Identity;
use crate::transport::Receive;
use crate::types::{LogId, NodeId, SnapshotMeta, Types, Vote};
use crate::wire::{ClusterKey, Kind, Party, Refusal, Request, open_request};

/// Receives frames for one node.
pub(crate) struct Receiver {
    pub(crate) key: ClusterKey,
    pub(crate) identity: Arc<Identity>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) node: OnceLock<Arc<Inner>>,
    pub(crate) incoming: Mutex<Option<Incoming>>,
    pub(crate) complaints: Complaints,
}

/// Lets a complaint about peers through every few seconds, and counts those that it holds back: a peer that is wrong
/// is wrong many times a second.
#[derive(Default)]
pub(crate) struct Complaints(parking_lot::Mutex<(Option<Instant>, u64)>);

impl Complaints {
    const INTERVAL: Duration = Duration::from_secs(5);

    /// Whether to complain now, and how many complaints were held back since the last.
    fn due(&self) -> Option<u64> {
        let mut state = self.0.lock();
        let (last, silenced) = *state;
        if last.is_some_and(|last| last.elapsed() < Self::INTERVAL) {
            state.1 += 1;
            return None;
        }
        *state = (Some(Instant::now()), 0);
        Some(silenced)
    }
}

/// A snapshot that is being received; at most one at a time.
pub(crate) struct Incoming {
    from: NodeId,
    vote: Vote,
    meta: SnapshotMeta,
    total_bytes: u64,
    offset: u64,
    writer: Box<dyn SnapshotWriter>,
}

impl Receive for Receiver {
    fn receive(&self, frame: Bytes) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            let request = match open_request(&self.key, &frame) {
                Ok(request) => request,
                Err(error) => {
                    if let Some(silenced) = self.complaints.due() {
                        tracing::warn!(%error, silenced, "frames were dropped; has a node another cluster secret?");
                    }
                    return None;
                }
            };
            let answer = match self.admit(&request).await {
                Ok(()) => self.answer(&request).await,
                Err(refusal) => {
                    let from = request.header.from.node;
                    if let Some(silenced) = self.complaints.due() {
                        let kind = request.header.kind;
                        tracing::warn!(from, ?kind, %refusal, silenced, "a peer was refused");
                    }
                    Err(refusal)
                }
            };
            Some(request.seal_answer(&self.key, answer))
        })
    }
}

impl Receiver {
    /// Checks that the message is meant for this node and comes from one that may speak to it.
    async fn admit(&self, request: &Request) -> Result<(), Refusal> {
        let header = &request.header;
        if !request.speaks_our_protocol() {
            return Err(Refusal::Protocol);
        }
        let us = self.identity.party;
        if header.to != us.node {
            return Err(Refusal::Node);
        }
        if header.kind == Kind::Identify {
            return Ok(());
        }
        // Before the cluster: a wiped disk under its old id must hear that it is not known, whatever cluster it is in.
        if header.to_storage != Some(us.storage) {
            return Err(Refusal::Storage);
        }
        let cluster = header.cluster.ok_or(Refusal::Cluster)?;
        match self.identity.cluster() {
            Some(ours) if ours != cluster => return Err(Refusal::Cluster),
            Some(_) => {}
            // Whoever knows this disk by its name was told to admit it.
            None => {
                self.identity
                    .join(cluster)
                    .await
                    .map_err(|_| Refusal::NotRunning)?;
                tracing::info!(%cluster, "this node was admitted to a cluster");
            }
        }
        self.admit_sender(header.from)
    }

    fn admit_sender(&self, from: Party) -> Result<(), Refusal> {
        let record = self.progress.record.lock();
        if record.is_removed(from.node) {
            return Err(Refusal::Removed);
        }
        // A sender that we do not know yet may be newer than our membership; one that we know must have its disk.
        match record.members().nodes.get(&from.node) {
            Some(member) if member.storage != from.storage => Err(Refusal::Sender),
            _ => Ok(()),
        }
    }

    async fn answer(&self, request: &Request) -> Result<Vec<u8>, Refusal> {
        let body = request.header.body();
        if request.header.kind == Kind::Identify {
            let us = self.identity.party;
            let cluster = self.identity.cluster();
            return Ok(codec::encode(&Introduction {
                node: us.node,
                storage: us.storage,
                cluster,
            }));
        }
        let node = self.node.get().ok_or(Refusal::NotRunning)?;
        let raft = &node.raft;
        match request.header.kind {
            Kind::AppendEntries => {
                let rpc: AppendEntriesRequest<Types> = read(body)?;
                reply(raft.append_entries(rpc).await)
            }
            Kind::Vote => reply(raft.vote(read::<VoteRequest<Types>>(body)?).await),
            Kind::PreVote => reply(raft.pre_vote(read::<VoteRequest<Types>>(body)?).await),
            Kind::TransferLeader => {
                let wire: TransferLeader = read(body)?;
                let last_log_id = wire.last_log_id.map(LogId::from);
                let request = TransferLeaderRequest::new(wire.from_leader, wire.to, last_log_id);
                reply(raft.handle_transfer_leader(request).await)
            }
            Kind::SnapshotChunk => {
                let chunk: SnapshotChunk = read(body)?;
                Ok(codec::encode(
                    &self.take_chunk(node, request.header.from.node, chunk).await,
                ))
            }
            Kind::Propose => {
                let batch: ProposeBatch = read(body)?;
                Ok(codec::encode(&node.propose_for_peer(batch.commands).await))
            }
            Kind::ReadIndex => Ok(codec::encode(&node.read_index_as_leader().await)),
            Kind::Status => Ok(codec::encode(&node.own_status())),
            Kind::Control => {
                let control: ControlRequest = read(body)?;
                Ok(codec::encode(&node.control_as_leader(control).await))
            }
            Kind::Identify => Err(Refusal::Malformed),
        }
    }

    async fn take_chunk(&self, node: &Inner, from: NodeId, chunk: SnapshotChunk) -> SnapshotAnswer {
        let mut slot = self.incoming.lock().await;
        match self.store_chunk(node, &mut slot, from, chunk).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, from, "a snapshot could not be received");
                *slot = None;
                SnapshotAnswer::Failed
            }
        }
    }

    async fn store_chunk(
        &self,
        node: &Inner,
        slot: &mut Option<Incoming>,
        from: NodeId,
        chunk: SnapshotChunk,
    ) -> Result<SnapshotAnswer, std::io::Error> {
        let belongs = slot.as_ref().is_some_and(|incoming| {
            incoming.from == from
                && incoming.vote == chunk.vote
                && incoming.meta == chunk.meta
                && incoming.total_bytes == chunk.total_bytes
        });
        if chunk.offset == 0 {
            // The name differs from that of a snapshot of our own at the same log id, which may be in use.
            let name = format!("{}-from-{from}", snapshot_name(&chunk.meta));
            *slot = None;
            let writer = node.files.create(&name).map_err(std::io::Error::other)?;
            *slot = Some(Incoming {
                from,
                vote: chunk.vote,
                meta: chunk.meta.clone(),
                total_bytes: chunk.total_bytes,
                offset: 0,
                writer,
            });
        } else if !belongs {
            return Ok(SnapshotAnswer::Continue { offset: 0 });
        }
        let mut incoming = slot.take().expect("it was just put there, or belongs");
        let due = incoming.offset;
        if due != chunk.offset {
            *slot = Some(incoming);
            return Ok(SnapshotAnswer::Continue { offset: due });
        }
        let offset = due + chunk.data.len() as u64;
        incoming.offset = offset;
        let data = chunk.data;
        let write = move |incoming: &mut Incoming| incoming.writer.write(&data).map(|()| true);
        let written = node.blocking.run(incoming, write).await?;
        let incoming = written.map_err(std::io::Error::other)?;
        if offset < incoming.total_bytes {
            *slot = Some(incoming);
            return Ok(SnapshotAnswer::Continue { offset });
        }
        let name = format!("{}-from-{from}", snapshot_name(&incoming.meta));
        let commit = |writer: &mut Option<Box<dyn SnapshotWriter>>| {
            writer
                .take()
                .map_or(Ok(()), SnapshotWriter::commit)
                .map(|()| true)
        };
        let committed = node.blocking.run(Some(incoming.writer), commit).await?;
        committed.map_err(std::io::Error::other)?;
        if let Err(error) = self.check_file(node, &name).await {
            // Installing a damaged file would end this node, and again at each start.
            remove_file(node, &name);
            return Err(error);
        }
        let snapshot = Snapshot {
            meta: incoming.meta,
            snapshot: SnapshotFile {
                name: name.clone(),
                files: Arc::clone(&node.files),
                suspicion: Arc::default(),
            },
        };
        let last = snapshot.meta.last_log_id.map(|id| id.index);
        let response = node
            .raft
            .install_full_snapshot(incoming.vote, snapshot)
            .await
            .map_err(std::io::Error::other)?;
        if *self.progress.snapshot_index.borrow() < last {
            // It was declined: a newer leader, or a state that is further already.
            remove_file(node, &name);
        }
        Ok(SnapshotAnswer::Done(response))
    }

    async fn check_file(&self, node: &Inner, name: &str) -> Result<(), std::io::Error> {
        let reader = node.files.open(name).map_err(std::io::Error::other)?;
        let check = move |(): &mut ()| snapshot::check(reader.as_ref()).map(|_| true);
        let checked = node.blocking.run((), check).await?;
        checked.map_err(std::io::Error::other)
    }
}

fn remove_file(node: &Inner, name: &str) {
    if let Err(error) = node.files.remove(name) {
        tracing::warn!(%error, file = name, "cannot remove a snapshot that is not used");
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    codec::decode(body).map_err(|_| Refusal::Malformed)
}

/// What openraft answers; that it has stopped is a refusal.
fn reply<T: Serialize, E>(answer: Result<T, E>) -> Result<Vec<u8>, Refusal> {
    answer
        .map(|value| codec::encode(&value))
        .map_err(|_| Refusal::NotRunning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn complaints_are_held_back_for_a_while_and_counted() {
        let complaints = Complaints::default();
        assert_eq!(complaints.due(), Some(0));
        assert_eq!(complaints.due(), None);
        tokio::time::advance(Complaints::INTERVAL / 2).await;
        assert_eq!(complaints.due(), None);
        tokio::time::advance(Complaints::INTERVAL / 2).await;
        assert_eq!(complaints.due(), Some(2));
        assert_eq!(complaints.due(), None);
        tokio::time::advance(Complaints::INTERVAL).await;
        assert_eq!(complaints.due(), Some(1));
    }
}
