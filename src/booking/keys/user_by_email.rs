//! Which account has an address: what keeps addresses unique.
//!
//! Key: `0x02`, the address in lower case. Value: [`UserId`].

use super::super::ids::UserId;
use super::super::store::{Store, StoreMut};
use super::super::text::Email;

const KIND: u8 = 0x02;

fn key(email: &Email) -> Vec<u8> {
    super::key(KIND, &[email.as_str().as_bytes()])
}

/// Whose the address is.
pub(crate) fn get(store: &dyn Store, email: &Email) -> Option<UserId> {
    super::get(store, &key(email))
}

/// Gives the address to a user.
pub(crate) fn put(store: &mut dyn StoreMut, email: &Email, user: UserId) {
    super::put(store, &key(email), &user);
}

/// Sets the address free.
pub(crate) fn delete(store: &mut dyn StoreMut, email: &Email) {
    store.delete(&key(email));
}
