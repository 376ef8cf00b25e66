//! The shapes of requests and answers in JSON, and their way to and from parsed values.
//!
//! Shapes stay here: what the service takes and gives are values of the domain. A request is read twice, first as JSON
//! of the right types, where unknown fields are refused, then field by field into parsed values; every field that is
//! not what it should be is named with its JSON pointer.

pub mod account;
pub mod booking;
pub mod space;

use std::{fmt::Display, str::FromStr};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    booking::{Instant, text::TextError, text::TimeZoneName},
    service::{Failure, FieldError},
};

/// Collects what is wrong with a body, field by field.
#[derive(Debug, Default)]
pub struct Fields {
    errors: Vec<FieldError>,
}

/// The most errors that one answer lists.
const ERRORS_MAX: usize = 32;

impl Fields {
    /// Nothing wrong so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes what is wrong with a field.
    pub fn refuse(&mut self, pointer: &str, code: &'static str, detail: impl Display) {
        if self.errors.len() < ERRORS_MAX {
            self.errors
                .push(FieldError::new(pointer, code, detail.to_string()));
        }
    }

    /// A text that people type.
    pub fn text<T: FromStr<Err = TextError>>(&mut self, pointer: &str, text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let code = match error {
                    TextError::Empty => "empty",
                    TextError::TooLong { .. } => "too_long",
                    TextError::Malformed => "malformed",
                };
                self.refuse(pointer, code, error);
                None
            }
        }
    }

    /// An id or anything else that is either well formed or not.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, pointer: &str, text: &str) -> Option<T> {
        text.parse()
            .map_err(|error| self.refuse(pointer, "malformed", error))
            .ok()
    }

    /// A moment: RFC 3339 with an offset, in whole seconds, between 1970 and 9999.
    pub fn instant(&mut self, pointer: &str, text: &str) -> Option<Instant> {
        match parse_instant(text) {
            Ok(instant) => Some(instant),
            Err(why) => {
                self.refuse(pointer, "malformed", why);
                None
            }
        }
    }

    /// The value, if nothing was wrong.
    ///
    /// # Errors
    /// All that was noted.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Failure> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(Failure::Fields(self.errors)),
        }
    }
}

/// Parses RFC 3339 with an offset, whole seconds.
///
/// # Errors
/// Says what is wrong, for people.
pub fn parse_instant(text: &str) -> Result<Instant, &'static str> {
    // The parser of the library takes more than RFC 3339 does: names of zones, missing colons, bare hours.
    let shaped = (20..=35).contains(&text.len())
        && text.is_ascii()
        && text
            .as_bytes()
            .get(10)
            .is_some_and(|byte| matches!(byte, b'T' | b't'));
    let with_offset = shaped && (text.ends_with(['Z', 'z']) || is_offset(&text[text.len() - 6..]));
    if !with_offset {
        return Err("a time is written as RFC 3339 with an offset, like 2026-03-02T09:00:00+03:00");
    }
    let timestamp: Timestamp = text.parse().map_err(|_| "there is no such time")?;
    let ms =
        u64::try_from(timestamp.as_millisecond()).map_err(|_| "times before 1970 are not taken")?;
    if timestamp.subsec_nanosecond() != 0 {
        return Err("times are whole seconds");
    }
    Ok(Instant::from_ms(ms))
}

fn is_offset(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 6
        && matches!(bytes[0], b'+' | b'-')
        && bytes[3] == b':'
        && [1, 2, 4, 5].iter().all(|at| bytes[*at].is_ascii_digit())
}

/// A moment in a zone's local time, with its offset. A zone that the compiled-in data does not know reads as UTC.
#[must_use]
pub fn show_instant(at: Instant, zone: &TimeZoneName) -> String {
    let zone = TimeZone::get(zone.as_str()).unwrap_or(TimeZone::UTC);
    let timestamp = timestamp(at);
    let offset = zone.to_offset(timestamp);
    timestamp.display_with_offset(offset).to_string()
}

/// A moment in UTC.
#[must_use]
pub fn show_utc(at: Instant) -> String {
    timestamp(at).to_string()
}

fn timestamp(at: Instant) -> Timestamp {
    let ms = i64::try_from(at.as_ms()).expect("instants end with the year 9999");
    Timestamp::from_millisecond(ms).expect("instants end with the year 9999, as timestamps do")
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListBody<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Where the next page begins; `null` on the last one.
    pub next_cursor: Option<String>,
}

/// A failure, as RFC 9457 has it. Some codes add members of their own.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// Where the code is explained.
    #[schema(example = "/api/docs/problems#slot_taken")]
    pub r#type: String,
    /// One sentence, the same for every occurrence.
    pub title: String,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What was wrong this time.
    pub detail: String,
    /// Stable, snake case.
    #[schema(example = "slot_taken")]
    pub code: String,
    /// The id under which the request is in the log.
    pub request_id: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// `not_applied`: certainly nothing happened. `unknown`: ask again with the same key.
    #[schema(example = "not_applied")]
    pub outcome: String,
    /// What is wrong with which field.
    pub errors: Vec<FieldErrorBody>,
}

/// One field that is not what it should be.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldErrorBody {
    /// A JSON pointer into the body.
    #[schema(example = "/starts_at")]
    pub pointer: String,
    /// Stable, snake case.
    #[schema(example = "malformed")]
    pub code: String,
    /// For people.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_with_an_offset_in_whole_seconds() {
        let ms = parse_instant("2026-03-02T09:00:00+03:00")
            .expect("well formed")
            .as_ms();
        assert_eq!(
            parse_instant("2026-03-02T06:00:00Z")
                .expect("well formed")
                .as_ms(),
            ms
        );
        assert_eq!(
            parse_instant("2026-03-02t06:00:00.000z")
                .expect("well formed")
                .as_ms(),
            ms
        );
        for bad in [
            "",
            "now",
            "2026-03-02",
            "2026-03-02T09:00:00",
            "2026-03-02 09:00:00Z",
            "2026-03-02T09:00:00+0300",
            "2026-03-02T09:00:00+03",
            "2026-02-30T09:00:00Z",
            "2026-03-02T25:00:00Z",
            "2026-03-02T09:00:00.5Z",
            "1969-12-31T23:59:59Z",
            "2026-03-02T09:00:00+03:00[Europe/Moscow]",
            "２026-03-02T09:00:00Z",
            "+12026-03-02T09:00:00Z",
        ] {
            assert!(parse_instant(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_shown_with_the_offset_of_their_zone() {
        let at = parse_instant("2026-07-02T06:00:00Z").expect("well formed");
        assert_eq!(
            show_instant(at, &"Europe/Berlin".parse().expect("well formed")),
            "2026-07-02T08:00:00+02:00"
        );
        assert_eq!(
            show_instant(at, &"UTC".parse().expect("well formed")),
            "2026-07-02T06:00:00+00:00"
        );
        assert_eq!(show_utc(at), "2026-07-02T06:00:00Z");
    }
}
