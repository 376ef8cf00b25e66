//! Reading records: from memory when they are recent, from the engine otherwise.

use super::chunk::{Assembler, key};
use super::core::Core;
use super::{Record, Shared};
use crate::{Engine, Order, StorageError, Tree};

/// Chunks fetched at a time: some 100 KiB.
const PAGE_CHUNKS: usize = 16;

/// See [`super::Log::read`].
pub(super) fn read(
    shared: &Shared,
    from: u64,
    to: u64,
    max_bytes: usize,
) -> Result<Vec<Record>, StorageError> {
    loop {
        let (from, old_to, revision) = {
            let core = shared.core.lock();
            let (Some(first), Some(last)) = (core.first, core.last.as_ref()) else {
                return Ok(Vec::new());
            };
            let from = from.max(first);
            let to = to.min(last.index + 1);
            if from >= to {
                return Ok(Vec::new());
            }
            let cached_from = core.cache.front().map_or(u64::MAX, |record| record.index);
            if from >= cached_from {
                let mut records = Vec::new();
                extend_from_cache(&core, from, to, max_bytes, &mut records);
                return Ok(records);
            }
            (from, to.min(cached_from), core.revision)
        };
        let outcome = read_engine(shared.engine.as_ref(), from, old_to, max_bytes);
        let core = shared.core.lock();
        if core.revision != revision {
            // Records went away, or were replaced, while they were read: look again.
            continue;
        }
        let mut records = outcome?;
        let Some(back) = records.last() else {
            return Err(StorageError::corruption(format!(
                "log record {from} is missing"
            )));
        };
        let next = back.index + 1;
        let last = core.last.as_ref().map_or(0, |record| record.index);
        if next == old_to {
            extend_from_cache(&core, next, to.min(last + 1), max_bytes, &mut records);
        }
        return Ok(records);
    }
}

fn extend_from_cache(core: &Core, from: u64, to: u64, max_bytes: usize, records: &mut Vec<Record>) {
    let mut bytes: usize = records.iter().map(|record| record.bytes.len()).sum();
    for index in from..to {
        let Some(record) = core.cached(index) else {
            return;
        };
        bytes += record.bytes.len();
        if bytes > max_bytes && !records.is_empty() {
            return;
        }
        records.push(record.clone());
    }
}

/// The records in `[from, to)` that the engine holds, at least one if `from` is there, until
/// their sizes pass `max_bytes`.
pub(super) fn read_engine(
    engine: &dyn Engine,
    from: u64,
    to: u64,
    max_bytes: usize,
) -> Result<Vec<Record>, StorageError> {
    let mut wanted = Vec::new();
    let Some(mut cursor) = chunk_with(engine, from)? else {
        return Ok(wanted);
    };
    let end = key(to, 0);
    let mut bytes = 0;
    let mut assembler = Assembler::new(None);
    loop {
        let pairs = engine.scan(Tree::Log, &cursor, &end, Order::Ascending, PAGE_CHUNKS)?;
        let Some((last_key, _)) = pairs.last() else {
            return Ok(wanted);
        };
        cursor = [last_key.as_slice(), &[0]].concat();
        for pair in pairs {
            let mut records = Vec::new();
            assembler.push(pair, &mut records)?;
            for record in records.into_iter().filter(|record| record.index >= from) {
                if wanted.is_empty() && record.index != from {
                    return Ok(wanted);
                }
                bytes += record.bytes.len();
                if record.index >= to || (bytes > max_bytes && !wanted.is_empty()) {
                    return Ok(wanted);
                }
                wanted.push(record);
            }
        }
    }
}

/// The key of the chunk in which record `index` stands or would stand.
pub(super) fn chunk_with(engine: &dyn Engine, index: u64) -> Result<Option<Vec<u8>>, StorageError> {
    let end = key(index, 1);
    let found = engine.scan(Tree::Log, &[], &end, Order::Descending, 1)?;
    Ok(found.into_iter().next().map(|(key, _)| key))
}
