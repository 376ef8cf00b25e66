//! Bookings: making, moving, cancelling, reading, bringing in.
//!
//! What a booking needs of local time is computed here, from the schedule that this node has, and sent along with the
//! schedule's revision. Where the state machine finds that revision stale, this node catches up to the index at which
//! it said so, computes again and proposes again under the same key; the state machine does not remember such an
//! answer, so the second try counts.
//!
//! A retry under a key may come when the interval cannot be placed any more, because the booking has moved or the
//! schedule has changed. It still gets the first answer: see `Service::original`.

use std::collections::BTreeMap;

use super::{
    Admin, Caller, Consistency, Context, Failure, Proposed, Seen, Service, Sight, Write,
    failure::FieldError, layout::unexpected, schedule::Schedule,
};
use crate::{
    booking::{
        Actor, Command, Instant, Interval, Outcome, Placement, Refusal,
        account::Role,
        command::{GridRefusal, ImportRow},
        ids::{BookingId, DeskId, UserId},
        query::{self, BookingDetails},
        reservation::{Booking, BookingStatus},
    },
    limits::{ALTERNATIVES_MAX, SCHEDULE_RETRIES},
};

/// A booking to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewBooking {
    /// For whom, if not for the caller.
    pub user: Option<UserId>,
    /// Which desk.
    pub desk: DeskId,
    /// From when.
    pub starts_at: Instant,
    /// Until when; one slot if left out.
    pub ends_at: Option<Instant>,
}

/// A change of a booking. What is left out stays; a new start without an end keeps the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Which booking.
    pub booking: BookingId,
    /// To which desk.
    pub desk: Option<DeskId>,
    /// From when.
    pub starts_at: Option<Instant>,
    /// Until when.
    pub ends_at: Option<Instant>,
    /// Only if it still has this version.
    pub expected_version: Option<u32>,
}

/// Which of a user's bookings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// Only with this status.
    pub status: Option<BookingStatus>,
    /// The last one of the page before.
    pub before: Option<BookingId>,
    /// How many.
    pub limit: usize,
}

/// A booking as it is shown: with what stands on the desk, and its status at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The booking, its desk's label and its space's time zone.
    pub details: BookingDetails,
    /// Its status now.
    pub status: BookingStatus,
}

/// A booking to bring in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportLine {
    /// For whom: an id or an e-mail.
    pub user: String,
    /// Which desk.
    pub desk: DeskId,
    /// From when.
    pub starts_at: Instant,
    /// Until when; one slot if left out.
    pub ends_at: Option<Instant>,
}

/// What became of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// How many were booked.
    pub accepted: u32,
    /// How many were not.
    pub refused: u32,
    /// The first that were not, by number from 0, and why.
    pub first_refusals: Vec<(u16, Refusal)>,
}

/// An interval on the grid and how many slots it covers, or what is wrong with it.
type OnGrid = Result<(Interval, u16), Failure>;

/// One try to place an interval: either what to propose, or what is wrong already.
type Placed = Result<Placement, Failure>;

impl Service {
    /// Books a desk.
    ///
    /// # Errors
    /// The first rule that says no, or why it could not be decided.
    pub async fn book(
        &self,
        context: &Context,
        caller: &Caller,
        write: &Write,
        wanted: NewBooking,
    ) -> Result<Seen<Shown>, Failure> {
        let place = |sight: &Sight<'_>| place_new(sight, &wanted);
        let command = |placement| Command::CreateBooking {
            for_user: wanted.user,
            desk: wanted.desk,
            placement,
        };
        self.placed(context, caller, write, wanted.desk, place, command)
            .await
    }

    /// Moves a booking to another time, another desk, or both.
    ///
    /// # Errors
    /// The first rule that says no, or why it could not be decided.
    pub async fn move_booking(
        &self,
        context: &Context,
        caller: &Caller,
        write: &Write,
        wanted: Move,
    ) -> Result<Seen<Shown>, Failure> {
        let found = self.read(Some(caller), Consistency::Linearizable, |sight| {
            own(sight, wanted.booking)
        });
        let booking = match found.await?.value {
            Ok(booking) => booking,
            Err(failure) => return self.first_booking(caller, write, failure).await,
        };
        let desk = wanted.desk.unwrap_or(booking.desk);
        let place = |sight: &Sight<'_>| place_moved(sight, &wanted);
        let command = |placement| Command::MoveBooking {
            booking: wanted.booking,
            desk: wanted.desk,
            placement,
            expected_version: wanted.expected_version,
        };
        self.placed(context, caller, write, desk, place, command)
            .await
    }

    /// Cancels a booking; cancelling it twice changes nothing.
    ///
    /// # Errors
    /// Where it is not the caller's, has started, or it could not be decided.
    pub async fn cancel(
        &self,
        context: &Context,
        caller: &Caller,
        write: &Write,
        booking: BookingId,
        expected_version: Option<u32>,
    ) -> Result<Seen<Shown>, Failure> {
        let command = Command::CancelBooking {
            booking,
            expected_version,
        };
        let proposed = self
            .propose(context, Actor::Member(caller.user), write, command)
            .await?;
        self.show(proposed).await
    }

    /// A booking of the caller's, or any for an administrator.
    ///
    /// # Errors
    /// Where there is none that the caller may know of.
    pub async fn booking(
        &self,
        caller: &Caller,
        consistency: Consistency,
        booking: BookingId,
    ) -> Result<Seen<Shown>, Failure> {
        let seen = self.read(Some(caller), consistency, |sight| {
            own(sight, booking).map(|booking| shown(sight, booking))
        });
        let Seen { value, index } = seen.await?;
        Ok(Seen {
            value: value?,
            index,
        })
    }

    /// The caller's bookings, newest first, and where the next page begins.
    ///
    /// # Errors
    /// Where the state cannot be had that fresh.
    pub async fn bookings(
        &self,
        caller: &Caller,
        consistency: Consistency,
        listing: Listing,
    ) -> Result<Seen<(Vec<Shown>, Option<BookingId>)>, Failure> {
        self.read(Some(caller), consistency, |sight| {
            page(sight, caller.user, listing)
        })
        .await
    }

    /// Brings in many bookings of one space; rows that the rules refuse are left out.
    ///
    /// # Errors
    /// Where the space, a user or a desk is not known, a row does not lie on the grid, or it could not be decided.
    pub async fn import(
        &self,
        context: &Context,
        admin: &Admin,
        write: &Write,
        space: &str,
        lines: &[ImportLine],
    ) -> Result<Seen<Imported>, Failure> {
        for _ in 0..SCHEDULE_RETRIES {
            let rows = self.read_as_admin(admin, |sight| import_rows(sight, space, lines));
            let proposed = match rows.await.and_then(|seen| seen.value) {
                Ok(command) => self.propose(context, admin.actor(), write, command).await,
                Err(failure) => self.original(admin.actor(), write, failure).await,
            };
            match proposed {
                Err(Failure::Refused(refused))
                    if matches!(refused.refusal, Refusal::StaleSchedule { .. }) => {}
                proposed => return imported(proposed?),
            }
        }
        Err(Failure::refused(Refusal::StaleSchedule { current: 0 }, 0))
    }

    /// Places an interval and proposes the command, again as often as the schedule changes in between, bounded.
    async fn placed(
        &self,
        context: &Context,
        caller: &Caller,
        write: &Write,
        desk: DeskId,
        place: impl Fn(&Sight<'_>) -> Placed,
        command: impl Fn(Placement) -> Command,
    ) -> Result<Seen<Shown>, Failure> {
        let mut stale = None;
        for _ in 0..SCHEDULE_RETRIES {
            let placement = match self.place_here(&place).await {
                Ok(placement) => placement,
                Err(failure) => return self.first_booking(caller, write, failure).await,
            };
            let proposed = self
                .propose(
                    context,
                    Actor::Member(caller.user),
                    write,
                    command(placement),
                )
                .await;
            match proposed {
                Ok(proposed) => return self.show(proposed).await,
                Err(Failure::Refused(refused))
                    if matches!(refused.refusal, Refusal::StaleSchedule { .. }) =>
                {
                    self.replica
                        .wait_applied(refused.index, self.read_deadline())
                        .await?;
                    stale = Some(Failure::Refused(refused));
                }
                Err(Failure::Refused(mut refused))
                    if matches!(refused.refusal, Refusal::SlotTaken { .. }) =>
                {
                    refused.alternatives = self.alternatives(desk, placement.interval);
                    return Err(Failure::Refused(refused));
                }
                Err(other) => return Err(other),
            }
        }
        Err(stale.unwrap_or(Failure::Internal("a placement was never tried")))
    }

    /// Places by the local state; where that does not know the desk or the booking, by a state that must know it.
    async fn place_here(&self, place: impl Fn(&Sight<'_>) -> Placed) -> Placed {
        match self.look(&place)?.value {
            Err(Failure::NotFound(_)) => {
                self.read(None, Consistency::Linearizable, &place)
                    .await?
                    .value
            }
            placed => placed,
        }
    }

    /// Free desks near one that is taken; none where this node cannot tell, since the answer is a refusal all the same.
    fn alternatives(&self, desk: DeskId, interval: Interval) -> Vec<(String, String)> {
        let seen = self.look(|sight| {
            let desk = query::desk(sight.store, desk)?;
            let free = query::alternatives(sight.store, &desk, interval, ALTERNATIVES_MAX);
            Some(
                free.iter()
                    .map(|desk| (desk.id.to_string(), desk.label.to_string()))
                    .collect(),
            )
        });
        seen.ok().and_then(|seen| seen.value).unwrap_or_default()
    }

    /// The booking that the first request under this key came to, where this one cannot be proposed.
    async fn first_booking(
        &self,
        caller: &Caller,
        write: &Write,
        failure: Failure,
    ) -> Result<Seen<Shown>, Failure> {
        let actor = Actor::Member(caller.user);
        self.show(self.original(actor, write, failure).await?).await
    }

    /// What to show of a booking that was just decided.
    async fn show(&self, proposed: Proposed) -> Result<Seen<Shown>, Failure> {
        let Proposed { index, outcome } = proposed;
        let Outcome::Booking(booking) = outcome else {
            return Err(unexpected());
        };
        let value = self.details(booking, index).await;
        value
            .map(|value| Seen { value, index })
            .map_err(Failure::after)
    }

    /// A booking with its desk's label and its space's time zone. They rarely change and are never removed, so this
    /// node's state will do, however old, unless it is too old to have them.
    async fn details(&self, booking: Booking, index: u64) -> Result<Shown, Failure> {
        let known = |sight: &Sight<'_>| {
            query::desk(sight.store, booking.desk)?;
            query::space(sight.store, booking.space)?;
            Some(shown(sight, booking.clone()))
        };
        if let Some(shown) = self.look(known)?.value {
            return Ok(shown);
        }
        self.replica
            .wait_applied(index, self.read_deadline())
            .await?;
        self.look(known)?
            .value
            .ok_or(Failure::Internal("a booking's desk is not there"))
    }
}

/// A page of a user's bookings, for their list and for their export.
pub(super) fn page(
    sight: &Sight<'_>,
    user: UserId,
    listing: Listing,
) -> (Vec<Shown>, Option<BookingId>) {
    let Listing {
        status,
        before,
        limit,
    } = listing;
    let page = query::bookings_of_user(sight.store, user, status, before, limit, sight.now);
    (
        page.items
            .into_iter()
            .map(|booking| shown(sight, booking))
            .collect(),
        page.next,
    )
}

fn shown(sight: &Sight<'_>, booking: Booking) -> Shown {
    let status = booking.status(sight.now);
    Shown {
        details: query::booking_details(sight.store, booking),
        status,
    }
}

/// The booking, if who looks may know of it.
fn own(sight: &Sight<'_>, id: BookingId) -> Result<Booking, Failure> {
    let booking = query::booking(sight.store, id);
    let may = |booking: &Booking| {
        let sees = |caller: Caller| booking.user == caller.user || caller.role == Role::Admin;
        sight.caller.is_some_and(sees)
    };
    booking.filter(may).ok_or(Failure::NotFound("booking"))
}

fn place_new(sight: &Sight<'_>, wanted: &NewBooking) -> Placed {
    place_on(sight, wanted.desk, |schedule| {
        let ends_at = wanted
            .ends_at
            .unwrap_or_else(|| schedule.slot_end(wanted.starts_at));
        (wanted.starts_at, ends_at)
    })
}

/// Whoever gets here may know of the booking: that was read before.
fn place_moved(sight: &Sight<'_>, wanted: &Move) -> Placed {
    let now = query::booking(sight.store, wanted.booking).ok_or(Failure::NotFound("booking"))?;
    place_on(sight, wanted.desk.unwrap_or(now.desk), |_| {
        let starts_at = wanted.starts_at.unwrap_or(now.interval.starts());
        let kept = match wanted.starts_at {
            Some(starts_at) => starts_at.plus_ms(now.interval.length_ms()),
            None => now.interval.ends(),
        };
        (starts_at, wanted.ends_at.unwrap_or(kept))
    })
}

fn place_on(
    sight: &Sight<'_>,
    desk: DeskId,
    span: impl FnOnce(&Schedule<'_>) -> (Instant, Instant),
) -> Placed {
    let desk = query::desk(sight.store, desk).ok_or(Failure::NotFound("desk"))?;
    let space = query::space(sight.store, desk.space).ok_or(Failure::NotFound("space"))?;
    let schedule = Schedule::of(&space).ok_or(Failure::Internal(
        "the space's time zone is not known to this node",
    ))?;
    let (starts_at, ends_at) = span(&schedule);
    let interval = interval(starts_at, ends_at, "/ends_at")?;
    schedule.place(interval).ok_or_else(beyond_the_calendar)
}

fn interval(starts_at: Instant, ends_at: Instant, pointer: &str) -> Result<Interval, Failure> {
    Interval::new(starts_at, ends_at)
        .map_err(|error| Failure::field(pointer, "out_of_range", error.to_string()))
}

fn beyond_the_calendar() -> Failure {
    Failure::field("/starts_at", "out_of_range", "that is beyond the calendar")
}

fn import_rows(sight: &Sight<'_>, space: &str, lines: &[ImportLine]) -> Result<Command, Failure> {
    let space = query::space_by_id_or_slug(sight.store, space).ok_or(Failure::NotFound("space"))?;
    let schedule = Schedule::of(&space).ok_or(Failure::Internal(
        "the space's time zone is not known to this node",
    ))?;
    let mut users: BTreeMap<&str, Option<UserId>> = BTreeMap::new();
    let mut grid: BTreeMap<(Instant, Option<Instant>), OnGrid> = BTreeMap::new();
    let mut rows = Vec::with_capacity(lines.len());
    for (number, line) in lines.iter().enumerate() {
        let user = *users
            .entry(line.user.as_str())
            .or_insert_with(|| find_user(sight, &line.user));
        let user = user.ok_or_else(|| {
            Failure::field(
                &format!("/bookings/{number}/user"),
                "not_found",
                "there is no such user",
            )
        })?;
        let span = grid
            .entry((line.starts_at, line.ends_at))
            .or_insert_with(|| on_grid(&schedule, line));
        let (interval, slots) = span.clone().map_err(|failure| in_row(failure, number))?;
        rows.push(ImportRow {
            user,
            desk: line.desk,
            interval,
            slots,
        });
    }
    Ok(Command::ImportBookings {
        space: space.id,
        schedule_revision: space.schedule_revision,
        rows,
    })
}

fn imported(proposed: Proposed) -> Result<Seen<Imported>, Failure> {
    let Proposed { index, outcome } = proposed;
    let Outcome::Imported {
        accepted,
        refused,
        first_refusals,
    } = outcome
    else {
        return Err(unexpected());
    };
    let value = Imported {
        accepted,
        refused,
        first_refusals,
    };
    Ok(Seen { value, index })
}

fn find_user(sight: &Sight<'_>, name: &str) -> Option<UserId> {
    match name.parse::<UserId>() {
        Ok(id) => query::user(sight.store, id).map(|user| user.id),
        Err(_) => query::user_by_email(sight.store, &name.parse().ok()?).map(|user| user.id),
    }
}

fn on_grid(schedule: &Schedule<'_>, line: &ImportLine) -> OnGrid {
    let ends_at = line
        .ends_at
        .unwrap_or_else(|| schedule.slot_end(line.starts_at));
    let interval = interval(line.starts_at, ends_at, "/ends_at")?;
    let placement = schedule.place(interval).ok_or_else(beyond_the_calendar)?;
    match placement.grid {
        Ok(grid) => Ok((interval, grid.slots)),
        Err(GridRefusal::OffGrid) => Err(Failure::field(
            "/starts_at",
            "off_grid",
            "it is not made of whole slots",
        )),
        Err(GridRefusal::OutsideOpeningHours) => Err(Failure::field(
            "/starts_at",
            "outside_opening_hours",
            "the space is not open then",
        )),
        Err(GridRefusal::Closed) => Err(Failure::field(
            "/starts_at",
            "closed",
            "the space is closed on that date",
        )),
    }
}

fn in_row(failure: Failure, number: usize) -> Failure {
    match failure {
        Failure::Fields(errors) => Failure::Fields(
            errors
                .into_iter()
                .map(|error| FieldError {
                    pointer: format!("/bookings/{number}{}", error.pointer),
                    ..error
                })
                .collect(),
        ),
        other => other,
    }
}
