//! The domain against a naive model: a plain list of bookings and the rules of the contract
//! written down a second time, without sheets, keys or bytes.
//!
//! Whatever sequence of commands comes, both must answer alike; the store must end up with the
//! same bookings on its sheets; and a second replica that applies the same bytes must end up with
//! the same bytes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::model::Model;
use crate::world::{World, moment};
use mesto_booking::account::Role;
use mesto_booking::command::{Command, Grid, GridRefusal};
use mesto_booking::ids::{BookingId, DeskId, HallId, UserId};
use mesto_booking::instant::{DAY_MS, MINUTE_MS};
use mesto_booking::layout::Rules;
use mesto_booking::reservation::{Booking, BookingStatus};
use mesto_booking::{
    Actor, DedupKey, Envelope, Fingerprint, Instant, Interval, MemoryStore, Outcome, Placement,
    Refusal, Stamp, apply, decode_reply, query,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const USERS: usize = 4;
const DESKS: usize = 4;

/// One step of a random history, in small numbers that meet each other often.
#[derive(Clone, Debug)]
enum Step {
    Create {
        actor: usize,
        for_user: Option<usize>,
        desk: usize,
        time: Time,
    },
    Move {
        actor: usize,
        booking: usize,
        desk: Option<usize>,
        time: Time,
        version: Option<u32>,
    },
    Cancel {
        actor: usize,
        booking: usize,
        version: Option<u32>,
    },
    Bar {
        user: usize,
        disabled: bool,
    },
    Promote {
        user: usize,
        admin: bool,
    },
    SwitchDesk {
        desk: usize,
        active: bool,
    },
    SetRules {
        space: usize,
        open: bool,
        rules: Rules,
    },
    Wait {
        minutes: u64,
    },
    Repeat {
        step: usize,
    },
}

/// An interval, and what the proposer says of it.
#[derive(Clone, Copy, Debug)]
struct Time {
    starts_hour: u64,
    hours: u64,
    grid: Option<GridRefusal>,
    stale: bool,
}

impl Time {
    fn interval(self) -> Interval {
        Interval::new(
            moment(1, self.starts_hour * 60),
            moment(1, (self.starts_hour + self.hours) * 60),
        )
        .unwrap()
    }
}

fn a_time() -> impl Strategy<Value = Time> {
    let grid = prop_oneof![
        12 => Just(None),
        1 => Just(Some(GridRefusal::OffGrid)),
        1 => Just(Some(GridRefusal::OutsideOpeningHours)),
        1 => Just(Some(GridRefusal::Closed)),
    ];
    let hours = prop_oneof![8 => 1u64..4, 1 => 20u64..60, 1 => 165u64..172];
    (6u64..80, hours, grid, prop::bool::weighted(0.06)).prop_map(
        |(starts_hour, hours, grid, stale)| Time {
            starts_hour,
            hours,
            grid,
            stale,
        },
    )
}

fn some_rules() -> impl Strategy<Value = Rules> {
    (
        prop_oneof![2 => Just(0u32), 1 => 1u32..2_000],
        prop_oneof![3 => Just(30u16), 1 => 0u16..3],
        prop::option::weighted(0.3, 1u16..4),
        prop::option::weighted(0.3, 0u16..4),
        prop::option::weighted(0.3, 0u16..12),
    )
        .prop_map(|(notice, days_ahead, longest_slots, open, hours)| Rules {
            minimum_notice_minutes: notice,
            days_ahead,
            longest_slots,
            open_bookings_per_user: open,
            hours_per_week: hours,
        })
}

fn a_step() -> impl Strategy<Value = Step> {
    // One more than there are: some users, desks and bookings don't exist.
    let actor = || prop_oneof![12 => 0..USERS, 1 => Just(USERS), 6 => Just(USERS + 1)];
    let desk = || prop_oneof![20 => 0..DESKS, 1 => Just(DESKS)];
    let guest = || prop_oneof![3 => Just(None), 1 => (0..=USERS).prop_map(Some)];
    let version = || prop::option::weighted(0.2, 1u32..4);
    prop_oneof![
        12 => (actor(), guest(), desk(), a_time())
            .prop_map(|(actor, for_user, desk, time)| Step::Create { actor, for_user, desk, time }),
        6 => (actor(), 0usize..12, prop::option::of(desk()), a_time(), version())
            .prop_map(|(actor, booking, desk, time, version)| Step::Move { actor, booking, desk, time, version }),
        4 => (actor(), 0usize..12, version())
            .prop_map(|(actor, booking, version)| Step::Cancel { actor, booking, version }),
        1 => (0..USERS, any::<bool>()).prop_map(|(user, disabled)| Step::Bar { user, disabled }),
        1 => (0..USERS, any::<bool>()).prop_map(|(user, admin)| Step::Promote { user, admin }),
        1 => (0..DESKS, prop::bool::weighted(0.7)).prop_map(|(desk, active)| Step::SwitchDesk { desk, active }),
        2 => (0usize..2, prop::bool::weighted(0.8), some_rules())
            .prop_map(|(space, open, rules)| Step::SetRules { space, open, rules }),
        2 => (1u64..600).prop_map(|minutes| Step::Wait { minutes }),
        2 => (0usize..40).prop_map(|step| Step::Repeat { step }),
    ]
}

/// A command that was sent, when, and what it got.
#[derive(Clone)]
struct Submitted {
    bytes: Vec<u8>,
    at: Instant,
    answer: Result<Booking, Refusal>,
}

/// The domain and the model side by side, and a replica that applies the same bytes.
struct Pair {
    world: World,
    model: Model,
    replica: MemoryStore,
    submitted: Vec<Submitted>,
    halls: BTreeMap<DeskId, HallId>,
}

impl Pair {
    fn new() -> Pair {
        let mut world = World::new();
        let users =
            ["anna", "boris", "vera", "gleb"].map(|name| (world.register(name), false, false));
        let spaces = ["nevsky", "moika"].map(|slug| world.make_space(slug, |_| {}));
        let mut desks = Vec::new();
        for (number, space) in spaces.iter().enumerate() {
            let hall = world.make_hall(*space, "main");
            desks.extend(
                world
                    .make_desks(hall, &["A-1", "A-2"])
                    .into_iter()
                    .map(|desk| (desk, number, true)),
            );
        }
        let halls = desks
            .iter()
            .map(|(id, ..)| (*id, query::desk(&world.store, *id).unwrap().hall))
            .collect();
        let model = Model {
            now: world.now,
            users: users.to_vec(),
            spaces: spaces
                .map(|space| (space, true, Rules::default(), 1))
                .to_vec(),
            desks,
            bookings: Vec::new(),
        };
        let replica = world.store.clone();
        Pair {
            world,
            model,
            replica,
            submitted: Vec::new(),
            halls,
        }
    }

    fn actor(&self, number: usize) -> Actor {
        if number > USERS {
            Actor::Operator
        } else {
            Actor::Member(self.user(number))
        }
    }

    fn user(&self, number: usize) -> UserId {
        self.model
            .users
            .get(number)
            .map_or(UserId::from_number(7), |(id, ..)| *id)
    }

    fn desk(&self, number: usize) -> DeskId {
        self.model
            .desks
            .get(number)
            .map_or(DeskId::from_number(7), |(id, ..)| *id)
    }

    fn booking(&self, number: usize) -> BookingId {
        self.model
            .bookings
            .get(number)
            .map_or(BookingId::from_number(7), |booking| booking.id)
    }

    fn placement(&self, desk: DeskId, time: Time) -> Placement {
        let mut placement = self.world.place(desk, time.interval());
        placement.grid = match time.grid {
            Some(refusal) => Err(refusal),
            None => Ok(Grid {
                slots: u16::try_from(time.hours).unwrap(),
            }),
        };
        placement.schedule_revision -= u32::from(time.stale && placement.schedule_revision > 0);
        placement
    }

    /// Applies the same bytes to the world and to the replica.
    fn apply(&mut self, bytes: &[u8]) -> Result<Outcome, Refusal> {
        self.world.index += 1;
        let stamp = Stamp {
            index: self.world.index,
            now: self.world.now,
        };
        let answer = apply(&mut self.world.store, stamp, bytes);
        assert_eq!(
            answer,
            apply(&mut self.replica, stamp, bytes),
            "two replicas answer differently"
        );
        decode_reply(&answer).unwrap().result
    }

    fn envelope(&self, actor: Actor, command: Command) -> Vec<u8> {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.world.index.to_be_bytes());
        let fingerprint = Fingerprint::from_bytes(key);
        Envelope {
            dedup: DedupKey::Client(key),
            fingerprint,
            actor,
            command,
        }
        .encode()
    }

    /// Submits a command about a booking, whose answer the model knows.
    fn compare(&mut self, actor: Actor, command: Command, expected: Result<Booking, Refusal>) {
        let shown = format!("{command:?} by {actor:?} at {:?}", self.model.now);
        let bytes = self.envelope(actor, command);
        let answer = booking_of(self.apply(&bytes));
        let expected = expected.map(|booking| Booking {
            hall: self.halls[&booking.desk],
            ..booking
        });
        assert_eq!(answer, expected, "{shown}");
        let at = self.world.now;
        self.submitted.push(Submitted {
            bytes,
            at,
            answer: expected,
        });
    }

    fn manage(&mut self, command: Command) {
        let bytes = self.envelope(Actor::Operator, command);
        self.apply(&bytes).unwrap();
    }

    fn step(&mut self, step: &Step) {
        let index = self.world.index + 1;
        match *step {
            Step::Create {
                actor,
                for_user,
                desk,
                time,
            } => {
                let (actor, desk) = (self.actor(actor), self.desk(desk));
                let for_user = for_user.map(|number| self.user(number));
                let placement = self.placement(desk, time);
                let expected = self.model.create(index, actor, for_user, desk, &placement);
                self.compare(
                    actor,
                    Command::CreateBooking {
                        for_user,
                        desk,
                        placement,
                    },
                    expected,
                );
            }
            Step::Move {
                actor,
                booking,
                desk,
                time,
                version,
            } => {
                let (actor, booking) = (self.actor(actor), self.booking(booking));
                let desk = desk.map(|number| self.desk(number));
                let stays_at = self
                    .model
                    .bookings
                    .iter()
                    .find(|b| b.id == booking)
                    .map(|b| b.desk);
                let target = desk.or(stays_at).unwrap_or(self.desk(DESKS));
                let placement = self.placement(target, time);
                let expected = self
                    .model
                    .move_to(index, actor, booking, desk, &placement, version);
                let command = Command::MoveBooking {
                    booking,
                    desk,
                    placement,
                    expected_version: version,
                };
                self.compare(actor, command, expected);
            }
            Step::Cancel {
                actor,
                booking,
                version,
            } => {
                let (actor, booking) = (self.actor(actor), self.booking(booking));
                let expected = self.model.cancel(index, actor, booking, version);
                let command = Command::CancelBooking {
                    booking,
                    expected_version: version,
                };
                self.compare(actor, command, expected);
            }
            Step::Repeat { step } => self.repeat(step),
            Step::Wait { minutes } => {
                self.world.now = self.world.now.plus_ms(minutes * MINUTE_MS);
                self.model.now = self.world.now;
            }
            _ => self.administer(step),
        }
    }

    fn administer(&mut self, step: &Step) {
        match *step {
            Step::Bar { user, disabled } => {
                self.model.users[user].2 = disabled;
                self.manage(Command::SetUserDisabled {
                    user: self.user(user),
                    disabled,
                });
            }
            Step::Promote { user, admin } => {
                self.model.users[user].1 = admin;
                let email = query::user(&self.world.store, self.user(user))
                    .unwrap()
                    .email
                    .unwrap();
                let role = if admin { Role::Admin } else { Role::Member };
                self.manage(Command::SetRole { email, role });
            }
            Step::SwitchDesk { desk, active } => {
                self.model.desks[desk].2 = active;
                self.manage(Command::SetDeskActive {
                    desk: self.desk(desk),
                    active,
                });
            }
            Step::SetRules { space, open, rules } => {
                let known = &mut self.model.spaces[space];
                let changed = (known.1, known.2) != (open, rules);
                *known = (known.0, open, rules, known.3 + u32::from(changed));
                let id = known.0;
                let mut details = query::space(&self.world.store, id).unwrap().details;
                (details.open, details.rules) = (open, rules);
                self.manage(Command::PutSpace {
                    space: Some(id),
                    details,
                    expected_revision: None,
                });
            }
            _ => unreachable!("other steps are taken elsewhere"),
        }
    }

    /// Sends an earlier command again: its answer is the one that it got, and nothing changes.
    fn repeat(&mut self, step: usize) {
        let Some(Submitted { bytes, at, answer }) = self.submitted.get(step).cloned() else {
            return;
        };
        let forgotten = self.world.now.ms_since(at) > DAY_MS;
        if forgotten || matches!(answer, Err(Refusal::StaleSchedule { .. })) {
            return;
        }
        let bookings = self.model.bookings.clone();
        assert_eq!(
            booking_of(self.apply(&bytes)),
            answer,
            "a retry got another answer"
        );
        self.check_bookings(&bookings);
    }

    fn check_bookings(&self, bookings: &[Booking]) {
        for booking in bookings {
            let stored = query::booking(&self.world.store, booking.id).unwrap();
            let expected = Booking {
                hall: self.halls[&booking.desk],
                ..booking.clone()
            };
            assert_eq!(stored, expected);
        }
    }

    /// Everything that must hold after any history.
    fn check(&self) {
        assert_eq!(self.world.store, self.replica, "two replicas differ");
        self.check_bookings(&self.model.bookings);
        let active: Vec<&Booking> = self
            .model
            .bookings
            .iter()
            .filter(|b| b.cancelled_at.is_none())
            .collect();
        for (at, a) in active.iter().enumerate() {
            for b in &active[at + 1..] {
                let apart = !a.interval.overlaps(b.interval);
                assert!(
                    apart || (a.desk != b.desk && a.user != b.user),
                    "{a:?} and {b:?}"
                );
            }
        }
        self.check_sheets(&active);
        self.check_lists();
        let totals = query::totals(&self.world.store);
        assert_eq!(totals.bookings, active.len() as u64);
        assert_eq!(
            totals.bookings + totals.bookings_cancelled,
            self.model.bookings.len() as u64
        );
    }

    /// The sheets hold exactly the active bookings: on every day that they touch, no other.
    fn check_sheets(&self, active: &[&Booking]) {
        let sheets = |kind: u8| {
            self.world
                .store
                .iter()
                .filter(move |(key, _)| key[0] == kind)
                .count()
        };
        let touched = |key: fn(&Booking) -> u64| {
            let days = active
                .iter()
                .flat_map(|b| b.interval.days().map(|day| (key(b), day)));
            days.collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!(sheets(0x22), touched(|b| b.desk.number()));
        assert_eq!(sheets(0x23), touched(|b| b.user.number()));
        let span = Interval::new(moment(1, 0), moment(30, 0)).unwrap();
        for (id, ..) in &self.model.desks {
            let desk = query::desk(&self.world.store, *id).unwrap();
            let row = query::desk_occupied(&self.world.store, &desk, span);
            let row: Vec<_> = row
                .iter()
                .map(|taken| (taken.interval, taken.booking))
                .collect();
            assert_eq!(row, sorted(active, |b| b.desk == *id));
        }
        for (id, ..) in &self.model.users {
            let row = query::stays(&self.world.store, *id, span);
            let row: Vec<_> = row
                .iter()
                .map(|stay| (stay.interval, stay.booking))
                .collect();
            assert_eq!(row, sorted(active, |b| b.user == *id));
        }
    }

    /// The lists by status, read in small pages, are the model's, newest first.
    fn check_lists(&self) {
        let now = self.model.now;
        for (user, ..) in &self.model.users {
            for status in [
                None,
                Some(BookingStatus::Active),
                Some(BookingStatus::Past),
                Some(BookingStatus::Cancelled),
            ] {
                let mut expected: Vec<BookingId> = self
                    .model
                    .bookings
                    .iter()
                    .filter(|b| b.user == *user && status.is_none_or(|s| b.status(now) == s))
                    .map(|b| b.id)
                    .collect();
                expected.reverse();
                let (mut listed, mut before) = (Vec::new(), None);
                loop {
                    let page =
                        query::bookings_of_user(&self.world.store, *user, status, before, 3, now);
                    listed.extend(page.items.iter().map(|booking| booking.id));
                    before = page.next;
                    if before.is_none() {
                        break;
                    }
                }
                assert_eq!(listed, expected, "{status:?}");
            }
        }
    }
}

fn sorted(active: &[&Booking], wanted: impl Fn(&Booking) -> bool) -> Vec<(Interval, BookingId)> {
    let mut row: Vec<_> = active
        .iter()
        .filter(|b| wanted(b))
        .map(|b| (b.interval, b.id))
        .collect();
    row.sort();
    row
}

fn booking_of(result: Result<Outcome, Refusal>) -> Result<Booking, Refusal> {
    result.map(|outcome| match outcome {
        Outcome::Booking(booking) => booking,
        other => panic!("a command about a booking answered {other:?}"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_gets_the_answers_of_the_model(steps in prop::collection::vec(a_step(), 1..90)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.step(step);
        }
        pair.check();
    }
}

/// A history in which the interesting things certainly happen, so that the property above can't
/// pass by never getting anywhere.
#[test]
fn random_histories_reach_every_refusal_about_bookings() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..400 {
        let steps = prop::collection::vec(a_step(), 60..90)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let mut pair = Pair::new();
        steps.iter().for_each(|step| pair.step(step));
        for Submitted { answer, .. } in &pair.submitted {
            *seen
                .entry(answer.as_ref().map_or_else(Refusal::code, |_| "done"))
                .or_default() += 1;
        }
    }
    for code in [
        "done",
        "forbidden",
        "not_found",
        "version_mismatch",
        "booking_cancelled",
        "already_started",
        "space_closed",
        "desk_inactive",
        "stale_schedule",
        "off_grid",
        "outside_opening_hours",
        "closed",
        "in_the_past",
        "too_short_notice",
        "too_far_ahead",
        "too_long",
        "quota_exceeded",
        "slot_taken",
        "user_already_booked",
        "bad_command",
    ] {
        assert!(
            seen.get(code).is_some_and(|times| *times >= 10),
            "{code} is rare: {seen:?}"
        );
    }
}
