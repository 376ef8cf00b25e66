//! From records to operations: tries under one idempotency key are one operation.
//!
//! The operation lasts from the first try to the first answer that settles it: whatever is answered has been done by
//! then. All answers that settle it must be the same one, or the promise of idempotency is broken. A try with the
//! promise that it did nothing ([`Refusal::NotApplied`]) is no part of the operation, so the promise itself is put to
//! the test: if such a booking is there after all, nobody asked for it.

use std::collections::BTreeMap;

use super::history::{Action, Answer, History, Id, Outcome, Record, Refusal};
use super::verdict::Violation;

/// What took effect at one moment, or was refused at one moment, or is unknown.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// The first of its records.
    pub(crate) record: Record,
    /// The first call, in ticks.
    pub(crate) call: u64,
    /// The first answer that settled it.
    pub(crate) answer: Option<Answer>,
    /// For a create: the booking that it made, if any client ever met it.
    pub(crate) made: Option<Id>,
    /// For an unknown create whose booking was met: it took effect by then.
    pub(crate) met: Option<Met>,
}

/// When a booking was first met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    /// In ticks.
    pub(crate) at: u64,
    /// The least index of an answer that shows it.
    pub(crate) index: Option<u64>,
}

impl Operation {
    pub(crate) fn action(&self) -> &Action {
        &self.record.action
    }

    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.answer.as_ref().map(|answer| &answer.outcome)
    }
}

/// The operations of a history, in the order of their calls.
pub(crate) fn merged(history: &History) -> Result<Vec<Operation>, Violation> {
    let mut tries: BTreeMap<(Option<&Id>, &Id), Vec<&Record>> = BTreeMap::new();
    let mut operations = Vec::with_capacity(history.records.len());
    for record in &history.records {
        if record
            .answer
            .as_ref()
            .is_some_and(|answer| answer.at < record.call)
        {
            return Err(Violation::of("an answer came before its call", [record]));
        }
        match record.action.key() {
            Some(key) => tries
                .entry((record.action.user(), key))
                .or_default()
                .push(record),
            None => operations.extend(operation(&[record])?),
        }
    }
    for tries in tries.values() {
        operations.extend(operation(tries)?);
    }
    operations.sort_by_key(|operation| operation.call);
    Ok(operations)
}

/// One operation of all its tries; none if nothing can have come of it.
fn operation(tries: &[&Record]) -> Result<Option<Operation>, Violation> {
    let first = tries[0];
    if tries.iter().any(|other| other.action != first.action) {
        let what =
            "two different requests have one idempotency key: whoever made this history is wrong";
        return Err(Violation::of(what, tries.iter().copied()));
    }
    let idle = |record: &&&Record| {
        let outcome = record.answer.as_ref().map(|answer| &answer.outcome);
        outcome == Some(&Outcome::Refused(Refusal::NotApplied))
    };
    let effective: Vec<&Record> = tries
        .iter()
        .filter(|record| !idle(record))
        .copied()
        .collect();
    let Some(call) = effective.iter().map(|record| record.call).min() else {
        return Ok(None);
    };
    let settling: Vec<&Answer> = effective
        .iter()
        .filter_map(|record| record.answer.as_ref())
        .collect();
    let answer = settling.iter().min_by_key(|answer| answer.at).copied();
    if let Some(answer) = answer
        && settling
            .iter()
            .any(|other| other.outcome != answer.outcome || other.index != answer.index)
    {
        return Err(Violation::of(
            "one idempotency key was given two answers",
            effective,
        ));
    }
    if answer.is_none() && !first.action.is_write() {
        return Ok(None);
    }
    Ok(Some(Operation {
        record: effective[0].clone(),
        call,
        answer: answer.cloned(),
        made: None,
        met: None,
    }))
}
