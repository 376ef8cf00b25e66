//! The log as its callers see it: the part in memory, ahead of what is written.
//!
//! Every change gets a sequence number when it is queued. What is written is measured in these,
//! not in indexes: after a truncation the same index may be written a second time.

use std::collections::{BTreeMap, VecDeque};

use super::recovery::Recovered;
use super::{Done, LogOptions, LogStats, MAX_RECORD_BYTES, Record, reader};
use crate::{Engine, StorageError, Value};

/// What one record costs in memory besides its bytes.
const RECORD_OVERHEAD_BYTES: usize = 64;

pub(super) enum Change {
    Append(Vec<Record>),
    Truncate(u64),
    Purge(u64, Value),
    Meta {
        key: &'static str,
        fact: Value,
        durable: bool,
    },
}

pub(super) struct Queued {
    pub(super) sequence: u64,
    pub(super) change: Change,
    pub(super) bytes: usize,
    pub(super) done: Done,
}

/// Why a change was not queued.
pub(super) enum Refusal {
    /// The call was wrong, the log is unharmed.
    Call(StorageError),
    /// The log cannot go on.
    Log(StorageError),
    /// There is nothing to do.
    Nothing,
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Refusal {
        Refusal::Call(error)
    }
}

/// An append that is not yet written, as far as no truncation took it back.
struct Pending {
    sequence: u64,
    first: u64,
    last: u64,
}

pub(super) struct Core {
    pub(super) first: Option<u64>,
    pub(super) last: Option<Record>,
    pub(super) floor: Option<u64>,
    pub(super) mark: Option<Vec<u8>>,
    /// A contiguous tail of the log with everything that is not yet written.
    pub(super) cache: VecDeque<Record>,
    cache_bytes: usize,
    pub(super) meta: BTreeMap<&'static str, Vec<u8>>,
    /// Changes with each truncation and purge, so that a reader notices.
    pub(super) revision: u64,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    next_sequence: u64,
    pending: VecDeque<Pending>,
    waiters: Vec<(u64, Done)>,
    pub(super) failed: Option<StorageError>,
    pub(super) closed: bool,
    groups: u64,
    records: u64,
    /// The last record that the engine has, flushed or not, as far as no truncation took it back.
    written: Option<u64>,
    /// The last record that is durable, as far as no truncation took it back.
    durable: Option<u64>,
}

impl Core {
    pub(super) fn new(recovered: Recovered) -> Core {
        let last = recovered.last.as_ref().map(|record| record.index);
        let found = last.or(recovered.floor);
        Core {
            first: recovered.first,
            last: recovered.last,
            floor: recovered.floor,
            mark: recovered.mark,
            cache: VecDeque::new(),
            cache_bytes: 0,
            meta: BTreeMap::new(),
            revision: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            next_sequence: 1,
            pending: VecDeque::new(),
            waiters: Vec::new(),
            failed: None,
            closed: false,
            groups: 0,
            records: 0,
            written: found,
            // What a crash left may not be flushed yet, but it is with the next group, before anything is answered.
            durable: found,
        }
    }

    /// The index that the next record must have; `None`: any.
    fn next_index(&self) -> Option<u64> {
        let last = self.last.as_ref().map(|record| record.index);
        last.or(self.floor).map(|index| index + 1)
    }

    pub(super) fn append(
        &mut self,
        records: &[Record],
        bytes: usize,
        options: &LogOptions,
    ) -> Result<(), Refusal> {
        let (Some(front), Some(back)) = (records.first(), records.last()) else {
            return Err(Refusal::Nothing);
        };
        let expected = self.next_index().unwrap_or(front.index);
        for (record, expected) in records.iter().zip(expected..) {
            if record.index != expected {
                return Err(Refusal::Log(StorageError::misuse(format!(
                    "record {} was appended where {expected} must follow",
                    record.index
                ))));
            }
            if record.bytes.len() > MAX_RECORD_BYTES {
                return Err(Refusal::Log(StorageError::TooLarge {
                    what: "log record",
                    bytes: record.bytes.len(),
                    limit_bytes: MAX_RECORD_BYTES,
                }));
            }
        }
        if self.queued_bytes + bytes > options.max_queued_bytes {
            return Err(Refusal::Log(StorageError::TooLarge {
                what: "queue of the log writer",
                bytes: self.queued_bytes + bytes,
                limit_bytes: options.max_queued_bytes,
            }));
        }
        self.first.get_or_insert(front.index);
        self.last = Some(back.clone());
        self.cache_bytes += bytes + records.len() * RECORD_OVERHEAD_BYTES;
        self.cache.extend(records.iter().cloned());
        let (first, last) = (front.index, back.index);
        self.pending.push_back(Pending {
            sequence: self.next_sequence,
            first,
            last,
        });
        self.evict(options.cache_bytes);
        Ok(())
    }

    pub(super) fn truncate_from(
        &mut self,
        from: u64,
        engine: &dyn Engine,
    ) -> Result<(), StorageError> {
        if self.floor.is_some_and(|floor| from <= floor) {
            return Err(StorageError::misuse(format!(
                "record {from} is purged already"
            )));
        }
        let (Some(first), Some(last)) = (self.first, self.last.as_ref()) else {
            return Ok(());
        };
        if from > last.index {
            return Ok(());
        }
        let new_last = self.record_before(from, first, engine)?;
        self.revision += 1;
        if new_last.is_none() {
            self.first = None;
        }
        self.last = new_last;
        let kept = from.checked_sub(1);
        self.written = self.written.min(kept);
        self.durable = self.durable.min(kept);
        while self.cache.back().is_some_and(|record| record.index >= from) {
            self.forget_last();
        }
        while self
            .pending
            .back()
            .is_some_and(|pending| pending.first >= from)
        {
            self.pending.pop_back();
        }
        if let Some(pending) = self.pending.back_mut() {
            pending.last = pending.last.min(from - 1);
        }
        Ok(())
    }

    /// The record that becomes the last one when `from` and what follows goes. If it is not in
    /// memory it is written, so the engine has it, whatever else is still queued.
    fn record_before(
        &self,
        from: u64,
        first: u64,
        engine: &dyn Engine,
    ) -> Result<Option<Record>, StorageError> {
        if from <= first {
            return Ok(None);
        }
        if let Some(record) = self.cached(from - 1) {
            return Ok(Some(record.clone()));
        }
        match reader::read_engine(engine, from - 1, from, usize::MAX)?.pop() {
            Some(record) => Ok(Some(record)),
            None => Err(StorageError::corruption(format!(
                "log record {} is missing",
                from - 1
            ))),
        }
    }

    pub(super) fn purge_to(&mut self, index: u64, mark: Vec<u8>) {
        self.revision += 1;
        self.floor = Some(index);
        self.mark = Some(mark);
        self.written = self.written.max(Some(index));
        self.durable = self.durable.max(Some(index));
        match &self.last {
            Some(last) if last.index > index => {
                self.first = self.first.map(|first| first.max(index + 1));
            }
            _ => {
                self.first = None;
                self.last = None;
            }
        }
        while self
            .cache
            .front()
            .is_some_and(|record| record.index <= index)
        {
            self.forget_first();
        }
    }

    pub(super) fn queue(&mut self, change: Change, bytes: usize, done: Done) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.queued_bytes += bytes;
        self.queue.push_back(Queued {
            sequence,
            change,
            bytes,
            done,
        });
    }

    /// Takes what waits, up to some `max_bytes`, but at least one change.
    pub(super) fn take_group(&mut self, max_bytes: usize) -> Vec<Queued> {
        let mut bytes = 0;
        let mut count = 0;
        for queued in &self.queue {
            bytes += queued.bytes;
            count += 1;
            if bytes >= max_bytes {
                break;
            }
        }
        self.queue.drain(..count).collect()
    }

    pub(super) fn nothing_waits(&self) -> bool {
        self.queue.is_empty()
    }

    /// Notes that all changes up to `sequence` are in the engine; returns who waited for it.
    pub(super) fn written(&mut self, sequence: u64) -> Vec<Done> {
        while let Some(pending) = self.pending.front()
            && pending.sequence <= sequence
        {
            self.written = self.written.max(Some(pending.last));
            self.pending.pop_front();
        }
        if self.waiters.is_empty() {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.waiters);
        let (ready, waiting): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(wanted, _)| *wanted <= sequence);
        self.waiters = waiting;
        ready.into_iter().map(|(_, done)| done).collect()
    }

    /// Notes that a group is durable.
    pub(super) fn committed(&mut self, bytes: usize, records: usize, options: &LogOptions) {
        self.queued_bytes -= bytes;
        self.groups += 1;
        self.durable = self.written;
        self.records += u64::try_from(records).expect("a length fits 64 bits");
        self.evict(options.cache_bytes);
    }

    /// Keeps `done` until the append of `index` is written, or hands it back with its answer.
    pub(super) fn when_durable(
        &mut self,
        index: u64,
        done: Done,
    ) -> Option<(Done, Result<(), StorageError>)> {
        if let Some(failed) = &self.failed {
            return Some((done, Err(failed.clone())));
        }
        let last = self
            .pending
            .iter()
            .rev()
            .find(|pending| pending.first <= index);
        match last {
            None => Some((done, Ok(()))),
            Some(pending) => {
                self.waiters.push((pending.sequence, done));
                None
            }
        }
    }

    /// Latches the first failure and returns everyone who waits, in the order of their calls.
    pub(super) fn fail(&mut self, error: &StorageError) -> Vec<Done> {
        if self.failed.is_none() {
            self.failed = Some(error.poison());
        }
        self.queued_bytes = 0;
        let queue = std::mem::take(&mut self.queue);
        let waiters = std::mem::take(&mut self.waiters);
        let queued = queue.into_iter().map(|queued| queued.done);
        queued
            .chain(waiters.into_iter().map(|(_, done)| done))
            .collect()
    }

    pub(super) fn cached(&self, index: u64) -> Option<&Record> {
        let front = self.cache.front()?.index;
        let offset = usize::try_from(index.checked_sub(front)?).ok()?;
        self.cache.get(offset)
    }

    pub(super) fn stats(&self) -> LogStats {
        LogStats {
            queued_bytes: self.queued_bytes,
            cached_bytes: self.cache_bytes,
            groups: self.groups,
            records: self.records,
            durable: self.durable,
            failed: self.failed.is_some(),
        }
    }

    /// Drops old records from memory, but none that is not yet written.
    fn evict(&mut self, limit_bytes: usize) {
        let unwritten = self
            .pending
            .front()
            .map_or(u64::MAX, |pending| pending.first);
        while self.cache_bytes > limit_bytes
            && self
                .cache
                .front()
                .is_some_and(|record| record.index < unwritten)
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(record) = self.cache.pop_front() {
            self.cache_bytes -= record.bytes.len() + RECORD_OVERHEAD_BYTES;
        }
    }

    fn forget_last(&mut self) {
        if let Some(record) = self.cache.pop_back() {
            self.cache_bytes -= record.bytes.len() + RECORD_OVERHEAD_BYTES;
        }
    }
}
