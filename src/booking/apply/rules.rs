//! Rules 2 to 7 of booking, in their order: the first that fails is the answer.
//!
//! ```text
//! 2 desk exists, space open, desk active
//!   (then: placed by the space's present schedule? if not, the proposer places it anew)
//! 3 on the grid, in opening hours, no closure     the proposer's verdict
//! 4 not started
//! 5 notice, days ahead, length, open bookings, hours a week
//! 6 the desk is free
//! 7 the user is free
//! ```

use super::Entry;
use crate::command::{GridRefusal, Placement};
use crate::ids::{BookingId, DeskId, UserId};
use crate::instant::{DAY_MS, HOUR_MS, Interval, MINUTE_MS};
use crate::keys;
use crate::keys::user_sheet::Stay;
use crate::layout::{Desk, MAX_DAYS_AHEAD, Space};
use crate::reply::{Kind, Quota, Refusal};

/// The shortest booking, in milliseconds: what bounds the length of a sheet. No slot is as short.
pub(super) const MIN_BOOKING_MS: u64 = 10 * MINUTE_MS;
/// The longest booking, in milliseconds: what bounds the number of sheets that it touches.
pub(super) const MAX_BOOKING_MS: u64 = 7 * DAY_MS;
/// The longest local week, in milliseconds: seven days, and one for changes of the clock.
const MAX_WEEK_MS: u64 = 8 * DAY_MS;
/// The most sheets read to count a user's open bookings.
const MAX_OPEN_SHEETS: usize = MAX_DAYS_AHEAD as usize + 31;

/// What is to be placed.
pub(super) struct Wish<'a> {
    /// Who will sit there.
    pub(super) user: UserId,
    /// Where.
    pub(super) desk: DeskId,
    /// When, and what the proposer found out about that.
    pub(super) placement: &'a Placement,
    /// The booking that moves, whose present place is as good as free.
    pub(super) moving: Option<BookingId>,
}

/// Where and how long a wish that passed the rules will sit.
pub(super) struct Place {
    /// The desk as it is.
    pub(super) desk: Desk,
    /// How many slots the interval covers.
    pub(super) slots: u16,
}

/// Whether the parts of a placement agree with each other; no honest proposer makes another.
pub(super) fn check_coherent(placement: &Placement) -> Result<(), Refusal> {
    let week = placement.week;
    if week.contains(placement.interval.starts()) && week.length_ms() <= MAX_WEEK_MS {
        Ok(())
    } else {
        Err(Refusal::BadCommand)
    }
}

impl Entry<'_> {
    /// Checks all the rules from the second on.
    pub(super) fn check_rules(&self, wish: &Wish<'_>) -> Result<Place, Refusal> {
        let placement = wish.placement;
        let (desk, space) = self.bookable(wish.desk)?;
        if placement.space != space.id || placement.schedule_revision != space.schedule_revision {
            return Err(Refusal::StaleSchedule {
                current: space.schedule_revision,
            });
        }
        let slots = check_grid(placement)?;
        if placement.interval.starts() <= self.now() {
            return Err(Refusal::InThePast);
        }
        self.check_window(&space, placement, slots)?;
        self.check_quotas(&space, wish)?;
        self.check_free(&desk, wish.user, placement.interval, wish.moving)?;
        Ok(Place { desk, slots })
    }

    /// Rule 2.
    pub(super) fn bookable(&self, desk: DeskId) -> Result<(Desk, Space), Refusal> {
        let desk = keys::desk::get(self.store, desk).ok_or(Refusal::NotFound(Kind::Desk))?;
        let space = keys::space::get(self.store, desk.space).expect("spaces are never deleted");
        if !space.details.open {
            return Err(Refusal::SpaceClosed);
        }
        if !desk.active {
            return Err(Refusal::DeskInactive);
        }
        Ok((desk, space))
    }

    /// Rule 5, but for the user's quotas.
    fn check_window(
        &self,
        space: &Space,
        placement: &Placement,
        slots: u16,
    ) -> Result<(), Refusal> {
        let rules = &space.details.rules;
        let interval = placement.interval;
        let notice_ms = u64::from(rules.minimum_notice_minutes) * MINUTE_MS;
        if interval.starts().ms_since(self.now()) < notice_ms {
            return Err(Refusal::TooShortNotice);
        }
        if self.now() < placement.bookable_from {
            return Err(Refusal::TooFarAhead);
        }
        let longest = rules.longest_slots.unwrap_or(u16::MAX);
        if slots > longest || interval.length_ms() > MAX_BOOKING_MS {
            return Err(Refusal::TooLong);
        }
        Ok(())
    }

    /// Rule 5: the user's quotas in this space. The booking that moves doesn't count.
    fn check_quotas(&self, space: &Space, wish: &Wish<'_>) -> Result<(), Refusal> {
        let rules = &space.details.rules;
        let counts = |stay: &Stay| stay.space == space.id && Some(stay.booking) != wish.moving;
        if let Some(max) = rules.open_bookings_per_user {
            let today = self.now().day();
            let stays = keys::user_sheet::from_day(self.store, wish.user, today, MAX_OPEN_SHEETS);
            let open = |stay: &&Stay| counts(stay) && stay.interval.ends() > self.now();
            if stays.iter().filter(open).count() >= usize::from(max) {
                return Err(Refusal::QuotaExceeded(Quota::OpenBookings { max }));
            }
        }
        if let Some(max) = rules.hours_per_week {
            let week = wish.placement.week;
            let sheets = week.days().count();
            let first = week.starts().day();
            let stays = keys::user_sheet::from_day(self.store, wish.user, first, sheets);
            let within = |stay: &&Stay| counts(stay) && week.contains(stay.interval.starts());
            let booked_ms: u64 = stays
                .iter()
                .filter(within)
                .map(|stay| stay.interval.length_ms())
                .sum();
            if booked_ms + wish.placement.interval.length_ms() > u64::from(max) * HOUR_MS {
                return Err(Refusal::QuotaExceeded(Quota::HoursPerWeek { max }));
            }
        }
        Ok(())
    }

    /// Rules 6 and 7.
    pub(super) fn check_free(
        &self,
        desk: &Desk,
        user: UserId,
        interval: Interval,
        moving: Option<BookingId>,
    ) -> Result<(), Refusal> {
        for day in interval.days() {
            let sheet = keys::desk_sheet::get(self.store, desk.space, day, desk.id);
            let in_the_way = sheet
                .iter()
                .find(|taken| taken.interval.overlaps(interval) && Some(taken.booking) != moving);
            if let Some(taken) = in_the_way {
                return Err(Refusal::SlotTaken {
                    taken: taken.interval,
                });
            }
        }
        for day in interval.days() {
            let sheet = keys::user_sheet::get(self.store, user, day);
            let in_the_way = sheet
                .iter()
                .find(|stay| stay.interval.overlaps(interval) && Some(stay.booking) != moving);
            if let Some(stay) = in_the_way {
                return Err(Refusal::UserAlreadyBooked {
                    booking: stay.booking,
                });
            }
        }
        Ok(())
    }
}

/// Rule 3: how many slots the interval covers.
fn check_grid(placement: &Placement) -> Result<u16, Refusal> {
    match placement.grid {
        Err(GridRefusal::OffGrid) => Err(Refusal::OffGrid),
        Err(GridRefusal::OutsideOpeningHours) => Err(Refusal::OutsideOpeningHours),
        Err(GridRefusal::Closed) => Err(Refusal::Closed),
        Ok(grid) => check_slots(grid.slots, placement.interval),
    }
}

/// What holds of every interval on any grid.
pub(super) fn check_slots(slots: u16, interval: Interval) -> Result<u16, Refusal> {
    if slots == 0 || interval.length_ms() < MIN_BOOKING_MS {
        return Err(Refusal::OffGrid);
    }
    Ok(slots)
}
