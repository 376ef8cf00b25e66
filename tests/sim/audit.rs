//! The bookings that are left at the end, read from the stored bytes alone and judged by the naive rules.
//!
//! Nothing here uses the sheets and indexes by which the domain decides; they are what is audited.

use std::collections::{BTreeMap, BTreeSet};

use mesto::booking::Instant;
use mesto::booking::account::User;
use mesto::booking::codec;
use mesto::booking::ids::{BookingId, DeskId, UserId};
use mesto::booking::query::{Stay, Taken};
use mesto::booking::reservation::Booking;
use mesto_raft::NodeId;
use mesto_storage::Order;

use crate::checker::history::{Action, History, Outcome, Record, Refusal};
use crate::clients::FIRST_SLOT;
use crate::machine::Running;
use crate::shared::Shared;
use crate::world::World;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The kinds of keys, as their first byte says.
const USER: u8 = 0x01;
const BOOKING: u8 = 0x20;
const BOOKING_OF_USER: u8 = 0x21;
const DESK_SHEET: u8 = 0x22;
const USER_SHEET: u8 = 0x23;

/// Compares the nodes' states byte by byte, and audits one of them.
pub(crate) fn audit(world: &World) {
    let mut states: Vec<(NodeId, Pairs)> = Vec::new();
    for id in world.whole_voters() {
        let Some(running) = world.machines[&id].running() else {
            continue;
        };
        let read = running
            .node
            .state()
            .read(|view| view.scan(&[], &[], Order::Ascending, usize::MAX));
        match read {
            Ok(pairs) => states.push((id, pairs)),
            Err(error) => world.shared.fail(
                "equal states",
                format!("the state of node {id} cannot be read: {error}"),
            ),
        }
    }
    let Some((first, pairs)) = states.first() else {
        return;
    };
    for (id, other) in &states[1..] {
        if other != pairs {
            world.shared.fail(
                "equal states",
                format!("nodes {first} and {id} do not hold the same bytes"),
            );
        }
    }
    let books = Books::read(pairs);
    let history = world.town.history.lock();
    let found = books.and_then(|books| {
        books.check_overlaps()?;
        books.check_sheets()?;
        books.check_history(&history)
    });
    if let Err(what) = found {
        world.shared.fail("audit", what);
    }
}

/// Audits the bookings of one node in the middle of the run.
pub(crate) fn look_at(shared: &Shared, id: NodeId, running: &Running) {
    let read = running
        .node
        .state()
        .read(|view| view.scan(&[], &[], Order::Ascending, usize::MAX));
    // A state that cannot be read is damaged, which others look after.
    let Ok(pairs) = read else { return };
    let found = Books::read(&pairs).and_then(|books| {
        books.check_overlaps()?;
        books.check_sheets()
    });
    if let Err(what) = found {
        shared.fail("audit", format!("on node {id}: {what}"));
    }
}

#[derive(Default)]
struct Books {
    users: BTreeMap<UserId, User>,
    bookings: BTreeMap<BookingId, Booking>,
    of_users: BTreeSet<(UserId, BookingId)>,
    desk_sheets: BTreeSet<(DeskId, u32, u64, u64, BookingId)>,
    user_sheets: BTreeSet<(UserId, u32, u64, u64, BookingId)>,
}

impl Books {
    fn read(pairs: &Pairs) -> Result<Self, String> {
        let mut books = Self::default();
        for (key, value) in pairs {
            books
                .take(key, value)
                .map_err(|error| format!("a stored value of kind {:#04x}: {error}", key[0]))?;
        }
        Ok(books)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), codec::DecodeError> {
        let number = |at: usize| {
            let bytes = key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            u64::from_be_bytes(bytes.unwrap_or_default())
        };
        let day = |at: usize| {
            let bytes = key.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_be_bytes(bytes.unwrap_or_default())
        };
        match key[0] {
            USER => {
                let user: User = codec::decode(value)?;
                self.users.insert(user.id, user);
            }
            BOOKING => {
                let booking: Booking = codec::decode(value)?;
                self.bookings.insert(booking.id, booking);
            }
            BOOKING_OF_USER => {
                self.of_users.insert((
                    UserId::from_number(number(1)),
                    BookingId::from_number(number(9)),
                ));
            }
            DESK_SHEET => {
                let (day, desk) = (day(9), DeskId::from_number(number(13)));
                for taken in codec::decode::<Vec<Taken>>(value)? {
                    let (from, to) = (
                        taken.interval.starts().as_ms(),
                        taken.interval.ends().as_ms(),
                    );
                    self.desk_sheets
                        .insert((desk, day, from, to, taken.booking));
                }
            }
            USER_SHEET => {
                let (user, day) = (UserId::from_number(number(1)), day(9));
                for stay in codec::decode::<Vec<Stay>>(value)? {
                    let (from, to) = (stay.interval.starts().as_ms(), stay.interval.ends().as_ms());
                    self.user_sheets.insert((user, day, from, to, stay.booking));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn active(&self) -> impl Iterator<Item = &Booking> {
        let bookings = self.bookings.values();
        bookings.filter(|booking| booking.cancelled_at.is_none())
    }

    /// No two bookings of one desk, nor of one user, overlap.
    fn check_overlaps(&self) -> Result<(), String> {
        let active: Vec<_> = self.active().collect();
        for (number, one) in active.iter().enumerate() {
            for other in &active[number + 1..] {
                let overlap = one.interval.overlaps(other.interval);
                if overlap && (one.desk == other.desk || one.user == other.user) {
                    return Err(format!("{} and {} overlap", one.id, other.id));
                }
            }
        }
        Ok(())
    }

    /// Sheets and indexes hold exactly what the bookings say.
    fn check_sheets(&self) -> Result<(), String> {
        let mut desks = BTreeSet::new();
        let mut users = BTreeSet::new();
        for booking in self.active() {
            let (from, to) = (
                booking.interval.starts().as_ms(),
                booking.interval.ends().as_ms(),
            );
            for day in booking.interval.days() {
                desks.insert((booking.desk, day.number(), from, to, booking.id));
                users.insert((booking.user, day.number(), from, to, booking.id));
            }
        }
        let of_users: BTreeSet<_> = self
            .bookings
            .values()
            .map(|booking| (booking.user, booking.id))
            .collect();
        if desks != self.desk_sheets {
            return Err("the sheets of the desks are not what the bookings say".to_owned());
        }
        if users != self.user_sheets {
            return Err("the sheets of the users are not what the bookings say".to_owned());
        }
        if of_users != self.of_users {
            return Err(
                "the lists of the users' bookings are not what the bookings say".to_owned(),
            );
        }
        Ok(())
    }

    /// Every acknowledged write is there; what is there was asked for.
    fn check_history(&self, history: &History) -> Result<(), String> {
        let by_id: BTreeMap<String, &Booking> = self
            .bookings
            .iter()
            .map(|(id, booking)| (id.to_string(), booking))
            .collect();
        let mut made = BTreeSet::new();
        let mut may_be_cancelled = BTreeSet::new();
        let mut must_be_cancelled = BTreeSet::new();
        for record in &history.records {
            let booking = acknowledged(record);
            match &record.action {
                Action::Create { .. } => made.extend(booking),
                Action::Cancel {
                    booking: wanted, ..
                } => {
                    may_be_cancelled.insert(wanted.to_string());
                    must_be_cancelled.extend(booking);
                }
                _ => {}
            }
        }
        for id in &made {
            let booking = by_id
                .get(id)
                .ok_or(format!("{id} was acknowledged and is not there"))?;
            if booking.cancelled_at.is_some() && !may_be_cancelled.contains(id) {
                return Err(format!("{id} was acknowledged, and cancelled by nobody"));
            }
        }
        for id in &must_be_cancelled {
            let booking = by_id
                .get(id)
                .ok_or(format!("{id} was cancelled and is not there"))?;
            if booking.cancelled_at.is_none() {
                return Err(format!(
                    "{id} is active though its cancelling was acknowledged"
                ));
            }
        }
        self.check_asked_for(history, &made)
    }

    /// For each booking that nobody was told of there is a create of its own that nobody was ever told the end of, by the
    /// same user, of the same desk and slots. (Clients move and cancel only what they were told of.)
    fn check_asked_for(&self, history: &History, made: &BTreeSet<String>) -> Result<(), String> {
        let mut open = open_creates(history);
        for booking in self.bookings.values() {
            // What operators brought in is on days of its own.
            if made.contains(&booking.id.to_string()) || !is_on_the_day(booking) {
                continue;
            }
            let email = self
                .users
                .get(&booking.user)
                .and_then(|user| user.email.as_ref());
            let name = email.map_or("", |email| {
                email.as_str().split('@').next().unwrap_or_default()
            });
            let wanted = Wanted {
                user: name.to_owned(),
                desk: booking.desk.to_string(),
                slots: (hour(booking.interval.starts())..hour(booking.interval.ends())).collect(),
            };
            match open.get_mut(&wanted) {
                Some(left) if *left > 0 => *left -= 1,
                _ => {
                    return Err(format!(
                        "nobody was told of {}, and nobody waits for it: {wanted:?}",
                        booking.id
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What a create asks for.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    user: String,
    desk: String,
    slots: Vec<u64>,
}

/// The creates of which nobody knows what became, each key once: how many of each kind.
fn open_creates(history: &History) -> BTreeMap<Wanted, usize> {
    let mut tries: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    for (number, record) in history.records.iter().enumerate() {
        if let Action::Create { user, key, .. } = &record.action {
            let name = key.as_ref().map_or(format!("without key {number}"), |key| {
                format!("{user} {key}")
            });
            tries.entry(name).or_default().push(record);
        }
    }
    let is_settled = |record: &&Record| {
        let answer = record.answer.as_ref();
        answer.is_some_and(|answer| answer.outcome != Outcome::Refused(Refusal::NotApplied))
    };
    let mut open = BTreeMap::new();
    for tries in tries.values() {
        if tries.iter().any(is_settled) || tries.iter().all(|record| record.answer.is_some()) {
            continue;
        }
        if let Action::Create {
            user, desk, slots, ..
        } = &tries[0].action
        {
            let wanted = Wanted {
                user: user.to_string(),
                desk: desk.to_string(),
                slots: slots.clone(),
            };
            *open.entry(wanted).or_default() += 1;
        }
    }
    open
}

fn hour(at: Instant) -> u64 {
    at.as_ms() / 3_600_000
}

/// Whether it is one of those that clients fight for.
fn is_on_the_day(booking: &Booking) -> bool {
    hour(booking.interval.starts()) < FIRST_SLOT + 24
}

/// The booking that a client was told of.
fn acknowledged(record: &Record) -> Option<String> {
    match &record.answer.as_ref()?.outcome {
        Outcome::Booking(sight) => Some(sight.booking.to_string()),
        _ => None,
    }
}
