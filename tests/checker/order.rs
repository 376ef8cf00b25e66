//! Log indexes keep to real time.
//!
//! Whoever asks after an answer with index *i* was given must be answered by a state that includes *i*: a linearizable
//! read with index *i* or more, a write with more than *i*, since it is an entry of its own, decided later. That holds
//! across all clients, and contains "read your writes" and "reads never go back". A read with `Mesto-Min-Index` is
//! answered with that index at least, a local one too. No two writes have one index.
//!
//! Of refusals only those are looked at that the log order decides; others may be decided by the node that was asked,
//! and speak for no index.

use std::collections::BTreeMap;

use super::history::{History, Outcome, Record, Refusal};
use super::merge::Operation;
use super::verdict::Violation;

/// Checks the indexes of all answers.
pub(crate) fn check(history: &History, operations: &[Operation]) -> Result<(), Violation> {
    history.records.iter().try_for_each(check_minimum)?;
    check_distinct(operations)?;
    let mut answered: Vec<(u64, u64, &Operation)> = operations
        .iter()
        .filter_map(|operation| {
            Some((
                operation.answer.as_ref()?.at,
                spoken_for(operation)?,
                operation,
            ))
        })
        .collect();
    answered.sort_by_key(|(at, ..)| *at);
    let mut before = answered.iter().peekable();
    let mut latest: Option<(u64, &Operation)> = None;
    for operation in operations {
        while let Some((_, index, other)) = before.next_if(|(at, ..)| *at < operation.call) {
            if latest.is_none_or(|(highest, _)| *index > highest) {
                latest = Some((*index, other));
            }
        }
        let (Some((highest, other)), Some(index)) = (latest, spoken_for(operation)) else {
            continue;
        };
        let least = highest + u64::from(operation.action().is_write());
        if index < least && !operation.action().is_local() {
            let what = format!("index {index} was answered after index {highest} had been");
            return Err(Violation::of(&what, [&other.record, &operation.record]));
        }
    }
    Ok(())
}

fn check_minimum(record: &Record) -> Result<(), Violation> {
    let index = record
        .answer
        .as_ref()
        .and_then(|answer| match answer.outcome {
            Outcome::Refused(_) => None,
            _ => answer.index,
        });
    match (record.min_index, index) {
        (Some(least), Some(index)) if index < least && !record.action.is_write() => {
            let what = format!("index {least} was asked for, {index} was answered");
            Err(Violation::of(&what, [record]))
        }
        _ => Ok(()),
    }
}

fn check_distinct(operations: &[Operation]) -> Result<(), Violation> {
    let mut by_index: BTreeMap<u64, &Operation> = BTreeMap::new();
    for operation in operations
        .iter()
        .filter(|operation| operation.action().is_write())
    {
        let Some(index) = spoken_for(operation) else {
            continue;
        };
        if let Some(other) = by_index.insert(index, operation) {
            let what = format!("two writes have index {index}");
            return Err(Violation::of(&what, [&other.record, &operation.record]));
        }
    }
    Ok(())
}

/// The index that an answer speaks for.
pub(crate) fn spoken_for(operation: &Operation) -> Option<u64> {
    let answer = operation.answer.as_ref()?;
    match &answer.outcome {
        Outcome::Refused(Refusal::NotFound | Refusal::Other | Refusal::NotApplied) => None,
        _ => answer.index,
    }
}
