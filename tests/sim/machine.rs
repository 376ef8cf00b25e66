//! A machine: a disk, a wall clock, and at most one process, which is a whole node on a runtime of its own.
//!
//! A process runs only while it is stepped. Not to step it is to pause it, as SIGSTOP does: when it goes on, its
//! monotonic clock has leapt, all its timers are due at once, and what arrived meanwhile waits in its sockets. To drop its
//! runtime is to kill it. Its clock may run faster or slower than others'.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mesto::http;
use mesto::limits::Limits;
use mesto::node::ClusterReplica;
use mesto::replica::{Control, Replica};
use mesto::service::entropy::SeededEntropy;
use mesto::service::passwords::PasswordCost;
use mesto::service::{Parts, Service};
use mesto_raft::{
    Address, Blocking, ClusterKey, Lane, Node, NodeId, NodeParts, Receive, StorageId, Transport,
    TransportError, Tuning, random_u128,
};
use mesto_storage::{LogOptions, MemoryDisk, PowerLoss, StateOptions};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::runtime::{Builder, RngSeed, Runtime, UnhandledPanic};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use crate::bugs::Bug;
use crate::clock::WallClock;
use crate::coverage::Event;
use crate::dice::Dice;
use crate::disk::Sickness;
use crate::front;
use crate::ledger::{Entered, Ledger};
use crate::net::{Host, Net, Parcel, Payload, name};
use crate::plan::TuningPlan;
use crate::shared::{Shared, note};

/// The operator's token.
pub(crate) const OPERATOR: &str = "operator-token-of-the-simulation";

/// What all machines of a run share.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) shared: Arc<Shared>,
    pub(crate) net: Arc<Net>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) seed: u64,
    pub(crate) tuning: TuningPlan,
    pub(crate) founders: u64,
    pub(crate) bug: Option<Bug>,
}

/// A machine.
pub(crate) struct Machine {
    pub(crate) id: NodeId,
    pub(crate) disk: MemoryDisk,
    pub(crate) sickness: Sickness,
    pub(crate) clock: WallClock,
    /// How much faster its monotonic clock runs, in millionths; negative for slower.
    pub(crate) drift_ppm: i64,
    pub(crate) storage: StorageId,
    pub(crate) process: Option<Process>,
    pub(crate) paused: bool,
    site: Site,
    incarnations: u64,
}

/// A running node.
pub(crate) struct Process {
    runtime: Runtime,
    slot: Arc<Mutex<Slot>>,
    began: tokio::time::Instant,
    /// How far its own time has got.
    run_us: u64,
    /// For how long it has not been stepped.
    missed_us: u64,
}

/// How far a process has got.
#[derive(Default)]
struct Slot {
    running: Option<Running>,
    ended: Option<End>,
}

/// What a running process offers to the simulation.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) node: Node,
    router: Router,
}

/// Why a process is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It did not start.
    NotStarted(String),
    /// Consensus ended.
    Stopped(String),
}

/// Where a node serves.
pub(crate) fn place(id: NodeId) -> Address {
    Address {
        peer: format!("{}:1", name(id)),
        http: format!("{}:2", name(id)),
    }
}

impl Machine {
    /// A machine with an empty disk, switched off.
    pub(crate) fn new(site: &Site, id: NodeId) -> Self {
        Self {
            id,
            disk: MemoryDisk::new(),
            sickness: Sickness::default(),
            clock: WallClock::new(Arc::clone(&site.shared)),
            drift_ppm: 0,
            storage: StorageId(random_u128()),
            process: None,
            paused: false,
            site: site.clone(),
            incarnations: 0,
        }
    }

    /// A new disk in the place of the old one, which is gone.
    pub(crate) fn replace_disk(&mut self) {
        self.disk = MemoryDisk::new();
        self.sickness = Sickness::default();
        self.storage = StorageId(random_u128());
    }

    /// Starts the process.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "one process at a time");
        self.incarnations += 1;
        let seed = Dice::new(
            self.site.seed,
            &format!("process {} {}", self.id, self.incarnations),
        )
        .next();
        self.site.net.power_on(self.id);
        note!(
            self.site.shared,
            "node {} starts, the {}. time",
            self.id,
            self.incarnations
        );
        if let Some(bug) = self.site.bug {
            bug.prepare(&self.disk);
        }
        let runtime = runtime(seed);
        let slot = Arc::new(Mutex::new(Slot::default()));
        let arriving = self.site.net.listen(self.id);
        let life = Life {
            site: self.site.clone(),
            id: self.id,
            seed,
            clock: self.clock.clone(),
            slot: Arc::clone(&slot),
            calls: Arc::default(),
        };
        let parts = self.parts(&life);
        let began = {
            let _entered = runtime.enter();
            tokio::time::Instant::now()
        };
        runtime.spawn(life.run(parts, arriving));
        self.paused = false;
        self.process = Some(Process {
            runtime,
            slot,
            began,
            run_us: 0,
            missed_us: 0,
        });
    }

    fn parts(&self, life: &Life) -> NodeParts {
        let Site {
            tuning,
            bug,
            ledger,
            ..
        } = &self.site;
        let engine = self.sickness.infect(self.disk.engine());
        let app = Arc::new(mesto::node::BookingApp);
        NodeParts {
            id: self.id,
            storage_id: self.storage,
            engine: match bug {
                Some(bug) => bug.engine(engine),
                None => engine,
            },
            snapshots: self.disk.snapshots(),
            blocking: Blocking::Inline,
            log_options: LogOptions {
                cache_bytes: tuning.log_cache_bytes,
                planted_bug_answer_before_flush: *bug == Some(Bug::AnsweredBeforeFlush),
                ..LogOptions::default()
            },
            state_options: StateOptions {
                max_image_bytes: tuning.max_image_bytes,
                max_layer_bytes: tuning.max_layer_bytes,
                portion_pairs: tuning.portion_pairs,
            },
            transport: Arc::new(Wire {
                from: self.id,
                net: Arc::clone(&self.site.net),
                calls: Arc::clone(&life.calls),
                shared: Arc::clone(&self.site.shared),
            }),
            key: ClusterKey::from_secret(b"the secret of the simulation"),
            clock: Arc::new(self.clock.clone()),
            app: Arc::new(Entered {
                app: match bug {
                    Some(bug) => bug.app(app, self.id, self.clock.clone()),
                    None => app,
                },
                node: self.id,
                ledger: Arc::clone(ledger),
            }),
            tuning: Tuning {
                snapshot_every_entries: tuning.snapshot_every_entries,
                keep_log_entries: tuning.keep_log_entries,
                max_append_entries: tuning.max_append_entries,
                max_append_bytes: tuning.max_append_bytes,
                snapshot_timeout_ms: 5_000,
                simulated_sync_ms: tuning.sync_ms,
                planted_bug_leader_restore: *bug == Some(Bug::LeaderRestore),
                ..Tuning::default()
            },
        }
    }

    /// Kills the process. What it had written stays.
    pub(crate) fn kill(&mut self) {
        if self.end(true) {
            self.disk.process_crash();
        }
    }

    /// Cuts the power. Of what was not flushed, some is lost.
    pub(crate) fn cut_power(&mut self, seed: u64) {
        self.end(false);
        let PowerLoss { log, state } = self.disk.power_cut(seed);
        let shared = &self.site.shared;
        for (what, loss) in [("the log", log), ("the state", state)] {
            note!(
                shared,
                "node {} lost {} of {} unflushed writes to {what}",
                self.id,
                loss.lost,
                loss.unflushed
            );
        }
        // What a purge removes is not flushed at once either; records are what matters.
        if log.lost_pairs > 0 {
            shared.count(Event::LogTailLost);
            if log.is_torn() {
                shared.count(Event::LogTailTorn);
            }
        }
        if state.lost > 0 {
            shared.count(Event::StateTailLost);
        }
        if state.is_torn() {
            shared.count(Event::StateTailTorn);
        }
    }

    fn end(&mut self, powered: bool) -> bool {
        self.site.net.close(self.id, powered);
        self.paused = false;
        let Some(process) = self.process.take() else {
            return false;
        };
        let Process { runtime, slot, .. } = process;
        // Its tasks end here and now, and with them every handle of its disk.
        drop(runtime);
        drop(slot);
        true
    }

    /// Lets the process run for so long, unless it is paused.
    pub(crate) fn step(&mut self, tick_us: u64) {
        let drift = i64::try_from(tick_us).unwrap_or(0) * self.drift_ppm / 1_000_000;
        let own_us = tick_us.saturating_add_signed(drift);
        let Some(process) = &mut self.process else {
            return;
        };
        if self.paused {
            process.missed_us += own_us;
            return;
        }
        if let Some(panic) = process.step(own_us) {
            self.site
                .shared
                .fail("no panic", format!("node {} panicked: {panic}", self.id));
        }
    }

    /// What the process offers, if it runs and has started.
    pub(crate) fn running(&self) -> Option<Running> {
        let process = self.process.as_ref()?;
        process.slot.lock().running.clone()
    }

    /// Why the process is of no use any more, if it is not.
    pub(crate) fn ended(&self) -> Option<End> {
        let process = self.process.as_ref()?;
        process.slot.lock().ended.clone()
    }

    /// Whether a process is there and its node serves.
    pub(crate) fn is_up(&self) -> bool {
        !self.paused && self.running().is_some() && self.ended().is_none()
    }
}

impl Process {
    fn step(&mut self, own_us: u64) -> Option<String> {
        let missed = Duration::from_micros(std::mem::take(&mut self.missed_us));
        self.run_us += own_us + u64::try_from(missed.as_micros()).unwrap_or(0);
        let until = self.began + Duration::from_micros(self.run_us);
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            self.runtime.block_on(async {
                if !missed.is_zero() {
                    tokio::time::advance(missed).await;
                }
                tokio::time::sleep_until(until).await;
            });
        }));
        stepped.err().map(|_| crate::panics::last())
    }
}

/// A runtime whose time is simulated and whose randomness is seeded.
pub(crate) fn runtime(seed: u64) -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&seed.to_be_bytes()))
        .unhandled_panic(UnhandledPanic::ShutdownRuntime)
        .build()
        .expect("a runtime without I/O needs nothing of the system")
}

type Calls = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Result<Bytes, TransportError>>>>>;

/// One life of a process.
struct Life {
    site: Site,
    id: NodeId,
    seed: u64,
    clock: WallClock,
    slot: Arc<Mutex<Slot>>,
    calls: Calls,
}

impl Life {
    async fn run(self, parts: NodeParts, mut arriving: UnboundedReceiver<Parcel>) {
        let node = match Node::start(parts).await {
            Ok(node) => node,
            Err(error) => {
                note!(self.site.shared, "node {} does not start: {error}", self.id);
                self.slot.lock().ended = Some(End::NotStarted(error.to_string()));
                return;
            }
        };
        let receiver = node.receiver();
        let running = self.serve(node.clone());
        self.slot.lock().running = Some(running.clone());
        let failed = async move { node.failed().await };
        tokio::pin!(failed);
        loop {
            tokio::select! {
                biased;
                parcel = arriving.recv() => match parcel {
                    Some(parcel) => self.take(parcel, &receiver, &running.router),
                    None => return,
                },
                why = &mut failed => break self.slot.lock().ended = Some(End::Stopped(why)),
            }
        }
        note!(
            self.site.shared,
            "node {} stopped: {:?}",
            self.id,
            self.slot.lock().ended
        );
        // The process ends, so nobody listens any more.
        self.site.net.close(self.id, true);
    }

    fn serve(&self, node: Node) -> Running {
        let founders = (1..=self.site.founders).map(|id| (id, place(id))).collect();
        let cluster = Arc::new(ClusterReplica::new(node.clone(), founders));
        let replica: Arc<dyn Replica> = match self.site.bug {
            Some(bug) => bug.replica(Arc::clone(&cluster) as _),
            None => Arc::clone(&cluster) as _,
        };
        let service = Service::new(Parts {
            replica: Arc::clone(&replica),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SeededEntropy::new(self.seed)),
            limits: Limits {
                // The number of cores must not matter.
                password_hashes: 2,
                write_ms: self.site.tuning.write_ms,
                read_ms: self.site.tuning.read_ms,
                failed_sign_ins_per_account: 1_000,
                failed_sign_ins_per_address: 100_000,
                ..Limits::default()
            },
            password_cost: PasswordCost::LEAST,
            operator_token: Some(OPERATOR.to_owned()),
        });
        let control = cluster as Arc<dyn Control>;
        let router = http::router(service, Some(control), Registry::default());
        Running { node, router }
    }

    fn take(&self, parcel: Parcel, receiver: &Arc<dyn Receive>, router: &Router) {
        let Parcel { from, payload, .. } = parcel;
        let (us, net) = (self.id, Arc::clone(&self.site.net));
        match payload {
            Payload::Call { call, frame, .. } => {
                let receiver = Arc::clone(receiver);
                tokio::spawn(async move {
                    let frame = receiver.receive(frame).await;
                    net.send(us, from, Payload::Answer { call, frame });
                });
            }
            Payload::Request { call, request } => {
                let router = router.clone();
                let request = match self.site.bug {
                    Some(bug) => bug.request(request),
                    None => request,
                };
                tokio::spawn(async move {
                    let response = Arc::new(front::answer(router, request).await);
                    net.send(us, from, Payload::Response { call, response });
                });
            }
            Payload::Answer { call, frame } => {
                let lost = || TransportError::Lost(name(from));
                self.settle(call, frame.ok_or_else(lost));
            }
            Payload::Refused { call } => {
                self.settle(call, Err(TransportError::Unreachable(name(from))));
            }
            Payload::Response { .. } => {}
        }
    }

    fn settle(&self, call: u64, answer: Result<Bytes, TransportError>) {
        if let Some(waiting) = self.calls.lock().remove(&call) {
            // Who waited may have given up.
            let _ = waiting.send(answer);
        }
    }
}

/// A node's way to its peers.
struct Wire {
    from: Host,
    net: Arc<Net>,
    calls: Calls,
    shared: Arc<Shared>,
}

/// Forgets a call that nobody waits for any more.
struct Waiting<'a> {
    calls: &'a Calls,
    call: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.call);
    }
}

impl Transport for Wire {
    fn call<'a>(
        &'a self,
        lane: Lane,
        address: &'a str,
        frame: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes, TransportError>> {
        async move {
            let to = address
                .strip_prefix("node-")
                .and_then(|rest| rest.split(':').next())
                .and_then(|number| number.parse::<Host>().ok())
                .expect("every address in the simulation is a node's");
            if to == self.from {
                self.shared
                    .fail("no panic", format!("node {to} calls itself"));
            }
            let call = self.net.number();
            let (sender, answer) = oneshot::channel();
            self.calls.lock().insert(call, sender);
            let _waiting = Waiting {
                calls: &self.calls,
                call,
            };
            self.net
                .send(self.from, to, Payload::Call { call, lane, frame });
            match tokio::time::timeout(timeout, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => Err(TransportError::Lost(address.to_owned())),
            }
        }
        .boxed()
    }
}
