//! The rules of the contract written down a second time, over plain lists: no sheets, no keys,
//! no bytes. Slow, and plain enough to be compared with the contract by eye.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::world::week_of;
use mesto_booking::command::GridRefusal;
use mesto_booking::ids::{BookingId, DeskId, HallId, SpaceId, UserId};
use mesto_booking::instant::{DAY_MS, HOUR_MS, MINUTE_MS};
use mesto_booking::layout::Rules;
use mesto_booking::reply::{Kind, Quota};
use mesto_booking::reservation::Booking;
use mesto_booking::{Actor, Instant, Placement, Refusal};

/// The rules of the contract over plain lists.
pub(crate) struct Model {
    pub(crate) now: Instant,
    pub(crate) users: Vec<(UserId, bool, bool)>,
    pub(crate) spaces: Vec<(SpaceId, bool, Rules, u32)>,
    pub(crate) desks: Vec<(DeskId, usize, bool)>,
    pub(crate) bookings: Vec<Booking>,
}

impl Model {
    /// Whom the actor may act for: `None` nobody, `Some(None)` all, `Some(Some(id))` themselves.
    fn authority(&self, actor: Actor) -> Option<Option<UserId>> {
        let Actor::Member(id) = actor else {
            return Some(None);
        };
        let (_, admin, barred) = self.users.iter().find(|(user, ..)| *user == id)?;
        (!barred).then_some((!admin).then_some(id))
    }

    pub(crate) fn create(
        &mut self,
        index: u64,
        actor: Actor,
        for_user: Option<UserId>,
        desk: DeskId,
        placement: &Placement,
    ) -> Result<Booking, Refusal> {
        let user = match (for_user, actor) {
            (Some(user), _) | (None, Actor::Member(user)) => user,
            _ => return Err(Refusal::BadCommand),
        };
        match self.authority(actor) {
            Some(None) => {}
            Some(Some(own)) if own == user => {}
            _ => return Err(Refusal::Forbidden),
        }
        let known = self.users.iter().find(|(id, ..)| *id == user);
        if known.ok_or(Refusal::NotFound(Kind::User))?.2 {
            return Err(Refusal::Forbidden);
        }
        self.check(user, desk, placement, None)?;
        let slots = placement.grid.unwrap().slots;
        let hall = HallId::from_number(0);
        let booking = Booking {
            id: BookingId::from_number(index << 16),
            user,
            space: placement.space,
            hall,
            desk,
            interval: placement.interval,
            slots,
            created_at: self.now,
            cancelled_at: None,
            version: 1,
            index,
        };
        self.bookings.push(booking.clone());
        Ok(booking)
    }

    fn check(
        &self,
        user: UserId,
        desk: DeskId,
        placement: &Placement,
        moving: Option<BookingId>,
    ) -> Result<(), Refusal> {
        let interval = placement.interval;
        let (_, space, active) = self
            .desks
            .iter()
            .find(|(id, ..)| *id == desk)
            .ok_or(Refusal::NotFound(Kind::Desk))?;
        let (space, open, rules, revision) = &self.spaces[*space];
        if !open {
            return Err(Refusal::SpaceClosed);
        }
        if !active {
            return Err(Refusal::DeskInactive);
        }
        if placement.schedule_revision != *revision {
            return Err(Refusal::StaleSchedule { current: *revision });
        }
        let slots = match placement.grid {
            Ok(grid) => grid.slots,
            Err(GridRefusal::OffGrid) => return Err(Refusal::OffGrid),
            Err(GridRefusal::OutsideOpeningHours) => return Err(Refusal::OutsideOpeningHours),
            Err(GridRefusal::Closed) => return Err(Refusal::Closed),
        };
        if interval.starts() <= self.now {
            return Err(Refusal::InThePast);
        }
        if interval.starts()
            < self
                .now
                .plus_ms(u64::from(rules.minimum_notice_minutes) * MINUTE_MS)
        {
            return Err(Refusal::TooShortNotice);
        }
        let day = |moment: Instant| moment.as_ms() / DAY_MS;
        if day(interval.starts()) > day(self.now) + u64::from(rules.days_ahead) {
            return Err(Refusal::TooFarAhead);
        }
        if rules.longest_slots.is_some_and(|longest| slots > longest)
            || interval.length_ms() > 7 * DAY_MS
        {
            return Err(Refusal::TooLong);
        }
        let others = || {
            self.bookings
                .iter()
                .filter(|b| b.cancelled_at.is_none() && Some(b.id) != moving)
        };
        let theirs = || others().filter(|b| b.user == user && b.space == *space);
        if let Some(max) = rules.open_bookings_per_user
            && theirs().filter(|b| b.interval.ends() > self.now).count() >= usize::from(max)
        {
            return Err(Refusal::QuotaExceeded(Quota::OpenBookings { max }));
        }
        if let Some(max) = rules.hours_per_week {
            let week = week_of(interval.starts());
            let booked: u64 = theirs()
                .filter(|b| week_of(b.interval.starts()) == week)
                .map(|b| b.interval.length_ms() / HOUR_MS)
                .sum();
            if booked + interval.length_ms() / HOUR_MS > u64::from(max) {
                return Err(Refusal::QuotaExceeded(Quota::HoursPerWeek { max }));
            }
        }
        let overlapping = || {
            others().filter(|b| {
                b.interval.starts() < interval.ends() && interval.starts() < b.interval.ends()
            })
        };
        if let Some(taken) = overlapping()
            .filter(|b| b.desk == desk)
            .map(|b| b.interval)
            .min()
        {
            return Err(Refusal::SlotTaken { taken });
        }
        let first = overlapping()
            .filter(|b| b.user == user)
            .min_by_key(|b| b.interval);
        match first {
            Some(booking) => Err(Refusal::UserAlreadyBooked {
                booking: booking.id,
            }),
            None => Ok(()),
        }
    }

    fn find(&self, actor: Actor, id: BookingId) -> Result<usize, Refusal> {
        let authority = self.authority(actor).ok_or(Refusal::Forbidden)?;
        let covers = |user| authority.is_none_or(|own| own == user);
        let found = self
            .bookings
            .iter()
            .position(|b| b.id == id && covers(b.user));
        found.ok_or(Refusal::NotFound(Kind::Booking))
    }

    pub(crate) fn move_to(
        &mut self,
        index: u64,
        actor: Actor,
        id: BookingId,
        desk: Option<DeskId>,
        placement: &Placement,
        version: Option<u32>,
    ) -> Result<Booking, Refusal> {
        let at = self.find(actor, id)?;
        let old = self.bookings[at].clone();
        if version.is_some_and(|version| version != old.version) {
            return Err(Refusal::VersionMismatch {
                current: old.version,
            });
        }
        if old.cancelled_at.is_some() {
            return Err(Refusal::BookingCancelled);
        }
        if old.interval.starts() <= self.now {
            return Err(Refusal::AlreadyStarted);
        }
        let desk = desk.unwrap_or(old.desk);
        if desk == old.desk && placement.interval == old.interval {
            return Ok(old);
        }
        self.check(old.user, desk, placement, Some(id))?;
        let booking = &mut self.bookings[at];
        booking.desk = desk;
        booking.space = placement.space;
        booking.interval = placement.interval;
        booking.slots = placement.grid.unwrap().slots;
        booking.version += 1;
        booking.index = index;
        Ok(booking.clone())
    }

    pub(crate) fn cancel(
        &mut self,
        index: u64,
        actor: Actor,
        id: BookingId,
        version: Option<u32>,
    ) -> Result<Booking, Refusal> {
        let at = self.find(actor, id)?;
        let (now, booking) = (self.now, &mut self.bookings[at]);
        if booking.cancelled_at.is_none() {
            if version.is_some_and(|version| version != booking.version) {
                return Err(Refusal::VersionMismatch {
                    current: booking.version,
                });
            }
            if booking.interval.starts() <= now {
                return Err(Refusal::AlreadyStarted);
            }
            booking.cancelled_at = Some(now);
            booking.version += 1;
            booking.index = index;
        }
        Ok(booking.clone())
    }
}
