//! What clients saw.
//!
//! A history is whole for its desks and users: whatever anybody does to their bookings is in it. Clients name only
//! bookings that they were shown before, by an answer in it.
//!
//! Times are ticks of any clock that all clients of a history share, real or simulated, the finer the better: an answer
//! and a call at the same tick count as concurrent, which weakens the check. A counter that grows with each event is the
//! best of all.

use std::sync::Arc;

/// The name of a user, a desk, a booking or an idempotency key: visible characters but none of `, ; : =`, and no spaces.
pub(crate) type Id = Arc<str>;

/// All that clients saw in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// In any order.
    pub(crate) records: Vec<Record>,
}

/// One request of one client. Each try under an idempotency key may be a record of its own, or all of them one record
/// from the first call to the first answer that settled it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Which client; for people who read the history.
    pub(crate) client: u64,
    /// When it asked, in ticks.
    pub(crate) call: u64,
    /// `Mesto-Min-Index`, if it sent one.
    pub(crate) min_index: Option<u64>,
    /// What it asked.
    pub(crate) action: Action,
    /// What it was told. `None` is unknown: a time-out, a broken connection, a problem with `outcome: unknown`. The
    /// action may take effect at any later time, or never.
    pub(crate) answer: Option<Answer>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// When it came, in ticks; not before the call.
    pub(crate) at: u64,
    /// `Mesto-Index`, if it carried one.
    pub(crate) index: Option<u64>,
    /// What it said.
    pub(crate) outcome: Outcome,
}

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A booking of consecutive slots. Slots are named by when they start, in any unit.
    Create {
        /// For whom.
        user: Id,
        /// Of which desk.
        desk: Id,
        /// Of which slots; at least one.
        slots: Vec<u64>,
        /// The idempotency key.
        key: Option<Id>,
    },
    /// The end of a booking.
    Cancel {
        /// Whose.
        user: Id,
        /// Which.
        booking: Id,
        /// The idempotency key.
        key: Option<Id>,
    },
    /// A booking's move to another place.
    Move {
        /// Whose.
        user: Id,
        /// Which.
        booking: Id,
        /// To which desk.
        desk: Id,
        /// To which slots; at least one.
        slots: Vec<u64>,
        /// The idempotency key.
        key: Option<Id>,
    },
    /// Which of these desks are free in which of these slots? Slots that had started are left out by who records.
    Availability {
        /// Whether any state would do (`consistency=local`).
        local: bool,
        /// The desks asked about.
        desks: Vec<Id>,
        /// The slots asked about.
        slots: Vec<u64>,
    },
    /// All active bookings of a user.
    List {
        /// Whether any state would do.
        local: bool,
        /// Whose.
        user: Id,
    },
    /// One booking.
    Get {
        /// Whether any state would do.
        local: bool,
        /// Whose.
        user: Id,
        /// Which.
        booking: Id,
    },
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The booking that was made, cancelled, moved or asked for, as it is after that.
    Booking(Sight),
    /// Each desk and slot that is free, of those asked about.
    Free(Vec<(Id, u64)>),
    /// The user's active bookings: all of them, seen at one moment (one page), if `whole`.
    Bookings {
        /// What was listed.
        items: Vec<Sight>,
        /// Whether there are no others.
        whole: bool,
    },
    /// A no.
    Refused(Refusal),
}

/// A booking as somebody saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Which.
    pub(crate) booking: Id,
    /// Of which desk.
    pub(crate) desk: Id,
    /// Of which slots.
    pub(crate) slots: Vec<u64>,
    /// Whether it is not cancelled.
    pub(crate) active: bool,
    /// How often it was changed, from 1.
    pub(crate) version: u64,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `slot_taken`: of the wanted slots, those that the booking in the way covers, as far as the answer tells.
    SlotTaken(Vec<u64>),
    /// `user_already_booked`.
    UserBooked,
    /// `booking_cancelled`.
    BookingCancelled,
    /// `version_mismatch`, and which version it has.
    Version(u64),
    /// `not_found`.
    NotFound,
    /// Another decision of the booking rules: nothing happened, and the key, if any, is used up.
    Other,
    /// A promise that this try did nothing and is not remembered (`outcome: not_applied` of a node in trouble).
    NotApplied,
}

impl Action {
    /// Whether it is a read that any state may answer.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Availability { local, .. }
            | Self::List { local, .. }
            | Self::Get { local, .. } => *local,
            Self::Create { .. } | Self::Cancel { .. } | Self::Move { .. } => false,
        }
    }

    /// Whether it changes anything.
    pub(crate) fn is_write(&self) -> bool {
        match self {
            Self::Availability { .. } | Self::List { .. } | Self::Get { .. } => false,
            Self::Create { .. } | Self::Cancel { .. } | Self::Move { .. } => true,
        }
    }

    /// Whose action it is, if it is anybody's.
    pub(crate) fn user(&self) -> Option<&Id> {
        match self {
            Self::Create { user, .. }
            | Self::Cancel { user, .. }
            | Self::Move { user, .. }
            | Self::List { user, .. }
            | Self::Get { user, .. } => Some(user),
            Self::Availability { .. } => None,
        }
    }

    /// The idempotency key.
    pub(crate) fn key(&self) -> Option<&Id> {
        match self {
            Self::Create { key, .. } | Self::Cancel { key, .. } | Self::Move { key, .. } => {
                key.as_ref()
            }
            Self::Availability { .. } | Self::List { .. } | Self::Get { .. } => None,
        }
    }

    /// The booking that it names.
    pub(crate) fn booking(&self) -> Option<&Id> {
        match self {
            Self::Cancel { booking, .. }
            | Self::Move { booking, .. }
            | Self::Get { booking, .. } => Some(booking),
            Self::Create { .. } | Self::Availability { .. } | Self::List { .. } => None,
        }
    }
}

impl Outcome {
    /// The bookings that it shows.
    pub(crate) fn sights(&self) -> &[Sight] {
        match self {
            Self::Booking(sight) => std::slice::from_ref(sight),
            Self::Bookings { items, .. } => items,
            Self::Free(_) | Self::Refused(_) => &[],
        }
    }
}
