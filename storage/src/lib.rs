//! What Mesto stores. Knows keys and bytes; no Raft, no booking.

mod data_dir;
mod engine;
mod error;
mod log;
mod memory;
pub mod snapshot;
mod state;
mod verify;

pub use data_dir::{DataDir, DataDirOptions};
pub use engine::{
    Batch, Engine, EngineStats, MAX_KEY_BYTES, MAX_VALUE_BYTES, Order, Pair, Tree, Value,
};
pub use error::StorageError;
pub use log::{Done, Log, LogOptions, LogStats, LogWriter, MAX_RECORD_BYTES, Record};
pub use memory::MemoryDisk;
pub use snapshot::{SnapshotFiles, SnapshotReader, SnapshotWriter};
pub use state::{
    Applied, Digest, Image, Import, MAX_APPLIED_RECORD_BYTES, State, StateOptions, Transaction,
    View,
};
pub use verify::{VerifyReport, verify};
