//! User sheets: where a user is expected on one UTC day.
//!
//! Key: `0x23`, user 8, UTC day 4. Value: a sheet of [`Stay`], sorted by start: the user's
//! bookings, not cancelled, that touch the day, each with its whole interval.
//!
//! So whether a user is somewhere else is one read for each day that the interval touches, and
//! limits of open bookings and of hours a week are one short scan.

use super::super::ids::{BookingId, SpaceId, UserId};
use super::super::instant::{Interval, UtcDay};
use super::super::store::{Order, Store, StoreMut};
use serde::{Deserialize, Serialize};

const KIND: u8 = 0x23;

/// A user is expected in a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    /// From when to when.
    pub interval: Interval,
    /// By which booking.
    pub booking: BookingId,
    /// Where.
    pub space: SpaceId,
}

fn key(user: UserId, day: UtcDay) -> Vec<u8> {
    super::key(
        KIND,
        &[&user.number().to_be_bytes(), &day.number().to_be_bytes()],
    )
}

/// The sheet of a day, in order of start.
pub(crate) fn get(store: &dyn Store, user: UserId, day: UtcDay) -> Vec<Stay> {
    super::get(store, &key(user, day)).unwrap_or_default()
}

/// The stays on at most `max_days` sheets from a day on, in order, each once.
pub(crate) fn from_day(
    store: &dyn Store,
    user: UserId,
    first: UtcDay,
    max_days: usize,
) -> Vec<Stay> {
    let prefix = super::key(KIND, &[&user.number().to_be_bytes()]);
    let pairs = store.scan(
        &key(user, first),
        &super::after(&prefix),
        Order::Ascending,
        max_days,
    );
    let mut stays: Vec<Stay> = Vec::new();
    for (key, value) in &pairs {
        let sheet: Vec<Stay> = super::read(key, value);
        for stay in sheet {
            // A stay across midnight is the last of one sheet and the first of the next.
            if stays.last() != Some(&stay) {
                stays.push(stay);
            }
        }
    }
    stays
}

/// Enters a booking on every day it touches.
///
/// # Panics
/// Another booking of the user overlaps: rule 7 is broken.
pub(crate) fn insert(store: &mut dyn StoreMut, user: UserId, stay: Stay) {
    for day in stay.interval.days() {
        let mut sheet = get(store, user, day);
        assert!(
            sheet
                .iter()
                .all(|other| !other.interval.overlaps(stay.interval)),
            "{user} would be in two places at once, by {} and another, on UTC day {}",
            stay.booking,
            day.number()
        );
        let at = sheet.partition_point(|other| other.interval < stay.interval);
        sheet.insert(at, stay);
        super::put(store, &key(user, day), &sheet);
    }
}

/// Takes a booking off every day it touches.
///
/// # Panics
/// It isn't there: sheets and bookings have come apart.
pub(crate) fn remove(store: &mut dyn StoreMut, user: UserId, stay: Stay) {
    for day in stay.interval.days() {
        let mut sheet = get(store, user, day);
        let at = sheet.iter().position(|other| *other == stay);
        sheet.remove(at.expect("a booking that isn't cancelled stands on its user's sheets"));
        if sheet.is_empty() {
            store.delete(&key(user, day));
        } else {
            super::put(store, &key(user, day), &sheet);
        }
    }
}
