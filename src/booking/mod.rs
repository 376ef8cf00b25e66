//! The pure domain of booking.

pub mod account;
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
