//! The log: contiguous records, durable in order, one writer.
//!
//! ```text
//!   Log (handles)                      LogWriter (one thread)
//!   append / truncate / purge / meta ──► queue ──► write chunks ──► one flush ──► every Done
//!        │ memory: tail of the log, meta                                  │
//!   read ◄┘ at once                                        when_durable ◄─┘
//! ```
//!
//! Every change takes effect in memory when the call returns (it can be read), and is queued.
//! The writer takes all that waits, writes it in order and flushes once: group commit without
//! a timer. A `Done` is called after the flush that made its change durable, in the order of
//! the calls.
//!
//! # Invariants
//! - Records are contiguous. An append that leaves a gap is refused, a gap found on disk is
//!   corruption.
//! - What is not yet written stays in memory, whatever the cache's limit.
//! - The first failed write or flush is final: every `Done` that waits and every later one
//!   gets it, and nothing is retried.
//! - The purge mark is stored before the first record is removed.
//!
//! # Bounds
//! Recent records: [`LogOptions::cache_bytes`]. The queue: [`LogOptions::max_queued_bytes`].
//! An append never blocks; one that would pass the queue's limit fails, and since a log that
//! dropped an append must not go on, the log fails with it. The caller keeps well below by
//! bounding what it has in flight.
//!
//! # Not here
//! What a record means; terms and votes; threads (the caller runs [`LogWriter::run`] on one, or
//! [`LogWriter::write`] and [`LogWriter::flush`] in a simulation).

mod chunk;
mod core;
mod facts;
pub(crate) mod fuzzing;
mod reader;
mod recovery;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use self::core::{Change, Core, Refusal};
pub(crate) use self::recovery::inspect;
pub use self::writer::LogWriter;
use crate::{Engine, StorageError};

/// The largest record, in bytes.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// One record of the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place; consecutive from record to record.
    pub index: u64,
    /// The caller's bytes, at most [`MAX_RECORD_BYTES`].
    pub bytes: Bytes,
}

/// Records may hold secrets, so only their length is shown.
impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({}, {} bytes)", self.index, self.bytes.len())
    }
}

/// Called exactly once: on the writer's thread, or on the caller's when there is nothing to
/// wait for. It must neither block nor panic; it may call the log.
pub type Done = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// Limits of a log's memory.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Bytes of recent records kept in memory once they are written.
    pub cache_bytes: usize,
    /// Most bytes that may wait for the writer.
    pub max_queued_bytes: usize,
    /// A group is closed when it holds this many bytes, so that no one waits for ever.
    pub max_group_bytes: usize,
    /// Whether the writer answers before it flushes. This loses acknowledged records and exists so
    /// that a simulation can show that it would notice; production never sets it.
    pub planted_bug_answer_before_flush: bool,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            cache_bytes: 32 * 1024 * 1024,
            max_queued_bytes: 256 * 1024 * 1024,
            max_group_bytes: 8 * 1024 * 1024,
            planted_bug_answer_before_flush: false,
        }
    }
}

/// What the log has done and holds; for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes that wait for the writer, bounded by [`LogOptions::max_queued_bytes`].
    pub queued_bytes: usize,
    /// Bytes of records in memory.
    pub cached_bytes: usize,
    /// Group commits.
    pub groups: u64,
    /// Records written.
    pub records: u64,
    /// The last record that is known to be durable; what was purged counts as durable.
    pub durable: Option<u64>,
    /// Whether a failure has stopped the log, or the engine that it is in, for good.
    pub failed: bool,
}

/// A handle to the log. Clones are cheap; the writer ends when the last is gone.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    _alive: Arc<Alive>,
}

struct Shared {
    engine: Arc<dyn Engine>,
    options: LogOptions,
    core: Mutex<Core>,
    work: Condvar,
    wake: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

/// Dropped with the last handle.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.core.lock().closed = true;
        self.0.notify();
    }
}

impl Shared {
    fn notify(&self) {
        self.work.notify_one();
        let wake = self.wake.lock().clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Stops the log for good and answers everyone who waits.
    fn fail(&self, error: &StorageError) {
        let waiting = self.core.lock().fail(error);
        for done in waiting {
            done(Err(error.clone()));
        }
    }
}

impl Log {
    /// Reads what `engine` holds, checks every record's checksum and continuity, and gives a
    /// handle and the writer. A record that a crash cut off at the very end is removed: it was
    /// never acknowledged.
    ///
    /// # Errors
    /// `Corruption` that names the damaged or missing record; `Io` or `Poisoned` of the engine.
    pub fn open(
        engine: Arc<dyn Engine>,
        options: LogOptions,
    ) -> Result<(Log, LogWriter), StorageError> {
        let recovered = recovery::recover(engine.as_ref())?;
        let writer_floor = recovered.floor;
        let backlog = recovered.backlog;
        let shared = Arc::new(Shared {
            engine,
            options,
            core: Mutex::new(Core::new(recovered)),
            work: Condvar::new(),
            wake: Mutex::new(None),
        });
        let alive = Arc::new(Alive(Arc::clone(&shared)));
        let writer = LogWriter::new(Arc::clone(&shared), writer_floor, backlog);
        Ok((
            Log {
                shared,
                _alive: alive,
            },
            writer,
        ))
    }

    /// Adds `records`, which must follow the last one. They can be read when this returns;
    /// `done` is called once they are durable.
    ///
    /// `done` gets `Misuse` for a gap, `TooLarge` for a record or queue above its limit, or the
    /// failure that stopped the log. Any of them is final.
    pub fn append(&self, records: Vec<Record>, done: Done) {
        let bytes = records.iter().map(|record| record.bytes.len()).sum();
        self.submit(done, |core| {
            core.append(&records, bytes, &self.shared.options)?;
            Ok((Change::Append(records), bytes))
        });
    }

    /// Removes the record `index` and all after it. Reads see it at once; `done` is called once
    /// it is durable.
    ///
    /// `done` gets `Misuse` when `index` was purged, or the failure that stopped the log.
    pub fn truncate_from(&self, index: u64, done: Done) {
        self.submit(done, |core| {
            core.truncate_from(index, self.shared.engine.as_ref())?;
            Ok((Change::Truncate(index), 0))
        });
    }

    /// Removes every record up to and including `index`, and remembers `mark` for
    /// [`Log::purge_mark`]. `index` may lie beyond the last record: then the log is empty and
    /// goes on at `index + 1`. An `index` that was purged before changes nothing.
    ///
    /// `done` is called once the mark is durable; the space is taken back bit by bit later.
    /// It gets `TooLarge` for a mark above some 7 KiB, or the failure that stopped the log.
    pub fn purge_to(&self, index: u64, mark: Vec<u8>, done: Done) {
        self.submit(done, |core| {
            if core.floor.is_some_and(|floor| index <= floor) {
                return Err(Refusal::Nothing);
            }
            let fact = facts::encode_floor(index, &mark)?;
            core.purge_to(index, mark);
            Ok((Change::Purge(index, fact), 0))
        });
    }

    /// Stores a small fact under `key`. With `durable` `done` is called after it is flushed;
    /// without, after it is written (it becomes durable with the next group).
    ///
    /// `done` gets `TooLarge` for a value above some 7 KiB, or the failure that stopped the log.
    pub fn put_meta(&self, key: &'static str, value: Vec<u8>, durable: bool, done: Done) {
        self.submit(done, |core| {
            let fact = facts::encode_meta(key, &value)?;
            let bytes = value.len();
            core.meta.insert(key, value);
            Ok((Change::Meta { key, fact, durable }, bytes))
        });
    }

    /// What was last put under `key`, written or not.
    ///
    /// # Errors
    /// `Corruption` that names the key; `Io` or `Poisoned` of the engine.
    pub fn get_meta(&self, key: &'static str) -> Result<Option<Vec<u8>>, StorageError> {
        if let Some(value) = self.shared.core.lock().meta.get(key) {
            return Ok(Some(value.clone()));
        }
        facts::read_meta(self.shared.engine.as_ref(), key)
    }

    /// The records with `from <= index < to` that exist, in order, until their sizes pass
    /// `max_bytes`; at least one if there is any.
    ///
    /// # Errors
    /// `Corruption` that names the record; `Io` or `Poisoned` of the engine.
    pub fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Record>, StorageError> {
        reader::read(&self.shared, from, to, max_bytes)
    }

    /// The index of the first record, `None` when there is none.
    #[must_use]
    pub fn first_index(&self) -> Option<u64> {
        self.shared.core.lock().first
    }

    /// The last record, `None` when there is none.
    #[must_use]
    pub fn last(&self) -> Option<Record> {
        self.shared.core.lock().last.clone()
    }

    /// The last record and the mark of the last purge, as of one moment.
    #[must_use]
    pub fn last_and_purge_mark(&self) -> (Option<Record>, Option<Vec<u8>>) {
        let core = self.shared.core.lock();
        (core.last.clone(), core.mark.clone())
    }

    /// The mark given to the last purge.
    #[must_use]
    pub fn purge_mark(&self) -> Option<Vec<u8>> {
        self.shared.core.lock().mark.clone()
    }

    /// Calls `done` once every record up to `index` that was appended by now is durable. Whoever
    /// writes the state into the engine waits for this, so that on disk the state never outruns
    /// the log.
    ///
    /// `done` gets the failure that stopped the log.
    pub fn when_durable(&self, index: u64, done: Done) {
        let outcome = self.shared.core.lock().when_durable(index, done);
        if let Some((done, result)) = outcome {
            done(result);
        }
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let mut stats = self.shared.core.lock().stats();
        // What has nothing to write for a while does not hear of it by itself.
        stats.failed |= self.shared.engine.is_failed();
        stats
    }

    /// Applies `change` in memory and queues it, or answers `done` at once.
    fn submit(
        &self,
        done: Done,
        change: impl FnOnce(&mut Core) -> Result<(Change, usize), Refusal>,
    ) {
        let mut core = self.shared.core.lock();
        let refusal = match &core.failed {
            Some(failed) => Some(Refusal::Call(failed.clone())),
            None => match change(&mut core) {
                Ok((change, bytes)) => {
                    core.queue(change, bytes, done);
                    drop(core);
                    self.shared.notify();
                    return;
                }
                Err(refusal) => Some(refusal),
            },
        };
        drop(core);
        match refusal {
            Some(Refusal::Call(error)) => done(Err(error)),
            Some(Refusal::Log(error)) => {
                self.shared.fail(&error);
                done(Err(error));
            }
            Some(Refusal::Nothing) | None => done(Ok(())),
        }
    }
}
