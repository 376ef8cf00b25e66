//! What the log is when it is opened: every chunk read, checked and found contiguous.

use super::chunk::{Assembler, decode, index_of, key};
use super::reader::chunk_with;
use super::{Record, facts};
use crate::{Engine, Order, StorageError, Tree};

const PAGE_CHUNKS: usize = 64;

/// A log as it was found.
pub(super) struct Recovered {
    pub(super) first: Option<u64>,
    pub(super) last: Option<Record>,
    pub(super) floor: Option<u64>,
    pub(super) mark: Option<Vec<u8>>,
    /// Purged chunks are still there.
    pub(super) backlog: bool,
}

/// What an inspection of a stopped node's log found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogSummary {
    pub(crate) first_index: Option<u64>,
    pub(crate) last_index: Option<u64>,
    pub(crate) purged_index: Option<u64>,
}

/// Checks the whole log and changes nothing.
///
/// # Errors
/// As [`super::Log::open`].
pub(crate) fn inspect(engine: &dyn Engine) -> Result<LogSummary, StorageError> {
    let (recovered, _torn) = survey(engine)?;
    let last_index = recovered.last.as_ref().map(|record| record.index);
    Ok(LogSummary {
        first_index: recovered.first,
        last_index,
        purged_index: recovered.floor,
    })
}

/// Checks the whole log and removes a record that a crash cut off at its end.
pub(super) fn recover(engine: &dyn Engine) -> Result<Recovered, StorageError> {
    let (recovered, torn) = survey(engine)?;
    if let Some(index) = torn {
        tracing::warn!(
            index,
            "removing a record that a crash cut off at the end of the log"
        );
        remove_fragments(engine, index)?;
    }
    Ok(recovered)
}

fn survey(engine: &dyn Engine) -> Result<(Recovered, Option<u64>), StorageError> {
    let floor = facts::read_floor(engine)?;
    let base = facts::read_base(engine)?;
    let start = match &floor {
        Some((floor, _)) => start_after(engine, *floor)?,
        None => key(0, 0).to_vec(),
    };
    let backlog = !engine
        .scan(Tree::Log, &[], &start, Order::Ascending, 1)?
        .is_empty();
    let mut assembler = Assembler::new(None);
    let mut cursor = start;
    let mut first = None;
    let mut last = None;
    let mut records = Vec::new();
    loop {
        let pairs = engine.scan(Tree::Log, &cursor, &[], Order::Ascending, PAGE_CHUNKS)?;
        let Some((last_key, _)) = pairs.last() else {
            break;
        };
        cursor = [last_key.as_slice(), &[0]].concat();
        for pair in pairs {
            assembler.push(pair, &mut records)?;
        }
        if first.is_none() {
            first = records.first().map(|record| record.index);
        }
        last = records.pop().or(last);
        records.clear();
    }
    let (floor, mark) = floor.unzip();
    check_beginning(first.or(assembler.torn_index()), floor, base)?;
    let first = match (first, floor) {
        (Some(first), Some(floor)) => Some(first.max(floor + 1)),
        (first, _) => first,
    };
    debug_assert_eq!(
        last.as_ref().map(|record: &Record| record.index + 1),
        assembler.next_index(),
        "the assembler saw the last record"
    );
    let recovered = Recovered {
        first,
        last,
        floor,
        mark,
        backlog,
    };
    Ok((recovered, assembler.torn_index()))
}

/// The key to begin at when everything up to `floor` is purged: the chunk that holds the record
/// after it, perhaps with purged ones in front.
fn start_after(engine: &dyn Engine, floor: u64) -> Result<Vec<u8>, StorageError> {
    let after = key(floor + 1, 0).to_vec();
    let Some(candidate) = chunk_with(engine, floor + 1)? else {
        return Ok(after);
    };
    if index_of(&candidate)? > floor {
        return Ok(candidate);
    }
    let Some(value) = engine.get(Tree::Log, &candidate)? else {
        return Ok(after);
    };
    let chunk = decode((candidate.clone(), value))?;
    Ok(if chunk.last_index() > floor {
        candidate
    } else {
        after
    })
}

fn check_beginning(
    first: Option<u64>,
    floor: Option<u64>,
    base: Option<u64>,
) -> Result<(), StorageError> {
    let Some(first) = first else { return Ok(()) };
    let missing = |wanted: u64| {
        Err(StorageError::corruption(format!(
            "log record {wanted} is missing; the first one stored is {first}"
        )))
    };
    match (floor, base) {
        (Some(floor), _) if first > floor + 1 => missing(floor + 1),
        (None, Some(base)) if first != base => missing(base),
        (None, None) => Err(StorageError::corruption(format!(
            "the log holds record {first}, but nothing says where it begins"
        ))),
        _ => Ok(()),
    }
}

fn remove_fragments(engine: &dyn Engine, index: u64) -> Result<(), StorageError> {
    let from = key(index, 0);
    let pairs = engine.scan(
        Tree::Log,
        &from,
        &[],
        Order::Descending,
        usize::from(u16::MAX),
    )?;
    for (key, _) in pairs {
        engine.remove(Tree::Log, &key)?;
    }
    Ok(())
}
