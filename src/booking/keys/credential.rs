//! What passwords are checked against, by user.
//!
//! Key: `0x03`, user 8. Value: [`Credential`].

use super::super::account::Credential;
use super::super::ids::UserId;
use super::super::store::{Store, StoreMut};

const KIND: u8 = 0x03;

fn key(id: UserId) -> Vec<u8> {
    super::key(KIND, &[&id.number().to_be_bytes()])
}

/// The record, if there is one.
pub(crate) fn get(store: &dyn Store, id: UserId) -> Option<Credential> {
    super::get(store, &key(id))
}

/// Writes a user's record.
pub(crate) fn put(store: &mut dyn StoreMut, id: UserId, credential: &Credential) {
    super::put(store, &key(id), credential);
}

/// Removes a user's record.
pub(crate) fn delete(store: &mut dyn StoreMut, id: UserId) {
    store.delete(&key(id));
}
