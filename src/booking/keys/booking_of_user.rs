//! The bookings that a user ever made.
//!
//! Key: `0x21`, user 8, booking 8. Value: empty.

use super::super::ids::{BookingId, UserId};
use super::super::store::{Order, Store, StoreMut};

const KIND: u8 = 0x21;

fn key(user: UserId, booking: BookingId) -> Vec<u8> {
    super::key(
        KIND,
        &[
            &user.number().to_be_bytes(),
            &booking.number().to_be_bytes(),
        ],
    )
}

/// Adds a booking.
pub(crate) fn put(store: &mut dyn StoreMut, user: UserId, booking: BookingId) {
    store.put(&key(user, booking), Vec::new());
}

/// At most `limit` bookings, newest first, those older than `before`.
pub(crate) fn newest(
    store: &dyn Store,
    user: UserId,
    before: Option<BookingId>,
    limit: usize,
) -> Vec<BookingId> {
    let prefix = super::key(KIND, &[&user.number().to_be_bytes()]);
    let end = before.map_or_else(|| super::after(&prefix), |booking| key(user, booking));
    let pairs = store.scan(&prefix, &end, Order::Descending, limit);
    let id = |key: &[u8]| BookingId::from_number(super::number_at(key, 9));
    pairs.iter().map(|(key, _)| id(key)).collect()
}
