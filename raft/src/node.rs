//! One node: the small face that the rest of the program sees.
//!
//! [`Node::propose`] has a command decided, wherever the leader is; [`Node::read_barrier`] makes a local read
//! linearizable; [`Node::state`] is what was applied. Everything else is for operators: bootstrap, membership,
//! hand-over, status.
//!
//! Two rules decide what an error means. A command that was certainly never appended may be tried elsewhere at once. A
//! command whose fate is unknown is tried again only because the application remembers it by a key of its own and
//! answers the second try as the first; an application without such keys must not be run on this.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use mesto_storage::{
    Engine, Log, LogOptions, LogStats, SnapshotFiles, State, StateOptions, StateStats, StorageError,
};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{Config, Raft, ReadPolicy, SnapshotPolicy};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

mod control;
mod inspect;
mod start;
mod status;

pub use control::Address;
pub use inspect::{EntryMark, Vitals};

use crate::app::{App, Clock};
use crate::barrier::{Barrier, NoIndex, ReadIndex, barrier};
use crate::log_store::{LogStore, completed};
use crate::machine::{Blocking, Machine, Progress};
use crate::messages::{Outcome, ProposeBatch};
use crate::network::Network;
use crate::peers::{CallError, Identity, Peers};
use crate::receiver::Receiver;
use crate::submit::{Queue, Submission, Traced, batcher};
use crate::transport::{Lane, Receive, Transport};
use crate::types::{Command, Member, NodeId, StorageId, Types};
use crate::wire::{ClusterKey, Kind};

/// The most that one command may take, in bytes; below what one record of the log may.
pub const MAX_COMMAND_BYTES: usize = 512 << 10;
/// How many batches of commands this node has on their way at once.
const BATCHES_IN_FLIGHT: usize = 3;
/// How long a peer may take to answer a batch of forwarded commands.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may take to answer what is small.
const SMALL_TIMEOUT: Duration = Duration::from_millis(500);
/// How often this node makes sure of how fresh its state is.
const FRESHNESS_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is looked whether consensus has failed.
const FAILURE_INTERVAL: Duration = Duration::from_millis(50);
/// How often the other nodes are asked for their status.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// How long a proposer waits before it tries again, unless a leader turns up earlier.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long a node that stops may take to put on its disk what it applied.
const PERSIST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long leadership may take to be handed over.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Timing and bounds of consensus. All durations are in milliseconds.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// The cluster's name, for logs.
    pub cluster_name: String,
    /// How often a leader shows that it is there.
    pub heartbeat_ms: u64,
    /// The least time without a leader after which a node stands for election.
    pub election_min_ms: u64,
    /// The greatest such time.
    pub election_max_ms: u64,
    /// How long a leader without a quorum is silent before it probes again; at least twice `election_max_ms`.
    pub quorum_loss_probe_ms: u64,
    /// How long an append with entries may take.
    pub append_timeout_ms: u64,
    /// How long a whole snapshot may take to be sent and installed.
    pub snapshot_timeout_ms: u64,
    /// The most entries in one append.
    pub max_append_entries: u64,
    /// The most bytes of entries in one append; a single entry may be longer.
    pub max_append_bytes: usize,
    /// A snapshot is built whenever this many entries were applied since the last.
    pub snapshot_every_entries: u64,
    /// How many entries that a snapshot covers stay in the log, for nodes that are only a little behind.
    pub keep_log_entries: u64,
    /// The most commands that wait on this node.
    pub max_waiting_commands: usize,
    /// With [`Blocking::Inline`], where nothing takes any time of its own: how long a sync of the log takes at the most.
    pub simulated_sync_ms: u64,
    /// Whether a leader that restarts may go on leading its term without an election. This loses acknowledged writes
    /// and exists so that a simulation can show that it would notice; production never sets it.
    pub planted_bug_leader_restore: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            cluster_name: "mesto".to_owned(),
            heartbeat_ms: 50,
            election_min_ms: 200,
            election_max_ms: 400,
            quorum_loss_probe_ms: 800,
            append_timeout_ms: 1_000,
            snapshot_timeout_ms: 60_000,
            max_append_entries: 300,
            max_append_bytes: 1 << 20,
            snapshot_every_entries: 100_000,
            keep_log_entries: 20_000,
            max_waiting_commands: 4_096,
            simulated_sync_ms: 0,
            planted_bug_leader_restore: false,
        }
    }
}

impl Tuning {
    fn config(&self) -> Result<Config, StartError> {
        let config = Config {
            cluster_name: self.cluster_name.clone(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            quorum_loss_probe_interval: Some(self.quorum_loss_probe_ms),
            install_snapshot_timeout: self.snapshot_timeout_ms,
            max_payload_entries: self.max_append_entries,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every_entries),
            replication_lag_threshold: self.snapshot_every_entries + self.keep_log_entries,
            max_in_snapshot_log_to_keep: self.keep_log_entries,
            enable_pre_vote: Some(true),
            // Followers are sent entries while the leader's own sync is on its way. Measured against the default, side by
            // side: a lone client's booking p50 1.14 to 1.05 ms, 64 clients 1,100 to 1,570 bookings a second.
            broadcast_submitted_on_append: Some(true),
            // Mandatory: a leader that restored itself would reuse the log ids of entries that it lost before they were
            // on its own disk, though its followers had committed them.
            enable_leader_restore: Some(self.planted_bug_leader_restore),
            ..Config::default()
        };
        config
            .validate()
            .map_err(|error| StartError::Tuning(error.to_string()))
    }
}

/// What a node is made of. Clock, transport, store and application are injected, so that whole nodes run in a
/// simulation.
pub struct NodeParts {
    /// This node's id.
    pub id: NodeId,
    /// The incarnation of its disk.
    pub storage_id: StorageId,
    /// Where log and state are kept.
    pub engine: Arc<dyn Engine>,
    /// Where snapshots are kept.
    pub snapshots: Arc<dyn SnapshotFiles>,
    /// How steps that block on the disk are run.
    pub blocking: Blocking,
    /// How the log is kept.
    pub log_options: LogOptions,
    /// How the state is kept.
    pub state_options: StateOptions,
    /// How frames reach the other nodes.
    pub transport: Arc<dyn Transport>,
    /// The key that all frames are authenticated with.
    pub key: ClusterKey,
    /// The leader's wall clock.
    pub clock: Arc<dyn Clock>,
    /// What is replicated.
    pub app: Arc<dyn App>,
    /// Timing and bounds.
    pub tuning: Tuning,
}

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings contradict each other.
    #[error("the timing of consensus: {0}")]
    Tuning(String),
    /// What is stored cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is stored cannot be read.
    #[error("reading what is stored: {0}")]
    Io(#[from] io::Error),
    /// The disk is another node's.
    #[error("{0}")]
    Identity(String),
    /// Consensus itself does not start.
    #[error("consensus: {0}")]
    Consensus(String),
}

/// A command that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Its place in the log.
    pub index: u64,
    /// The application's reply.
    pub reply: Bytes,
}

/// Why a command has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// No leader took it in time. Certainly not applied.
    #[error("no leader took the command in time")]
    NoLeader,
    /// This node belongs to no cluster yet. Certainly not applied.
    #[error("this node belongs to no cluster yet")]
    NoCluster,
    /// Too many commands wait. Certainly not applied.
    #[error("too many commands wait")]
    Overloaded,
    /// It is longer than [`MAX_COMMAND_BYTES`]. Certainly not applied.
    #[error("the command is too long")]
    TooLarge,
    /// It may or may not have been applied, or may yet be.
    #[error("it is not known whether the command was applied")]
    Unknown,
}

/// Why a read cannot be made linearizable, or an index not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// No leader confirmed a read index in time.
    #[error("no leader confirmed the read in time")]
    NoLeader,
    /// This node belongs to no cluster yet.
    #[error("this node belongs to no cluster yet")]
    NoCluster,
    /// This node did not apply the index in time.
    #[error("the index was not applied in time")]
    NotApplied,
    /// Too many reads wait.
    #[error("too many reads wait")]
    Overloaded,
}

/// Why an operator's request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum ControlError {
    /// There is a cluster already.
    #[error("there is a cluster already")]
    AlreadyInitialized,
    /// There is none yet.
    #[error("there is no cluster yet")]
    NotInitialized,
    /// No leader was found in time, so nothing was done.
    #[error("no leader was found in time")]
    NoLeader,
    /// It cannot be done as asked.
    #[error("{0}")]
    Refused(String),
    /// It may or may not have been done.
    #[error("the outcome is not known")]
    Unknown,
}

/// The cluster as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The cluster's id, once this node belongs to one.
    pub cluster: Option<String>,
    /// This node.
    pub node: NodeId,
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub state: &'static str,
    /// The leader, where one is known.
    pub leader: Option<NodeId>,
    /// The current term.
    pub term: u64,
    /// The last index of the log.
    pub last_log: u64,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last index applied.
    pub applied: u64,
    /// The last index that the newest snapshot covers.
    pub snapshot: Option<u64>,
    /// The last index removed from the log.
    pub purged: Option<u64>,
    /// The state's digest, in hexadecimal.
    pub digest: String,
    /// Every member.
    pub members: Vec<MemberStatus>,
}

/// One member, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub id: NodeId,
    /// Where it is, and its disk.
    pub member: Member,
    /// Whether it votes.
    pub voter: bool,
    /// What it said of itself last, where it answered lately.
    pub seen: Option<Seen>,
}

/// What a member said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`; `lost-log` where its log is shorter than what it has
    /// acknowledged.
    pub state: String,
    /// The last index it applied.
    pub applied: u64,
    /// Its state's digest at that index.
    pub digest: String,
}

/// One node of the cluster. Clones share it.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
    receiver: Arc<Receiver>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// Tasks that write log and state, where these are no threads.
    writers: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// What the tasks of a node share.
pub(crate) struct Inner {
    pub(crate) raft: Raft<Types, Machine>,
    pub(crate) files: Arc<dyn SnapshotFiles>,
    pub(crate) blocking: Blocking,
    log: Log,
    state: State,
    progress: Arc<Progress>,
    peers: Peers,
    local: Queue,
    remote: Queue,
    barrier: RwLock<Option<Barrier>>,
    fresh_at: Mutex<Option<Instant>>,
    seen: Mutex<BTreeMap<NodeId, (Instant, Seen)>>,
    /// One change of the membership at a time; see [`Inner::turn_to_change`].
    changing: tokio::sync::Mutex<()>,
}

/// Where a command goes.
enum Route {
    Here,
    To(NodeId),
    Nowhere,
}

impl Node {
    /// Has `command` decided and gives its reply; ends within `deadline`.
    ///
    /// The command may be handed to consensus more than once, after a failure that leaves its fate unknown. The
    /// application must therefore know it again. `request_id` is for log lines, on this node and on the leader.
    pub async fn propose(
        &self,
        command: Bytes,
        deadline: Duration,
        request_id: &str,
    ) -> Result<Decided, ProposeError> {
        if command.len() > MAX_COMMAND_BYTES {
            return Err(ProposeError::TooLarge);
        }
        if self.inner.peers.identity.cluster().is_none() {
            return Err(ProposeError::NoCluster);
        }
        let command = Traced {
            request_id: Arc::from(request_id),
            bytes: command,
        };
        let end = Instant::now() + deadline;
        let mut server = self.inner.raft.server_metrics();
        let mut uncertain = false;
        loop {
            match self.inner.submit(&command, end, true).await {
                Outcome::Applied { index, reply } => return Ok(Decided { index, reply }),
                Outcome::Overloaded if uncertain => return Err(ProposeError::Unknown),
                Outcome::Overloaded => return Err(ProposeError::Overloaded),
                Outcome::Unknown => uncertain = true,
                Outcome::NotLeader => {}
            }
            let pause = RETRY_PAUSE.min(end.saturating_duration_since(Instant::now()));
            if pause.is_zero() {
                return Err(if uncertain {
                    ProposeError::Unknown
                } else {
                    ProposeError::NoLeader
                });
            }
            if let Ok(Err(_)) = tokio::time::timeout(pause, server.changed()).await {
                // Consensus has ended, so there is nothing more to wait for.
                return Err(if uncertain {
                    ProposeError::Unknown
                } else {
                    ProposeError::NoLeader
                });
            }
        }
    }

    /// Makes the local state fit for a linearizable read: when this returns, this node has applied everything that was
    /// acknowledged anywhere before the call. Gives the index that was reached.
    pub async fn read_barrier(&self, deadline: Duration) -> Result<u64, ReadError> {
        if self.inner.peers.identity.cluster().is_none() {
            return Err(ReadError::NoCluster);
        }
        let end = Instant::now() + deadline;
        let index = loop {
            let waiting = self.inner.barrier.read().clone();
            let round = async { Some(waiting?.index().await) };
            match tokio::time::timeout_at(end, round).await {
                Ok(Some(Some(Ok(index)))) => break index,
                Ok(Some(Some(Err(_)))) => {}
                Ok(Some(None)) => return Err(ReadError::Overloaded),
                Ok(None) | Err(_) => return Err(ReadError::NoLeader),
            }
            if Instant::now() + RETRY_PAUSE >= end {
                return Err(ReadError::NoLeader);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        };
        self.wait_applied(index, end.saturating_duration_since(Instant::now()))
            .await?;
        Ok(index)
    }

    /// Waits until this node has applied `index`.
    pub async fn wait_applied(&self, index: u64, deadline: Duration) -> Result<(), ReadError> {
        let mut applied = self.inner.progress.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied >= index);
        match tokio::time::timeout(deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ReadError::NotApplied),
        }
    }

    /// What this node has applied.
    pub fn state(&self) -> &State {
        &self.inner.state
    }

    /// What of the state is in memory only, and how much was carried to the disk.
    pub fn state_stats(&self) -> StateStats {
        self.inner.state.stats()
    }

    /// How much the log has written, and in how many syncs.
    pub fn log_stats(&self) -> LogStats {
        self.inner.log.stats()
    }

    /// The last applied index, and a wake-up for every change of it.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.progress.applied.subscribe()
    }

    /// How old this node's state may be: it holds everything that was acknowledged anywhere up to that long ago.
    /// `None` before that was ever established.
    pub fn staleness(&self) -> Option<Duration> {
        self.inner.fresh_at.lock().map(|at| at.elapsed())
    }

    /// The receiving end for this node's peers.
    pub fn receiver(&self) -> Arc<dyn Receive> {
        Arc::clone(&self.receiver) as Arc<dyn Receive>
    }

    /// Ends when consensus or the store has stopped because of a failure, with what is known about it; never otherwise.
    pub async fn failed(&self) -> String {
        // Every step of consensus changes its metrics, so waiting for a change would wake the caller for each of them.
        let metrics = self.inner.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return fatal.to_string();
            }
            // Consensus hears of a failed store only when it has something to write, and a node that waits to be
            // admitted has nothing: it would refuse everybody, for ever.
            if self.inner.log.stats().failed || self.inner.state.stats().failed {
                return "the store can no longer be written".to_owned();
            }
            tokio::time::sleep(FAILURE_INTERVAL).await;
        }
    }

    /// Hands leadership over where this node leads, so that stopping it is hardly noticed.
    pub async fn step_down(&self) {
        if self.inner.raft.is_leader()
            && let Err(error) = self.inner.hand_over(None).await
        {
            tracing::warn!(%error, "leadership was not handed over");
        }
    }

    /// Stops this node at once; see [`Node::step_down`]. What was applied is put on the disk if that does not take long,
    /// so that the next start need not apply it again.
    pub async fn stop(&self) {
        self.inner.barrier.write().take();
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(%error, "consensus ended badly");
        }
        let persisted = completed(|done| self.inner.state.persist(done));
        match tokio::time::timeout(PERSIST_TIMEOUT, persisted).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the next start applies the end of the log again");
            }
            Err(_) => tracing::warn!("the next start applies the end of the log again"),
        }
        for writer in self.writers.lock().drain(..) {
            writer.abort();
        }
    }
}

impl Inner {
    fn leader(&self) -> Option<NodeId> {
        self.raft.server_metrics().borrow_watched().current_leader
    }

    fn route(&self) -> Route {
        match self.leader() {
            Some(leader) if leader == self.peers.identity.party.node => Route::Here,
            Some(leader) => Route::To(leader),
            None => Route::Nowhere,
        }
    }

    fn member(&self, id: NodeId) -> Option<Member> {
        let metrics = self.raft.server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        membership.membership().get_node(&id).cloned()
    }

    /// One try: into the log where this node leads, to the leader where it may be forwarded.
    async fn submit(&self, command: &Traced, end: Instant, may_forward: bool) -> Outcome {
        let queue = match self.route() {
            Route::Here => &self.local,
            Route::To(_) if may_forward => &self.remote,
            Route::To(_) | Route::Nowhere => return Outcome::NotLeader,
        };
        let Some(mut ticket) = queue.put(command.clone()) else {
            return Outcome::Overloaded;
        };
        match tokio::time::timeout_at(end, &mut ticket.answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) if ticket.withdraw() => Outcome::NotLeader,
            Ok(Err(_)) | Err(_) => Outcome::Unknown,
        }
    }

    /// Commands that a peer forwarded. They are never forwarded again: one hop at most.
    pub(crate) async fn propose_for_peer(&self, commands: Vec<Traced>) -> Vec<Outcome> {
        let end = Instant::now() + FORWARD_TIMEOUT.mul_f32(0.9);
        let tries = commands.iter().map(|command| async move {
            let outcome = self.submit(command, end, false).await;
            if let Outcome::Applied { index, .. } = &outcome {
                tracing::info!(request_id = %command.request_id, index, "decided for a peer");
            }
            outcome
        });
        futures_util::future::join_all(tries).await
    }

    /// Hands a batch to the leader.
    async fn forward(&self, batch: Vec<Submission>) {
        let outcomes = match self.route() {
            Route::To(leader) => match self.member(leader) {
                Some(member) => self.forward_to(leader, &member, &batch).await,
                None => Err(Outcome::NotLeader),
            },
            Route::Here | Route::Nowhere => Err(Outcome::NotLeader),
        };
        match outcomes {
            Ok(outcomes) if outcomes.len() == batch.len() => {
                for (submission, outcome) in batch.into_iter().zip(outcomes) {
                    submission.answer(outcome);
                }
            }
            Ok(_) => answer_all(batch, &Outcome::Unknown),
            Err(outcome) => answer_all(batch, &outcome),
        }
    }

    async fn forward_to(
        &self,
        leader: NodeId,
        member: &Member,
        batch: &[Submission],
    ) -> Result<Vec<Outcome>, Outcome> {
        let message = ProposeBatch {
            commands: batch
                .iter()
                .map(|submission| submission.command.clone())
                .collect(),
        };
        let call = self.peers.call(
            Lane::Forward,
            Kind::Propose,
            (leader, member),
            &message,
            FORWARD_TIMEOUT,
        );
        let Some(answer) = self.while_leading(leader, call).await else {
            return Err(Outcome::Unknown);
        };
        answer.map_err(|error| match error {
            // Refused and unreachable mean never delivered; only a lost answer leaves doubt.
            CallError::Unreachable(_) | CallError::Refused(_) | CallError::NoCluster => {
                Outcome::NotLeader
            }
            CallError::Lost(_) => Outcome::Unknown,
        })
    }

    /// Waits for a leader's answer for as long as this node takes it for the leader. One that is paused or cut off
    /// never answers, and nobody should wait for it once there is another.
    async fn while_leading<A>(
        &self,
        leader: NodeId,
        call: impl Future<Output = Result<A, CallError>>,
    ) -> Option<Result<A, CallError>> {
        let mut server = self.raft.server_metrics();
        tokio::pin!(call);
        loop {
            tokio::select! {
                answer = &mut call => return Some(answer),
                changed = server.changed() => {
                    let leads = server.borrow_watched().current_leader == Some(leader);
                    if changed.is_err() || !leads {
                        return None;
                    }
                }
            }
        }
    }

    /// The read index, from the leader, wherever it is.
    async fn read_index(&self) -> ReadIndex {
        match self.route() {
            Route::Here => self.read_index_as_leader().await,
            Route::To(leader) => {
                let member = self.member(leader).ok_or(NoIndex::NotLeader)?;
                let ask = self.peers.call(
                    Lane::Heartbeat,
                    Kind::ReadIndex,
                    (leader, &member),
                    &(),
                    SMALL_TIMEOUT,
                );
                match self.while_leading(leader, ask).await {
                    Some(Ok(index)) => index,
                    Some(Err(_)) | None => Err(NoIndex::Lost),
                }
            }
            Route::Nowhere => Err(NoIndex::NotLeader),
        }
    }

    /// The read index of this node as the leader, confirmed by a quorum after this call.
    pub(crate) async fn read_index_as_leader(&self) -> ReadIndex {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(error) if error.forward_to_leader().is_some() => Err(NoIndex::NotLeader),
            Err(_) => Err(NoIndex::NoQuorum),
        }
    }
}

/// Writes a batch into the log of this node, the leader, and answers each command as it is applied.
async fn write_batch(raft: Raft<Types, Machine>, clock: Arc<dyn Clock>, batch: Vec<Submission>) {
    let stamp_ms = clock.now_ms();
    let commands: Vec<_> = batch
        .iter()
        .map(|submission| Command {
            stamp_ms,
            bytes: submission.command.bytes.clone(),
        })
        .collect();
    let mut answers = match raft.client_write_many(commands).await {
        Ok(answers) => answers,
        Err(_) => return answer_all(batch, &Outcome::Unknown),
    };
    let mut waiting = batch.into_iter();
    while let Some(submission) = waiting.next() {
        match answers.next().await {
            Some(Ok(Ok(written))) => {
                let index = written.log_id.index;
                submission.answer(Outcome::Applied {
                    index,
                    reply: written.response.0,
                });
            }
            Some(Ok(Err(ClientWriteError::ForwardToLeader(_)))) => {
                submission.answer(Outcome::NotLeader);
            }
            Some(Ok(Err(_))) => submission.answer(Outcome::Unknown),
            Some(Err(_)) | None => {
                submission.answer(Outcome::Unknown);
                return answer_all(waiting.collect(), &Outcome::Unknown);
            }
        }
    }
}

fn answer_all(batch: Vec<Submission>, outcome: &Outcome) {
    for submission in batch {
        submission.answer(outcome.clone());
    }
}

/// What openraft refused, in an operator's words.
fn refused(error: &RaftError<Types, ClientWriteError<Types>>) -> ControlError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => ControlError::NoLeader,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            ControlError::Refused(error.to_string())
        }
        RaftError::APIError(_) | RaftError::Fatal(_) => ControlError::Unknown,
    }
}
