//! What reads need: functions over a [`Store`], each one consistent view.
//!
//! Queries decide nothing. They see all that there is; whether the asker may see it is for the
//! layer above. Every list is bounded, by a `limit` or by what apply lets exist.

use super::Stamp;
use super::account::{Credential, Session, SigningKey, User};
use super::command::{DedupKey, Fingerprint};
use super::ids::{BookingId, DeskId, HallId, KeyId, SessionId, SpaceId, UserId};
use super::instant::{Instant, Interval};
use super::keys;
pub use super::keys::desk_sheet::Taken;
pub use super::keys::user_sheet::Stay;
use super::layout::{Desk, Hall, MAX_DAYS_AHEAD, Space};
use super::reply::Reply;
use super::reservation::{Booking, BookingStatus, Event, Totals};
use super::secret::TokenHash;
use super::store::Store;
use super::text::{Email, Label, Slug, TimeZoneName};
use std::collections::{BTreeMap, BTreeSet};

/// The most items on one page of a list.
pub const MAX_PAGE_ITEMS: usize = 100;
/// The most bookings that one page looks at to find those of a status.
pub const MAX_EXAMINED: usize = 2_000;

/// A page of a list, and where the next begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The items in order. With a filter there may be fewer than asked for, even none, though
    /// more follow.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` if this is the last.
    pub next: Option<C>,
}

/// A booking with what is needed to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookingDetails {
    /// The booking.
    pub booking: Booking,
    /// What stands on the desk today.
    pub desk_label: Label,
    /// The space's time zone today.
    pub time_zone: TimeZoneName,
}

/// An account.
#[must_use]
pub fn user(store: &dyn Store, id: UserId) -> Option<User> {
    keys::user::get(store, id)
}

/// The account with an address.
#[must_use]
pub fn user_by_email(store: &dyn Store, email: &Email) -> Option<User> {
    user(store, keys::user_by_email::get(store, email)?)
}

/// Accounts, oldest first; `after` is the last one of the page before.
#[must_use]
pub fn users(store: &dyn Store, after: Option<UserId>, limit: usize) -> Page<User, UserId> {
    page(
        limit,
        |limit| keys::user::list(store, after, limit),
        |user| user.id,
    )
}

/// What a user's password is checked against; `None` for erased accounts.
#[must_use]
pub fn credential(store: &dyn Store, user: UserId) -> Option<Credential> {
    keys::credential::get(store, user)
}

/// A session, whether or not it has expired.
#[must_use]
pub fn session(store: &dyn Store, id: SessionId) -> Option<Session> {
    keys::session::get(store, id)
}

/// The session that a refresh token belongs, or belonged, to. Only a hint: exchanging the token
/// decides.
#[must_use]
pub fn session_by_token(store: &dyn Store, hash: TokenHash) -> Option<Session> {
    session(store, keys::session_by_token::get(store, hash)?)
}

/// A user's sessions, oldest first.
#[must_use]
pub fn sessions_of_user(store: &dyn Store, user: UserId) -> Vec<Session> {
    let sessions = keys::session_of_user::all(store, user);
    sessions
        .into_iter()
        .filter_map(|id| session(store, id))
        .collect()
}

/// The keys that access tokens are verified with, oldest first; the last one signs.
#[must_use]
pub fn signing_keys(store: &dyn Store) -> Vec<SigningKey> {
    keys::signing_key::all(store)
}

/// One of them.
#[must_use]
pub fn signing_key(store: &dyn Store, id: KeyId) -> Option<SigningKey> {
    keys::signing_key::get(store, id)
}

/// A space.
#[must_use]
pub fn space(store: &dyn Store, id: SpaceId) -> Option<Space> {
    keys::space::get(store, id)
}

/// The space that a path names, by id or by slug.
#[must_use]
pub fn space_by_id_or_slug(store: &dyn Store, name: &str) -> Option<Space> {
    let id = match name.parse::<SpaceId>() {
        Ok(id) => id,
        Err(_) => keys::space_by_slug::get(store, &name.parse::<Slug>().ok()?)?,
    };
    space(store, id)
}

/// Spaces, oldest first; `after` is the last one of the page before.
#[must_use]
pub fn spaces(store: &dyn Store, after: Option<SpaceId>, limit: usize) -> Page<Space, SpaceId> {
    page(
        limit,
        |limit| keys::space::list(store, after, limit),
        |space| space.id,
    )
}

/// A hall.
#[must_use]
pub fn hall(store: &dyn Store, id: HallId) -> Option<Hall> {
    keys::hall::get(store, keys::hall_by_id::get(store, id)?, id)
}

/// The halls of a space, oldest first.
#[must_use]
pub fn halls(store: &dyn Store, space: SpaceId) -> Vec<Hall> {
    keys::hall::of_space(store, space)
}

/// A desk.
#[must_use]
pub fn desk(store: &dyn Store, id: DeskId) -> Option<Desk> {
    keys::desk::get(store, id)
}

/// The desks of a space, hall by hall, the inactive ones included.
#[must_use]
pub fn desks_of_space(store: &dyn Store, space: SpaceId) -> Vec<Desk> {
    let desks = keys::desk_of_space::of_space(store, space);
    desks.into_iter().filter_map(|id| desk(store, id)).collect()
}

/// The desks of a hall, the inactive ones included.
#[must_use]
pub fn desks_of_hall(store: &dyn Store, hall: &Hall) -> Vec<Desk> {
    let desks = keys::desk_of_space::of_hall(store, hall.space, hall.id);
    desks.into_iter().filter_map(|id| desk(store, id)).collect()
}

/// Which desks of a space are taken within a span of time, and when: in order of desk, then of
/// start, each booking once and whole. Costs one scan for each UTC day that the span touches.
#[must_use]
pub fn occupied(store: &dyn Store, space: SpaceId, span: Interval) -> BTreeMap<DeskId, Vec<Taken>> {
    let mut occupied: BTreeMap<DeskId, Vec<Taken>> = BTreeMap::new();
    for day in span.days() {
        for (desk, sheet) in keys::desk_sheet::of_day(store, space, day) {
            let within = sheet
                .into_iter()
                .filter(|taken| taken.interval.overlaps(span));
            for taken in within {
                let row = occupied.entry(desk).or_default();
                if row.last() != Some(&taken) {
                    row.push(taken);
                }
            }
        }
    }
    occupied
}

/// When a desk is taken within a span of time, in order.
#[must_use]
pub fn desk_occupied(store: &dyn Store, desk: &Desk, span: Interval) -> Vec<Taken> {
    let mut row: Vec<Taken> = Vec::new();
    for day in span.days() {
        let sheet = keys::desk_sheet::get(store, desk.space, day, desk.id);
        for taken in sheet
            .into_iter()
            .filter(|taken| taken.interval.overlaps(span))
        {
            if row.last() != Some(&taken) {
                row.push(taken);
            }
        }
    }
    row
}

/// Where a user is expected within a span of time, in order.
#[must_use]
pub fn stays(store: &dyn Store, user: UserId, span: Interval) -> Vec<Stay> {
    let mut row: Vec<Stay> = Vec::new();
    for day in span.days() {
        let sheet = keys::user_sheet::get(store, user, day);
        for stay in sheet
            .into_iter()
            .filter(|stay| stay.interval.overlaps(span))
        {
            if row.last() != Some(&stay) {
                row.push(stay);
            }
        }
    }
    row
}

/// A booking.
#[must_use]
pub fn booking(store: &dyn Store, id: BookingId) -> Option<Booking> {
    keys::booking::get(store, id)
}

/// A booking with its desk's label and its space's time zone.
///
/// # Panics
/// The booking's desk or space isn't there, which nothing ever removes.
#[must_use]
pub fn booking_details(store: &dyn Store, booking: Booking) -> BookingDetails {
    let desk = desk(store, booking.desk).expect("desks are never deleted");
    let space = space(store, booking.space).expect("spaces are never deleted");
    BookingDetails {
        booking,
        desk_label: desk.label,
        time_zone: space.details.time_zone,
    }
}

/// A user's bookings, newest first; `before` is the last one looked at for the page before.
/// At most [`MAX_PAGE_ITEMS`] items, and at most [`MAX_EXAMINED`] bookings are looked at.
#[must_use]
pub fn bookings_of_user(
    store: &dyn Store,
    user: UserId,
    status: Option<BookingStatus>,
    before: Option<BookingId>,
    limit: usize,
    now: Instant,
) -> Page<Booking, BookingId> {
    let limit = limit.clamp(1, MAX_PAGE_ITEMS);
    if status == Some(BookingStatus::Active) {
        return active_bookings(store, user, before, limit, now);
    }
    let mut items = Vec::new();
    let mut cursor = before;
    for _ in 0..MAX_EXAMINED.div_ceil(limit) {
        let ids = keys::booking_of_user::newest(store, user, cursor, limit);
        let last = ids.len() < limit;
        for id in ids {
            let booking = booking(store, id).expect("the index of a user's bookings names them");
            cursor = Some(id);
            if status.is_none_or(|wanted| booking.status(now) == wanted) {
                items.push(booking);
                if items.len() == limit {
                    return finish(items, |id| {
                        !keys::booking_of_user::newest(store, user, Some(id), 1).is_empty()
                    });
                }
            }
        }
        if last {
            return Page { items, next: None };
        }
    }
    Page {
        items,
        next: cursor,
    }
}

/// Active bookings are few among many: the user's sheets from today on name exactly those.
fn active_bookings(
    store: &dyn Store,
    user: UserId,
    before: Option<BookingId>,
    limit: usize,
    now: Instant,
) -> Page<Booking, BookingId> {
    let sheets = usize::from(MAX_DAYS_AHEAD) + 31;
    let ids: BTreeSet<BookingId> = keys::user_sheet::from_day(store, user, now.day(), sheets)
        .into_iter()
        .filter(|stay| stay.interval.ends() > now)
        .map(|stay| stay.booking)
        .filter(|id| before.is_none_or(|before| *id < before))
        .collect();
    let oldest = ids.first().copied();
    let read = |id: &BookingId| booking(store, *id).expect("a sheet names bookings that exist");
    let items = ids.iter().rev().take(limit).map(read).collect();
    finish(items, |id| oldest.is_some_and(|oldest| oldest < id))
}

fn finish(
    items: Vec<Booking>,
    more_after: impl FnOnce(BookingId) -> bool,
) -> Page<Booking, BookingId> {
    let last = items.last().map(|booking| booking.id);
    Page {
        next: last.filter(|id| more_after(*id)),
        items,
    }
}

/// Desks of the same hall that are active and free in the interval, the nearest first, at most
/// `limit`.
#[must_use]
pub fn alternatives(store: &dyn Store, desk: &Desk, interval: Interval, limit: usize) -> Vec<Desk> {
    let Some(hall) = keys::hall::get(store, desk.space, desk.hall) else {
        return Vec::new();
    };
    let occupied = occupied(store, desk.space, interval);
    let mut free: Vec<Desk> = desks_of_hall(store, &hall)
        .into_iter()
        .filter(|other| other.active && other.id != desk.id && !occupied.contains_key(&other.id))
        .collect();
    free.sort_by_key(|other| (distance_squared(desk, other), other.id));
    free.truncate(limit);
    free
}

fn distance_squared(a: &Desk, b: &Desk) -> u64 {
    let dx = u64::from(a.at.x.abs_diff(b.at.x));
    let dy = u64::from(a.at.y.abs_diff(b.at.y));
    dx * dx + dy * dy
}

/// The events of a space after a log index, in order: at least `limit` of them if there are as
/// many, and never only a part of one index's.
#[must_use]
pub fn events_since(
    store: &dyn Store,
    space: SpaceId,
    after_index: u64,
    limit: usize,
) -> Vec<Event> {
    let limit = limit.max(1);
    let mut from = (after_index.saturating_add(1), 0);
    let mut events: Vec<Event> = Vec::new();
    loop {
        let more = keys::event::from(store, space, from, limit);
        let complete = more.len() < limit;
        let full = events.last().map(|event| event.index);
        let rest = more
            .into_iter()
            .take_while(|event| full.is_none_or(|index| event.index == index));
        let before = events.len();
        events.extend(rest);
        if complete || events.len() - before < limit {
            return events;
        }
        let last = events.last().expect("a full page has a last event");
        from = (last.index, last.ordinal + 1);
    }
}

/// The newest event of a space.
#[must_use]
pub fn newest_event(store: &dyn Store, space: SpaceId) -> Option<Event> {
    keys::event::newest(store, space)
}

/// The oldest event of a space that is still kept.
#[must_use]
pub fn oldest_event(store: &dyn Store, space: SpaceId) -> Option<Event> {
    keys::event::from(store, space, (0, 0), 1).pop()
}

/// Up to which index events of a space have been removed; 0 if none were. Whoever has seen this
/// index or a later one can go on with [`events_since`] without a gap.
#[must_use]
pub fn event_floor(store: &dyn Store, space: SpaceId) -> u64 {
    keys::event_floor::get(store, space)
}

/// What a command under this key would be told without being decided: the answer that the key got
/// before, or that it was used for something else. `None` if it would be decided.
#[must_use]
pub fn answer(
    store: &dyn Store,
    dedup: DedupKey,
    fingerprint: Fingerprint,
    stamp: Stamp,
) -> Option<Reply> {
    let answer = keys::answer::get(store, dedup, stamp.now)?;
    Some(answer.replay(fingerprint, stamp))
}

/// How much of everything there is.
#[must_use]
pub fn totals(store: &dyn Store) -> Totals {
    keys::totals::get(store)
}

fn page<T, C>(
    limit: usize,
    list: impl FnOnce(usize) -> Vec<T>,
    cursor: impl Fn(&T) -> C,
) -> Page<T, C> {
    let limit = limit.clamp(1, MAX_PAGE_ITEMS);
    let mut items = list(limit + 1);
    let more = items.len() > limit;
    items.truncate(limit);
    Page {
        next: items.last().filter(|_| more).map(cursor),
        items,
    }
}
