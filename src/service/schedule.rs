//! Local time becomes UTC here, and nowhere else.
//!
//! A space's grid is a list of slots: from each opening of a local day onwards, one slot after another, each exactly as
//! long as the space says, up to the closing. The walk is made in real time, between the instants that the two local
//! times stand for. On the night when clocks go back, a space that is open all night therefore has one slot more, two of
//! them with the same local name; when clocks go forward it has one less. What is left of an opening after its last
//! whole slot is not bookable. An opening that lies in an hour that does not exist begins when that hour would have
//! ended.
//!
//! A [`Placement`] is the verdict for one interval, with the revision of the schedule that it was made by: the state
//! machine compares the revision and never looks into time-zone data itself.

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, Time, Weekday},
    tz::{AmbiguousOffset, TimeZone},
};

use crate::booking::{
    Instant, Interval, Placement,
    calendar::{LocalDate, Opening},
    command::{Grid, GridRefusal},
    instant::MINUTE_MS,
    layout::{MAX_DAYS_AHEAD, Space},
    text::TimeZoneName,
};

/// The most local days that one booking may touch.
const DAYS_PER_BOOKING: usize = 8;

/// A space's schedule in its own time zone.
#[derive(Debug, Clone)]
pub struct Schedule<'a> {
    space: &'a Space,
    zone: TimeZone,
}

/// One cell of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// From when to when.
    pub interval: Interval,
    /// The local time at which it starts, in minutes after midnight.
    pub local_minute: u16,
}

impl Slot {
    /// The local start as people read it: `HH:MM`.
    #[must_use]
    pub fn local(&self) -> String {
        format!(
            "{:02}:{:02}",
            self.local_minute / 60,
            self.local_minute % 60
        )
    }
}

/// Whether the time-zone data that is compiled in knows this zone.
#[must_use]
pub fn is_known_zone(name: &TimeZoneName) -> bool {
    TimeZone::get(name.as_str()).is_ok()
}

impl<'a> Schedule<'a> {
    /// The schedule of a space; `None` where the compiled-in data does not know its zone.
    #[must_use]
    pub fn of(space: &'a Space) -> Option<Self> {
        let zone = TimeZone::get(space.details.time_zone.as_str()).ok()?;
        Some(Self { space, zone })
    }

    /// The local date on which an instant falls.
    #[must_use]
    pub fn date_of(&self, at: Instant) -> Option<LocalDate> {
        local_date(self.local(at)?.date())
    }

    /// The slots of a local date, in order of time; none on a closure or a day off.
    #[must_use]
    pub fn slots(&self, date: LocalDate) -> Vec<Slot> {
        if self.is_closure(date) {
            Vec::new()
        } else {
            self.regular_slots(date)
        }
    }

    /// The part of UTC that a local date covers.
    #[must_use]
    pub fn day(&self, date: LocalDate) -> Option<Interval> {
        let date = civil(date)?;
        Interval::new(self.midnight(date)?, self.midnight(date.tomorrow().ok()?)?).ok()
    }

    /// The slot that starts at an instant, for a booking that names no end.
    #[must_use]
    pub fn slot_at(&self, starts_at: Instant) -> Option<Slot> {
        let date = self.date_of(starts_at)?;
        self.regular_slots(date)
            .into_iter()
            .find(|slot| slot.interval.starts() == starts_at)
    }

    /// The end of a slot that would start at an instant, whether there is one or not.
    #[must_use]
    pub fn slot_end(&self, starts_at: Instant) -> Instant {
        let end = self.slot_at(starts_at).map(|slot| slot.interval.ends());
        end.unwrap_or_else(|| starts_at.plus_ms(self.slot_ms()))
    }

    /// Where an interval lies on the grid; `None` where it lies beyond the calendar.
    #[must_use]
    pub fn place(&self, interval: Interval) -> Option<Placement> {
        let first = self.local(interval.starts())?.date();
        let monday = first
            .checked_sub(days_from_monday(first.weekday()).days())
            .ok()?;
        let next_monday = monday.checked_add(7.days()).ok()?;
        let days_ahead = i64::from(self.space.details.rules.days_ahead.min(MAX_DAYS_AHEAD));
        let opens = first.checked_sub(days_ahead.days()).ok()?;
        Some(Placement {
            space: self.space.id,
            schedule_revision: self.space.schedule_revision,
            interval,
            grid: self.verdict(interval, local_date(first)?),
            bookable_from: self.midnight(opens)?,
            week: Interval::new(self.midnight(monday)?, self.midnight(next_monday)?).ok()?,
        })
    }

    /// Rule 3, in its order: on the grid, within opening hours, not on a closure.
    fn verdict(&self, interval: Interval, first: LocalDate) -> Result<Grid, GridRefusal> {
        if !self.is_on_lattice(interval) {
            return Err(GridRefusal::OffGrid);
        }
        let dates = self.dates_from(first, interval.ends());
        let slots: Vec<Slot> = dates
            .iter()
            .flat_map(|date| self.regular_slots(*date))
            .collect();
        let from = slots
            .iter()
            .position(|slot| slot.interval.starts() == interval.starts());
        let run = slots
            .iter()
            .skip(from.ok_or(GridRefusal::OutsideOpeningHours)?);
        let mut covered = 0_u16;
        let mut ends = interval.starts();
        for slot in run.take_while(|slot| slot.interval.ends() <= interval.ends()) {
            if slot.interval.starts() != ends {
                return Err(GridRefusal::OutsideOpeningHours);
            }
            ends = slot.interval.ends();
            covered = covered.saturating_add(1);
        }
        if ends != interval.ends() {
            return Err(GridRefusal::OutsideOpeningHours);
        }
        if dates.iter().any(|date| self.is_closure(*date)) {
            return Err(GridRefusal::Closed);
        }
        Ok(Grid { slots: covered })
    }

    /// Whether both ends lie on slots' edges, if those went on through the hours when the space is closed.
    fn is_on_lattice(&self, interval: Interval) -> bool {
        interval.length_ms().is_multiple_of(self.slot_ms())
            && self.date_of(interval.starts()).is_some_and(|date| {
                let openings = self.openings(date);
                let mut anchors: Vec<Instant> = openings
                    .iter()
                    .filter_map(|opening| self.span(date, *opening))
                    .map(Interval::starts)
                    .collect();
                if anchors.is_empty() {
                    anchors.extend(self.day(date).map(Interval::starts));
                }
                let distance = |anchor: Instant| anchor.as_ms().abs_diff(interval.starts().as_ms());
                // The last opening before the start rules; before the first one, that one does.
                let before = anchors
                    .iter()
                    .rev()
                    .find(|anchor| **anchor <= interval.starts());
                before
                    .or(anchors.first())
                    .is_some_and(|anchor| distance(*anchor).is_multiple_of(self.slot_ms()))
            })
    }

    /// The local dates from `first` up to the one before `ends`, bounded.
    fn dates_from(&self, first: LocalDate, ends: Instant) -> Vec<LocalDate> {
        let last = self.date_of(ends.minus_ms(1)).unwrap_or(first);
        let mut dates = Vec::new();
        let mut next = civil(first);
        while let Some(date) = next.and_then(local_date) {
            if date > last || dates.len() == DAYS_PER_BOOKING {
                break;
            }
            dates.push(date);
            next = next.and_then(|date| date.tomorrow().ok());
        }
        dates
    }

    fn regular_slots(&self, date: LocalDate) -> Vec<Slot> {
        let openings = self
            .openings(date)
            .iter()
            .filter_map(|opening| self.span(date, *opening));
        openings.flat_map(|span| self.cells(span)).collect()
    }

    fn cells(&self, span: Interval) -> impl Iterator<Item = Slot> + '_ {
        let length_ms = self.slot_ms();
        let count = span.length_ms() / length_ms;
        (0..count).filter_map(move |number| {
            let starts = span.starts().plus_ms(number * length_ms);
            let time = self.local(starts)?.time();
            let minute =
                u16::try_from(i32::from(time.hour()) * 60 + i32::from(time.minute())).ok()?;
            let interval = Interval::new(starts, starts.plus_ms(length_ms)).ok()?;
            Some(Slot {
                interval,
                local_minute: minute,
            })
        })
    }

    fn openings(&self, date: LocalDate) -> &[Opening] {
        let weekday = civil(date).map_or(7, |date| {
            usize::from(days_from_monday(date.weekday()).unsigned_abs())
        });
        self.space.details.opening_hours.of_weekday(weekday)
    }

    fn is_closure(&self, date: LocalDate) -> bool {
        self.space
            .details
            .closures
            .iter()
            .any(|closure| closure.date == date)
    }

    /// The real time that an opening covers; nothing where all of it lies in an hour that does not exist.
    fn span(&self, date: LocalDate, opening: Opening) -> Option<Interval> {
        let date = civil(date)?;
        let starts = self.instant(date, opening.opens_minute())?;
        let ends = self.instant(date, opening.closes_minute())?;
        Interval::new(starts, ends).ok()
    }

    fn slot_ms(&self) -> u64 {
        u64::from(self.space.details.slot_minutes.max(1)) * MINUTE_MS
    }

    fn local(&self, at: Instant) -> Option<jiff::civil::DateTime> {
        let ms = i64::try_from(at.as_ms()).ok()?;
        Some(self.zone.to_datetime(Timestamp::from_millisecond(ms).ok()?))
    }

    fn midnight(&self, date: Date) -> Option<Instant> {
        self.instant(date, 0)
    }

    /// The instant of a local minute of a date; 1440 is the next midnight.
    fn instant(&self, date: Date, minute: u16) -> Option<Instant> {
        let (date, minute) = if minute >= 1440 {
            (date.tomorrow().ok()?, minute - 1440)
        } else {
            (date, minute)
        };
        let hour = i8::try_from(minute / 60).ok()?;
        let time = Time::new(hour, i8::try_from(minute % 60).ok()?, 0, 0).ok()?;
        let local = date.to_datetime(time);
        let timestamp = match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok()?,
            // Of two, the earlier.
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok()?,
            // The end of the hour that does not exist: read with the offset from before it, the local time lies at or
            // after the change, so the last change up to then is the one.
            AmbiguousOffset::Gap { before, .. } => {
                let shifted = before.to_timestamp(local).ok()?;
                let after = shifted.checked_add(1.nanoseconds()).ok()?;
                self.zone.preceding(after).next()?.timestamp()
            }
        };
        u64::try_from(timestamp.as_millisecond())
            .ok()
            .map(Instant::from_ms)
    }
}

fn days_from_monday(weekday: Weekday) -> i8 {
    weekday.to_monday_zero_offset()
}

fn civil(date: LocalDate) -> Option<Date> {
    let year = i16::try_from(date.year()).ok()?;
    Date::new(
        year,
        i8::try_from(date.month()).ok()?,
        i8::try_from(date.day()).ok()?,
    )
    .ok()
}

fn local_date(date: Date) -> Option<LocalDate> {
    let year = u16::try_from(date.year()).ok()?;
    LocalDate::new(year, date.month().unsigned_abs(), date.day().unsigned_abs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::{
        calendar::{Closure, OpeningHours},
        ids::SpaceId,
        layout::{Rules, SpaceDetails},
    };

    fn space(zone: &str, openings: &[(u16, u16)], slot_minutes: u16, closures: &[&str]) -> Space {
        let openings: Vec<Opening> = openings
            .iter()
            .map(|(from, to)| Opening::new(*from, *to).expect("in order"))
            .collect();
        let closures = closures.iter().map(|date| Closure {
            date: date.parse().expect("a date"),
            reason: None,
        });
        Space {
            id: SpaceId::from_number(1),
            details: SpaceDetails {
                slug: "nevsky".parse().expect("a slug"),
                name: "Nevsky".parse().expect("a name"),
                time_zone: zone.parse().expect("a zone"),
                opening_hours: OpeningHours::daily(&openings).expect("in order"),
                closures: closures.collect(),
                slot_minutes,
                rules: Rules::default(),
                open: true,
            },
            schedule_revision: 3,
            created_at: Instant::EPOCH,
        }
    }

    fn at(text: &str) -> Instant {
        let timestamp: Timestamp = text.parse().expect("a timestamp");
        Instant::from_ms(u64::try_from(timestamp.as_millisecond()).expect("after 1970"))
    }

    fn date(text: &str) -> LocalDate {
        text.parse().expect("a date")
    }

    fn verdict(space: &Space, from: &str, to: &str) -> Result<u16, GridRefusal> {
        let interval = Interval::new(at(from), at(to)).expect("in order");
        let placement = Schedule::of(space)
            .expect("a known zone")
            .place(interval)
            .expect("in the calendar");
        placement.grid.map(|grid| grid.slots)
    }

    #[test]
    fn a_day_is_cut_into_whole_slots_from_its_opening() {
        let space = space(
            "Europe/Moscow",
            &[(8 * 60, 12 * 60 + 30), (13 * 60, 15 * 60)],
            60,
            &["2026-11-04"],
        );
        let schedule = Schedule::of(&space).expect("a known zone");
        let slots = schedule.slots(date("2026-11-23"));
        let locals: Vec<String> = slots.iter().map(Slot::local).collect();
        assert_eq!(
            locals,
            ["08:00", "09:00", "10:00", "11:00", "13:00", "14:00"]
        );
        assert_eq!(slots[0].interval.starts(), at("2026-11-23T05:00:00Z"));
        assert!(schedule.slots(date("2026-11-04")).is_empty(), "a closure");
    }

    #[test]
    fn a_night_when_clocks_go_back_has_one_slot_more_and_forward_one_less() {
        let space = space("Europe/Berlin", &[(0, 1440)], 60, &[]);
        let schedule = Schedule::of(&space).expect("a known zone");
        let spring = schedule.slots(date("2026-03-29"));
        assert_eq!(spring.len(), 23);
        assert_eq!(
            (spring[1].local(), spring[2].local()),
            ("01:00".to_owned(), "03:00".to_owned())
        );
        let autumn = schedule.slots(date("2026-10-25"));
        assert_eq!(autumn.len(), 25);
        assert_eq!(
            (autumn[2].local(), autumn[3].local()),
            ("02:00".to_owned(), "02:00".to_owned())
        );
        for day in [&spring, &autumn] {
            assert!(
                day.windows(2)
                    .all(|pair| pair[0].interval.ends() == pair[1].interval.starts())
            );
            assert!(
                day.iter()
                    .all(|slot| slot.interval.length_ms() == 3_600_000)
            );
        }
        assert_eq!(
            schedule.day(date("2026-03-29")).map(Interval::length_ms),
            Some(23 * 3_600_000)
        );
    }

    #[test]
    fn an_opening_in_an_hour_that_does_not_exist_begins_after_it() {
        let space = space("Europe/Berlin", &[(2 * 60 + 30, 5 * 60)], 60, &[]);
        let slots = Schedule::of(&space)
            .expect("a known zone")
            .slots(date("2026-03-29"));
        let locals: Vec<String> = slots.iter().map(Slot::local).collect();
        assert_eq!(locals, ["03:00", "04:00"]);
        let space = super::tests::space("Europe/Berlin", &[(2 * 60, 3 * 60)], 60, &[]);
        assert!(
            Schedule::of(&space)
                .expect("a known zone")
                .slots(date("2026-03-29"))
                .is_empty()
        );
    }

    #[test]
    fn rule_three_is_decided_in_its_order() {
        let space = space("Europe/Moscow", &[(8 * 60, 22 * 60)], 60, &["2026-11-24"]);
        // Moscow is three hours ahead of UTC all year.
        assert_eq!(
            verdict(&space, "2026-11-23T05:00:00Z", "2026-11-23T08:00:00Z"),
            Ok(3)
        );
        assert_eq!(
            verdict(&space, "2026-11-23T05:30:00Z", "2026-11-23T06:30:00Z"),
            Err(GridRefusal::OffGrid)
        );
        assert_eq!(
            verdict(&space, "2026-11-23T05:00:00Z", "2026-11-23T05:30:00Z"),
            Err(GridRefusal::OffGrid)
        );
        assert_eq!(
            verdict(&space, "2026-11-23T00:30:00Z", "2026-11-23T01:30:00Z"),
            Err(GridRefusal::OffGrid)
        );
        let outside = Err(GridRefusal::OutsideOpeningHours);
        assert_eq!(
            verdict(&space, "2026-11-23T04:00:00Z", "2026-11-23T06:00:00Z"),
            outside
        );
        assert_eq!(
            verdict(&space, "2026-11-23T18:00:00Z", "2026-11-23T20:00:00Z"),
            outside
        );
        assert_eq!(
            verdict(&space, "2026-11-24T00:00:00Z", "2026-11-24T01:00:00Z"),
            outside,
            "on a closure too"
        );
        assert_eq!(
            verdict(&space, "2026-11-22T18:00:00Z", "2026-11-23T06:00:00Z"),
            outside,
            "over a night"
        );
        assert_eq!(
            verdict(&space, "2026-11-24T05:00:00Z", "2026-11-24T06:00:00Z"),
            Err(GridRefusal::Closed)
        );
    }

    #[test]
    fn a_space_that_never_closes_takes_bookings_over_midnight() {
        let space = space("Europe/Moscow", &[(0, 1440)], 60, &["2026-11-25"]);
        assert_eq!(
            verdict(&space, "2026-11-22T20:00:00Z", "2026-11-22T22:00:00Z"),
            Ok(2)
        );
        assert_eq!(
            verdict(&space, "2026-11-24T20:00:00Z", "2026-11-24T22:00:00Z"),
            Err(GridRefusal::Closed)
        );
    }

    #[test]
    fn the_window_and_the_week_begin_at_local_midnights() {
        let space = space("Europe/Moscow", &[(0, 1440)], 60, &[]);
        let interval = Interval::new(at("2026-11-25T21:00:00Z"), at("2026-11-25T22:00:00Z"))
            .expect("in order");
        let placement = Schedule::of(&space)
            .expect("a known zone")
            .place(interval)
            .expect("in the calendar");
        assert_eq!(placement.schedule_revision, 3);
        // It starts on Thursday the 26th, local time.
        assert_eq!(placement.bookable_from, at("2026-10-26T21:00:00Z"));
        assert_eq!(
            (placement.week.starts(), placement.week.ends()),
            (at("2026-11-22T21:00:00Z"), at("2026-11-29T21:00:00Z"))
        );
    }

    #[test]
    fn an_end_that_is_left_out_is_that_of_the_slot() {
        let space = space("Europe/Moscow", &[(8 * 60, 22 * 60)], 90, &[]);
        let schedule = Schedule::of(&space).expect("a known zone");
        assert_eq!(
            schedule.slot_end(at("2026-11-23T05:00:00Z")),
            at("2026-11-23T06:30:00Z")
        );
        assert_eq!(
            schedule.slot_end(at("2026-11-23T05:01:00Z")),
            at("2026-11-23T06:31:00Z")
        );
        assert!(schedule.slot_at(at("2026-11-23T05:01:00Z")).is_none());
    }

    #[test]
    fn only_zones_that_exist_are_known() {
        assert!(is_known_zone(
            &"Asia/Yekaterinburg".parse().expect("well formed")
        ));
        assert!(!is_known_zone(
            &"Europe/Nevsky".parse().expect("well formed")
        ));
    }
}
