//! Desks, by id.
//!
//! Key: `0x14`, desk 8. Value: [`Desk`].

use super::super::ids::DeskId;
use super::super::layout::Desk;
use super::super::store::{Store, StoreMut};

const KIND: u8 = 0x14;

fn key(id: DeskId) -> Vec<u8> {
    super::key(KIND, &[&id.number().to_be_bytes()])
}

/// The record, if there is one.
pub(crate) fn get(store: &dyn Store, id: DeskId) -> Option<Desk> {
    super::get(store, &key(id))
}

/// Writes the record under its own id.
pub(crate) fn put(store: &mut dyn StoreMut, desk: &Desk) {
    super::put(store, &key(desk.id), desk);
}
