//! Bookings, availability and live changes on the wire.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Fields, show_instant, space::SpaceSummary};
use crate::{
    booking::{
        Interval,
        command::MAX_IMPORT_ROWS,
        ids::{BookingId, DeskId},
        layout::Desk,
        reservation::{BookingStatus, EventKind},
        text::TimeZoneName,
    },
    service::{
        Failure,
        availability::Availability,
        bookings::{ImportLine, Imported, Move, NewBooking, Shown},
        events::Change,
        schedule::Slot,
    },
};

/// A booking to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BookingRequest {
    /// The desk's id.
    #[schema(
        example = "dsk_0000000002000",
        pattern = "^dsk_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$"
    )]
    pub desk: String,
    /// From when: the start of a slot.
    #[schema(example = "2026-03-02T09:00:00+03:00", format = DateTime)]
    pub starts_at: String,
    /// Until when: the end of a slot. One slot if left out.
    #[serde(default)]
    #[schema(example = "2026-03-02T11:00:00+03:00", format = DateTime)]
    pub ends_at: Option<String>,
    /// For whom, by id; administrators only, oneself if left out.
    #[serde(default)]
    #[schema(pattern = "^usr_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")]
    pub user: Option<String>,
}

/// A change of a booking. What is left out stays; a new start without an end keeps the length.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BookingChange {
    /// To which desk.
    #[serde(default)]
    #[schema(pattern = "^dsk_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")]
    pub desk: Option<String>,
    /// From when.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub starts_at: Option<String>,
    /// Until when.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub ends_at: Option<String>,
}

/// Bookings to bring in, all of one space.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// The space, by id or slug.
    #[schema(example = "nevsky")]
    pub space: String,
    /// At most 500.
    #[schema(min_items = 1, max_items = 500)]
    pub bookings: Vec<ImportItem>,
}

/// A booking to bring in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportItem {
    /// For whom: an id or an e-mail address.
    #[schema(min_length = 1)]
    pub user: String,
    /// The desk's id.
    #[schema(pattern = "^dsk_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")]
    pub desk: String,
    /// From when.
    #[schema(format = DateTime)]
    pub starts_at: String,
    /// Until when; one slot if left out.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub ends_at: Option<String>,
}

/// What became of an import.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportBody {
    /// How many were booked.
    pub accepted: u32,
    /// How many were not.
    pub refused: u32,
    /// The first that were not.
    pub first_refusals: Vec<RefusedRow>,
}

/// A row that was not booked.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedRow {
    /// Its number, from 0.
    pub row: u16,
    /// Why, as the code of a problem.
    #[schema(example = "slot_taken")]
    pub code: String,
}

/// A booking.
#[derive(Debug, Serialize, ToSchema)]
pub struct BookingBody {
    /// Its id.
    #[schema(example = "bkg_0000000002000")]
    pub id: String,
    /// The space's id.
    pub space: String,
    /// The hall's id.
    pub hall: String,
    /// The desk's id.
    pub desk: String,
    /// What stands on the desk.
    #[schema(example = "A-12")]
    pub desk_label: String,
    /// The user's id.
    pub user: String,
    /// From when, in the space's local time.
    #[schema(format = DateTime)]
    pub starts_at: String,
    /// Until when, in the space's local time.
    #[schema(format = DateTime)]
    pub ends_at: String,
    /// The space's IANA time zone.
    pub time_zone: String,
    /// `active`, `past` or `cancelled`.
    #[schema(example = "active")]
    pub status: String,
    /// How many slots it covers.
    pub slots: u16,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was cancelled, if it was.
    #[schema(format = DateTime)]
    pub cancelled_at: Option<String>,
    /// The group it belongs to, if any.
    pub group: Option<String>,
    /// The series it belongs to, if any.
    pub series: Option<String>,
    /// Counts its changes; the `ETag` is `"v<version>"`.
    pub version: u32,
    /// The log index of its last change.
    pub index: u64,
}

/// What is free on one local day.
#[derive(Debug, Serialize, ToSchema)]
pub struct AvailabilityBody {
    /// The space.
    pub space: SpaceSummary,
    /// The local date.
    #[schema(example = "2026-03-02")]
    pub date: String,
    /// In whose local time.
    pub time_zone: String,
    /// The slots that have not started, in order.
    pub slots: Vec<SlotBody>,
    /// Desks with a free slot.
    pub desks: Vec<FreeDeskBody>,
}

/// A slot.
#[derive(Debug, Serialize, ToSchema)]
pub struct SlotBody {
    /// From when.
    #[schema(format = DateTime)]
    pub starts_at: String,
    /// Until when.
    #[schema(format = DateTime)]
    pub ends_at: String,
    /// The local start.
    #[schema(example = "09:00")]
    pub local: String,
}

/// A desk with a free slot.
#[derive(Debug, Serialize, ToSchema)]
pub struct FreeDeskBody {
    /// Its id.
    pub desk: String,
    /// What stands on it.
    pub label: String,
    /// The hall's id.
    pub hall: String,
    /// The zone's id, if it has one.
    pub zone: Option<String>,
    /// What it has.
    pub features: Vec<String>,
    /// Which slots are free: indexes into `slots`, from 0.
    pub free: Vec<usize>,
}

impl BookingRequest {
    /// The parsed booking.
    ///
    /// # Errors
    /// Names every field that is not what it should be.
    pub fn parse(&self) -> Result<NewBooking, Failure> {
        let mut fields = Fields::new();
        let desk = fields.parse("/desk", &self.desk);
        let starts_at = fields.instant("/starts_at", &self.starts_at);
        let ends_at = optional(self.ends_at.as_deref(), |text| {
            fields.instant("/ends_at", text)
        });
        let user = optional(self.user.as_deref(), |text| fields.parse("/user", text));
        let all = desk.zip(starts_at).zip(ends_at.zip(user));
        fields.finish(all.map(|((desk, starts_at), (ends_at, user))| NewBooking {
            user,
            desk,
            starts_at,
            ends_at,
        }))
    }
}

impl BookingChange {
    /// The parsed change.
    ///
    /// # Errors
    /// Names every field that is not what it should be; a change of nothing is one.
    pub fn parse(
        &self,
        booking: BookingId,
        expected_version: Option<u32>,
    ) -> Result<Move, Failure> {
        let mut fields = Fields::new();
        if self.desk.is_none() && self.starts_at.is_none() && self.ends_at.is_none() {
            fields.refuse("", "empty", "name a desk, a start or an end to move to");
        }
        let desk: Option<Option<DeskId>> =
            optional(self.desk.as_deref(), |text| fields.parse("/desk", text));
        let starts_at = optional(self.starts_at.as_deref(), |text| {
            fields.instant("/starts_at", text)
        });
        let ends_at = optional(self.ends_at.as_deref(), |text| {
            fields.instant("/ends_at", text)
        });
        let all = desk.zip(starts_at).zip(ends_at);
        fields.finish(all.map(|((desk, starts_at), ends_at)| Move {
            booking,
            desk,
            starts_at,
            ends_at,
            expected_version,
        }))
    }
}

impl ImportRequest {
    /// The parsed rows.
    ///
    /// # Errors
    /// Names every field that is not what it should be.
    pub fn parse(&self) -> Result<Vec<ImportLine>, Failure> {
        let mut fields = Fields::new();
        if !(1..=MAX_IMPORT_ROWS).contains(&self.bookings.len()) {
            fields.refuse(
                "/bookings",
                "out_of_range",
                format!("a page has 1 to {MAX_IMPORT_ROWS} bookings"),
            );
        }
        let rows = self.bookings.iter().enumerate().map(|(number, item)| {
            let at = format!("/bookings/{number}");
            let desk = fields.parse(&format!("{at}/desk"), &item.desk);
            let starts_at = fields.instant(&format!("{at}/starts_at"), &item.starts_at);
            let ends_at = optional(item.ends_at.as_deref(), |text| {
                fields.instant(&format!("{at}/ends_at"), text)
            });
            Some(ImportLine {
                user: item.user.clone(),
                desk: desk?,
                starts_at: starts_at?,
                ends_at: ends_at?,
            })
        });
        let rows: Option<Vec<ImportLine>> = rows.collect();
        fields.finish(rows)
    }
}

impl ImportBody {
    /// What became of an import.
    #[must_use]
    pub fn show(imported: &Imported) -> Self {
        let rows = imported.first_refusals.iter();
        let rows = rows.map(|(row, refusal)| RefusedRow {
            row: *row,
            code: refusal.code().to_owned(),
        });
        Self {
            accepted: imported.accepted,
            refused: imported.refused,
            first_refusals: rows.collect(),
        }
    }
}

impl BookingBody {
    /// A booking.
    #[must_use]
    pub fn show(shown: &Shown) -> Self {
        let (booking, zone) = (&shown.details.booking, &shown.details.time_zone);
        Self {
            id: booking.id.to_string(),
            space: booking.space.to_string(),
            hall: booking.hall.to_string(),
            desk: booking.desk.to_string(),
            desk_label: shown.details.desk_label.to_string(),
            user: booking.user.to_string(),
            starts_at: show_instant(booking.interval.starts(), zone),
            ends_at: show_instant(booking.interval.ends(), zone),
            time_zone: zone.to_string(),
            status: status_text(shown.status).to_owned(),
            slots: booking.slots,
            created_at: show_instant(booking.created_at, zone),
            cancelled_at: booking.cancelled_at.map(|at| show_instant(at, zone)),
            group: None,
            series: None,
            version: booking.version,
            index: booking.index,
        }
    }
}

impl AvailabilityBody {
    /// What is free.
    #[must_use]
    pub fn show(availability: &Availability, date: String) -> Self {
        let zone = &availability.space.details.time_zone;
        let slot = |slot: &Slot| SlotBody {
            starts_at: show_instant(slot.interval.starts(), zone),
            ends_at: show_instant(slot.interval.ends(), zone),
            local: slot.local(),
        };
        let desk = |(desk, free): &(Desk, Vec<usize>)| FreeDeskBody {
            desk: desk.id.to_string(),
            label: desk.label.to_string(),
            hall: desk.hall.to_string(),
            zone: desk.zone.map(|zone| zone.to_string()),
            features: desk.features.iter().map(ToString::to_string).collect(),
            free: free.clone(),
        };
        Self {
            date,
            time_zone: zone.to_string(),
            slots: availability.slots.iter().map(slot).collect(),
            desks: availability.desks.iter().map(desk).collect(),
            space: SpaceSummary::show(&availability.space),
        }
    }
}

/// How a status is written.
#[must_use]
pub fn status_text(status: BookingStatus) -> &'static str {
    match status {
        BookingStatus::Active => "active",
        BookingStatus::Past => "past",
        BookingStatus::Cancelled => "cancelled",
    }
}

/// The status that a text names.
#[must_use]
pub fn parse_status(text: &str) -> Option<BookingStatus> {
    [
        BookingStatus::Active,
        BookingStatus::Past,
        BookingStatus::Cancelled,
    ]
    .into_iter()
    .find(|status| status_text(*status) == text)
}

/// What one log entry changed, as the data of an event.
#[must_use]
pub fn show_change(change: &Change, zone: &TimeZoneName) -> Value {
    let kinds: Vec<Value> = change
        .kinds
        .iter()
        .map(|kind| show_kind(kind, zone))
        .collect();
    json!({"index": change.index, "at": show_instant(change.at, zone), "changes": kinds})
}

fn show_kind(kind: &EventKind, zone: &TimeZoneName) -> Value {
    let span = |interval: &Interval| {
        (
            show_instant(interval.starts(), zone),
            show_instant(interval.ends(), zone),
        )
    };
    let held = |kind: &str, booking: &BookingId, desk: &DeskId, interval: &Interval| {
        let (starts_at, ends_at) = span(interval);
        let (booking, desk) = (booking.to_string(), desk.to_string());
        json!({"type": kind, "booking": booking, "desk": desk, "starts_at": starts_at, "ends_at": ends_at})
    };
    match kind {
        EventKind::Booked {
            booking,
            desk,
            interval,
        } => held("booked", booking, desk, interval),
        EventKind::Cancelled {
            booking,
            desk,
            interval,
        } => held("cancelled", booking, desk, interval),
        EventKind::Moved {
            booking,
            from_desk,
            from,
            to_desk,
            to,
        } => {
            let mut moved = held("moved", booking, to_desk, to);
            let (starts_at, ends_at) = span(from);
            moved["from"] =
                json!({"desk": from_desk.to_string(), "starts_at": starts_at, "ends_at": ends_at});
            moved
        }
        EventKind::Imported { bookings } => json!({"type": "imported", "bookings": bookings}),
        EventKind::DeskChanged { desk } => {
            json!({"type": "desk_changed", "desk": desk.to_string()})
        }
        EventKind::HallChanged { hall } => {
            json!({"type": "hall_changed", "hall": hall.to_string()})
        }
        EventKind::SpaceChanged => json!({"type": "space_changed"}),
    }
}

/// A field that may be left out: `None` only where it is there and wrong.
fn optional<T>(text: Option<&str>, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(text) => parse(text).map(Some),
    }
}
