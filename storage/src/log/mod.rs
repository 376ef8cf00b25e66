//! The replicated log's records, durable in order.
use std::sync::Arc;

use bytes::Bytes;

use crate::{Engine, StorageError};

/// One record of the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place; consecutive.
    pub index: u64,
    /// The caller's bytes, up to [`MAX_RECORD_BYTES`].
    pub bytes: Bytes,
}
/// The largest record, in bytes.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// Called once, from the writer's thread (or the caller's, when nothing had to be waited for).
pub type Done = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// Options.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Bytes of recent records kept in memory.
    pub cache_bytes: usize,
    /// Most bytes that may wait for the writer.
    pub max_queued_bytes: usize,
}
impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            cache_bytes: 32 << 20,
            max_queued_bytes: 256 << 20,
        }
    }
}

/// Counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes that wait.
    pub queued_bytes: usize,
    /// Bytes of the recent records.
    pub cached_bytes: usize,
    /// Groups committed.
    pub groups: u64,
    /// Records written.
    pub records: u64,
    /// Whether a failure stopped the log for good.
    pub failed: bool,
}

/// A handle.
#[derive(Clone)]
pub struct Log {}
/// The one writer.
pub struct LogWriter {}

#[expect(
    unused_variables,
    clippy::todo,
    missing_docs,
    reason = "signatures first"
)]
impl Log {
    pub fn open(
        engine: Arc<dyn Engine>,
        options: LogOptions,
    ) -> Result<(Log, LogWriter), StorageError> {
        todo!()
    }
    pub fn append(&self, records: Vec<Record>, done: Done) {
        todo!()
    }
    pub fn truncate_from(&self, index: u64, done: Done) {
        todo!()
    }
    pub fn purge_to(&self, index: u64, mark: Vec<u8>, done: Done) {
        todo!()
    }
    pub fn put_meta(&self, key: &'static str, value: Vec<u8>, durable: bool, done: Done) {
        todo!()
    }
    pub fn get_meta(&self, key: &'static str) -> Result<Option<Vec<u8>>, StorageError> {
        todo!()
    }
    pub fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Record>, StorageError> {
        todo!()
    }
    pub fn first_index(&self) -> Option<u64> {
        todo!()
    }
    pub fn last(&self) -> Option<Record> {
        todo!()
    }
    pub fn purge_mark(&self) -> Option<Vec<u8>> {
        todo!()
    }
    pub fn when_written(&self, index: u64, done: Done) {
        todo!()
    }
    pub fn stats(&self) -> LogStats {
        todo!()
    }
}
#[expect(
    unused_variables,
    clippy::todo,
    missing_docs,
    reason = "signatures first"
)]
impl LogWriter {
    pub fn run(self) {
        todo!()
    }
    pub fn step(&mut self) -> bool {
        todo!()
    }
    pub fn on_work(&mut self, wake: Box<dyn Fn() + Send + Sync>) {
        todo!()
    }
}
