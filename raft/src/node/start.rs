//! Putting a node together, and the tasks that it runs.

use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use mesto_storage::{Log, LogWriter, State, StateWriter};
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{
    BATCHES_IN_FLIGHT, Barrier, Blocking, FRESHNESS_INTERVAL, Identity, Inner, LogStore, Machine,
    Network, Node, NodeParts, Peers, Queue, Receiver, SMALL_TIMEOUT, STATUS_INTERVAL, StartError,
    Submission, answer_all, barrier, batcher, write_batch,
};
use crate::barrier::NoIndex;
use crate::messages::Outcome;
use crate::receiver::Complaints;
use crate::runtime::random_u64;

impl Node {
    /// Starts a node on what its disk holds. It takes part in a cluster as soon as it belongs to one: since an earlier
    /// run, by [`Node::initialize`], or when a cluster admits it.
    pub async fn start(parts: NodeParts) -> Result<Self, StartError> {
        let config = parts.tuning.config()?;
        let (log, writer) = Log::open(Arc::clone(&parts.engine), parts.log_options.clone())?;
        let log_writer = run_writer(writer, parts.blocking, 0..=parts.tuning.simulated_sync_ms);
        let options = parts.state_options.clone();
        let (state, writer) = State::open(Arc::clone(&parts.engine), &log, options)?;
        let state_writer = run_writer(writer, parts.blocking, 1..=1);
        let identity = Identity::open(log.clone(), parts.id, parts.storage_id).await;
        let identity = Arc::new(identity.map_err(|error| StartError::Identity(error.to_string()))?);
        let peers = Peers::new(
            Arc::clone(&identity),
            parts.key.clone(),
            Arc::clone(&parts.transport),
        );

        let (machine, progress) = Machine::open(
            state.clone(),
            Arc::clone(&parts.app),
            Arc::clone(&parts.snapshots),
            parts.blocking,
        )?;
        let append_timeout = Duration::from_millis(parts.tuning.append_timeout_ms);
        let network = Network {
            peers: peers.clone(),
            append_timeout,
            blocking: parts.blocking,
        };
        let raft = Raft::new(
            parts.id,
            Arc::new(config),
            network,
            LogStore::new(log.clone(), state.clone(), parts.tuning.max_append_bytes),
            machine,
        )
        .await;
        let raft = raft.map_err(|error| StartError::Consensus(error.to_string()))?;

        if identity.cluster().is_none() {
            tracing::warn!(
                "this node belongs to no cluster yet: bootstrap one, or add this node to one"
            );
        }
        let (clock, written) = (Arc::clone(&parts.clock), raft.clone());
        let capacity = parts.tuning.max_waiting_commands;
        let (local, run_local) = batcher(capacity, BATCHES_IN_FLIGHT, move |batch| {
            write_batch(written.clone(), Arc::clone(&clock), batch)
        });
        let own = Arc::new(OnceLock::<Weak<Inner>>::new());
        let (remote, run_remote) = forwarder(capacity, Arc::clone(&own));
        let (reads, run_reads) = reader(Arc::clone(&own));

        let inner = Arc::new(Inner {
            raft,
            files: Arc::clone(&parts.snapshots),
            blocking: parts.blocking,
            log,
            state,
            progress: Arc::clone(&progress),
            peers,
            local,
            remote,
            barrier: RwLock::new(Some(reads)),
            fresh_at: Mutex::new(None),
            seen: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        });
        own.set(Arc::downgrade(&inner))
            .expect("it is set once, here");
        let receiver = Arc::new(Receiver {
            key: parts.key,
            identity,
            progress,
            node: OnceLock::from(Arc::clone(&inner)),
            incoming: tokio::sync::Mutex::new(None),
            complaints: Complaints::default(),
        });
        let mut tasks = vec![
            tokio::spawn(run_local),
            tokio::spawn(run_remote),
            tokio::spawn(run_reads),
        ];
        tasks.push(tokio::spawn(keep_fresh(Arc::clone(&inner))));
        tasks.push(tokio::spawn(keep_status(Arc::clone(&inner))));
        tasks.push(tokio::spawn(tell_leaders(Arc::clone(&inner))));
        let writers = log_writer.into_iter().chain(state_writer).collect();
        Ok(Self {
            inner,
            receiver,
            tasks: Arc::new(Mutex::new(tasks)),
            writers: Arc::new(Mutex::new(writers)),
        })
    }
}

/// What writes in the background: of the log, or of the state.
trait Writer: Send + 'static {
    /// The name of its thread.
    const NAME: &'static str;

    fn run(self);
    /// The first half of a step, up to where the disk takes its time; `false` when nothing waits.
    fn begin(&mut self) -> bool;
    /// The other half.
    fn end(&mut self);
    fn on_work(&mut self, wake: Box<dyn Fn() + Send + Sync>);
}

impl Writer for LogWriter {
    const NAME: &'static str = "log-writer";

    fn run(self) {
        Self::run(self);
    }

    fn begin(&mut self) -> bool {
        self.write()
    }

    fn end(&mut self) {
        self.flush();
    }

    fn on_work(&mut self, wake: Box<dyn Fn() + Send + Sync>) {
        Self::on_work(self, wake);
    }
}

impl Writer for StateWriter {
    const NAME: &'static str = "state-writer";

    fn run(self) {
        Self::run(self);
    }

    fn begin(&mut self) -> bool {
        self.step()
    }

    fn end(&mut self) {}

    fn on_work(&mut self, wake: Box<dyn Fn() + Send + Sync>) {
        Self::on_work(self, wake);
    }
}

/// Runs a writer: on a thread of its own, or, in a simulation, as a task. Nothing takes any time of its own there, so
/// each step takes one of `simulated_ms`, during which what was written is in no safety yet.
fn run_writer<W: Writer>(
    mut writer: W,
    blocking: Blocking,
    simulated_ms: RangeInclusive<u64>,
) -> Option<JoinHandle<()>> {
    match blocking {
        Blocking::Threads => {
            // It ends by itself when the last handle of what it writes is gone.
            std::thread::Builder::new()
                .name(W::NAME.to_owned())
                .spawn(move || writer.run())
                .expect("a process that cannot start a thread cannot run");
            None
        }
        Blocking::Inline => {
            let work = Arc::new(Notify::new());
            let wake = Arc::clone(&work);
            writer.on_work(Box::new(move || wake.notify_one()));
            Some(tokio::spawn(async move {
                loop {
                    while writer.begin() {
                        let (least, most) = (*simulated_ms.start(), *simulated_ms.end());
                        match least + random_u64() % (most - least + 1) {
                            0 => tokio::task::yield_now().await,
                            ms => tokio::time::sleep(Duration::from_millis(ms)).await,
                        }
                        writer.end();
                    }
                    work.notified().await;
                }
            }))
        }
    }
}

fn forwarder(
    capacity: usize,
    own: Arc<OnceLock<Weak<Inner>>>,
) -> (Queue, impl Future<Output = ()> + Send + 'static) {
    batcher(
        capacity,
        BATCHES_IN_FLIGHT,
        move |batch: Vec<Submission>| {
            let inner = own.get().and_then(Weak::upgrade);
            async move {
                match inner {
                    Some(inner) => inner.forward(batch).await,
                    None => answer_all(batch, &Outcome::NotLeader),
                }
            }
        },
    )
}

fn reader(own: Arc<OnceLock<Weak<Inner>>>) -> (Barrier, impl Future<Output = ()> + Send + 'static) {
    barrier(move || {
        let inner = own.get().and_then(Weak::upgrade);
        async move {
            match inner {
                Some(inner) => inner.read_index().await,
                None => Err(NoIndex::NotLeader),
            }
        }
    })
}

/// Establishes again and again how fresh the local state is: a read index that began at some moment and was applied
/// proves that everything acknowledged before that moment is here.
async fn keep_fresh(inner: Arc<Inner>) {
    let mut applied = inner.progress.applied.subscribe();
    loop {
        tokio::time::sleep(FRESHNESS_INTERVAL).await;
        let began = Instant::now();
        let Some(waiting) = inner.barrier.read().clone() else {
            return;
        };
        let Ok(Some(Ok(index))) = tokio::time::timeout(SMALL_TIMEOUT, waiting.index()).await else {
            continue;
        };
        drop(waiting);
        let reached =
            tokio::time::timeout(SMALL_TIMEOUT, applied.wait_for(|applied| *applied >= index))
                .await;
        if matches!(reached, Ok(Ok(_))) {
            let mut fresh_at = inner.fresh_at.lock();
            *fresh_at = (*fresh_at).max(Some(began));
        }
    }
}

/// Asks the other members again and again how they are, for the status page.
async fn keep_status(inner: Arc<Inner>) {
    loop {
        inner.ask_members().await;
        tokio::time::sleep(STATUS_INTERVAL).await;
    }
}

/// Logs who leads, whenever that changes.
async fn tell_leaders(inner: Arc<Inner>) {
    let mut metrics = inner.raft.server_metrics();
    let mut before = None;
    loop {
        let (leader, term) = {
            let metrics = metrics.borrow_and_update();
            (metrics.current_leader, metrics.vote.leader_id.term)
        };
        if leader != before {
            match leader {
                Some(leader) => tracing::info!(leader, term, "a leader was elected"),
                None => tracing::warn!(term, "there is no leader"),
            }
            before = leader;
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
