//! What goes wrong with processes, power and clocks.

use mesto_raft::NodeId;

use super::{JUMPS_MS, Later};
use crate::coverage::Event;
use crate::shared::note;
use crate::world::World;

/// How long a power cut waits for a moment at which it hurts, in milliseconds.
const CUT_WAITS_MS: u64 = 300;

impl World {
    pub(super) fn crash_one(&mut self) {
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

    pub(super) fn long_outage(&mut self) {
        if let Some(id) = self.someone() {
            self.shared.count(Event::LongOutage);
            self.kill(id);
            let down_ms = self.director.dice.between(3_000, 9_000);
            self.later(down_ms, Later::Start(id));
        }
    }

    /// Mostly a cut waits for a moment at which it hurts: when entries are on their way to the disk, now and then many.
    pub(super) fn cut_one(&mut self) {
        if let Some(id) = self.someone() {
            let unflushed = *self.director.dice.pick(&[0, 1, 1, 8, 30]);
            self.cut_when(id, unflushed, CUT_WAITS_MS);
        }
    }

    /// Cuts a node's power as soon as so many entries are not flushed, or at last when the time is up.
    pub(super) fn cut_when(&mut self, id: NodeId, unflushed: u64, left_ms: u64) {
        let Some(machine) = self.machines.get(&id).filter(|machine| machine.is_up()) else {
            return;
        };
        let waiting = machine.running().map_or(0, |running| {
            let vitals = running.node.vitals();
            vitals.last_log.saturating_sub(vitals.durable_log)
        });
        if waiting < unflushed && left_ms > 0 {
            self.later(1, Later::Cut(id, unflushed, left_ms - 1));
            return;
        }
        self.shared.count(Event::PowerCut);
        self.cut_power(id);
        let down_ms = self.lasting_ms();
        self.later(down_ms, Later::Start(id));
    }

    pub(super) fn crash_all(&mut self, power: bool) {
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

    pub(super) fn kill(&mut self, id: NodeId) {
        self.watch.look(&self.machines);
        note!(self.shared, "node {id} is killed");
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.kill();
        }
        self.watch.ended(id);
    }

    pub(super) fn cut_power(&mut self, id: NodeId) {
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
            machine.start();
            // A new process meets a disk that is full still, but not what the last one was to meet.
            self.director.excused.remove(&id);
            if self.director.full.contains(&id) {
                self.excuse(id, Event::DiskFull);
            }
        }
    }

    pub(super) fn pause(&mut self, leader: bool) {
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

    pub(super) fn resume(&mut self, id: NodeId) {
        if let Some(machine) = self.machines.get_mut(&id)
            && machine.paused
        {
            note!(self.shared, "node {id} goes on");
            machine.paused = false;
        }
    }

    pub(super) fn jump(&mut self) {
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
}
