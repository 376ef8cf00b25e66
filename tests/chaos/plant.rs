//! Bugs that are planted to see whether they are found.
//!
//! Two are real: the clients misuse the API, and the history says that they did not, so that it shows what a cluster
//! would do that has the bug. The others change one answer of a history that was fine. Each run ends with these: a checker
//! that lets one pass fails the run.

use clap::ValueEnum;

use crate::checker::history::{Action, Answer, History, Outcome, Record, Refusal, Sight};

/// A bug in a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plant {
    /// Reads that should be linearizable are answered by the state of the node that was asked.
    StaleReads,
    /// A retry is taken for a new request.
    ForgottenKeys,
}

/// Changes one answer. Gives nothing where the history does not have what it needs.
type Change = fn(&History) -> Option<History>;

/// Each change, by name.
pub(crate) const CHANGES: [(&str, Change); 6] = [
    ("an acknowledged booking is lost", lose),
    ("a slot is given to two", double),
    ("a retry is booked a second time", twice),
    ("a taken slot is shown as free", free),
    ("an index goes back", back),
    ("a certain \"not applied\" was applied", applied),
];

fn last_list(history: &History) -> Option<usize> {
    let has_items = |record: &Record| {
        let outcome = record.answer.as_ref().map(|answer| &answer.outcome);
        let full =
            matches!(outcome, Some(Outcome::Bookings { items, whole: true }) if !items.is_empty());
        full && !record.action.is_local()
    };
    let records = history
        .records
        .iter()
        .enumerate()
        .filter(|(_, record)| has_items(record));
    records
        .max_by_key(|(_, record)| record.call)
        .map(|(number, _)| number)
}

fn items(history: &mut History, number: usize) -> &mut Vec<Sight> {
    match history.records[number]
        .answer
        .as_mut()
        .map(|answer| &mut answer.outcome)
    {
        Some(Outcome::Bookings { items, .. }) => items,
        _ => unreachable!("it was found to be a list"),
    }
}

fn lose(history: &History) -> Option<History> {
    let (number, mut history) = (last_list(history)?, history.clone());
    items(&mut history, number).pop();
    Some(history)
}

fn twice(history: &History) -> Option<History> {
    let (number, mut history) = (last_list(history)?, history.clone());
    let items = items(&mut history, number);
    let again = Sight {
        booking: "bkg_twice".into(),
        ..items[0].clone()
    };
    items.push(again);
    Some(history)
}

fn double(history: &History) -> Option<History> {
    let mut history = history.clone();
    let refused = |record: &&mut Record| {
        let outcome = record.answer.as_ref().map(|answer| &answer.outcome);
        matches!(outcome, Some(Outcome::Refused(Refusal::SlotTaken(_))))
            && matches!(record.action, Action::Create { .. })
    };
    let record = history.records.iter_mut().find(refused)?;
    let Action::Create { desk, slots, .. } = &record.action else {
        return None;
    };
    let sight = Sight {
        booking: "bkg_double".into(),
        desk: desk.clone(),
        slots: slots.clone(),
        active: true,
        version: 1,
    };
    record.answer.as_mut()?.outcome = Outcome::Booking(sight);
    Some(history)
}

fn free(history: &History) -> Option<History> {
    let mut history = history.clone();
    let sure = |record: &Record| matches!(record.action, Action::Availability { local: false, .. });
    let last = history
        .records
        .iter_mut()
        .filter(|record| sure(record))
        .max_by_key(|record| record.call)?;
    let Action::Availability { desks, slots, .. } = &last.action else {
        return None;
    };
    let cells = desks
        .iter()
        .flat_map(|desk| slots.iter().map(|slot| (desk.clone(), *slot)));
    let Some(Outcome::Free(free)) = last.answer.as_mut().map(|answer| &mut answer.outcome) else {
        return None;
    };
    let taken = cells.into_iter().find(|cell| !free.contains(cell))?;
    free.push(taken);
    Some(history)
}

fn back(history: &History) -> Option<History> {
    let mut history = history.clone();
    let sure = |record: &Record| !record.action.is_local() && !record.action.is_write();
    let last = history
        .records
        .iter_mut()
        .filter(|record| sure(record))
        .max_by_key(|record| record.call)?;
    let index = last.answer.as_mut()?.index.as_mut()?;
    *index = index.checked_sub(1_000_000).or(Some(1))?;
    Some(history)
}

/// Of a create that was done, no try was.
fn applied(history: &History) -> Option<History> {
    let number = last_list(history)?;
    let mut history = history.clone();
    let booking = items(&mut history, number)[0].booking.clone();
    let made = |record: &Record| match (
        &record.action,
        record.answer.as_ref().map(|answer| &answer.outcome),
    ) {
        (Action::Create { key, .. }, Some(Outcome::Booking(sight))) if sight.booking == booking => {
            key.clone()
        }
        _ => None,
    };
    let key = history.records.iter().find_map(made)?;
    for record in history
        .records
        .iter_mut()
        .filter(|record| record.action.key() == Some(&key))
    {
        let at = record
            .answer
            .as_ref()
            .map_or(record.call, |answer| answer.at);
        record.answer = Some(Answer {
            at,
            index: None,
            outcome: Outcome::Refused(Refusal::NotApplied),
        });
    }
    Some(history)
}
