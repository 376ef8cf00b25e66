//! What is replicated: an application as a deterministic function.

use mesto_storage::Transaction;

/// When, in replicated terms, a command is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The log index of the command.
    pub index: u64,
    /// Replicated time in milliseconds since the epoch: what leaders stamped, never running backwards.
    pub now_ms: u64,
}

/// A replicated application.
///
/// `apply` must be a pure function of the state behind `transaction`, of `stamp` and of `command`: no clock, no
/// randomness, no configuration, no iteration in an order that differs between runs. Two replicas that applied the same
/// log then have the same bytes, and the state's digest proves it. What it refuses, it refuses in its reply; a panic
/// stops the node, which is better than letting replicas drift apart.
pub trait App: Send + Sync + 'static {
    /// Decides one command and gives the encoded reply.
    fn apply(&self, transaction: &mut Transaction, stamp: Stamp, command: &[u8]) -> Vec<u8>;
}

/// The wall clock of a leader, in milliseconds since the epoch; injected so that a simulation can bend it.
pub trait Clock: Send + Sync + 'static {
    /// Now, by this node's wall clock.
    fn now_ms(&self) -> u64;
}
