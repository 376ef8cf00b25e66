//! The desks of a space, hall by hall, oldest first.
//!
//! Key: `0x15`, space 8, hall 8, desk 8. Value: empty.

use super::super::ids::{DeskId, HallId, SpaceId};
use super::super::store::{Order, Store, StoreMut};

const KIND: u8 = 0x15;

/// Adds a desk, which never leaves its hall.
pub(crate) fn put(store: &mut dyn StoreMut, space: SpaceId, hall: HallId, desk: DeskId) {
    let numbers = [space.number(), hall.number(), desk.number()].map(u64::to_be_bytes);
    store.put(
        &super::key(KIND, &[&numbers[0], &numbers[1], &numbers[2]]),
        Vec::new(),
    );
}

/// The desks of a space.
pub(crate) fn of_space(store: &dyn Store, space: SpaceId) -> Vec<DeskId> {
    scan(store, &super::key(KIND, &[&space.number().to_be_bytes()]))
}

/// The desks of a hall.
pub(crate) fn of_hall(store: &dyn Store, space: SpaceId, hall: HallId) -> Vec<DeskId> {
    let numbers = [space.number(), hall.number()].map(u64::to_be_bytes);
    scan(store, &super::key(KIND, &[&numbers[0], &numbers[1]]))
}

/// Apply keeps the desks of a hall and the halls of a space few.
fn scan(store: &dyn Store, prefix: &[u8]) -> Vec<DeskId> {
    let pairs = store.scan(prefix, &super::after(prefix), Order::Ascending, usize::MAX);
    let id = |key: &[u8]| DeskId::from_number(super::number_at(key, 17));
    pairs.iter().map(|(key, _)| id(key)).collect()
}
