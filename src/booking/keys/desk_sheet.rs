//! Desk sheets: when a desk is taken on one UTC day.
//!
//! Key: `0x22`, space 8, UTC day 4, desk 8. Value: a sheet of [`Taken`], sorted by start: the
//! bookings, not cancelled, that touch the day, each with its whole interval. A booking across
//! midnight stands on both days' sheets. A desk without bookings on a day has no sheet.
//!
//! So whether a desk is free is one read for each day that the interval touches, and the
//! availability of a whole space on a day is one scan.

use super::super::ids::{BookingId, DeskId, SpaceId};
use super::super::instant::{Interval, UtcDay};
use super::super::store::{Order, Store, StoreMut};
use serde::{Deserialize, Serialize};

const KIND: u8 = 0x22;

/// A desk is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// From when to when.
    pub interval: Interval,
    /// By which booking.
    pub booking: BookingId,
}

fn key(space: SpaceId, day: UtcDay, desk: DeskId) -> Vec<u8> {
    let numbers = [space.number(), desk.number()].map(u64::to_be_bytes);
    super::key(
        KIND,
        &[&numbers[0], &day.number().to_be_bytes(), &numbers[1]],
    )
}

/// The sheet of a desk, in order of start.
pub(crate) fn get(store: &dyn Store, space: SpaceId, day: UtcDay, desk: DeskId) -> Vec<Taken> {
    super::get(store, &key(space, day, desk)).unwrap_or_default()
}

/// The sheets of all desks of a space that are taken at some time of the day, in order of desk.
pub(crate) fn of_day(store: &dyn Store, space: SpaceId, day: UtcDay) -> Vec<(DeskId, Vec<Taken>)> {
    let prefix = super::key(
        KIND,
        &[&space.number().to_be_bytes(), &day.number().to_be_bytes()],
    );
    let pairs = store.scan(
        &prefix,
        &super::after(&prefix),
        Order::Ascending,
        usize::MAX,
    );
    let row = |key: &[u8], value: &[u8]| {
        (
            DeskId::from_number(super::number_at(key, 13)),
            super::read(key, value),
        )
    };
    pairs.iter().map(|(key, value)| row(key, value)).collect()
}

/// Enters a booking on every day it touches.
///
/// # Panics
/// Another booking of the desk overlaps: the promise of the whole system is broken, and a replica
/// that sees that must stop rather than confirm it.
pub(crate) fn insert(store: &mut dyn StoreMut, space: SpaceId, desk: DeskId, taken: Taken) {
    for day in taken.interval.days() {
        let mut sheet = get(store, space, day, desk);
        assert!(
            sheet
                .iter()
                .all(|other| !other.interval.overlaps(taken.interval)),
            "{desk} would be booked twice, by {} and another, on UTC day {}",
            taken.booking,
            day.number()
        );
        let at = sheet.partition_point(|other| other.interval < taken.interval);
        sheet.insert(at, taken);
        super::put(store, &key(space, day, desk), &sheet);
    }
}

/// Takes a booking off every day it touches.
///
/// # Panics
/// It isn't there: sheets and bookings have come apart.
pub(crate) fn remove(store: &mut dyn StoreMut, space: SpaceId, desk: DeskId, taken: Taken) {
    for day in taken.interval.days() {
        let key = key(space, day, desk);
        let mut sheet = get(store, space, day, desk);
        let at = sheet.iter().position(|other| *other == taken);
        sheet.remove(at.expect("a booking that isn't cancelled stands on its desk's sheets"));
        if sheet.is_empty() {
            store.delete(&key);
        } else {
            super::put(store, &key, &sheet);
        }
    }
}
