//! What operators do to the membership, and who may end by himself.

use mesto_raft::NodeId;

use super::Later;
use crate::coverage::Event;
use crate::machine::End;
use crate::shared::note;
use crate::town::Job;
use crate::world::World;

impl World {
    pub(super) fn new_node(&mut self) -> Option<NodeId> {
        if self.director.next_node > self.director.last_node {
            return None;
        }
        let id = self.director.next_node;
        self.director.next_node += 1;
        self.build(id);
        Some(id)
    }

    pub(super) fn change_membership(&mut self) {
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
    pub(super) fn replace(&mut self, id: NodeId) {
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
        if self.director.wiped.get(&id) == Some(&true) {
            // It ran for a while, and was given nothing: see `check_refused`.
            self.shared.count(Event::Wiped);
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
            if self.director.wiped.contains_key(&id) {
                self.check_refused(id);
            }
            let machine = &self.machines[&id];
            if let Some(end) = machine.ended() {
                self.ended(id, &end);
            }
        }
    }

    /// A wiped disk under its old id has forgotten what it acknowledged: nobody may give it anything to acknowledge again.
    fn check_refused(&mut self, id: NodeId) {
        let Some(running) = self.machines[&id].running() else {
            return;
        };
        let vitals = running.node.vitals();
        self.director.wiped.insert(id, true);
        // It has a term as soon as it has granted a vote.
        if vitals.last_log > 0 || vitals.commit > 0 || vitals.leads || vitals.term > 0 {
            self.shared.fail(
                "a wiped disk is refused",
                format!("node {id} takes part again after its disk was wiped: {vitals:?}"),
            );
        }
    }

    pub(super) fn ended(&mut self, id: NodeId, end: &End) {
        let Some(cause) = self.cause_of_end(id) else {
            let why = match end {
                End::NotStarted(why) => format!("does not start: {why}"),
                End::Stopped(why) => format!("has stopped: {why}"),
            };
            self.shared
                .fail("runs until it is stopped", format!("node {id} {why}"));
            return;
        };
        self.shared.count(cause);
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

    /// What was done to a node's disk that it has met, and may have stopped of.
    fn cause_of_end(&self, id: NodeId) -> Option<Event> {
        if self.machines[&id].sickness.was_met() {
            return Some(Event::StateDamageFound);
        }
        if self.has_fired(id) {
            return self.director.excused.get(&id).map(|excuse| excuse.event);
        }
        self.director.hurt.get(&id).copied()
    }
}
