//! Every order, tried.

use std::collections::BTreeSet;

use super::world::World;
use crate::checker::history::{Action, History, Id, Outcome, Record, Refusal, Sight};
use crate::checker::search::{Item, Step};

/// Whether some order of `items` is possible, by trying all.
pub(super) fn has_order<S: Step>(items: &[Item<S>]) -> bool {
    goes_on(items, &mut vec![false; items.len()], S::START)
}

fn goes_on<S: Step>(items: &[Item<S>], taken: &mut [bool], state: S::State) -> bool {
    let left = |taken: &[bool], number: usize| !taken[number] && items[number].answer.is_some();
    if !(0..items.len()).any(|number| left(taken, number)) {
        return true;
    }
    for number in 0..items.len() {
        let first =
            |other: usize| left(taken, other) && items[other].answer < Some(items[number].call);
        if taken[number] || (0..items.len()).any(first) {
            continue;
        }
        let Some(after) = items[number].step.apply(state) else {
            continue;
        };
        taken[number] = true;
        let found = goes_on(items, taken, after);
        taken[number] = false;
        if found {
            return true;
        }
    }
    false
}

/// Whether clients name only bookings that they were shown before, as the checker takes for granted.
pub(super) fn is_sensible(history: &History) -> bool {
    let shown = |booking: &Id, by: u64| {
        let mut before = history.records.iter().filter(|record| {
            let answer = record.answer.as_ref();
            answer.is_some_and(|answer| answer.at <= by)
        });
        before.any(|record| sights(record).any(|sight| sight == booking))
    };
    let mut records = history.records.iter();
    records.all(|record| {
        record
            .action
            .booking()
            .is_none_or(|booking| shown(booking, record.call))
    })
}

/// Whether some order of a whole history is possible on one machine. By index: only orders in which writes
/// stand by their indexes, and reads between those of the writes that they may and may not have seen.
pub(super) fn is_linearizable(history: &History, by_index: bool) -> bool {
    let records: Vec<&Record> = history.records.iter().collect();
    if by_index
        && records
            .iter()
            .any(|one| records.iter().any(|other| contradicts(one, other)))
    {
        return false;
    }
    let told = |record: &&&Record| matches!(record.action, Action::Create { .. });
    let told: BTreeSet<&Id> = records
        .iter()
        .filter(told)
        .flat_map(|record| sights(record))
        .collect();
    let met: BTreeSet<&Id> = records.iter().flat_map(|record| sights(record)).collect();
    let strangers: Vec<Id> = met.difference(&told).map(|id| (*id).clone()).collect();
    let mut brute = Brute {
        records: &records,
        strangers,
        by_index,
        taken: vec![false; records.len()],
    };
    brute.goes_on(&World::default())
}

fn sights(record: &Record) -> impl Iterator<Item = &Id> {
    let answer = record.answer.iter();
    answer
        .flat_map(|answer| answer.outcome.sights())
        .map(|sight| &sight.booking)
}

struct Brute<'a> {
    records: &'a [&'a Record],
    strangers: Vec<Id>,
    by_index: bool,
    taken: Vec<bool>,
}

impl Brute<'_> {
    fn goes_on(&mut self, world: &World) -> bool {
        let must = |number: usize| !self.taken[number] && self.records[number].answer.is_some();
        let musts: Vec<usize> = (0..self.records.len())
            .filter(|number| must(*number))
            .collect();
        if musts.is_empty() {
            return true;
        }
        for number in 0..self.records.len() {
            if self.taken[number] || musts.iter().any(|other| self.precedes(*other, number)) {
                continue;
            }
            // What is unknown and comes after something by index cannot be told; it is free to come.
            for after in self.afters(world, number) {
                self.taken[number] = true;
                let found = self.goes_on(&after);
                self.taken[number] = false;
                if found {
                    return true;
                }
            }
        }
        false
    }

    /// Whether `one`, which was answered, must come before `other`.
    fn precedes(&self, one: usize, other: usize) -> bool {
        let (one, other) = (self.records[one], self.records[other]);
        let answered = one.answer.as_ref().map(|answer| answer.at);
        // A local read may be answered by an old state, but never by one that is still to come.
        if !other.action.is_local() && answered < Some(other.call) {
            return true;
        }
        let (Some(first), Some(second)) = (index(one), index(other)) else {
            return false;
        };
        // A read with the index of a write comes after it.
        self.by_index && (first, !one.action.is_write()) < (second, !other.action.is_write())
    }

    /// The worlds after an operation, as far as it can have been answered as it was.
    fn afters(&self, world: &World, number: usize) -> Vec<World> {
        let record = self.records[number];
        match (&record.answer, &record.action) {
            (Some(answer), action) => world
                .explains(action, &answer.outcome)
                .into_iter()
                .collect(),
            (None, Action::Create { desk, slots, .. }) => {
                let anonymous: Id = format!("anonymous-{number}").into();
                let names = self
                    .strangers
                    .iter()
                    .filter(|name| !world.bookings.contains_key(*name));
                let made = |booking: &Id| {
                    let (booking, desk, slots) = (booking.clone(), desk.clone(), slots.clone());
                    let sight = Sight {
                        booking,
                        desk,
                        slots,
                        active: true,
                        version: 1,
                    };
                    world.explains(&record.action, &Outcome::Booking(sight))
                };
                names.chain([&anonymous]).filter_map(made).collect()
            }
            (None, action) => {
                let mut after = world.clone();
                match after.carry_out(action, &"none".into()) {
                    Outcome::Refused(_) => Vec::new(),
                    _ => vec![after],
                }
            }
        }
    }
}

/// Whether `other` has no index that it could have after `one`: each write has one of its own.
fn contradicts(one: &Record, other: &Record) -> bool {
    let answered = one.answer.as_ref().map(|answer| answer.at);
    let (Some(first), Some(second)) = (index(one), index(other)) else {
        return false;
    };
    let both_write = one.action.is_write() && other.action.is_write() && one != other;
    let later = answered < Some(other.call) && !other.action.is_local();
    both_write && first == second
        || later && (second < first || other.action.is_write() && second == first)
}

fn index(record: &Record) -> Option<u64> {
    let answer = record.answer.as_ref()?;
    match answer.outcome {
        Outcome::Refused(Refusal::NotFound | Refusal::Other | Refusal::NotApplied) => None,
        _ => answer.index,
    }
}
