//! What goes wrong with disks.

use mesto_raft::NodeId;
use mesto_storage::{Order, Tree};

use super::{Excuse, Later};
use crate::coverage::Event;
use crate::shared::note;
use crate::town::Job;
use crate::world::World;

impl World {
    pub(super) fn fail_flush(&mut self) {
        if let Some(id) = self.someone_without_excuse() {
            let after = self.director.dice.between(0, 5);
            note!(self.shared, "a flush of node {id} will fail");
            self.excuse(id, Event::FlushFailed);
            self.machines[&id].disk.fail_flush_after(after);
        }
    }

    pub(super) fn fill_disk(&mut self) {
        if let Some(id) = self.someone_without_excuse() {
            note!(self.shared, "the disk of node {id} is full");
            self.excuse(id, Event::DiskFull);
            self.director.full.insert(id);
            self.machines[&id].disk.fail_writes(true);
            let lasting_ms = self.lasting_ms();
            self.later(lasting_ms, Later::FreeDisk(id));
        }
    }

    /// A node waits for one fault at a time, so that it is clear of which one it stops.
    fn someone_without_excuse(&mut self) -> Option<NodeId> {
        let id = self.someone()?;
        (!self.director.excused.contains_key(&id)).then_some(id)
    }

    /// From now on the node may stop, but only of a fault that fires from now on.
    pub(super) fn excuse(&mut self, id: NodeId, event: Event) {
        let fired = self.machines[&id].disk.counts().faults;
        self.director.excused.insert(id, Excuse { event, fired });
    }

    /// Whether the fault that a node waits for has come.
    pub(super) fn has_fired(&self, id: NodeId) -> bool {
        let excuse = self.director.excused.get(&id);
        excuse.is_some_and(|excuse| self.machines[&id].disk.counts().faults > excuse.fired)
    }

    /// Whether a node's disk may be destroyed: the voters that are whole without it are a majority of every membership
    /// that may be in force.
    pub(super) fn may_lose(&self, id: NodeId) -> bool {
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

    pub(super) fn someone_to_lose(&mut self) -> Option<NodeId> {
        let can_replace = self.director.next_node <= self.director.last_node;
        let id = self.someone()?;
        (can_replace && self.may_lose(id) && self.town.jobs.lock().members.contains(&id))
            .then_some(id)
    }

    pub(super) fn lose(&mut self, id: NodeId) {
        self.director.lost.insert(id);
        self.watch.lost(id);
        let in_ms = self.director.dice.between(500, 4_000);
        self.later(in_ms, Later::Replace(id));
    }

    pub(super) fn damage_log(&mut self) {
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
        self.director.hurt.insert(id, Event::LogDamageFound);
        self.lose(id);
        self.start(id);
    }

    pub(super) fn damage_state(&mut self) {
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

    pub(super) fn damage_snapshot(&mut self) {
        let Some(id) = self.someone() else { return };
        let seed = self.director.dice.next();
        if let Some(file) = self.machines[&id].disk.corrupt_file(seed) {
            note!(self.shared, "the snapshot {file} of node {id} is damaged");
            self.shared.count(Event::SnapshotDamaged);
        }
    }

    pub(super) fn wipe(&mut self) {
        let Some(id) = self.someone_to_lose() else {
            return;
        };
        note!(
            self.shared,
            "the disk of node {id} is replaced by an empty one, and it starts under its old id"
        );
        self.cut_power(id);
        self.lose(id);
        self.director.wiped.insert(id, false);
        // Whatever the old disk had in store is gone with it.
        self.director.excused.remove(&id);
        self.director.full.remove(&id);
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.replace_disk();
        }
        self.start(id);
    }
}
