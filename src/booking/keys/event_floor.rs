//! Up to which index the events of a space have been removed.
//!
//! Key: `0x31`, space 8. Value: log index. Whoever has seen that index has missed nothing.

use super::super::ids::SpaceId;
use super::super::store::{Store, StoreMut};

const KIND: u8 = 0x31;

fn key(space: SpaceId) -> Vec<u8> {
    super::key(KIND, &[&space.number().to_be_bytes()])
}

/// The index of the last event that was removed; 0 if none was.
pub(crate) fn get(store: &dyn Store, space: SpaceId) -> u64 {
    super::get(store, &key(space)).unwrap_or(0)
}

/// Notes that events up to an index are gone.
pub(crate) fn put(store: &mut dyn StoreMut, space: SpaceId, index: u64) {
    super::put(store, &key(space), &index);
}
