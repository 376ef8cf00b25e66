//! Spaces, by id.
//!
//! Key: `0x10`, space 8. Value: [`Space`].

use super::super::ids::SpaceId;
use super::super::layout::Space;
use super::super::store::{Order, Store, StoreMut};

const KIND: u8 = 0x10;

fn key(id: SpaceId) -> Vec<u8> {
    super::key(KIND, &[&id.number().to_be_bytes()])
}

/// The record, if there is one.
pub(crate) fn get(store: &dyn Store, id: SpaceId) -> Option<Space> {
    super::get(store, &key(id))
}

/// Writes the record under its own id.
pub(crate) fn put(store: &mut dyn StoreMut, space: &Space) {
    super::put(store, &key(space.id), space);
}

/// At most `limit` records in order of id, those after `after`.
pub(crate) fn list(store: &dyn Store, after: Option<SpaceId>, limit: usize) -> Vec<Space> {
    let mut from = key(after.unwrap_or(SpaceId::from_number(0)));
    if after.is_some() {
        from.push(0);
    }
    let pairs = store.scan(&from, &super::after(&[KIND]), Order::Ascending, limit);
    pairs
        .iter()
        .map(|(key, value)| super::read(key, value))
        .collect()
}
