//! One run of one seed: the world is built, troubled, judged.
//!
//! ```text
//!   every tick:   network (turmoil) ─► each machine's process, in random order ─► clients ─► faults ─► watch
//!
//!   open          the cluster is founded, the space is laid out
//!   trouble       clients work, things go wrong
//!   liveness      a quorum is mended, everything else stays broken for good: it must elect, serve and converge
//!   peace         the rest is mended: all must converge; clients look back
//!   judgement     states, history, bookings
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use mesto_raft::NodeId;

use crate::audit;
use crate::bugs::Bug;
use crate::clients::Client;
use crate::coverage::Coverage;
use crate::dice::Dice;
use crate::faults::Director;
use crate::ledger::Ledger;
use crate::machine::{Machine, Site};
use crate::net::{CLIENTS, Net};
use crate::operator::Operator;
use crate::plan::Plan;
use crate::shared::{Failure, Shared, note};
use crate::town::{Crowd, Job, Town};
use crate::trace::{Trace, TraceId};
use crate::watch::Watch;

/// How much simulated time passes at once.
const TICK_US: u64 = 1_000;
/// How often everything is looked at, in ticks.
const WATCH_TICKS: u64 = 10;
/// How often all bookings of one node are looked at, in ticks.
const AUDIT_TICKS: u64 = 1_500;
/// How long the founding may take, in milliseconds: messages are lost meanwhile, and each loss costs its operator the
/// whole of a time-out.
const OPEN_MS: u64 = 120_000;

/// How long clients may take to end what they have begun, in milliseconds: some wait for answers that were lost, and
/// then try again.
const CLOSING_MS: u64 = 120_000;
/// How long it may take to ask everything once more, in milliseconds.
const LOOK_BACK_MS: u64 = 60_000;

/// A run.
pub(crate) struct World {
    pub(crate) sim: turmoil::Sim<'static>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) net: Arc<Net>,
    pub(crate) plan: Plan,
    pub(crate) site: Site,
    pub(crate) machines: BTreeMap<NodeId, Machine>,
    pub(crate) town: Arc<Town>,
    pub(crate) crowd: Crowd,
    pub(crate) watch: Watch,
    pub(crate) director: Director,
    order: Dice,
    ticks: u64,
    clients: u64,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) trace: TraceId,
    pub(crate) coverage: Coverage,
    pub(crate) failure: Option<Failure>,
    pub(crate) tail: String,
    pub(crate) requests: usize,
    pub(crate) entries: u64,
    pub(crate) simulated_ms: u64,
}

/// Runs a plan.
pub(crate) fn run(plan: Plan, bug: Option<Bug>, trace: Option<&Path>) -> std::io::Result<Report> {
    crate::panics::keep_on_this_thread();
    let trace = Trace::new(trace)?;
    let shared = Arc::new(Shared::new(trace));
    let logs = Arc::clone(&shared);
    let live = move || {
        let mut world = World::new(plan, bug, &shared);
        world.live();
        world.report()
    };
    if !logs.trace.lock().is_written() {
        return Ok(live());
    }
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_writer(move || Aside(Arc::clone(&logs)))
        .finish();
    Ok(tracing::subscriber::with_default(subscriber, live))
}

/// What the nodes log goes into the trace's file, but is no part of the trace.
struct Aside(Arc<Shared>);

impl std::io::Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // A line that is logged while the trace itself is being written has nowhere to go.
        if let Some(mut trace) = self.0.trace.try_lock() {
            trace.aside(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl World {
    fn new(plan: Plan, bug: Option<Bug>, shared: &Arc<Shared>) -> Self {
        let seed = plan.seed;
        mesto_raft::seed_this_thread(Dice::new(seed, "consensus").next());
        let (least_ms, most_ms) = plan.network.latency_ms;
        let mut sim = turmoil::Builder::new()
            .rng_seed(Dice::new(seed, "links").next())
            .epoch(UNIX_EPOCH)
            .tick_duration(Duration::from_micros(TICK_US))
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(Duration::from_millis(least_ms))
            .max_message_latency(Duration::from_millis(most_ms))
            .udp_capacity(1 << 16)
            .build();
        let net = Arc::new(Net::new(Arc::clone(shared), seed, plan.network));
        let site = Site {
            shared: Arc::clone(shared),
            net: Arc::clone(&net),
            ledger: Arc::new(Ledger::new(Arc::clone(shared))),
            seed,
            tuning: plan.tuning,
            founders: plan.founders,
            bug,
        };
        net.plug(&mut sim, CLIENTS);
        let town = Arc::new(Town::new(
            Arc::clone(shared),
            Arc::clone(&net),
            plan.clone(),
        ));
        let crowd = Crowd::new(&town, &net, Dice::new(seed, "crowd").next());
        note!(shared, "seed {seed}: {}", plan.text());
        let mut world = Self {
            sim,
            shared: Arc::clone(shared),
            net,
            machines: BTreeMap::new(),
            town,
            crowd,
            watch: Watch::new(Arc::clone(shared)),
            director: Director::new(&plan),
            order: Dice::new(seed, "order"),
            ticks: 0,
            clients: 0,
            site,
            plan,
        };
        for id in 1..=world.plan.founders {
            world.build(id);
            world.town.nodes.lock().push(id);
            world.town.jobs.lock().members.insert(id);
        }
        world
    }

    /// Puts up a machine and starts a node on it.
    pub(crate) fn build(&mut self, id: NodeId) {
        self.net.plug(&mut self.sim, id);
        let mut machine = Machine::new(&self.site, id);
        self.director
            .set_clock(&self.plan, &mut machine, &self.shared);
        machine.start();
        self.machines.insert(id, machine);
    }

    fn live(&mut self) {
        self.town.jobs.lock().waiting.push_back(Job::Open);
        self.crowd.spawn(Operator::new(&self.town).live());
        if !self.run_until(OPEN_MS, |world| world.town.jobs.lock().open) {
            self.shared.fail(
                "liveness",
                format!("no cluster was founded within {OPEN_MS} ms"),
            );
        }
        for number in 1..=self.plan.load.clients {
            let client = Client::new(&self.town, number);
            self.crowd.spawn(client.live());
        }
        self.clients = self.plan.load.clients;
        let end_ms = self.shared.now_ms() + self.plan.trouble_ms;
        while self.shared.now_ms() < end_ms && self.goes_on() {
            self.make_trouble();
            self.tick();
        }
        note!(self.shared, "the trouble is over");
        self.prove_liveness();
        self.make_peace();
        self.judge();
    }

    /// Whether no check has failed yet.
    pub(crate) fn goes_on(&self) -> bool {
        self.shared.failure().is_none()
    }

    /// One tick of everything.
    pub(crate) fn tick(&mut self) {
        self.ticks += 1;
        self.shared.set_now_us(self.ticks * TICK_US);
        if let Err(error) = self.sim.step() {
            self.shared
                .fail("no panic", format!("the network failed: {error}"));
        }
        let mut ids: Vec<_> = self.machines.keys().copied().collect();
        self.order.shuffle(&mut ids);
        for id in ids {
            if let Some(machine) = self.machines.get_mut(&id) {
                machine.step(TICK_US);
            }
        }
        self.crowd.step(TICK_US);
        self.look_after_machines();
        self.do_what_is_due();
        if self.ticks.is_multiple_of(WATCH_TICKS) {
            self.watch.look(&self.machines);
            let leader = self.leader();
            self.town.note_leader(leader);
        }
        if self.ticks.is_multiple_of(AUDIT_TICKS) {
            self.audit_one();
        }
    }

    /// Looks at all bookings of one node, another one each time.
    fn audit_one(&self) {
        let up: Vec<_> = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.is_up())
            .collect();
        let turn = usize::try_from(self.ticks / AUDIT_TICKS).unwrap_or(0);
        if let Some((id, machine)) = up.get(turn % up.len().max(1))
            && let Some(running) = machine.running()
        {
            audit::look_at(&self.shared, **id, &running);
        }
    }

    /// Lets time pass until something holds, or too much of it has passed.
    pub(crate) fn run_until(&mut self, most_ms: u64, holds: impl Fn(&Self) -> bool) -> bool {
        let end_ms = self.shared.now_ms() + most_ms;
        while self.goes_on() {
            if holds(self) {
                return true;
            }
            if self.shared.now_ms() >= end_ms {
                return false;
            }
            self.tick();
        }
        // Another check has failed, which is what counts.
        true
    }

    /// The trouble and all its effects are over; who was hurt is mended or replaced; all converge; clients look back.
    fn make_peace(&mut self) {
        self.mend_everything();
        self.town.closing.store(true, Ordering::Relaxed);
        let clients = self.clients;
        if !self.run_until(CLOSING_MS, |world| *world.town.left.lock() == clients) {
            self.shared.fail(
                "liveness",
                format!("of {clients} clients some do not end within {CLOSING_MS} ms of peace"),
            );
        }
        self.expect_convergence("after everything was mended", 30_000);
        let client = Client::new(&self.town, 0);
        self.crowd.spawn(client.look_back());
        let looked_back = |world: &Self| world.town.looked_back.load(Ordering::Relaxed);
        if !self.run_until(LOOK_BACK_MS, looked_back) {
            self.shared.fail(
                "liveness",
                format!("a client did not get all answers within {LOOK_BACK_MS} ms of peace"),
            );
        }
        self.expect_convergence("at the end", 30_000);
    }

    fn report(self) -> Report {
        let requests = self.town.history.lock().records.len();
        let coverage = self.shared.coverage.lock().clone();
        let mut trace = self.shared.trace.lock();
        trace.flush();
        Report {
            seed: self.plan.seed,
            trace: trace.id(),
            coverage,
            failure: self.shared.failure(),
            tail: trace.tail(),
            requests,
            entries: self.site.ledger.last(),
            simulated_ms: self.shared.now_ms(),
        }
    }
}
