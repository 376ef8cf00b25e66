//! Events of a space, in the order in which they happened.
//!
//! Key: `0x30`, space 8, log index 8, ordinal within the entry 2. Value: [`Event`].

use super::super::ids::SpaceId;
use super::super::reservation::Event;
use super::super::store::{Order, Store, StoreMut};

const KIND: u8 = 0x30;

fn key(space: SpaceId, index: u64, ordinal: u16) -> Vec<u8> {
    let numbers = [space.number(), index].map(u64::to_be_bytes);
    super::key(KIND, &[&numbers[0], &numbers[1], &ordinal.to_be_bytes()])
}

fn end(space: SpaceId) -> Vec<u8> {
    super::after(&super::key(KIND, &[&space.number().to_be_bytes()]))
}

/// Adds an event.
pub(crate) fn put(store: &mut dyn StoreMut, space: SpaceId, event: &Event) {
    super::put(store, &key(space, event.index, event.ordinal), event);
}

/// Removes an event.
pub(crate) fn delete(store: &mut dyn StoreMut, space: SpaceId, event: &Event) {
    store.delete(&key(space, event.index, event.ordinal));
}

/// At most `limit` events, in order, from the one at `index` and `ordinal` on.
pub(crate) fn from(
    store: &dyn Store,
    space: SpaceId,
    (index, ordinal): (u64, u16),
    limit: usize,
) -> Vec<Event> {
    let pairs = store.scan(
        &key(space, index, ordinal),
        &end(space),
        Order::Ascending,
        limit,
    );
    pairs
        .iter()
        .map(|(key, value)| super::read(key, value))
        .collect()
}

/// The newest event.
pub(crate) fn newest(store: &dyn Store, space: SpaceId) -> Option<Event> {
    let pairs = store.scan(&key(space, 0, 0), &end(space), Order::Descending, 1);
    pairs.first().map(|(key, value)| super::read(key, value))
}
