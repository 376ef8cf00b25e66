//! What Mesto stores: keys and bytes, and the promise of what a power cut leaves of them.
//!
//! ```text
//!   Log       records, durable in order         ┐          ┌──► journal + sled (disk_engine.rs)
//!   State     pairs + applied index + digest    ├──► Engine┤
//!   snapshot  the whole state as one file       ┘          └──► MemoryDisk     (memory.rs)
//!   DataDir   lock, marker, seal: is this what was left here?
//! ```
//!
//! # The durability contract
//!
//! 1. **What was acknowledged is there.** A [`Done`] of the log comes after the flush that made
//!    its change durable. A failed flush is final: everything after it is refused, nothing is
//!    tried again, because after a failed sync nobody knows what the disk holds.
//! 2. **What was not acknowledged is there as a prefix.** Writes of the log and its facts become
//!    durable in the order in which they were made, batches whole; so do those of the state,
//!    which is carried to the disk in the background, after the log records that it contains are
//!    durable ([`Log::when_durable`]), and so can never outrun the log. The log in turn keeps
//!    whatever the state on the disk lacks ([`State::persist_to`]).
//! 3. **Data, applied index and digest are one.** [`State::commit`] changes them in one step in
//!    memory, and what a crash leaves of the state is a commit that was. Two replicas that
//!    applied the same index have the same digest, or differ.
//! 4. **Damage is noticed, and never taken for an empty store.** Log chunks, small facts, the
//!    state's head and pieces, and snapshot pages carry checksums; the log must be contiguous;
//!    the pairs must have their digest; the database must be whole up to its last seal
//!    ([`DataDir::seal`]). [`verify`] checks all of it on a stopped node.
//! 5. **Memory is bounded**, whatever is stored: recent records, queues, layers of the state, an
//!    image's old values and the database's cache each by an option.
//!
//! The log lies in a journal of its own (`journal/`), one `fdatasync` away from whoever waits for
//! it. The state lies in sled 0.34, whose own flush does not reach the disk on Linux; how that is
//! repaired, and proved at each open, is told in [`sync_repair`]. sled is named in one file, so
//! that it can be replaced.
//!
//! [`MemoryDisk`] keeps the same contract in memory, and can lose, tear, fail, fill up and lie:
//! whole nodes run on it in simulation, from a seed and without threads.
//!
//! # What it does not do
//!
//! - It knows no Raft and no booking: votes, log ids, memberships and commands are bytes.
//! - It never blocks a caller for the disk but in the calls that say so; threads are the
//!   caller's ([`LogWriter::run`], [`StateWriter::run`]).
//! - It does not notice the loss of what was written after the last seal if a process was killed
//!   *and* its files were then damaged; the other replicas have it.
//! - It does not encrypt, compress or shrink files. sled's file never shrinks; its space is used
//!   again.
//! - It does not defend against someone who writes into the directory on purpose.

mod data_dir;
mod disk_engine;
mod engine;
mod error;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod log;
mod memory;
mod panics;
mod sled_engine;
pub mod snapshot;
mod state;
pub mod sync_repair;
mod undo;
mod verify;

pub use data_dir::{DataDir, DataDirOptions};
pub use engine::{
    Batch, Engine, EngineStats, MAX_KEY_BYTES, MAX_VALUE_BYTES, Order, Pair, Tree, Value,
};
pub use error::StorageError;
pub use log::{Done, Log, LogOptions, LogStats, LogWriter, MAX_RECORD_BYTES, Record};
pub use memory::{DiskCounts, MemoryDisk, PowerLoss, TailLoss};
pub use panics::panic_is_caught;
pub use snapshot::{SnapshotFiles, SnapshotReader, SnapshotWriter};
pub use state::{
    Applied, Digest, Image, Import, MAX_APPLIED_RECORD_BYTES, State, StateOptions, StateStats,
    StateWriter, Transaction, View,
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
