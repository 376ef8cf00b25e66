//! What goes wrong, when, and how it is mended.
//!
//! A director draws events by the plan: an interval, a fault, its victims, how long it lasts. The one rule that it keeps
//! is that a quorum's data is never destroyed for good: disks are damaged, wiped or replaced only while the healthy
//! voters are a majority of every membership that may be in force. Everything else may happen to everyone at once.

mod disks;
mod links;
mod members;
mod processes;

use std::collections::{BTreeMap, BTreeSet};

use mesto_raft::NodeId;

use crate::coverage::Event;
use crate::dice::Dice;
use crate::machine::Machine;
use crate::net::{CLIENTS, Host, name};
use crate::plan::{Fault, Plan};
use crate::shared::Shared;
use crate::town::Job;
use crate::world::World;

/// How many nodes beside the founders a run may have.
const MORE_NODES: u64 = 4;
/// The most that all jumps of the clocks forward may come to, in milliseconds: the slots that clients fight for must
/// not start meanwhile.
const JUMPS_MS: u64 = 40 * 3_600_000;

/// What is to be done later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Later {
    /// Mend these links.
    Repair(Vec<(Host, Host)>),
    /// Deliver what was held on this link.
    Release(Host, Host),
    /// Make this link as fast as the others again.
    SpeedUp(Host, Host),
    /// Start the process, if none runs.
    Start(NodeId),
    /// Cut its power when so many entries are not flushed, or when so many milliseconds have passed.
    Cut(NodeId, u64, u64),
    /// Let it go on.
    Resume(NodeId),
    /// Make room on the disk, and start the process again.
    FreeDisk(NodeId),
    /// Replace a node whose disk is lost.
    Replace(NodeId),
}

/// What a node may stop of.
#[derive(Debug, Clone, Copy)]
struct Excuse {
    /// What it counts as.
    event: Event,
    /// How many faults of the disk had fired when this one was set up.
    fired: u64,
}

/// Who makes the trouble.
pub(crate) struct Director {
    dice: Dice,
    next_ms: u64,
    later: BTreeMap<(u64, u64), Later>,
    numbers: u64,
    /// Nodes whose disk is damaged, wiped or gone.
    pub(crate) lost: BTreeSet<NodeId>,
    /// Nodes that may stop by themselves once a fault of their disk has fired.
    excused: BTreeMap<NodeId, Excuse>,
    /// Nodes whose disk was damaged, by what it counts as when they find it.
    hurt: BTreeMap<NodeId, Event>,
    /// Nodes whose disk is full.
    full: BTreeSet<NodeId>,
    /// Nodes that are on their way out, with those that take their place.
    replacing: BTreeMap<NodeId, Option<NodeId>>,
    next_node: NodeId,
    last_node: NodeId,
    jumped_ms: u64,
    /// Nodes whose disk was replaced by an empty one under their old id, and whether they have run since.
    wiped: BTreeMap<NodeId, bool>,
    /// Nodes that stay as they are until the end of the run.
    pub(crate) forsaken: BTreeSet<NodeId>,
}

impl Director {
    /// A director for a plan.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            dice: Dice::new(plan.seed, "faults"),
            next_ms: 0,
            later: BTreeMap::new(),
            numbers: 0,
            lost: BTreeSet::new(),
            excused: BTreeMap::new(),
            hurt: BTreeMap::new(),
            full: BTreeSet::new(),
            replacing: BTreeMap::new(),
            next_node: plan.founders + 1,
            last_node: plan.founders + MORE_NODES,
            jumped_ms: 0,
            wiped: BTreeMap::new(),
            forsaken: BTreeSet::new(),
        }
    }

    /// How wrong a new machine's clocks are.
    pub(crate) fn set_clock(&mut self, plan: &Plan, machine: &mut Machine, shared: &Shared) {
        if plan.has(Fault::ClockSkew) {
            let skew_ms = self.dice.between(0, 120_000);
            machine
                .clock
                .jump(60_000 - i64::try_from(skew_ms).unwrap_or(0));
            shared.count(Event::ClockSkew);
        }
        if plan.has(Fault::ClockDrift) {
            machine.drift_ppm = 50_000 - i64::try_from(self.dice.between(0, 100_000)).unwrap_or(0);
            shared.count(Event::ClockDrift);
        }
    }

    fn after(&mut self, now_ms: u64, in_ms: u64, what: Later) {
        self.numbers += 1;
        self.later.insert((now_ms + in_ms, self.numbers), what);
    }
}

impl World {
    /// Lets the trouble of this moment happen.
    pub(crate) fn make_trouble(&mut self) {
        let now_ms = self.shared.now_ms();
        if now_ms >= self.director.next_ms && !self.plan.events.is_empty() {
            let gap_ms = self.plan.gap_ms;
            if self.director.next_ms > 0 {
                let fault = *self.director.dice.weighted(&self.plan.events);
                self.happen(fault);
            }
            self.director.next_ms = now_ms + self.director.dice.between(1, 2 * gap_ms);
        }
    }

    /// Does what was to be done by now.
    pub(crate) fn do_what_is_due(&mut self) {
        let now_ms = self.shared.now_ms();
        while let Some(entry) = self.director.later.first_entry() {
            if entry.key().0 > now_ms {
                break;
            }
            let what = entry.remove();
            self.do_later(what);
        }
    }

    fn do_later(&mut self, what: Later) {
        match what {
            Later::Repair(links) => {
                for (from, to) in links {
                    self.sim.repair_oneway(name(from), name(to));
                }
            }
            Later::Release(a, b) => self.sim.release(name(a), name(b)),
            Later::SpeedUp(a, b) => self.set_speed(a, b, self.plan.network.latency_ms.1),
            Later::Start(id) => self.start(id),
            Later::Cut(id, unflushed, left_ms) => self.cut_when(id, unflushed, left_ms),
            Later::Resume(id) => self.resume(id),
            Later::FreeDisk(id) => {
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.disk.fail_writes(false);
                }
                self.director.full.remove(&id);
                if !self.has_fired(id) {
                    self.director.excused.remove(&id);
                }
                self.start(id);
            }
            Later::Replace(id) => self.replace(id),
        }
    }

    fn lasting_ms(&mut self) -> u64 {
        let most_ms = self.plan.lasting_ms;
        self.director.dice.between(20, most_ms)
    }

    fn later(&mut self, in_ms: u64, what: Later) {
        let now_ms = self.shared.now_ms();
        self.director.after(now_ms, in_ms, what);
    }

    /// One of the nodes whose process runs.
    fn someone(&mut self) -> Option<NodeId> {
        let up: Vec<_> = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.is_up())
            .map(|(id, _)| *id)
            .collect();
        (!up.is_empty()).then(|| *self.director.dice.pick(&up))
    }

    /// Who takes itself for the leader, the last of them if several do.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |machine: &Machine| {
            let running = machine.running();
            running.is_some_and(|running| running.node.vitals().leads)
        };
        let leaders = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.is_up() && leads(machine));
        leaders.map(|(id, _)| *id).last()
    }

    fn happen(&mut self, fault: Fault) {
        match fault {
            Fault::PartitionOne
            | Fault::PartitionMinority
            | Fault::PartitionOneWay
            | Fault::PartitionBridge
            | Fault::PartitionRing
            | Fault::PartitionLeader
            | Fault::PartitionClients => self.partition(fault),
            Fault::Hold => self.hold(),
            Fault::SlowLink => self.slow_down(),
            Fault::Crash => self.crash_one(),
            Fault::CrashAll => self.crash_all(false),
            Fault::PowerCutAll => self.crash_all(true),
            Fault::LongOutage => self.long_outage(),
            Fault::PowerCut => self.cut_one(),
            Fault::Pause => self.pause(false),
            Fault::PauseLeader => self.pause(true),
            Fault::ClockJump => self.jump(),
            Fault::FlushFailure => self.fail_flush(),
            Fault::DiskFull => self.fill_disk(),
            Fault::DamageLog => self.damage_log(),
            Fault::DamageState => self.damage_state(),
            Fault::DamageSnapshot => self.damage_snapshot(),
            Fault::Wipe => self.wipe(),
            Fault::Membership => self.change_membership(),
            Fault::Transfer => self.queue(Job::Transfer),
            Fault::Snapshot => {
                if let Some(id) = self.someone() {
                    self.queue(Job::Snapshot(id));
                }
            }
            Fault::Loss
            | Fault::Duplicates
            | Fault::Delay
            | Fault::ClockSkew
            | Fault::ClockDrift => {}
        }
    }

    fn queue(&mut self, job: Job) {
        let mut jobs = self.town.jobs.lock();
        if jobs.waiting.len() < 2 {
            jobs.waiting.push_back(job);
        }
    }

    /// Ends every fault but those of forsaken nodes, whose links are left as they are.
    pub(crate) fn mend(&mut self) {
        self.director.later.clear();
        self.net.calm();
        let ids: Vec<_> = self.machines.keys().copied().collect();
        let forsaken = self.director.forsaken.clone();
        for id in ids.iter().filter(|id| !forsaken.contains(id)) {
            for other in ids.iter().chain([&CLIENTS]).filter(|other| *other != id) {
                if !forsaken.contains(other) {
                    self.sim.release(name(*id), name(*other));
                    self.set_speed(*id, *other, self.plan.network.latency_ms.1);
                }
            }
            self.machines[id].disk.fail_writes(false);
            // A flush that was to fail does not fail any more in all the time that is left.
            self.machines[id].disk.fail_flush_after(u64::MAX);
            self.director.full.remove(id);
            // One that has failed may not have been noticed yet.
            if !self.has_fired(*id) {
                self.director.excused.remove(id);
            }
            self.resume(*id);
            self.start(*id);
        }
    }
}
