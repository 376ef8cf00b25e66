//! The sessions of a user, oldest first.
//!
//! Key: `0x06`, user 8, session 8. Value: empty.

use super::super::ids::{SessionId, UserId};
use super::super::store::{Order, Store, StoreMut};

const KIND: u8 = 0x06;

fn key(user: UserId, session: SessionId) -> Vec<u8> {
    super::key(
        KIND,
        &[
            &user.number().to_be_bytes(),
            &session.number().to_be_bytes(),
        ],
    )
}

/// Adds a session.
pub(crate) fn put(store: &mut dyn StoreMut, user: UserId, session: SessionId) {
    store.put(&key(user, session), Vec::new());
}

/// Removes a session.
pub(crate) fn delete(store: &mut dyn StoreMut, user: UserId, session: SessionId) {
    store.delete(&key(user, session));
}

/// All sessions of a user, oldest first; apply keeps them few.
pub(crate) fn all(store: &dyn Store, user: UserId) -> Vec<SessionId> {
    let prefix = super::key(KIND, &[&user.number().to_be_bytes()]);
    let pairs = store.scan(
        &prefix,
        &super::after(&prefix),
        Order::Ascending,
        usize::MAX,
    );
    let id = |key: &[u8]| SessionId::from_number(super::number_at(key, 9));
    pairs.iter().map(|(key, _)| id(key)).collect()
}
