//! In which space a hall is.
//!
//! Key: `0x13`, hall 8. Value: [`SpaceId`].

use super::super::ids::{HallId, SpaceId};
use super::super::store::{Store, StoreMut};

const KIND: u8 = 0x13;

fn key(hall: HallId) -> Vec<u8> {
    super::key(KIND, &[&hall.number().to_be_bytes()])
}

/// The hall's space.
pub(crate) fn get(store: &dyn Store, hall: HallId) -> Option<SpaceId> {
    super::get(store, &key(hall))
}

/// Notes the hall's space, which never changes.
pub(crate) fn put(store: &mut dyn StoreMut, hall: HallId, space: SpaceId) {
    super::put(store, &key(hall), &space);
}
