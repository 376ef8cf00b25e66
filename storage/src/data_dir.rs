//! A node's directory.
use std::path::Path;
use std::sync::Arc;

use crate::snapshot::SnapshotFiles;
use crate::{Engine, StorageError};

/// Options.
#[derive(Debug, Clone)]
pub struct DataDirOptions {
    /// sled's page cache, in bytes.
    pub cache_bytes: u64,
}
impl Default for DataDirOptions {
    fn default() -> Self {
        DataDirOptions {
            cache_bytes: 64 << 20,
        }
    }
}
/// An open directory; dropped = closed.
pub struct DataDir {}
#[expect(
    unused_variables,
    clippy::todo,
    missing_docs,
    reason = "signatures first"
)]
impl DataDir {
    pub fn open(path: &Path, options: &DataDirOptions) -> Result<DataDir, StorageError> {
        todo!()
    }
    pub fn storage_id(&self) -> u128 {
        todo!()
    }
    pub fn engine(&self) -> Arc<dyn Engine> {
        todo!()
    }
    pub fn snapshots(&self) -> Arc<dyn SnapshotFiles> {
        todo!()
    }
}
