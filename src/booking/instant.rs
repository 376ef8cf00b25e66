//! Moments and spans of time in UTC.
//!
//! The domain reads no clock: every moment comes from a log entry's stamp or from a command.
//! Local time (opening hours, midnight) is the proposer's affair; what arrives here is UTC.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Milliseconds in a minute.
pub const MINUTE_MS: u64 = 60_000;
/// Milliseconds in an hour.
pub const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Milliseconds in a UTC day (leap seconds are not counted, as in POSIX time).
pub const DAY_MS: u64 = 24 * HOUR_MS;

/// A moment: whole milliseconds since 1970-01-01T00:00:00Z, up to the end of the year 9999.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(from = "u64", into = "u64")]
pub struct Instant(u64);

impl Instant {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Instant = Instant(0);
    /// 9999-12-31T23:59:59.999Z, the last moment there is.
    pub const MAX: Instant = Instant(253_402_300_799_999);

    /// The moment `ms` milliseconds after the epoch; [`Self::MAX`] if that is later.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Instant {
        if ms > Self::MAX.0 {
            Self::MAX
        } else {
            Instant(ms)
        }
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// The moment `ms` milliseconds later, at most [`Self::MAX`].
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Instant {
        Self::from_ms(self.0.saturating_add(ms))
    }

    /// The moment `ms` milliseconds earlier, at least [`Self::EPOCH`].
    #[must_use]
    pub const fn minus_ms(self, ms: u64) -> Instant {
        Instant(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to this moment; zero if it isn't earlier.
    #[must_use]
    pub const fn ms_since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The UTC day this moment lies in.
    #[must_use]
    pub fn day(self) -> UtcDay {
        UtcDay(u32::try_from(self.0 / DAY_MS).expect("an instant ends with the year 9999"))
    }
}

impl From<u64> for Instant {
    fn from(ms: u64) -> Instant {
        Instant::from_ms(ms)
    }
}

impl From<Instant> for u64 {
    fn from(instant: Instant) -> u64 {
        instant.0
    }
}

/// A day in UTC, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UtcDay(u32);

impl UtcDay {
    /// Days since 1970-01-01.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The day with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> UtcDay {
        UtcDay(number)
    }

    /// The day after.
    #[must_use]
    pub const fn next(self) -> UtcDay {
        UtcDay(self.0.saturating_add(1))
    }
}

/// A half-open span `[starts, ends)`, never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(Instant, Instant)", into = "(Instant, Instant)")]
pub struct Interval {
    starts: Instant,
    ends: Instant,
}

/// The end of an interval isn't after its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an interval must end after it starts")]
pub struct IntervalError;

impl Interval {
    /// `[starts, ends)`.
    ///
    /// # Errors
    /// `ends` isn't after `starts`.
    pub fn new(starts: Instant, ends: Instant) -> Result<Interval, IntervalError> {
        if starts < ends {
            Ok(Interval { starts, ends })
        } else {
            Err(IntervalError)
        }
    }

    /// The first moment inside.
    #[must_use]
    pub const fn starts(self) -> Instant {
        self.starts
    }

    /// The first moment after.
    #[must_use]
    pub const fn ends(self) -> Instant {
        self.ends
    }

    /// How long it is, in milliseconds; never zero.
    #[must_use]
    pub const fn length_ms(self) -> u64 {
        self.ends.ms_since(self.starts)
    }

    /// Whether the two share a moment. Touching ends do not overlap.
    #[must_use]
    pub fn overlaps(self, other: Interval) -> bool {
        self.starts < other.ends && other.starts < self.ends
    }

    /// Whether `moment` lies inside.
    #[must_use]
    pub fn contains(self, moment: Instant) -> bool {
        self.starts <= moment && moment < self.ends
    }

    /// The UTC days it touches, in order.
    pub fn days(self) -> impl Iterator<Item = UtcDay> + use<> {
        let last = self.ends.minus_ms(1).day();
        (self.starts.day().0..=last.0).map(UtcDay)
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.starts.0, self.ends.0)
    }
}

impl TryFrom<(Instant, Instant)> for Interval {
    type Error = IntervalError;

    fn try_from((starts, ends): (Instant, Instant)) -> Result<Interval, IntervalError> {
        Interval::new(starts, ends)
    }
}

impl From<Interval> for (Instant, Instant) {
    fn from(interval: Interval) -> (Instant, Instant) {
        (interval.starts, interval.ends)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn interval(starts_ms: u64, ends_ms: u64) -> Interval {
        Interval::new(Instant::from_ms(starts_ms), Instant::from_ms(ends_ms)).unwrap()
    }

    #[test]
    fn touching_intervals_do_not_overlap() {
        assert!(!interval(0, 10).overlaps(interval(10, 20)));
        assert!(!interval(10, 20).overlaps(interval(0, 10)));
        assert!(interval(0, 11).overlaps(interval(10, 20)));
        assert!(interval(12, 13).overlaps(interval(10, 20)));
        assert!(interval(10, 20).contains(Instant::from_ms(10)));
        assert!(!interval(10, 20).contains(Instant::from_ms(20)));
    }

    #[test]
    fn an_interval_is_never_empty() {
        assert_eq!(
            Interval::new(Instant::from_ms(5), Instant::from_ms(5)),
            Err(IntervalError)
        );
        assert_eq!(
            Interval::new(Instant::from_ms(6), Instant::from_ms(5)),
            Err(IntervalError)
        );
    }

    #[test]
    fn days_touched_end_before_the_end() {
        let days = |i: Interval| i.days().map(UtcDay::number).collect::<Vec<_>>();
        assert_eq!(days(interval(0, DAY_MS)), [0]);
        assert_eq!(days(interval(0, DAY_MS + 1)), [0, 1]);
        assert_eq!(days(interval(DAY_MS - 1, DAY_MS + 1)), [0, 1]);
        assert_eq!(days(interval(DAY_MS, 2 * DAY_MS)), [1]);
    }

    #[test]
    fn moments_stay_within_the_calendar() {
        assert_eq!(Instant::from_ms(u64::MAX), Instant::MAX);
        assert_eq!(Instant::MAX.plus_ms(1), Instant::MAX);
        assert_eq!(Instant::MAX.day().number(), 2_932_896);
        assert_eq!(Instant::EPOCH.minus_ms(1), Instant::EPOCH);
    }

    #[test]
    fn moments_and_days_are_counted_from_the_epoch() {
        let moment = Instant::EPOCH.plus_ms(DAY_MS + 5);
        assert_eq!(
            (moment.as_ms(), u64::from(moment)),
            (DAY_MS + 5, DAY_MS + 5)
        );
        assert_eq!(moment.minus_ms(5), Instant::from(DAY_MS));
        assert_eq!(moment.ms_since(Instant::from_ms(5)), DAY_MS);
        assert_eq!(Instant::EPOCH.ms_since(moment), 0);
        assert_eq!(moment.day().next(), UtcDay::from_number(2));
        let span = interval(5, 15);
        assert_eq!((span.starts().as_ms(), span.ends().as_ms()), (5, 15));
        assert_eq!(
            (span.length_ms(), format!("{span:?}")),
            (10, "[5, 15)".to_owned())
        );
    }
}
