//! Keys for access tokens, by id, so oldest first.
//!
//! Key: `0x07`, key 8. Value: [`SigningKey`].

use super::super::account::SigningKey;
use super::super::ids::KeyId;
use super::super::store::{Order, Store, StoreMut};

const KIND: u8 = 0x07;

fn key(id: KeyId) -> Vec<u8> {
    super::key(KIND, &[&id.number().to_be_bytes()])
}

/// Writes the record under its own id.
pub(crate) fn put(store: &mut dyn StoreMut, signing_key: &SigningKey) {
    super::put(store, &key(signing_key.id), signing_key);
}

/// Removes a record.
pub(crate) fn delete(store: &mut dyn StoreMut, id: KeyId) {
    store.delete(&key(id));
}

/// Reads one.
pub(crate) fn get(store: &dyn Store, id: KeyId) -> Option<SigningKey> {
    super::get(store, &key(id))
}

/// All records, oldest first; apply keeps them few.
pub(crate) fn all(store: &dyn Store) -> Vec<SigningKey> {
    let pairs = store.scan(
        &[KIND],
        &super::after(&[KIND]),
        Order::Ascending,
        usize::MAX,
    );
    pairs
        .iter()
        .map(|(key, value)| super::read(key, value))
        .collect()
}
