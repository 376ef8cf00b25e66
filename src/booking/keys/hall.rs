//! Halls, by space, oldest first.
//!
//! Key: `0x12`, space 8, hall 8. Value: [`Hall`].

use super::super::ids::{HallId, SpaceId};
use super::super::layout::Hall;
use super::super::store::{Order, Store, StoreMut};

const KIND: u8 = 0x12;

fn key(space: SpaceId, hall: HallId) -> Vec<u8> {
    super::key(
        KIND,
        &[&space.number().to_be_bytes(), &hall.number().to_be_bytes()],
    )
}

/// The record, if there is one.
pub(crate) fn get(store: &dyn Store, space: SpaceId, hall: HallId) -> Option<Hall> {
    super::get(store, &key(space, hall))
}

/// Writes the record under its own ids.
pub(crate) fn put(store: &mut dyn StoreMut, hall: &Hall) {
    super::put(store, &key(hall.space, hall.id), hall);
}

/// All halls of a space, oldest first; apply keeps them few.
pub(crate) fn of_space(store: &dyn Store, space: SpaceId) -> Vec<Hall> {
    let prefix = super::key(KIND, &[&space.number().to_be_bytes()]);
    let pairs = store.scan(
        &prefix,
        &super::after(&prefix),
        Order::Ascending,
        usize::MAX,
    );
    pairs
        .iter()
        .map(|(key, value)| super::read(key, value))
        .collect()
}
