//! Answers that were given, so that the same question gets the same answer.
//!
//! Key: `0x40`, kind of dedup key 1 (0 client's, 1 node's), generation 4, dedup key 16.
//! Value: [`Answer`].
//!
//! Time is cut into generations (24 h for clients' keys, 10 min for nodes'). An answer is stored
//! in the generation in which it was given and looked up in that and the one before, so it is
//! found for one to two generations. Older generations are at the front of their key space,
//! where a few are swept away with every few commands.

use super::super::Stamp;
use super::super::command::{DedupKey, Fingerprint};
use super::super::instant::{DAY_MS, Instant, MINUTE_MS};
use super::super::reply::{Outcome, Refusal, Reply};
use super::super::store::{Order, Store, StoreMut};
use serde::{Deserialize, Serialize};

const KIND: u8 = 0x40;
const CLIENT: u8 = 0;
const NODE: u8 = 1;

/// How long a generation of clients' keys lasts, in milliseconds.
pub(crate) const CLIENT_GENERATION_MS: u64 = DAY_MS;
/// How long a generation of nodes' keys lasts, in milliseconds.
pub(crate) const NODE_GENERATION_MS: u64 = 10 * MINUTE_MS;

/// An answer that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// What was asked.
    pub(crate) fingerprint: Fingerprint,
    /// The log index at which it was answered.
    pub(crate) index: u64,
    /// The answer.
    pub(crate) result: Result<Outcome, Refusal>,
}

impl Answer {
    /// The reply to who asks again: this answer, if it is the same question, else a refusal.
    pub(crate) fn replay(self, fingerprint: Fingerprint, stamp: Stamp) -> Reply {
        if self.fingerprint == fingerprint {
            Reply {
                index: self.index,
                replayed: true,
                result: self.result,
            }
        } else {
            Reply {
                index: stamp.index,
                replayed: false,
                result: Err(Refusal::IdempotencyKeyReused),
            }
        }
    }
}

fn generation(key_space: u8, now: Instant) -> u32 {
    let length_ms = if key_space == CLIENT {
        CLIENT_GENERATION_MS
    } else {
        NODE_GENERATION_MS
    };
    u32::try_from(now.as_ms() / length_ms).expect("an instant ends with the year 9999")
}

fn parts(key: DedupKey) -> (u8, [u8; 16]) {
    match key {
        DedupKey::Client(bytes) => (CLIENT, bytes),
        DedupKey::Node(bytes) => (NODE, bytes),
    }
}

fn key(key_space: u8, generation: u32, bytes: &[u8; 16]) -> Vec<u8> {
    super::key(KIND, &[&[key_space], &generation.to_be_bytes(), bytes])
}

/// The answer that was given under a key in this generation or the one before.
pub(crate) fn get(store: &dyn Store, dedup: DedupKey, now: Instant) -> Option<Answer> {
    let (key_space, bytes) = parts(dedup);
    let current = generation(key_space, now);
    let in_generation = |number| super::get(store, &key(key_space, number, &bytes));
    in_generation(current).or_else(|| in_generation(current.checked_sub(1)?))
}

/// Remembers an answer.
pub(crate) fn put(store: &mut dyn StoreMut, dedup: DedupKey, now: Instant, answer: &Answer) {
    let (key_space, bytes) = parts(dedup);
    super::put(
        store,
        &key(key_space, generation(key_space, now), &bytes),
        answer,
    );
}

/// Removes at most `limit` answers of each key space that can't be found any more.
pub(crate) fn sweep(store: &mut dyn StoreMut, now: Instant, limit: usize) {
    for key_space in [CLIENT, NODE] {
        let Some(previous) = generation(key_space, now).checked_sub(1) else {
            continue;
        };
        let from = key(key_space, 0, &[0; 16]);
        let end = key(key_space, previous, &[0; 16]);
        for (expired, _) in store.scan(&from, &end, Order::Ascending, limit) {
            store.delete(&expired);
        }
    }
}
