//! Snapshot files.
use std::sync::Arc;

use crate::{Applied, Digest, Image, State, StorageError};

/// Whole, immutable files, by name.
#[expect(missing_docs, reason = "signatures first")]
pub trait SnapshotFiles: Send + Sync + 'static {
    fn create(&self, name: &str) -> Result<Box<dyn SnapshotWriter>, StorageError>;
    fn open(&self, name: &str) -> Result<Arc<dyn SnapshotReader>, StorageError>;
    fn list(&self) -> Result<Vec<String>, StorageError>;
    fn remove(&self, name: &str) -> Result<(), StorageError>;
}
/// A file being written.
#[expect(missing_docs, reason = "signatures first")]
pub trait SnapshotWriter: Send {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError>;
    fn commit(self: Box<Self>) -> Result<(), StorageError>;
}
/// A file that can be read at any place.
#[expect(missing_docs, reason = "signatures first")]
pub trait SnapshotReader: Send + Sync {
    fn len(&self) -> u64;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError>;
}

/// What a snapshot file begins with.
#[expect(missing_docs, reason = "signatures first")]
#[derive(Debug, Clone)]
pub struct SnapshotHeader {
    pub applied: Applied,
    pub digest: Digest,
    pub caller: Vec<u8>,
}
impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest")
    }
}

/// Writes an image into a file, one page a step.
pub struct SnapshotBuild {}
#[expect(
    unused_variables,
    clippy::todo,
    missing_docs,
    reason = "signatures first"
)]
impl SnapshotBuild {
    pub fn new(
        image: Image,
        writer: Box<dyn SnapshotWriter>,
        caller: Vec<u8>,
    ) -> Result<SnapshotBuild, StorageError> {
        todo!()
    }
    /// One page; `true` when the file is complete and durable.
    pub fn step(&mut self) -> Result<bool, StorageError> {
        todo!()
    }
    pub fn header(&self) -> &SnapshotHeader {
        todo!()
    }
}
/// Reads a file into the next generation, one page a step; the last step flips.
pub struct SnapshotRestore {}
#[expect(
    unused_variables,
    clippy::todo,
    missing_docs,
    reason = "signatures first"
)]
impl SnapshotRestore {
    pub fn new(
        reader: Arc<dyn SnapshotReader>,
        state: &State,
    ) -> Result<SnapshotRestore, StorageError> {
        todo!()
    }
    /// One page; `true` when the state is what the file holds.
    pub fn step(&mut self) -> Result<bool, StorageError> {
        todo!()
    }
    pub fn header(&self) -> &SnapshotHeader {
        todo!()
    }
}
/// The header of a file.
#[expect(
    unused_variables,
    clippy::todo,
    missing_docs,
    reason = "signatures first"
)]
pub fn read_header(reader: &dyn SnapshotReader) -> Result<SnapshotHeader, StorageError> {
    todo!()
}
