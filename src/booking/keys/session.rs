//! Sessions, by id.
//!
//! Key: `0x04`, session 8. Value: [`Session`].

use super::super::account::Session;
use super::super::ids::SessionId;
use super::super::store::{Store, StoreMut};

const KIND: u8 = 0x04;

fn key(id: SessionId) -> Vec<u8> {
    super::key(KIND, &[&id.number().to_be_bytes()])
}

/// The record, if there is one.
pub(crate) fn get(store: &dyn Store, id: SessionId) -> Option<Session> {
    super::get(store, &key(id))
}

/// Writes the record under its own id.
pub(crate) fn put(store: &mut dyn StoreMut, session: &Session) {
    super::put(store, &key(session.id), session);
}

/// Removes a record.
pub(crate) fn delete(store: &mut dyn StoreMut, id: SessionId) {
    store.delete(&key(id));
}
