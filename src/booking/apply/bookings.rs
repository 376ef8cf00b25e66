//! Booking, moving, cancelling, and bringing in bookings from elsewhere.

use super::rules::{MAX_BOOKING_MS, Place, Wish, check_coherent, check_slots};
use super::{Entry, check_version};
use crate::command::{Actor, ImportRow, MAX_IMPORT_ROWS, Placement};
use crate::ids::{BookingId, DeskId, SpaceId, UserId};
use crate::instant::Interval;
use crate::keys;
use crate::keys::desk_sheet::Taken;
use crate::keys::user_sheet::Stay;
use crate::layout::Desk;
use crate::reply::{Invalid, Kind, MAX_IMPORT_REFUSALS, Outcome, Refusal};
use crate::reservation::{Booking, EventKind};

/// The most UTC days that a booking touches: seven whole ones, and one more if it starts within one.
const MAX_SHEETS_PER_BOOKING: usize = 8;

impl Entry<'_> {
    pub(super) fn create_booking(
        &mut self,
        for_user: Option<UserId>,
        desk: DeskId,
        placement: &Placement,
    ) -> Result<Outcome, Refusal> {
        check_coherent(placement)?;
        let user = match (for_user, self.actor) {
            (Some(user), _) | (None, Actor::Member(user)) => user,
            (None, Actor::Operator | Actor::System) => return Err(Refusal::BadCommand),
        };
        self.check_guest(user)?;
        let Place { desk, slots } = self.check_rules(&Wish {
            user,
            desk,
            placement,
            moving: None,
        })?;
        let booking = self.book(user, &desk, placement.interval, slots);
        let (id, desk, interval) = (booking.id, booking.desk, booking.interval);
        self.emit(
            booking.space,
            EventKind::Booked {
                booking: id,
                desk,
                interval,
            },
        );
        Ok(Outcome::Booking(booking))
    }

    /// Rule 1: the caller may act for that user, who may book.
    fn check_guest(&self, user: UserId) -> Result<(), Refusal> {
        if self.account(user)?.is_active() {
            Ok(())
        } else {
            Err(Refusal::Forbidden)
        }
    }

    /// Writes a booking that has passed the rules.
    fn book(&mut self, user: UserId, desk: &Desk, interval: Interval, slots: u16) -> Booking {
        let booking = Booking {
            id: BookingId::assigned(self.stamp.index, self.ordinal()),
            user,
            space: desk.space,
            hall: desk.hall,
            desk: desk.id,
            interval,
            slots,
            created_at: self.now(),
            cancelled_at: None,
            version: 1,
            index: self.stamp.index,
        };
        keys::booking::put(self.store, &booking);
        keys::booking_of_user::put(self.store, user, booking.id);
        self.occupy(&booking);
        keys::totals::change(self.store, |totals| totals.bookings += 1);
        booking
    }

    fn occupy(&mut self, booking: &Booking) {
        keys::desk_sheet::insert(self.store, booking.space, booking.desk, taken(booking));
        keys::user_sheet::insert(self.store, booking.user, stay(booking));
    }

    fn vacate(&mut self, booking: &Booking) {
        keys::desk_sheet::remove(self.store, booking.space, booking.desk, taken(booking));
        keys::user_sheet::remove(self.store, booking.user, stay(booking));
    }

    pub(super) fn move_booking(
        &mut self,
        id: BookingId,
        desk: Option<DeskId>,
        placement: &Placement,
        expected_version: Option<u32>,
    ) -> Result<Outcome, Refusal> {
        check_coherent(placement)?;
        let old = self.own_booking(id)?;
        check_version(expected_version, old.version)?;
        if old.cancelled_at.is_some() {
            return Err(Refusal::BookingCancelled);
        }
        if old.interval.starts() <= self.now() {
            return Err(Refusal::AlreadyStarted);
        }
        let desk = desk.unwrap_or(old.desk);
        if desk == old.desk && placement.interval == old.interval {
            return Ok(Outcome::Booking(old));
        }
        let wish = Wish {
            user: old.user,
            desk,
            placement,
            moving: Some(id),
        };
        let Place { desk, slots } = self.check_rules(&wish)?;
        let mut new = Booking {
            space: desk.space,
            hall: desk.hall,
            desk: desk.id,
            interval: placement.interval,
            slots,
            ..old.clone()
        };
        self.vacate(&old);
        self.occupy(&new);
        self.save_booking(&mut new);
        self.tell_moved(&old, &new);
        Ok(Outcome::Booking(new))
    }

    fn tell_moved(&mut self, old: &Booking, new: &Booking) {
        let (booking, desk, interval) = (old.id, old.desk, old.interval);
        if old.space == new.space {
            let (from_desk, from) = (desk, interval);
            let (to_desk, to) = (new.desk, new.interval);
            self.emit(
                new.space,
                EventKind::Moved {
                    booking,
                    from_desk,
                    from,
                    to_desk,
                    to,
                },
            );
        } else {
            self.emit(
                old.space,
                EventKind::Cancelled {
                    booking,
                    desk,
                    interval,
                },
            );
            let (desk, interval) = (new.desk, new.interval);
            self.emit(
                new.space,
                EventKind::Booked {
                    booking,
                    desk,
                    interval,
                },
            );
        }
    }

    pub(super) fn cancel_booking(
        &mut self,
        id: BookingId,
        expected_version: Option<u32>,
    ) -> Result<Outcome, Refusal> {
        let booking = self.own_booking(id)?;
        if booking.cancelled_at.is_some() {
            return Ok(Outcome::Booking(booking));
        }
        check_version(expected_version, booking.version)?;
        if booking.interval.starts() <= self.now() {
            return Err(Refusal::AlreadyStarted);
        }
        Ok(Outcome::Booking(self.cancel(booking)))
    }

    /// Cancels a booking that isn't cancelled yet.
    pub(super) fn cancel(&mut self, mut booking: Booking) -> Booking {
        self.vacate(&booking);
        booking.cancelled_at = Some(self.now());
        self.save_booking(&mut booking);
        keys::totals::change(self.store, |totals| {
            totals.bookings -= 1;
            totals.bookings_cancelled += 1;
        });
        let (id, desk, interval) = (booking.id, booking.desk, booking.interval);
        self.emit(
            booking.space,
            EventKind::Cancelled {
                booking: id,
                desk,
                interval,
            },
        );
        booking
    }

    fn save_booking(&mut self, booking: &mut Booking) {
        booking.version += 1;
        booking.index = self.stamp.index;
        keys::booking::put(self.store, booking);
    }

    /// A booking that the caller may act on. Others' bookings don't exist for a member.
    fn own_booking(&self, id: BookingId) -> Result<Booking, Refusal> {
        let authority = self.authority()?;
        keys::booking::get(self.store, id)
            .filter(|booking| authority.covers(booking.user))
            .ok_or(Refusal::NotFound(Kind::Booking))
    }

    /// The first bookings of a user that haven't started, in order of start, at most `limit`.
    pub(super) fn upcoming(&self, user: UserId, limit: usize) -> Vec<BookingId> {
        let today = self.now().day();
        let sheets = (limit + 1) * MAX_SHEETS_PER_BOOKING;
        let mut stays = keys::user_sheet::from_day(self.store, user, today, sheets);
        stays.retain(|stay| stay.interval.starts() > self.now());
        stays.truncate(limit);
        stays.into_iter().map(|stay| stay.booking).collect()
    }

    pub(super) fn import_bookings(
        &mut self,
        space: SpaceId,
        schedule_revision: u32,
        rows: &[ImportRow],
    ) -> Result<Outcome, Refusal> {
        self.require_manager()?;
        let present = keys::space::get(self.store, space);
        let current = present
            .ok_or(Refusal::NotFound(Kind::Space))?
            .schedule_revision;
        if rows.len() > MAX_IMPORT_ROWS {
            return Err(Refusal::Invalid(Invalid::ImportRows));
        }
        if schedule_revision != current {
            return Err(Refusal::StaleSchedule { current });
        }
        let (mut accepted, mut refused, mut first_refusals) = (0, 0, Vec::new());
        for (row, number) in rows.iter().zip(0u16..) {
            match self.import(space, row) {
                Ok(_) => accepted += 1,
                Err(refusal) => {
                    refused += 1;
                    if first_refusals.len() < MAX_IMPORT_REFUSALS {
                        first_refusals.push((number, refusal));
                    }
                }
            }
        }
        if accepted > 0 {
            self.emit(space, EventKind::Imported { bookings: accepted });
        }
        Ok(Outcome::Imported {
            accepted,
            refused,
            first_refusals,
        })
    }

    fn import(&mut self, space: SpaceId, row: &ImportRow) -> Result<Booking, Refusal> {
        self.check_guest(row.user)?;
        let (desk, _) = self.bookable(row.desk)?;
        if desk.space != space {
            return Err(Refusal::NotFound(Kind::Desk));
        }
        let slots = check_slots(row.slots, row.interval)?;
        if row.interval.length_ms() > MAX_BOOKING_MS {
            return Err(Refusal::TooLong);
        }
        self.check_free(&desk, row.user, row.interval, None)?;
        Ok(self.book(row.user, &desk, row.interval, slots))
    }
}

fn taken(booking: &Booking) -> Taken {
    Taken {
        interval: booking.interval,
        booking: booking.id,
    }
}

fn stay(booking: &Booking) -> Stay {
    Stay {
        interval: booking.interval,
        booking: booking.id,
        space: booking.space,
    }
}
