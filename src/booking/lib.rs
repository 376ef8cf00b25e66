//! The pure domain of booking: what may be booked, by whom, and what comes of asking.
//!
//! ```text
//! service ─ Envelope ─▶ log ─ bytes ─▶ apply(store, stamp, bytes) ─ bytes ─▶ Reply ─▶ service
//!                                          │ reads and writes
//!                                          ▼
//! service ─ query::…(store) ◀────────── keys (one file per kind of record)
//! ```
//!
//! The one door for writes is [`apply`], a synchronous function over a [`StoreMut`] and a stamped
//! command; the one door for reads is [`query`], over a [`Store`]. Both are plain data in, plain
//! data out.
//!
//! Invariants:
//! - At most one booking that isn't cancelled holds a desk at a time, and at most one holds a
//!   user. The sheets under [`query::Taken`] and [`query::Stay`] assert it with every entry.
//! - Sheets mirror the bookings that aren't cancelled exactly.
//! - A key that was answered is answered alike for at least 24 hours.
//! - Values are valid by construction: whatever has one of these types has passed its checks,
//!   also when it came out of bytes.
//!
//! It is a package of its own so that this is enforced by what it depends on (see its `Cargo.toml`), and so that it builds
//! and is tested alone, in seconds.
//!
//! Deliberately absent: Raft, the store's engine, HTTP, clocks, randomness, time-zone data, any
//! configuration of a node, unordered maps. Local time is worked out by the proposer and arrives
//! as a [`Placement`]. That a booking is past is computed when it is read: the passing of time
//! alone writes nothing.

pub mod account;
mod apply;
pub mod calendar;
pub mod codec;
pub mod command;
pub mod ids;
pub mod instant;
mod keys;
pub mod layout;
pub mod query;
pub mod reply;
pub mod reservation;
pub mod secret;
mod store;
pub mod text;

pub use apply::apply;
pub use command::{Actor, Command, DedupKey, Envelope, Fingerprint, Placement};
pub use instant::{Instant, Interval, UtcDay};
pub use reply::{Outcome, Refusal, Reply, decode_reply};
pub use store::{MemoryStore, Order, Pair, Store, StoreMut};

/// The longest that a session lasts without a refresh, in milliseconds (90 days).
pub const MAX_SESSION_TTL_MS: u64 = 90 * instant::DAY_MS;

/// What the leader stamps on a log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The entry's index; each is applied once, in order.
    pub index: u64,
    /// The replicated time, which never runs backwards.
    pub now: Instant,
}
