//! What goes wrong, when, and how it is mended.
//!
//! A director draws events by the plan: an interval, a fault, its victims, how long it lasts. The one rule that it keeps
//! is that a quorum's data is never destroyed for good: disks are damaged, wiped or replaced only while the healthy
//! voters are a majority of every membership that may be in force. Everything else may happen to everyone at once.

use std::collections::{BTreeMap, BTreeSet};

use mesto_raft::NodeId;
use mesto_storage::{Order, Tree};

use crate::coverage::Event;
use crate::dice::Dice;
use crate::machine::{End, Machine};
use crate::net::{CLIENTS, Host, name};
use crate::plan::{Fault, Plan};
use crate::shared::{Shared, note};
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
    /// Let it go on.
    Resume(NodeId),
    /// Make room on the disk, and start the process again.
    FreeDisk(NodeId),
    /// Replace a node whose disk is lost.
    Replace(NodeId),
}

/// Who makes the trouble.
pub(crate) struct Director {
    dice: Dice,
    next_ms: u64,
    later: BTreeMap<(u64, u64), Later>,
    numbers: u64,
    /// Nodes whose disk is damaged, wiped or gone.
    pub(crate) lost: BTreeSet<NodeId>,
    /// Nodes that may stop by themselves, because of what was done to their disks.
    excused: BTreeSet<NodeId>,
    /// Nodes whose disk is full.
    full: BTreeSet<NodeId>,
    /// Nodes that are on their way out, with those that take their place.
    replacing: BTreeMap<NodeId, Option<NodeId>>,
    next_node: NodeId,
    last_node: NodeId,
    jumped_ms: u64,
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
            excused: BTreeSet::new(),
            full: BTreeSet::new(),
            replacing: BTreeMap::new(),
            next_node: plan.founders + 1,
            last_node: plan.founders + MORE_NODES,
            jumped_ms: 0,
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
            Later::Resume(id) => self.resume(id),
            Later::FreeDisk(id) => {
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.disk.fail_writes(false);
                }
                self.director.full.remove(&id);
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

    // The network.

    fn partition(&mut self, fault: Fault) {
        let mut nodes: Vec<Host> = self.machines.keys().copied().collect();
        self.director.dice.shuffle(&mut nodes);
        let mut cut: Vec<(Host, Host)> = Vec::new();
        let mut both = |a: Host, b: Host| cut.extend([(a, b), (b, a)]);
        let event = match fault {
            Fault::PartitionMinority => {
                let size = nodes.len().div_ceil(2) - 1;
                let (few, many) = nodes.split_at(size.max(1));
                for a in few {
                    many.iter().for_each(|b| both(*a, *b));
                }
                Event::PartitionMinority
            }
            Fault::PartitionBridge => {
                // Two halves that only one node can still see both of.
                let (bridge, rest) = nodes.split_at(1);
                let (left, right) = rest.split_at(rest.len() / 2);
                for a in left {
                    right.iter().for_each(|b| both(*a, *b));
                }
                debug_assert_eq!(bridge.len(), 1, "one node is the bridge");
                Event::PartitionBridge
            }
            Fault::PartitionRing => {
                // Each sees its two neighbours only; of three, each link is open one way around.
                if nodes.len() == 3 {
                    cut.extend([
                        (nodes[0], nodes[1]),
                        (nodes[1], nodes[2]),
                        (nodes[2], nodes[0]),
                    ]);
                } else {
                    for a in 0..nodes.len() {
                        for b in a + 2..nodes.len() {
                            if b - a != nodes.len() - 1 {
                                both(nodes[a], nodes[b]);
                            }
                        }
                    }
                }
                Event::PartitionRing
            }
            Fault::PartitionOneWay => {
                let one = nodes[0];
                let from = self.director.dice.chance(0.5);
                for other in &nodes[1..] {
                    cut.push(if from { (one, *other) } else { (*other, one) });
                }
                Event::PartitionOneWay
            }
            Fault::PartitionClients => {
                both(nodes[0], CLIENTS);
                Event::PartitionClients
            }
            _ => {
                let leader = self.leader().filter(|_| fault == Fault::PartitionLeader);
                let one = leader.unwrap_or(nodes[0]);
                for other in nodes.iter().filter(|other| **other != one) {
                    both(one, *other);
                }
                match leader {
                    Some(_) => Event::PartitionLeader,
                    None => Event::PartitionOne,
                }
            }
        };
        note!(self.shared, "{}: {cut:?}", event.text());
        self.shared.count(event);
        for (from, to) in &cut {
            self.sim.partition_oneway(name(*from), name(*to));
        }
        let lasting_ms = self.lasting_ms();
        self.later(lasting_ms, Later::Repair(cut));
    }

    fn some_link(&mut self) -> Option<(Host, Host)> {
        let mut nodes: Vec<Host> = self.machines.keys().copied().collect();
        self.director.dice.shuffle(&mut nodes);
        nodes.first().copied().zip(nodes.get(1).copied())
    }

    fn hold(&mut self) {
        if let Some((a, b)) = self.some_link() {
            note!(self.shared, "the link between {a} and {b} is held");
            self.shared.count(Event::LinkHeld);
            self.sim.hold(name(a), name(b));
            let lasting_ms = self.lasting_ms();
            self.later(lasting_ms, Later::Release(a, b));
        }
    }

    fn slow_down(&mut self) {
        if let Some((a, b)) = self.some_link() {
            let most_ms = self.director.dice.between(30, 400);
            note!(
                self.shared,
                "the link between {a} and {b} takes up to {most_ms} ms"
            );
            self.shared.count(Event::LinkSlow);
            self.set_speed(a, b, most_ms);
            let lasting_ms = self.lasting_ms();
            self.later(lasting_ms, Later::SpeedUp(a, b));
        }
    }

    fn set_speed(&self, a: Host, b: Host, most_ms: u64) {
        let most = std::time::Duration::from_millis(most_ms);
        self.sim
            .set_link_max_message_latency(name(a), name(b), most);
    }

    // Processes and power.

    fn crash_one(&mut self) {
        let victim = if self.director.dice.chance(0.4) {
            self.leader()
        } else {
            self.someone()
        };
        if let Some(id) = victim {
            self.shared.count(Event::Crash);
            self.kill(id);
            let down_ms = self.lasting_ms();
            self.later(down_ms, Later::Start(id));
        }
    }

    fn long_outage(&mut self) {
        if let Some(id) = self.someone() {
            self.shared.count(Event::LongOutage);
            self.kill(id);
            let down_ms = self.director.dice.between(3_000, 9_000);
            self.later(down_ms, Later::Start(id));
        }
    }

    fn cut_one(&mut self) {
        if let Some(id) = self.someone() {
            self.shared.count(Event::PowerCut);
            self.cut_power(id);
            let down_ms = self.lasting_ms();
            self.later(down_ms, Later::Start(id));
        }
    }

    fn crash_all(&mut self, power: bool) {
        self.shared.count(if power {
            Event::PowerCutAll
        } else {
            Event::CrashAll
        });
        let ids: Vec<_> = self.machines.keys().copied().collect();
        for id in ids {
            if self.machines[&id].process.is_none() {
                continue;
            }
            if power {
                self.cut_power(id);
            } else {
                self.kill(id);
            }
            let down_ms = self.director.dice.between(1, 500);
            self.later(down_ms, Later::Start(id));
        }
    }

    fn kill(&mut self, id: NodeId) {
        self.watch.look(&self.machines);
        note!(self.shared, "node {id} is killed");
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.kill();
        }
        self.watch.ended(id);
    }

    fn cut_power(&mut self, id: NodeId) {
        let seed = self.director.dice.next();
        self.watch.look(&self.machines);
        note!(self.shared, "the power of node {id} is cut");
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.cut_power(seed);
        }
        self.watch.ended(id);
    }

    pub(crate) fn start(&mut self, id: NodeId) {
        let gone = self.town.jobs.lock().gone.contains(&id);
        if gone || self.director.forsaken.contains(&id) {
            return;
        }
        if let Some(machine) = self.machines.get_mut(&id)
            && machine.process.is_none()
        {
            if !self.director.lost.contains(&id) && !self.director.full.contains(&id) {
                self.director.excused.remove(&id);
            }
            machine.start();
        }
    }

    fn pause(&mut self, leader: bool) {
        let victim = if leader {
            self.leader()
        } else {
            self.someone()
        };
        let Some(id) = victim else { return };
        self.shared.count(if leader {
            Event::PauseLeader
        } else {
            Event::Pause
        });
        self.watch.look(&self.machines);
        note!(self.shared, "node {id} is paused");
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.paused = true;
        }
        let lasting_ms = self.lasting_ms();
        self.later(lasting_ms, Later::Resume(id));
    }

    fn resume(&mut self, id: NodeId) {
        if let Some(machine) = self.machines.get_mut(&id)
            && machine.paused
        {
            note!(self.shared, "node {id} goes on");
            machine.paused = false;
        }
    }

    fn jump(&mut self) {
        let Some(id) = self.someone() else { return };
        let back = self.director.dice.chance(0.4);
        let by_ms = *self
            .director
            .dice
            .pick(&[500, 5_000, 60_000, 1_000_000, 3_600_000]);
        if !back && self.director.jumped_ms + by_ms > JUMPS_MS {
            return;
        }
        let signed = i64::try_from(by_ms).expect("an hour fits");
        if let Some(machine) = self.machines.get_mut(&id) {
            if back {
                self.shared.count(Event::ClockJumpBack);
                machine.clock.jump(-signed);
            } else {
                self.shared.count(Event::ClockJumpForward);
                self.director.jumped_ms += by_ms;
                machine.clock.jump(signed);
            }
        }
        note!(
            self.shared,
            "the clock of node {id} jumps {by_ms} ms, back: {back}"
        );
    }

    // Disks.

    fn fail_flush(&mut self) {
        if let Some(id) = self.someone() {
            let after = self.director.dice.between(0, 5);
            note!(self.shared, "a flush of node {id} will fail");
            self.director.excused.insert(id);
            self.machines[&id].disk.fail_flush_after(after);
        }
    }

    fn fill_disk(&mut self) {
        if let Some(id) = self.someone() {
            note!(self.shared, "the disk of node {id} is full");
            self.director.excused.insert(id);
            self.director.full.insert(id);
            self.machines[&id].disk.fail_writes(true);
            let lasting_ms = self.lasting_ms();
            self.later(lasting_ms, Later::FreeDisk(id));
        }
    }

    /// Whether a node's disk may be destroyed: the voters that are whole without it are a majority of every membership
    /// that may be in force.
    fn may_lose(&self, id: NodeId) -> bool {
        let jobs = self.town.jobs.lock();
        if self.director.lost.contains(&id) || jobs.joining == Some(id) || jobs.leaving == Some(id)
        {
            return false;
        }
        let changing: Vec<_> = [jobs.joining, jobs.leaving].into_iter().flatten().collect();
        // A job that waits may change the membership any moment.
        let pending = jobs.waiting.iter().chain(&jobs.working);
        if pending
            .clone()
            .any(|job| matches!(job, Job::Open | Job::Add(_) | Job::Remove(_)))
        {
            return false;
        }
        let whole = |node: &&NodeId| {
            **node != id && !self.director.lost.contains(node) && !changing.contains(node)
        };
        let healthy = jobs.members.iter().filter(whole).count();
        let members = jobs.members.len();
        // While it is replaced, one less is left of it.
        healthy * 2 > members && healthy >= 2
    }

    fn someone_to_lose(&mut self) -> Option<NodeId> {
        let can_replace = self.director.next_node <= self.director.last_node;
        let id = self.someone()?;
        (can_replace && self.may_lose(id) && self.town.jobs.lock().members.contains(&id))
            .then_some(id)
    }

    fn lose(&mut self, id: NodeId) {
        self.director.lost.insert(id);
        self.director.excused.insert(id);
        self.watch.lost(id);
        let in_ms = self.director.dice.between(500, 4_000);
        self.later(in_ms, Later::Replace(id));
    }

    fn damage_log(&mut self) {
        let Some(id) = self.someone_to_lose() else {
            return;
        };
        let (seed, at_rest) = (self.director.dice.next(), self.director.dice.chance(0.7));
        if at_rest {
            self.kill(id);
        }
        let Some(key) = self.machines[&id].disk.corrupt_value(Tree::Log, seed) else {
            self.start(id);
            return;
        };
        note!(
            self.shared,
            "a record in the log of node {id} is damaged: {key:?}"
        );
        self.shared.count(Event::LogDamaged);
        self.lose(id);
        self.start(id);
    }

    fn damage_state(&mut self) {
        let Some(id) = self.someone_to_lose() else {
            return;
        };
        // The handle is a second one beside the node's own, and only reads.
        let engine = self.machines[&id].disk.engine();
        let pairs = engine.scan(Tree::State, &[1], &[], Order::Ascending, 10_000);
        let pairs = pairs.unwrap_or_default();
        if pairs.is_empty() {
            return;
        }
        let key = self.director.dice.pick(&pairs).0.clone();
        note!(
            self.shared,
            "a place in the state of node {id} cannot be read any more: {key:?}"
        );
        self.shared.count(Event::StateDamaged);
        self.machines[&id].sickness.spoil(key);
        self.lose(id);
        if self.director.dice.chance(0.5) {
            self.kill(id);
            self.start(id);
        }
    }

    fn damage_snapshot(&mut self) {
        let Some(id) = self.someone() else { return };
        let seed = self.director.dice.next();
        if let Some(file) = self.machines[&id].disk.corrupt_file(seed) {
            note!(self.shared, "the snapshot {file} of node {id} is damaged");
            self.shared.count(Event::SnapshotDamaged);
        }
    }

    fn wipe(&mut self) {
        let Some(id) = self.someone_to_lose() else {
            return;
        };
        note!(
            self.shared,
            "the disk of node {id} is replaced by an empty one, and it starts under its old id"
        );
        self.cut_power(id);
        self.lose(id);
        self.shared.count(Event::Wiped);
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.replace_disk();
        }
        self.start(id);
    }

    // Operators.

    fn new_node(&mut self) -> Option<NodeId> {
        if self.director.next_node > self.director.last_node {
            return None;
        }
        let id = self.director.next_node;
        self.director.next_node += 1;
        self.build(id);
        Some(id)
    }

    fn change_membership(&mut self) {
        let jobs = self.town.jobs.lock();
        let busy = !jobs.waiting.is_empty() || jobs.joining.is_some() || jobs.leaving.is_some();
        let members = jobs.members.clone();
        drop(jobs);
        if busy || !self.director.replacing.is_empty() {
            return;
        }
        let removable: Vec<_> = members
            .iter()
            .copied()
            .filter(|id| !self.director.lost.contains(id))
            .collect();
        let lost = members.iter().any(|id| self.director.lost.contains(id));
        if members.len() > 3 && !lost && self.director.dice.chance(0.5) {
            let id = *self.director.dice.pick(&removable);
            self.queue(Job::Remove(id));
        } else if let Some(id) = self.new_node() {
            self.queue(Job::Add(id));
        }
    }

    /// Takes a node whose disk is lost out, and another one in.
    fn replace(&mut self, id: NodeId) {
        let jobs = self.town.jobs.lock();
        let busy = !jobs.waiting.is_empty() || jobs.working.is_some();
        let member = jobs.members.contains(&id);
        drop(jobs);
        if !member {
            return;
        }
        if busy {
            self.later(200, Later::Replace(id));
            return;
        }
        let successor = self.new_node();
        note!(self.shared, "node {id} is replaced by {successor:?}");
        self.director.replacing.insert(id, successor);
        self.queue(Job::Remove(id));
        if let Some(successor) = successor {
            self.queue(Job::Add(successor));
        }
    }

    /// Notices which processes ended, and whether they may have.
    pub(crate) fn look_after_machines(&mut self) {
        let ids: Vec<_> = self.machines.keys().copied().collect();
        for id in ids {
            let gone = self.town.jobs.lock().gone.contains(&id);
            let machine = &self.machines[&id];
            if gone {
                if machine.process.is_some() {
                    note!(self.shared, "node {id} was removed and is switched off");
                    self.director.replacing.remove(&id);
                    self.kill(id);
                }
                continue;
            }
            if let Some(end) = machine.ended() {
                self.ended(id, &end);
            }
        }
    }

    fn ended(&mut self, id: NodeId, end: &End) {
        if !self.director.excused.contains(&id) {
            let why = match end {
                End::NotStarted(why) => format!("does not start: {why}"),
                End::Stopped(why) => format!("has stopped: {why}"),
            };
            self.shared
                .fail("runs until it is stopped", format!("node {id} {why}"));
            return;
        }
        self.count_end(id, end);
        if self.director.lost.contains(&id) {
            // It stays down until it is replaced.
            self.kill(id);
            self.director.forsaken.insert(id);
            return;
        }
        // What was not flushed when the disk failed may be gone.
        self.cut_power(id);
        let down_ms = self.lasting_ms();
        self.later(down_ms, Later::Start(id));
    }

    fn count_end(&mut self, id: NodeId, end: &End) {
        let machine = &self.machines[&id];
        let text = match end {
            End::NotStarted(why) | End::Stopped(why) => why,
        };
        let event = if machine.sickness.was_met() {
            Event::StateDamageFound
        } else if text.contains("damaged") {
            Event::LogDamageFound
        } else if text.contains("flush") {
            Event::FlushFailed
        } else {
            Event::DiskFull
        };
        self.shared.count(event);
    }

    /// Ends every fault but those of forsaken nodes, whose links are left as they are.
    pub(crate) fn mend(&mut self) {
        self.director
            .later
            .retain(|_, later| matches!(later, Later::Replace(_)));
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
            self.resume(*id);
            self.start(*id);
        }
    }
}
