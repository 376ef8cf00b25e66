//! What the state machine answers.
//!
//! A refusal is an answer like any other: it is decided in the log's order, the same on every
//! replica, and remembered under the command's key.

use super::account::User;
use super::codec;
use super::ids::{BookingId, DeskId, HallId, KeyId, SessionId, SpaceId, UserId, ZoneId};
use super::instant::{Instant, Interval};
use super::reservation::Booking;
use serde::{Deserialize, Serialize};

/// The most refused rows that an import's answer names.
pub const MAX_IMPORT_REFUSALS: usize = 32;

/// An answer, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The log index at which it was decided: an earlier one than the entry's own if replayed.
    pub index: u64,
    /// The command had been answered before; this is that answer.
    pub replayed: bool,
    /// The answer.
    pub result: Result<Outcome, Refusal>,
}

impl Reply {
    /// The bytes that apply returns.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

/// Reads the bytes that apply returned.
///
/// # Errors
/// They aren't exactly one reply of a known version.
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, codec::DecodeError> {
    codec::decode(bytes)
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is so now, and there is nothing to tell.
    Done,
    /// The key that signs now.
    SigningKey(KeyId),
    /// The account as it is now.
    User(User),
    /// The account is erased.
    Erased {
        /// How many upcoming bookings were cancelled.
        bookings_cancelled: u32,
        /// More are left than one entry may cancel: ask again.
        more: bool,
    },
    /// The session is open, or goes on.
    Session {
        /// Which.
        id: SessionId,
        /// Whose.
        user: UserId,
        /// When it ends unless refreshed before.
        expires_at: Instant,
    },
    /// The space was made or changed.
    Space {
        /// Which.
        id: SpaceId,
        /// Its revision now.
        schedule_revision: u32,
    },
    /// The hall was made or changed.
    Hall {
        /// Which.
        id: HallId,
        /// Its zones, in the order of the draft.
        zones: Vec<ZoneId>,
        /// Its version now.
        version: u32,
    },
    /// The desks were made or changed, in the order of the command.
    Desks(Vec<DeskId>),
    /// The booking as it is now.
    Booking(Booking),
    /// What became of the rows.
    Imported {
        /// How many were booked.
        accepted: u32,
        /// How many were not.
        refused: u32,
        /// The first [`MAX_IMPORT_REFUSALS`] that weren't: the row's number from 0, and why.
        first_refusals: Vec<(u16, Refusal)>,
    },
}

/// Why nothing was done. In order of precedence: if several hold, the first is the answer. (What was added later stands
/// at the end, so that the bytes of the others stay as they are, and says where it belongs.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The bytes aren't a command of a known version, or its parts contradict each other.
    #[error("not a command that this version understands")]
    BadCommand,
    /// The key was used before for another request.
    #[error("this idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// The caller may not do that (rule 1), or is barred or erased.
    #[error("the caller may not do that")]
    Forbidden,
    /// There is no such thing, or it is none of the caller's business.
    #[error("there is no such {0}")]
    NotFound(Kind),
    /// It has been changed meanwhile.
    #[error("it has been changed meanwhile and has version {current} now")]
    VersionMismatch {
        /// The version now.
        current: u32,
    },
    /// A field is out of bounds.
    #[error("{0}")]
    Invalid(Invalid),
    /// Another account has that address.
    #[error("this e-mail address has an account already")]
    EmailTaken,
    /// Another space has that slug.
    #[error("another space has this slug")]
    SlugTaken,
    /// Another desk of the hall has that label.
    #[error("another desk of this hall has this label")]
    LabelTaken,
    /// A zone with desks can't be removed.
    #[error("the zone still has desks")]
    ZoneInUse,
    /// There are as many as there may be.
    #[error("there are as many of these as there may be: {max}")]
    Full {
        /// The limit.
        max: u32,
    },
    /// No session has that refresh token, or it has expired.
    #[error("no open session has this refresh token")]
    SessionUnknown,
    /// That refresh token was exchanged before: the session is closed.
    #[error("this refresh token was used before; the session is closed")]
    RefreshTokenReused,
    /// A cancelled booking can't be moved.
    #[error("the booking is cancelled")]
    BookingCancelled,
    /// The booking's first slot has started: it can't be moved or cancelled any more.
    #[error("the booking has already started")]
    AlreadyStarted,
    /// The space takes no bookings (rule 2).
    #[error("the space is not open for booking")]
    SpaceClosed,
    /// The desk is switched off (rule 2).
    #[error("the desk is not in use")]
    DeskInactive,
    /// The space's schedule has changed since the interval was placed. The proposer places it
    /// anew and tries again with the same key; this answer is not remembered.
    #[error("the space's schedule has changed to revision {current}")]
    StaleSchedule {
        /// The revision now.
        current: u32,
    },
    /// The interval doesn't begin and end on slots' edges (rule 3).
    #[error("the interval is not made of whole slots")]
    OffGrid,
    /// It reaches outside the opening hours (rule 3).
    #[error("the interval reaches outside the opening hours")]
    OutsideOpeningHours,
    /// The space is closed on that date (rule 3).
    #[error("the space is closed on that date")]
    Closed,
    /// It has started (rule 4).
    #[error("the interval has already started")]
    InThePast,
    /// It starts sooner than the space's minimum notice (rule 5).
    #[error("bookings must be made earlier")]
    TooShortNotice,
    /// It lies further ahead than the space allows (rule 5).
    #[error("the interval is too far ahead")]
    TooFarAhead,
    /// It is longer than the space allows (rule 5).
    #[error("the booking is too long")]
    TooLong,
    /// The user would have more than the space allows (rule 5).
    #[error("the user has booked as much as the space allows: {0}")]
    QuotaExceeded(Quota),
    /// Someone has the desk (rule 6).
    #[error("the desk is taken")]
    SlotTaken {
        /// For when the first of those in the way has it.
        taken: Interval,
    },
    /// The user is somewhere else then (rule 7).
    #[error("the user has another booking at that time")]
    UserAlreadyBooked {
        /// The first of those in the way.
        booking: BookingId,
    },
    /// Another hall of the space has that name. Comes before [`Self::LabelTaken`].
    #[error("another hall of this space has this name")]
    NameTaken,
}

impl Refusal {
    /// The stable code, in snake case. Not-found kinds share `not_found`, fields out of bounds
    /// share `invalid`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::BadCommand => "bad_command",
            Refusal::IdempotencyKeyReused => "idempotency_key_reused",
            Refusal::Forbidden => "forbidden",
            Refusal::NotFound(_) => "not_found",
            Refusal::VersionMismatch { .. } => "version_mismatch",
            Refusal::Invalid(_) => "invalid",
            Refusal::EmailTaken => "email_taken",
            Refusal::SlugTaken => "slug_taken",
            Refusal::LabelTaken => "label_taken",
            Refusal::ZoneInUse => "zone_in_use",
            Refusal::Full { .. } => "full",
            Refusal::SessionUnknown => "session_unknown",
            Refusal::RefreshTokenReused => "refresh_token_reused",
            Refusal::BookingCancelled => "booking_cancelled",
            Refusal::AlreadyStarted => "already_started",
            Refusal::SpaceClosed => "space_closed",
            Refusal::DeskInactive => "desk_inactive",
            Refusal::StaleSchedule { .. } => "stale_schedule",
            Refusal::OffGrid => "off_grid",
            Refusal::OutsideOpeningHours => "outside_opening_hours",
            Refusal::Closed => "closed",
            Refusal::InThePast => "in_the_past",
            Refusal::TooShortNotice => "too_short_notice",
            Refusal::TooFarAhead => "too_far_ahead",
            Refusal::TooLong => "too_long",
            Refusal::QuotaExceeded(_) => "quota_exceeded",
            Refusal::SlotTaken { .. } => "slot_taken",
            Refusal::UserAlreadyBooked { .. } => "user_already_booked",
            Refusal::NameTaken => "name_taken",
        }
    }
}

/// What there is none of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A user.
    User,
    /// A session.
    Session,
    /// A space.
    Space,
    /// A hall.
    Hall,
    /// A zone.
    Zone,
    /// A desk.
    Desk,
    /// A booking.
    Booking,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::User => "user",
            Kind::Session => "session",
            Kind::Space => "space",
            Kind::Hall => "hall",
            Kind::Zone => "zone",
            Kind::Desk => "desk",
            Kind::Booking => "booking",
        })
    }
}

/// Which limit of a user's bookings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quota {
    /// Bookings that haven't ended.
    OpenBookings {
        /// The limit.
        max: u16,
    },
    /// Hours in a local week.
    HoursPerWeek {
        /// The limit.
        max: u16,
    },
}

impl std::fmt::Display for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Quota::OpenBookings { max } => write!(f, "{max} open bookings"),
            Quota::HoursPerWeek { max } => write!(f, "{max} hours a week"),
        }
    }
}

/// A field out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Invalid {
    /// Not 15 to 1440.
    #[error("a slot has 15 to 1440 minutes")]
    SlotMinutes,
    /// Too many, or not in order of date with each date once.
    #[error("closures must be at most 50, in order, each date once")]
    Closures,
    /// More than 31 days.
    #[error("the minimum notice is at most 31 days")]
    MinimumNotice,
    /// More than 366.
    #[error("days ahead are at most 366")]
    DaysAhead,
    /// Zero.
    #[error("the longest booking has at least one slot")]
    LongestSlots,
    /// A side of the plan isn't 1 to 10,000.
    #[error("a plan's sides are 1 to 10000")]
    PlanSize,
    /// Too many walls, or one off the plan.
    #[error("walls must be at most 160 and lie on the plan")]
    Walls,
    /// Too many labels, or one off the plan.
    #[error("labels must be at most 30 and lie on the plan")]
    PlanLabels,
    /// Too many zones, or two of one name.
    #[error("zones must be at most 20, each with a name of its own")]
    Zones,
    /// None, or more than 64, or one twice.
    #[error("desks come 1 to 64 at once, each once")]
    DeskCount,
    /// Off the plan.
    #[error("a desk must stand on the plan")]
    DeskPosition,
    /// 360 or more.
    #[error("a rotation is 0 to 359 degrees")]
    DeskRotation,
    /// Too many.
    #[error("a desk has at most 12 features")]
    DeskFeatures,
    /// Zero, or more than 90 days.
    #[error("a session lasts at most 90 days")]
    SessionTtl,
    /// More than 500.
    #[error("rows come at most 500 at once")]
    ImportRows,
}

impl Invalid {
    /// The field, as the commands name it.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Invalid::SlotMinutes => "slot_minutes",
            Invalid::Closures => "closures",
            Invalid::MinimumNotice => "minimum_notice_minutes",
            Invalid::DaysAhead => "days_ahead",
            Invalid::LongestSlots => "longest_slots",
            Invalid::PlanSize => "plan",
            Invalid::Walls => "walls",
            Invalid::PlanLabels => "labels",
            Invalid::Zones => "zones",
            Invalid::DeskCount => "desks",
            Invalid::DeskPosition => "at",
            Invalid::DeskRotation => "rotation_degrees",
            Invalid::DeskFeatures => "features",
            Invalid::SessionTtl => "ttl_ms",
            Invalid::ImportRows => "rows",
        }
    }
}
