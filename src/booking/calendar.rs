//! Local dates, weekdays and opening hours, as plain numbers.
//!
//! They are stored and compared, never turned into UTC here: that needs time-zone data, and two
//! replicas could hold two versions of it.

use super::text::Reason;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Minutes in a local day without a time change.
pub const DAY_MINUTES: u16 = 1440;
/// The most opening intervals in one weekday.
pub const MAX_OPENINGS_PER_DAY: usize = 4;

/// A date of the Gregorian calendar in some local time, years 1970 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u16, u8, u8)", into = "(u16, u8, u8)")]
pub struct LocalDate {
    year: u16,
    month: u8,
    day: u8,
}

/// There is no such date, or it isn't written `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a date")]
pub struct DateError;

impl LocalDate {
    /// The date.
    ///
    /// # Errors
    /// The calendar has no such date, or the year is outside 1970 to 9999.
    pub fn new(year: u16, month: u8, day: u8) -> Result<LocalDate, DateError> {
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => 0,
        };
        if (1970..=9999).contains(&year) && (1..=days).contains(&day) {
            Ok(LocalDate { year, month, day })
        } else {
            Err(DateError)
        }
    }

    /// The year, 1970 to 9999.
    #[must_use]
    pub const fn year(self) -> u16 {
        self.year
    }

    /// The month, 1 to 12.
    #[must_use]
    pub const fn month(self) -> u8 {
        self.month
    }

    /// The day of the month, from 1.
    #[must_use]
    pub const fn day(self) -> u8 {
        self.day
    }
}

impl TryFrom<(u16, u8, u8)> for LocalDate {
    type Error = DateError;

    fn try_from((year, month, day): (u16, u8, u8)) -> Result<LocalDate, DateError> {
        LocalDate::new(year, month, day)
    }
}

impl From<LocalDate> for (u16, u8, u8) {
    fn from(date: LocalDate) -> (u16, u8, u8) {
        (date.year, date.month, date.day)
    }
}

impl FromStr for LocalDate {
    type Err = DateError;

    fn from_str(text: &str) -> Result<LocalDate, DateError> {
        let shaped = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !shaped {
            return Err(DateError);
        }
        let year = text[..4].parse().map_err(|_| DateError)?;
        let month = text[5..7].parse().map_err(|_| DateError)?;
        let day = text[8..].parse().map_err(|_| DateError)?;
        LocalDate::new(year, month, day)
    }
}

impl fmt::Display for LocalDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl fmt::Debug for LocalDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A date on which a space doesn't open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// The local date.
    pub date: LocalDate,
    /// What visitors are told.
    pub reason: Option<Reason>,
}

/// A part of a local day, `[opens, closes)` in minutes after midnight; `closes` may be 1440.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u16, u16)", into = "(u16, u16)")]
pub struct Opening {
    opens_minute: u16,
    closes_minute: u16,
}

/// An opening ends before it starts or after midnight, or two of one day overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// It doesn't close after it opens, or closes after 24:00.
    #[error("an opening must close after it opens and by 24:00")]
    Empty,
    /// Two of one day overlap, or they aren't in order.
    #[error("openings of a day must be in order and must not overlap")]
    Overlap,
    /// More than [`MAX_OPENINGS_PER_DAY`] in a day.
    #[error("a day has at most {MAX_OPENINGS_PER_DAY} openings")]
    TooMany,
}

impl Opening {
    /// `[opens, closes)` in minutes after local midnight.
    ///
    /// # Errors
    /// [`OpeningError::Empty`].
    pub fn new(opens_minute: u16, closes_minute: u16) -> Result<Opening, OpeningError> {
        if opens_minute < closes_minute && closes_minute <= DAY_MINUTES {
            Ok(Opening {
                opens_minute,
                closes_minute,
            })
        } else {
            Err(OpeningError::Empty)
        }
    }

    /// When it opens, in minutes after local midnight.
    #[must_use]
    pub const fn opens_minute(self) -> u16 {
        self.opens_minute
    }

    /// When it closes, in minutes after local midnight, at most 1440.
    #[must_use]
    pub const fn closes_minute(self) -> u16 {
        self.closes_minute
    }
}

impl TryFrom<(u16, u16)> for Opening {
    type Error = OpeningError;

    fn try_from((opens, closes): (u16, u16)) -> Result<Opening, OpeningError> {
        Opening::new(opens, closes)
    }
}

impl From<Opening> for (u16, u16) {
    fn from(opening: Opening) -> (u16, u16) {
        (opening.opens_minute, opening.closes_minute)
    }
}

/// When a space is open, by weekday. A day without openings is a day off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[Vec<Opening>; 7]", into = "[Vec<Opening>; 7]")]
pub struct OpeningHours([Vec<Opening>; 7]);

impl OpeningHours {
    /// The openings of each weekday, Monday first, each day's in order.
    ///
    /// # Errors
    /// [`OpeningError::Overlap`] or [`OpeningError::TooMany`].
    pub fn new(days: [Vec<Opening>; 7]) -> Result<OpeningHours, OpeningError> {
        for day in &days {
            if day.len() > MAX_OPENINGS_PER_DAY {
                return Err(OpeningError::TooMany);
            }
            if day
                .windows(2)
                .any(|pair| pair[0].closes_minute > pair[1].opens_minute)
            {
                return Err(OpeningError::Overlap);
            }
        }
        Ok(OpeningHours(days))
    }

    /// The same openings every day.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn daily(openings: &[Opening]) -> Result<OpeningHours, OpeningError> {
        OpeningHours::new(std::array::from_fn(|_| openings.to_vec()))
    }

    /// The openings of a weekday, 0 for Monday to 6 for Sunday; none for another number.
    #[must_use]
    pub fn of_weekday(&self, days_from_monday: usize) -> &[Opening] {
        self.0.get(days_from_monday).map_or(&[], Vec::as_slice)
    }
}

impl TryFrom<[Vec<Opening>; 7]> for OpeningHours {
    type Error = OpeningError;

    fn try_from(days: [Vec<Opening>; 7]) -> Result<OpeningHours, OpeningError> {
        OpeningHours::new(days)
    }
}

impl From<OpeningHours> for [Vec<Opening>; 7] {
    fn from(hours: OpeningHours) -> [Vec<Opening>; 7] {
        hours.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        for good in ["2024-02-29", "2000-02-29", "1970-01-01", "9999-12-31"] {
            assert_eq!(good.parse::<LocalDate>().unwrap().to_string(), good);
        }
        for bad in [
            "2023-02-29",
            "2100-02-29",
            "2024-04-31",
            "2024-13-01",
            "2024-00-01",
            "2024-01-00",
            "1969-12-31",
            "2024-1-01",
            "2024-01-1",
            "+024-01-01",
            "2024/01/01",
            "2024-01-01 ",
            "２024-01-1",
        ] {
            assert_eq!(bad.parse::<LocalDate>(), Err(DateError), "{bad}");
        }
    }

    #[test]
    fn a_date_has_its_parts_and_shows_itself() {
        let date = LocalDate::new(2024, 10, 7).unwrap();
        assert_eq!((date.year(), date.month(), date.day()), (2024, 10, 7));
        assert_eq!(format!("{date} {date:?}"), "2024-10-07 2024-10-07");
    }

    #[test]
    fn a_week_knows_when_each_of_its_days_opens() {
        let mut days: [Vec<Opening>; 7] = Default::default();
        days[6] = vec![Opening::new(600, 1440).unwrap()];
        let hours = OpeningHours::new(days).unwrap();
        let sunday = hours.of_weekday(6)[0];
        assert_eq!((sunday.opens_minute(), sunday.closes_minute()), (600, 1440));
        assert!(hours.of_weekday(0).is_empty() && hours.of_weekday(7).is_empty());
    }

    #[test]
    fn openings_are_in_order_and_apart() {
        let opening = |from, to| Opening::new(from, to).unwrap();
        assert!(OpeningHours::daily(&[opening(0, 600), opening(600, 1440)]).is_ok());
        assert_eq!(
            OpeningHours::daily(&[opening(0, 601), opening(600, 1440)]),
            Err(OpeningError::Overlap)
        );
        let five = [0, 1, 2, 3, 4].map(|n| opening(n * 60, n * 60 + 60));
        assert_eq!(OpeningHours::daily(&five), Err(OpeningError::TooMany));
        assert_eq!(Opening::new(600, 600), Err(OpeningError::Empty));
        assert_eq!(Opening::new(600, 1441), Err(OpeningError::Empty));
    }
}
