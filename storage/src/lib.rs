//! What Mesto stores. Knows keys and bytes; no Raft, no booking.

mod data_dir;
mod engine;
mod error;
mod frame;
mod log;
mod memory;
mod sled_engine;
pub mod snapshot;
mod state;
pub mod sync_repair;
mod verify;

pub use data_dir::{DataDir, DataDirOptions};
pub use engine::{
    Batch, Engine, EngineStats, MAX_KEY_BYTES, MAX_VALUE_BYTES, Order, Pair, Tree, Value,
};
pub use error::StorageError;
pub use log::{Done, Log, LogOptions, LogStats, LogWriter, MAX_RECORD_BYTES, Record};
pub use memory::{DiskCounts, MemoryDisk};
pub use snapshot::{SnapshotFiles, SnapshotReader, SnapshotWriter};
pub use state::{
    Applied, Digest, Image, Import, MAX_APPLIED_RECORD_BYTES, State, StateOptions, Transaction,
    View,
};
pub use verify::{VerifyReport, verify};

/// Bytes as hexadecimal digits, for messages that name a key.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text
}
