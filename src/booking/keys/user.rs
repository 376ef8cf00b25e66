//! Accounts, by id.
//!
//! Key: `0x01`, user 8. Value: [`User`].

use super::super::account::User;
use super::super::ids::UserId;
use super::super::store::{Order, Store, StoreMut};

const KIND: u8 = 0x01;

fn key(id: UserId) -> Vec<u8> {
    super::key(KIND, &[&id.number().to_be_bytes()])
}

/// The record, if there is one.
pub(crate) fn get(store: &dyn Store, id: UserId) -> Option<User> {
    super::get(store, &key(id))
}

/// Writes the record under its own id.
pub(crate) fn put(store: &mut dyn StoreMut, user: &User) {
    super::put(store, &key(user.id), user);
}

/// At most `limit` records in order of id, those after `after`.
pub(crate) fn list(store: &dyn Store, after: Option<UserId>, limit: usize) -> Vec<User> {
    let mut from = key(after.unwrap_or(UserId::from_number(0)));
    if after.is_some() {
        from.push(0);
    }
    let pairs = store.scan(&from, &super::after(&[KIND]), Order::Ascending, limit);
    pairs
        .iter()
        .map(|(key, value)| super::read(key, value))
        .collect()
}
