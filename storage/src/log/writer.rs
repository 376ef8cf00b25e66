//! The one writer: takes all that waits, writes it in order, flushes once, answers everyone.

use std::sync::Arc;

use super::chunk::{self, decode, index_of, key};
use super::core::{Change, Queued};
use super::reader::chunk_with;
use super::{Done, Record, Shared, facts};
use crate::{Engine, Order, Pair, StorageError, Tree};

/// Chunks removed in one go, so that a purge or truncation never holds up a group for long.
const REMOVE_CHUNKS: usize = 128;

/// Writes and flushes what [`super::Log`] queues. There is exactly one, and dropping it stops
/// the log for good.
pub struct LogWriter {
    shared: Arc<Shared>,
    /// What is purged on disk; the handles may be ahead.
    floor: Option<u64>,
    /// Purged chunks that still take space.
    backlog: bool,
    /// Something was written and not flushed yet.
    unflushed: bool,
    /// The tree may hold no chunk, so the next record may be the first ever.
    maybe_empty: bool,
    /// The group that is written and not answered yet.
    written: Option<Group>,
}

/// A group that is in the engine, on its way to the disk.
struct Group {
    dones: Vec<Done>,
    /// The number of its last change.
    last: u64,
    bytes: usize,
    records: usize,
    /// Whether anybody is promised that it is on the disk.
    durable: bool,
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let dones = self.written.take().map(|group| group.dones);
        self.fail(dones.unwrap_or_default(), &StorageError::Closed);
    }
}

impl LogWriter {
    pub(super) fn new(shared: Arc<Shared>, floor: Option<u64>, backlog: bool) -> LogWriter {
        LogWriter {
            shared,
            floor,
            backlog,
            unflushed: false,
            maybe_empty: true,
            written: None,
        }
    }

    /// Works until every handle is gone (then flushes what is left) or a write or flush failed.
    /// Blocks: give it a thread of its own.
    pub fn run(mut self) {
        loop {
            if self.step() {
                continue;
            }
            let mut core = self.shared.core.lock();
            if core.failed.is_some() {
                return;
            }
            if core.nothing_waits() {
                if core.closed {
                    break;
                }
                self.shared.work.wait(&mut core);
            }
        }
        if self.unflushed
            && let Err(error) = self.shared.engine.flush_log()
        {
            tracing::error!(%error, "the last flush of the log failed");
        }
    }

    /// One group commit, and one portion of the space that purges left. `false` when there was
    /// nothing to do or the log has failed.
    pub fn step(&mut self) -> bool {
        let worked = self.write();
        self.flush();
        worked
    }

    /// The first half of a [`LogWriter::step`]: one group is written, which nobody is told before
    /// [`LogWriter::flush`]. `false` when there was nothing to do or the log has failed. For
    /// simulations, in which time passes between the two.
    pub fn write(&mut self) -> bool {
        self.finish_group();
        let group = {
            let mut core = self.shared.core.lock();
            if core.failed.is_some() {
                return false;
            }
            core.take_group(self.shared.options.max_group_bytes)
        };
        if group.is_empty() {
            return self.backlog;
        }
        self.write_group(group);
        if self.shared.options.planted_bug_answer_before_flush {
            self.answer_early();
        }
        true
    }

    /// The second half: what is written is made durable, everyone is answered, and some of what
    /// purges left is removed.
    pub fn flush(&mut self) {
        self.finish_group();
        let failed = self.shared.core.lock().failed.is_some();
        if self.backlog
            && !failed
            && let Err(error) = self.remove_purged()
        {
            self.shared.fail(&error);
        }
    }

    /// Sets who is told, from the caller's thread, that there is work for [`LogWriter::step`].
    pub fn on_work(&mut self, wake: Box<dyn Fn() + Send + Sync>) {
        *self.shared.wake.lock() = Some(Arc::from(wake));
    }

    /// Brings a group into the engine.
    fn write_group(&mut self, group: Vec<Queued>) {
        let bytes = group.iter().map(|queued| queued.bytes).sum();
        let last = group.last().map_or(0, |queued| queued.sequence);
        let mut dones = Vec::with_capacity(group.len());
        let mut changes = Vec::with_capacity(group.len());
        for queued in group {
            dones.push(queued.done);
            changes.push(queued.change);
        }
        match self.write_all(changes) {
            Ok((records, durable)) => {
                self.unflushed = true;
                self.written = Some(Group {
                    dones,
                    last,
                    bytes,
                    records,
                    durable,
                });
            }
            Err(error) => self.fail(dones, &error),
        }
    }

    /// Flushes what is written, if anybody is promised that, and answers it.
    fn finish_group(&mut self) {
        let Some(group) = self.written.take() else {
            return;
        };
        if group.durable {
            if let Err(error) = self.shared.engine.flush_log() {
                self.fail(group.dones, &error);
                return;
            }
            self.unflushed = false;
        }
        self.answer(group);
    }

    fn answer(&self, group: Group) {
        let written = self.shared.core.lock().written(group.last);
        answer(written, &Ok(()));
        self.shared
            .core
            .lock()
            .committed(group.bytes, group.records, &self.shared.options);
        answer(group.dones, &Ok(()));
    }

    /// The planted bug: everyone is told that it is durable, and then it is made so.
    fn answer_early(&mut self) {
        if let Some(group) = self.written.take() {
            let still_to_flush = Group {
                dones: Vec::new(),
                last: group.last,
                bytes: 0,
                records: 0,
                durable: group.durable,
            };
            self.answer(group);
            self.written = Some(still_to_flush);
        }
    }

    /// Stops the log for good. Those of the group called first, so they are answered first.
    fn fail(&self, mut dones: Vec<Done>, error: &StorageError) {
        let later = self.shared.core.lock().fail(error);
        dones.extend(later);
        answer(dones, &Err(error.clone()));
    }

    /// Writes the changes in order. Returns the number of records, and whether a flush is due.
    fn write_all(&mut self, changes: Vec<Change>) -> Result<(usize, bool), StorageError> {
        let mut run: Vec<Record> = Vec::new();
        let mut count = 0;
        let mut durable = false;
        for change in changes {
            if let Change::Append(records) = change {
                count += records.len();
                durable = true;
                // Appends that follow each other share chunks.
                run.extend(records);
                continue;
            }
            self.write_run(&mut run)?;
            durable |= self.write_change(change)?;
        }
        self.write_run(&mut run)?;
        Ok((count, durable))
    }

    fn write_change(&mut self, change: Change) -> Result<bool, StorageError> {
        let engine = self.shared.engine.as_ref();
        match change {
            Change::Append(records) => {
                let mut run = records;
                self.write_run(&mut run)?;
                Ok(true)
            }
            Change::Truncate(from) => {
                truncate(engine, from)?;
                self.maybe_empty = true;
                Ok(true)
            }
            Change::Purge(index, fact) => {
                // The state that makes the purged records dispensable must be safe first.
                engine.flush()?;
                facts::write_floor(engine, fact)?;
                self.floor = Some(index);
                self.backlog = true;
                Ok(true)
            }
            Change::Meta { key, fact, durable } => {
                facts::write_meta(engine, key, fact)?;
                Ok(durable)
            }
        }
    }

    fn write_run(&mut self, run: &mut Vec<Record>) -> Result<(), StorageError> {
        let Some(front) = run.first() else {
            return Ok(());
        };
        let engine = self.shared.engine.as_ref();
        let begins = self.maybe_empty
            && self.floor.is_none()
            && engine
                .scan(Tree::Log, &[], &[], Order::Ascending, 1)?
                .is_empty();
        if begins {
            facts::write_base(engine, front.index)?;
        }
        for (key, value) in chunk::pack(run)? {
            engine.insert(Tree::Log, &key, value)?;
        }
        self.maybe_empty = false;
        run.clear();
        Ok(())
    }

    /// Removes some of the chunks that hold purged records only.
    fn remove_purged(&mut self) -> Result<(), StorageError> {
        let Some(floor) = self.floor else {
            self.backlog = false;
            return Ok(());
        };
        let engine = self.shared.engine.as_ref();
        let pairs = engine.scan(Tree::Log, &[], &[], Order::Ascending, REMOVE_CHUNKS + 1)?;
        let mut removed = 0;
        for window in 0..pairs.len().min(REMOVE_CHUNKS) {
            if !is_purged(&pairs[window], pairs.get(window + 1), floor)? {
                break;
            }
            // From the front on, so that a crash in between leaves no gap.
            engine.remove(Tree::Log, &pairs[window].0)?;
            removed += 1;
            self.unflushed = true;
        }
        self.backlog = removed == REMOVE_CHUNKS;
        Ok(())
    }
}

fn answer(dones: Vec<Done>, result: &Result<(), StorageError>) {
    for done in dones {
        done(result.clone());
    }
}

/// Whether a chunk holds nothing above `floor`; the next chunk's key tells, if there is one.
fn is_purged(pair: &Pair, next: Option<&Pair>, floor: u64) -> Result<bool, StorageError> {
    let first = index_of(&pair.0)?;
    if first > floor {
        return Ok(false);
    }
    match next {
        Some((next_key, _)) => {
            let next = index_of(next_key)?;
            Ok(next == first || next <= floor + 1 || decode(pair.clone())?.last_index() <= floor)
        }
        None => Ok(decode(pair.clone())?.last_index() <= floor),
    }
}

/// Removes the record `from` and all after it, from the tail backwards, so that a crash in
/// between leaves a longer log but never a gap. The chunk that `from` cuts is rewritten last.
fn truncate(engine: &dyn Engine, from: u64) -> Result<(), StorageError> {
    let start = key(from, 0);
    loop {
        let pairs = engine.scan(Tree::Log, &start, &[], Order::Descending, REMOVE_CHUNKS)?;
        if pairs.is_empty() {
            break;
        }
        for (key, _) in pairs {
            engine.remove(Tree::Log, &key)?;
        }
    }
    let Some(boundary) = from.checked_sub(1) else {
        return Ok(());
    };
    let Some(cut_key) = chunk_with(engine, boundary)? else {
        return Ok(());
    };
    let Some(value) = engine.get(Tree::Log, &cut_key)? else {
        return Ok(());
    };
    let chunk::Chunk::Packed { first, records } = decode((cut_key, value))? else {
        return Ok(());
    };
    let kept: Vec<Record> = (first..from)
        .zip(&records)
        .map(|(index, bytes)| Record {
            index,
            bytes: bytes.clone(),
        })
        .collect();
    if kept.len() == records.len() {
        return Ok(());
    }
    for (key, value) in chunk::pack(&kept)? {
        engine.insert(Tree::Log, &key, value)?;
    }
    Ok(())
}
