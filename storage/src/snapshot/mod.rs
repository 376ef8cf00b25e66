//! Snapshots: the whole state as one file, and where such files are kept.
//!
//! # Format
//! ```text
//! 0..8     "MESTOSN1"
//! 8..      blocks, each:
//!          0       kind: 1 header, 2 page, 3 footer
//!          1..5    length of the payload (u32, little-endian), at most 4 MiB
//!          5..9    crc32c of the block's number (u64), the kind and the payload
//!          9..     payload
//!
//! header   index (u64), now_ms (u64), digest (16), length of the applied record (u32),
//!          the applied record, the caller's bytes
//! page     for each pair: length of the key (u16), length of the value (u16), key, value
//! footer   number of pages (u64), number of pairs (u64)
//! ```
//! All numbers are little-endian. The header comes first, the footer last, and nothing after it.
//! The block's number in the checksum makes a lost, doubled or moved block noticeable; the
//! digest in the header is computed anew by every reader.
//!
//! # Not here
//! Which snapshot is the current one, and what the caller's bytes in the header mean. A file is
//! never changed once it is there.

mod build;
mod files;
mod format;
pub(crate) mod fuzzing;
mod restore;

use std::sync::Arc;

pub use self::build::SnapshotBuild;
pub use self::files::DirSnapshots;
pub(crate) use self::files::{check_name, sync_directory};
pub use self::format::{SnapshotHeader, read_header};
pub use self::restore::{SnapshotRestore, SnapshotSummary, check};
use crate::StorageError;

/// A place for whole, immutable files. Names consist of letters, digits, `-`, `_` and `.`.
pub trait SnapshotFiles: Send + Sync + 'static {
    /// Begins a file, which appears under `name` only when it is committed.
    ///
    /// # Errors
    /// `Misuse` for a malformed name; `Io`.
    fn create(&self, name: &str) -> Result<Box<dyn SnapshotWriter>, StorageError>;

    /// Opens the file `name`. It stays readable for as long as it is open, even when removed.
    ///
    /// # Errors
    /// `Misuse` for a malformed name; `Io`, of the kind `NotFound` when there is none.
    fn open(&self, name: &str) -> Result<Arc<dyn SnapshotReader>, StorageError>;

    /// The names of all committed files, sorted.
    ///
    /// # Errors
    /// `Io`.
    fn list(&self) -> Result<Vec<String>, StorageError>;

    /// Removes the file `name`, if it is there.
    ///
    /// # Errors
    /// `Misuse` for a malformed name; `Io`.
    fn remove(&self, name: &str) -> Result<(), StorageError>;
}

/// A file being written; dropped without a commit it disappears.
pub trait SnapshotWriter: Send {
    /// Adds `bytes` at the end.
    ///
    /// # Errors
    /// `Io`; the file cannot be committed then.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes the file durable and then visible under its name, replacing one of that name.
    ///
    /// # Errors
    /// `Io`; the file is not there then, or the older one still is.
    fn commit(self: Box<Self>) -> Result<(), StorageError>;
}

/// A committed file.
pub trait SnapshotReader: Send + Sync {
    /// Its length, in bytes.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `Io`, also when the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError>;
}
