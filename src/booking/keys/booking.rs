//! Bookings, by id: active, past and cancelled ones.
//!
//! Key: `0x20`, booking 8. Value: [`Booking`].

use super::super::ids::BookingId;
use super::super::reservation::Booking;
use super::super::store::{Store, StoreMut};

const KIND: u8 = 0x20;

fn key(id: BookingId) -> Vec<u8> {
    super::key(KIND, &[&id.number().to_be_bytes()])
}

/// The record, if there is one.
pub(crate) fn get(store: &dyn Store, id: BookingId) -> Option<Booking> {
    super::get(store, &key(id))
}

/// Writes the record under its own id.
pub(crate) fn put(store: &mut dyn StoreMut, booking: &Booking) {
    super::put(store, &key(booking.id), booking);
}
