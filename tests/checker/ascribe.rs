//! Whose are the bookings that nobody was told of? Each must be the doing of one unknown create.
//!
//! An answered create names its booking. An unanswered one may have made a booking that clients meet later, in a list,
//! say. Each such booking is matched with an unknown create of the same user that was called before anyone met the
//! booking, and, where it was seen unchanged since it was made, for that desk and those slots. Two bookings with one
//! create, or one with none, is a violation: nobody asked for it. A booking was seen as it was made if it was seen at
//! version 1, or if no client ever asked to move it.
//!
//! Where several matches are possible, they concern one user, one desk and the same slots, and the bookings get the
//! creates in the order of their calls. That is never too strict: if another match explains the history then so does
//! this one, since of two such bookings one is gone before the other is made, and its end names it, so it was met
//! before. All that needs clients to name only bookings that they were shown before, in this history: then nothing is
//! moved that nobody has seen unmoved.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Action, Id, Outcome};
use super::merge::{Met, Operation};
use super::verdict::Violation;

/// A booking that clients met, and all that they saw of it which matters here.
struct Stranger {
    booking: Id,
    user: Option<Id>,
    met: Met,
    as_made: Option<(Id, Vec<u64>)>,
    witness: usize,
}

/// Gives each create the booking that it made.
pub(crate) fn ascribe(operations: &mut [Operation]) -> Result<(), Violation> {
    let mut makers: BTreeMap<Id, usize> = BTreeMap::new();
    for number in 0..operations.len() {
        let Some(made) = told(&operations[number]) else {
            continue;
        };
        if let Some(other) = makers.insert(made.clone(), number) {
            let both = [&operations[other].record, &operations[number].record];
            return Err(Violation::of("two requests were given one booking", both));
        }
        operations[number].made = Some(made);
    }
    let mut strangers = strangers(operations, &makers);
    if strangers.is_empty() {
        return Ok(());
    }
    strangers.sort_by_key(|stranger| stranger.met.at);
    let candidates: Vec<Vec<usize>> = strangers
        .iter()
        .map(|stranger| candidates(stranger, operations))
        .collect();
    let mut maker_of: Vec<Option<usize>> = vec![None; strangers.len()];
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    for number in 0..strangers.len() {
        let mut tried = vec![false; operations.len()];
        if !augment(number, &candidates, &mut taken, &mut tried) {
            let witness = &operations[strangers[number].witness].record;
            let what = format!("nobody asked for {}", strangers[number].booking);
            return Err(Violation::of(&what, [witness]));
        }
    }
    for (maker, number) in taken {
        maker_of[number] = Some(maker);
    }
    for (stranger, maker) in strangers.into_iter().zip(maker_of) {
        let maker = &mut operations[maker.expect("each was given one")];
        maker.made = Some(stranger.booking);
        maker.met = Some(stranger.met);
    }
    Ok(())
}

/// The booking that a create was told of.
fn told(operation: &Operation) -> Option<Id> {
    match (operation.action(), operation.outcome()) {
        (Action::Create { .. }, Some(Outcome::Booking(sight))) => Some(sight.booking.clone()),
        _ => None,
    }
}

fn strangers(operations: &[Operation], makers: &BTreeMap<Id, usize>) -> Vec<Stranger> {
    let moved: BTreeSet<&Id> = operations
        .iter()
        .filter_map(|operation| match operation.action() {
            Action::Move { booking, .. } => Some(booking),
            _ => None,
        })
        .collect();
    let mut found: BTreeMap<Id, Stranger> = BTreeMap::new();
    for (number, operation) in operations.iter().enumerate() {
        let Some(answer) = &operation.answer else {
            continue;
        };
        for sight in answer.outcome.sights() {
            if makers.contains_key(&sight.booking) {
                continue;
            }
            let stranger = found
                .entry(sight.booking.clone())
                .or_insert_with(|| Stranger {
                    booking: sight.booking.clone(),
                    user: operation.action().user().cloned(),
                    met: Met {
                        at: answer.at,
                        index: answer.index,
                    },
                    as_made: None,
                    witness: number,
                });
            stranger.note(answer.at, answer.index);
            if sight.version == 1 || !moved.contains(&sight.booking) {
                stranger.as_made = Some((sight.desk.clone(), sight.slots.clone()));
            }
        }
    }
    for operation in operations {
        let named = operation.action().booking();
        if let Some(stranger) = named.and_then(|booking| found.get_mut(booking)) {
            stranger.met.at = stranger.met.at.min(operation.call);
        }
    }
    found.into_values().collect()
}

impl Stranger {
    fn note(&mut self, at: u64, index: Option<u64>) {
        self.met.at = self.met.at.min(at);
        self.met.index = match (self.met.index, index) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

/// The unknown creates that may have made it, in the order of their calls.
fn candidates(stranger: &Stranger, operations: &[Operation]) -> Vec<usize> {
    let may = |operation: &Operation| match operation.action() {
        Action::Create {
            user, desk, slots, ..
        } => {
            let fits =
                |(seen_desk, seen_slots): &(Id, Vec<u64>)| seen_desk == desk && seen_slots == slots;
            operation.answer.is_none()
                && operation.call <= stranger.met.at
                && stranger.user.as_ref().is_none_or(|owner| owner == user)
                && stranger.as_made.as_ref().is_none_or(fits)
        }
        _ => false,
    };
    let numbers = operations.iter().enumerate();
    numbers
        .filter(|(_, operation)| may(operation))
        .map(|(number, _)| number)
        .collect()
}

/// Finds a create for a booking, moving others to other creates where that is needed (Kuhn's algorithm).
fn augment(
    stranger: usize,
    candidates: &[Vec<usize>],
    taken: &mut BTreeMap<usize, usize>,
    tried: &mut [bool],
) -> bool {
    // The first that is free, lest an earlier booking be moved to a later create without need.
    if let Some(create) = candidates[stranger]
        .iter()
        .find(|create| !taken.contains_key(create))
    {
        taken.insert(*create, stranger);
        return true;
    }
    for create in &candidates[stranger] {
        if std::mem::replace(&mut tried[*create], true) {
            continue;
        }
        let holder = taken.get(create).copied();
        if holder.is_none_or(|holder| augment(holder, candidates, taken, tried)) {
            taken.insert(*create, stranger);
            return true;
        }
    }
    false
}
