//! Bookings, and the events that tell others about them.

use super::ids::{BookingId, DeskId, HallId, SpaceId, UserId};
use super::instant::{Instant, Interval};
use serde::{Deserialize, Serialize};

/// One user, one desk, one or more consecutive slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booking {
    /// Assigned when it was made.
    pub id: BookingId,
    /// Whose it is.
    pub user: UserId,
    /// Where the desk is.
    pub space: SpaceId,
    /// In which hall.
    pub hall: HallId,
    /// The desk.
    pub desk: DeskId,
    /// From when to when.
    pub interval: Interval,
    /// How many slots of the space's grid that was when it was placed.
    pub slots: u16,
    /// When it was made.
    pub created_at: Instant,
    /// When it was cancelled, if it was.
    pub cancelled_at: Option<Instant>,
    /// Counts changes of this record, from 1: the entity tag.
    pub version: u32,
    /// The log index of the last change.
    pub index: u64,
}

/// What has become of a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BookingStatus {
    /// It holds its desk, and hasn't ended.
    Active,
    /// It ended and wasn't cancelled.
    Past,
    /// It was cancelled; its desk is free.
    Cancelled,
}

impl Booking {
    /// The status at a moment. It is computed, not stored: the mere passing of time changes no
    /// record.
    #[must_use]
    pub fn status(&self, now: Instant) -> BookingStatus {
        if self.cancelled_at.is_some() {
            BookingStatus::Cancelled
        } else if self.interval.ends() <= now {
            BookingStatus::Past
        } else {
            BookingStatus::Active
        }
    }
}

/// Something that those who look at a space want to see at once. Says nothing about people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The log index that brought it about.
    pub index: u64,
    /// Its place among the events of that index.
    pub ordinal: u16,
    /// When.
    pub at: Instant,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A desk was taken.
    Booked {
        /// The booking.
        booking: BookingId,
        /// The desk it holds now.
        desk: DeskId,
        /// For when.
        interval: Interval,
    },
    /// A booking changed its desk or its time within the space.
    Moved {
        /// The booking.
        booking: BookingId,
        /// The desk it held.
        from_desk: DeskId,
        /// For when it held that.
        from: Interval,
        /// The desk it holds now.
        to_desk: DeskId,
        /// For when it holds that.
        to: Interval,
    },
    /// A desk became free again.
    Cancelled {
        /// The booking.
        booking: BookingId,
        /// The desk it held.
        desk: DeskId,
        /// For when.
        interval: Interval,
    },
    /// Many bookings came at once; look at the whole availability again.
    Imported {
        /// How many.
        bookings: u32,
    },
    /// A desk was made, changed, switched on or off.
    DeskChanged {
        /// Which.
        desk: DeskId,
    },
    /// A hall was made or changed.
    HallChanged {
        /// Which.
        hall: HallId,
    },
    /// The space itself was made or changed: name, hours, rules, open or not.
    SpaceChanged,
}

/// How much of everything there is, kept up to date by apply so that metrics needn't count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Accounts that aren't erased.
    pub users: u64,
    /// Sessions that are open, or expired and not yet swept away.
    pub sessions: u64,
    /// Spaces.
    pub spaces: u64,
    /// Halls.
    pub halls: u64,
    /// Desks, the inactive ones included.
    pub desks: u64,
    /// Bookings that aren't cancelled, the past ones included.
    pub bookings: u64,
    /// Bookings that are cancelled.
    pub bookings_cancelled: u64,
}
