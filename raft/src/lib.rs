//! Replication for Mesto: openraft behind a small face.
//!
//! A [`Node`] replicates commands, which are bytes to it, through Raft, and applies them to an [`App`], a deterministic
//! function over a store of keys and values. What it promises: every acknowledged command is on a quorum's disk,
//! synced; one log order decides everything; any node answers linearizable reads; a command is forwarded over one hop
//! at most; a new leader is found within a second of losing the old one.
//!
//! ```text
//! propose ─► submit (batches) ─► openraft ─► log_store ─► mesto_storage::Log ─► fsync
//!               │ forward            │ replicate
//!               ▼                    ▼
//!            peers ─► wire (MAC) ─► transport ─► receiver on the other node
//!                                    │ committed
//!                                    ▼
//!                                 machine ─► App::apply ─► mesto_storage::State, one write a group
//! ```
//!
//! Clock, randomness, transport, store and application are injected ([`NodeParts`]), so whole nodes run in one process
//! on simulated time; see [`seed_this_thread`].
//!
//! What this package does not do: it knows no booking, no client route and no configuration file; it encrypts nothing;
//! it does not remember which command it has seen, the application does; it never lets a wiped disk back in under its
//! old id.

mod app;
mod barrier;
mod codec;
#[doc(hidden)]
pub mod fuzzing;
mod log_store;
mod machine;
mod messages;
mod network;
mod node;
mod peers;
mod receiver;
mod runtime;
mod submit;
mod transport;
mod types;
mod wire;

#[cfg(test)]
mod tests;

pub use app::{App, Clock, Stamp};
pub use machine::Blocking;
pub use node::{
    Address, ControlError, Decided, EntryMark, MAX_COMMAND_BYTES, MemberStatus, Node, NodeParts,
    ProposeError, ReadError, Seen, StartError, Status, Tuning, Vitals,
};
pub use runtime::{random_u64, random_u128, seed_this_thread};
pub use transport::{
    HttpTransport, Lane, MAX_FRAME_BYTES, Receive, Transport, TransportError, serve_peers,
};
pub use types::{Member, NodeId, StorageId};
pub use wire::{ClusterId, ClusterKey, Refusal};
