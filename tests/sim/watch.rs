//! What must hold at every moment, looked at from outside, for all nodes at once.
//!
//! | check | says |
//! |---|---|
//! | one leader a term | no two nodes ever lead in the same term |
//! | logs match | entries of equal index and term are equal, on all nodes |
//! | committed stays | what one node knew to be committed is in every log that reaches that far |
//! | committed on a quorum | when a leader counts an entry as committed, a quorum has it durably |
//! | flushed stays | after a crash a node has every entry that was durable before, and its term |
//! | nothing goes back | term, commit, applied of a process only grow |
//! | applied within commit | what a node has applied is on a quorum's disks, or another node holds it to be committed |
//! | equal digests | states at the same index are equal |
//! | runs until it is stopped | a node ends only of what was done to its disk |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mesto_raft::{EntryMark, NodeId, Vitals};

use crate::coverage::Event;
use crate::machine::{Machine, Running};
use crate::shared::{Shared, note};

/// What is known of a node's log.
#[derive(Debug, Default)]
struct Copy {
    marks: BTreeMap<u64, (u64, [u8; 16])>,
    durable: u64,
    /// The process that `seen` is about.
    seen: Option<Vitals>,
    /// Entries up to here were compared with what is committed.
    compared: u64,
    /// The highest term in which it led.
    led: u64,
    /// The highest term that it was seen in, by any process on this disk. Consensus shows a term only once it is
    /// flushed, so a node owes it from then on.
    term: u64,
    /// The greatest index that it ever held to be committed.
    commit: u64,
    /// Its log cannot be read any more, since its disk has failed: what it acknowledged last is not known.
    unread: bool,
    /// Its disk was damaged or replaced when its log reached that far; what it has forgotten of that does not count.
    lost_at: Option<u64>,
}

/// The watch over a run.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    copies: BTreeMap<NodeId, Copy>,
    leaders: BTreeMap<u64, NodeId>,
    /// The hash of every entry ever seen, by index and term.
    entries: BTreeMap<(u64, u64), [u8; 16]>,
    committed: BTreeMap<u64, (u64, [u8; 16])>,
    /// Committed entries up to here were found on a quorum.
    on_quorum: u64,
    digests: BTreeMap<u64, ([u8; 16], NodeId)>,
    /// The groups of voters by which entries may have been committed lately, and when they were seen last.
    groups: VecDeque<(u64, Vec<BTreeSet<NodeId>>)>,
}

/// For how long a group of voters may have been the one by which an entry was committed, in milliseconds.
const GROUPS_MS: u64 = 2_000;

impl Watch {
    /// Nothing was seen yet.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            copies: BTreeMap::new(),
            leaders: BTreeMap::new(),
            entries: BTreeMap::new(),
            committed: BTreeMap::new(),
            on_quorum: 0,
            digests: BTreeMap::new(),
            groups: VecDeque::new(),
        }
    }

    /// The terms that had a leader so far.
    pub(crate) fn elections(&self) -> usize {
        self.leaders.len()
    }

    /// The last index that is known to be committed.
    pub(crate) fn committed(&self) -> u64 {
        self.committed
            .last_key_value()
            .map_or(0, |(index, _)| *index)
    }

    /// A node's process has ended; its disk has been through a crash.
    pub(crate) fn ended(&mut self, id: NodeId) {
        let copy = self.copies.entry(id).or_default();
        let durable = copy.durable;
        copy.marks.retain(|index, _| *index <= durable);
        copy.seen = None;
    }

    /// What a node's disk holds now cannot be counted on any more; what it takes in later can.
    pub(crate) fn lost(&mut self, id: NodeId) {
        let copy = self.copies.entry(id).or_default();
        let last = copy.marks.last_key_value().map_or(0, |(last, _)| *last);
        copy.lost_at = Some(last.max(copy.durable));
    }

    /// Looks at every node.
    pub(crate) fn look(&mut self, machines: &BTreeMap<NodeId, Machine>) {
        let mut leaders = Vec::new();
        for (id, machine) in machines {
            let Some(running) = machine.running() else {
                continue;
            };
            if machine.paused {
                continue;
            }
            let vitals = running.node.vitals();
            let mut copy = self.copies.remove(id).unwrap_or_default();
            copy.commit = copy.commit.max(vitals.commit);
            if !vitals.running || machine.ended().is_some() {
                // It says nothing any more, but what it made durable before it stopped still counts.
                self.read_log(*id, &mut copy, vitals, &running);
                self.copies.insert(*id, copy);
                continue;
            }
            self.compare(*id, &mut copy, vitals, &running);
            self.copies.insert(*id, copy);
            if vitals.leads {
                leaders.push((*id, vitals, running));
            }
        }
        for (id, vitals, running) in leaders {
            self.look_at_quorum(id, vitals, &running);
        }
        self.check_applied();
    }

    fn compare(&mut self, id: NodeId, copy: &mut Copy, vitals: Vitals, running: &Running) {
        match copy.seen {
            None => {
                if !self.check_recovered(id, copy, vitals, running) {
                    return;
                }
            }
            Some(before) => self.check_forward(id, before, vitals),
        }
        if vitals.leads {
            self.note_leader(id, copy, vitals);
        }
        self.read_log(id, copy, vitals, running);
        self.compare_committed(id, copy, vitals);
        let digest = self
            .digests
            .entry(vitals.applied)
            .or_insert((vitals.digest, id));
        if digest.0 != vitals.digest {
            self.shared.fail(
                "equal digests",
                format!(
                    "nodes {} and {id} differ at index {}",
                    digest.1, vitals.applied
                ),
            );
        }
        self.count(copy.seen, vitals);
        copy.term = copy.term.max(vitals.term);
        copy.seen = Some(vitals);
    }

    /// What a process finds on its disk when it starts; `false` if that cannot be looked at.
    fn check_recovered(
        &mut self,
        id: NodeId,
        copy: &mut Copy,
        vitals: Vitals,
        running: &Running,
    ) -> bool {
        if copy.lost_at.is_some() {
            return true;
        }
        let last_term = copy.marks.last_key_value().map_or(0, |(_, mark)| mark.0);
        let owed = last_term.max(copy.led).max(copy.term);
        if vitals.term < owed {
            self.shared.fail(
                "flushed stays",
                format!(
                    "node {id} is back in term {} but had reached term {owed}",
                    vitals.term
                ),
            );
        }
        let first = vitals.first_log.unwrap_or(vitals.last_log + 1);
        let kept = copy
            .marks
            .range(first..)
            .map(|(index, mark)| (*index, *mark));
        let kept: Vec<_> = kept.collect();
        let Some(((from, _), (to, _))) = kept.first().zip(kept.last()) else {
            return true;
        };
        let found = match running.node.log_marks(*from, to + 1) {
            Ok(found) => found,
            // Its disk fails already. Whether it may is somebody else's question; this one waits for the next start.
            Err(_) => return false,
        };
        let found: BTreeMap<u64, (u64, [u8; 16])> = found
            .into_iter()
            .map(|mark| (mark.index, (mark.term, mark.hash)))
            .collect();
        // A leader of a later term may already have replaced what was never committed.
        let last_term = found.last_key_value().map_or(0, |(_, mark)| mark.0);
        for (index, mark) in kept {
            if found.get(&index) != Some(&mark) && last_term <= mark.0 {
                self.shared.fail(
                    "flushed stays",
                    format!(
                        "node {id} had flushed entry {index} of term {}, but after a crash has {:?} there: {vitals:?}",
                        mark.0,
                        found.get(&index).map(|found| found.0)
                    ),
                );
                return true;
            }
        }
        // What else is there was written before the crash and is looked at anew.
        copy.marks.clear();
        copy.compared = 0;
        true
    }

    fn check_forward(&self, id: NodeId, before: Vitals, now: Vitals) {
        for (what, before, now) in [
            ("term", before.term, now.term),
            ("commit", before.commit, now.commit),
            ("applied", before.applied, now.applied),
        ] {
            if now < before {
                self.shared.fail(
                    "nothing goes back",
                    format!("the {what} of node {id} went from {before} to {now}"),
                );
            }
        }
    }

    /// A node's own word that something is committed is not enough.
    fn check_applied(&self) {
        for (id, copy) in &self.copies {
            let applied = copy.seen.map_or(0, |seen| seen.applied);
            let others = self.copies.iter().filter(|(other, _)| *other != id);
            let known = others.map(|(_, other)| other.commit).max().unwrap_or(0);
            if applied <= self.on_quorum.max(known) {
                continue;
            }
            let mark = copy.marks.get(&applied).copied();
            if !mark.is_some_and(|mark| self.is_on_quorum(applied, mark)) {
                self.shared.fail(
                    "applied within commit",
                    format!(
                        "node {id} has applied {applied}, which is on no quorum, and no other node knows more than {known} to be committed"
                    ),
                );
            }
        }
    }

    fn note_leader(&mut self, id: NodeId, copy: &mut Copy, vitals: Vitals) {
        copy.led = copy.led.max(vitals.term);
        match self.leaders.insert(vitals.term, id) {
            Some(other) if other != id => {
                self.shared.fail(
                    "one leader a term",
                    format!("nodes {other} and {id} both led in term {}", vitals.term),
                );
            }
            Some(_) => {}
            None => {
                note!(self.shared, "node {id} leads in term {}", vitals.term);
                self.shared.count(Event::Election);
            }
        }
    }

    /// Brings the copy of a node's log up to date.
    fn read_log(&mut self, id: NodeId, copy: &mut Copy, vitals: Vitals, running: &Running) {
        let last_known = copy.marks.last_key_value().map(|(index, _)| *index);
        if last_known.is_some_and(|known| known > vitals.last_log) {
            self.truncated(id, copy, vitals.last_log + 1);
        }
        let first = vitals.first_log.unwrap_or(vitals.last_log + 1);
        copy.marks = copy.marks.split_off(&first);
        let mut from = copy
            .marks
            .last_key_value()
            .map_or(first, |(index, _)| *index);
        loop {
            let Ok(read) = running.node.log_marks(from, vitals.last_log + 1) else {
                // It is about to stop, or the entries were just purged.
                copy.unread = true;
                copy.durable = vitals.durable_log;
                return;
            };
            let agrees = read.first().is_none_or(|mark| {
                let known = copy.marks.get(&mark.index);
                known.is_none_or(|known| *known == (mark.term, mark.hash))
            });
            if agrees {
                for mark in read {
                    self.note_entry(id, mark);
                    copy.marks.insert(mark.index, (mark.term, mark.hash));
                }
                break;
            }
            // Entries were replaced since the last look: go back to where the logs agree.
            let back = from.saturating_sub(16).max(first);
            self.truncated(id, copy, back.max(1));
            if back == from {
                copy.marks.clear();
            }
            from = back;
        }
        copy.durable = vitals.durable_log;
        copy.unread = false;
    }

    fn truncated(&self, id: NodeId, copy: &mut Copy, from: u64) {
        self.shared.count(Event::Truncated);
        let gone = copy.marks.split_off(&from);
        copy.compared = copy.compared.min(from - 1);
        for (index, mark) in gone {
            if self.committed.get(&index) == Some(&mark) {
                // Read again, it may be the same; the comparison that follows says so.
                copy.compared = copy.compared.min(index - 1);
            }
        }
        note!(self.shared, "node {id} replaced its log from {from} on");
    }

    fn note_entry(&mut self, id: NodeId, mark: EntryMark) {
        let known = self
            .entries
            .entry((mark.index, mark.term))
            .or_insert(mark.hash);
        if *known != mark.hash {
            self.shared.fail(
                "logs match",
                format!(
                    "node {id} has another entry {} of term {} than others",
                    mark.index, mark.term
                ),
            );
        }
    }

    fn compare_committed(&mut self, id: NodeId, copy: &mut Copy, vitals: Vitals) {
        let from = copy.compared + 1;
        for (index, mark) in copy.marks.range(from..) {
            if *index <= vitals.commit {
                let known = self.committed.entry(*index).or_insert(*mark);
                if known != mark {
                    self.shared.fail(
                        "committed stays",
                        format!(
                            "node {id} holds entry {index} of term {} to be committed, others that of term {}",
                            mark.0, known.0
                        ),
                    );
                }
            }
        }
        copy.compared = vitals.commit;
    }

    /// What a leader counts as committed must be on a quorum's disks.
    fn look_at_quorum(&mut self, id: NodeId, vitals: Vitals, running: &Running) {
        self.note_groups(running.node.voters());
        if vitals.commit <= self.on_quorum {
            return;
        }
        let new: Vec<_> = self
            .committed
            .range(self.on_quorum + 1..=vitals.commit)
            .map(|(index, mark)| (*index, *mark))
            .collect();
        for (index, mark) in new {
            if !self.is_on_quorum(index, mark) {
                let all = self.copies.keys();
                let holders: BTreeSet<_> = all
                    .filter(|id| self.has_durably(**id, index, mark))
                    .collect();
                self.shared.fail(
                    "committed on a quorum",
                    format!(
                        "leader {id} counts entry {index} as committed by {:?}, but only {holders:?} have it durably",
                        self.groups.back()
                    ),
                );
            }
        }
        self.on_quorum = vitals.commit;
    }

    /// Whether a quorum of the voters has an entry on its disks.
    fn is_on_quorum(&self, index: u64, mark: (u64, [u8; 16])) -> bool {
        let has = |voter: &&NodeId| self.has_durably(**voter, index, mark);
        let is_quorum =
            |voters: &BTreeSet<NodeId>| voters.iter().filter(has).count() * 2 > voters.len();
        let mut groups = self.groups.iter();
        groups.any(|(_, groups)| groups.iter().all(is_quorum))
    }

    /// An entry may have been committed just before the membership changed.
    fn note_groups(&mut self, groups: Vec<BTreeSet<NodeId>>) {
        let now_ms = self.shared.now_ms();
        self.groups
            .retain(|(seen_ms, known)| *known != groups && seen_ms + GROUPS_MS >= now_ms);
        self.groups.push_back((now_ms, groups));
    }

    fn has_durably(&self, id: NodeId, index: u64, mark: (u64, [u8; 16])) -> bool {
        let Some(copy) = self.copies.get(&id) else {
            return false;
        };
        // What a damaged disk has lost was counted when it was there.
        if copy.lost_at.is_some_and(|lost_at| index <= lost_at) {
            return true;
        }
        let first = copy
            .marks
            .first_key_value()
            .map_or(copy.durable + 1, |(first, _)| *first);
        let purged = index < first && index <= copy.durable;
        let last = copy.marks.last_key_value().map_or(0, |(last, _)| *last);
        let unread = copy.unread && index > last && index <= copy.durable;
        purged || unread || (index <= copy.durable && copy.marks.get(&index) == Some(&mark))
    }

    fn count(&self, before: Option<Vitals>, now: Vitals) {
        let Some(before) = before else { return };
        if now.snapshot > before.snapshot {
            let installed = now.snapshot > Some(before.last_log);
            self.shared.count(if installed {
                Event::SnapshotInstalled
            } else {
                Event::SnapshotBuilt
            });
        }
        if now.first_log > before.first_log {
            self.shared.count(Event::LogPurged);
        }
    }
}
