//! The faulty twin.
use std::sync::Arc;

use crate::Engine;
use crate::snapshot::SnapshotFiles;

/// A disk in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryDisk {}
#[expect(
    unused_variables,
    clippy::todo,
    missing_docs,
    reason = "signatures first"
)]
impl MemoryDisk {
    pub fn new() -> MemoryDisk {
        todo!()
    }
    pub fn engine(&self) -> Arc<dyn Engine> {
        todo!()
    }
    pub fn snapshots(&self) -> Arc<dyn SnapshotFiles> {
        todo!()
    }
    /// Everything handed out before is dead; keeps what was flushed and a random prefix of the rest.
    pub fn power_cut(&self, seed: u64) {
        todo!()
    }
    /// Everything handed out before is dead; keeps all that was written (kill -9).
    pub fn process_crash(&self) {
        todo!()
    }
    pub fn fail_next_flush(&self) {
        todo!()
    }
    pub fn fail_writes(&self, fail: bool) {
        todo!()
    }
}
