//! The bounds of the domain: that they hold, and that what they allow fits the store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::world::{World, desk_draft, hall_draft, moment, space_details};
use mesto_booking::calendar::{Closure, LocalDate, Opening, OpeningHours};
use mesto_booking::command::{Command, ImportRow, MAX_IMPORT_ROWS};
use mesto_booking::ids::{DeskId, SpaceId, UserId};
use mesto_booking::instant::{DAY_MS, MINUTE_MS};
use mesto_booking::layout::{
    DeskDraft, MAX_CLOSURES, MAX_DAYS_AHEAD, MAX_DESKS_PER_HALL, MAX_FEATURES, MAX_HALLS_PER_SPACE,
    MAX_PLAN_LABELS, MAX_WALLS, MAX_ZONES, PlanLabel, Point, Wall, ZoneDraft,
};
use mesto_booking::reply::{Invalid, Kind, MAX_IMPORT_REFUSALS, Quota};
use mesto_booking::reservation::BookingStatus;
use mesto_booking::secret::{PasswordHash, TokenHash};
use mesto_booking::{
    Actor, DedupKey, Envelope, Fingerprint, Interval, MemoryStore, Order, Outcome, Pair, Refusal,
    Stamp, Store, StoreMut, apply, decode_reply, query,
};
use std::cell::Cell;

const MAX_VALUE_BYTES: usize = 7 * 1024;

fn token(number: u32) -> TokenHash {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    TokenHash::new(bytes)
}

fn open(world: &mut World, user: UserId, number: u32) {
    let refresh_token_hash = token(number);
    let ttl_ms = DAY_MS;
    world.must(
        Actor::System,
        Command::OpenSession {
            user,
            credential_version: 1,
            refresh_token_hash,
            ttl_ms,
        },
    );
}

fn largest_value(world: &World) -> usize {
    world
        .store
        .iter()
        .map(|(_, value)| value.len())
        .max()
        .unwrap()
}

#[test]
fn a_user_has_at_most_200_sessions_and_the_oldest_make_way() {
    let mut world = World::new();
    let user = world.register("anna");
    (0..203).for_each(|number| open(&mut world, user, number));
    let sessions = query::sessions_of_user(&world.store, user);
    assert_eq!(sessions.len(), 200);
    assert_eq!(sessions[0].refresh_token_hash, token(3));
    assert!(query::session_by_token(&world.store, token(2)).is_none());
    assert_eq!(query::totals(&world.store).sessions, 200);
}

#[test]
fn a_session_remembers_its_last_eight_tokens_and_leaves_nothing_behind() {
    let mut world = World::new();
    let user = world.register("anna");
    open(&mut world, user, 0);
    for number in 0..10 {
        let (old, new) = (token(number), token(number + 1));
        world.must(
            Actor::System,
            Command::RotateRefreshToken {
                old,
                new,
                ttl_ms: DAY_MS,
            },
        );
    }
    let exchange = |world: &mut World, old| {
        world
            .submit(
                Actor::System,
                Command::RotateRefreshToken {
                    old,
                    new: token(99),
                    ttl_ms: DAY_MS,
                },
            )
            .result
    };
    // Too old to be remembered: unknown, and the session lives on.
    assert_eq!(exchange(&mut world, token(1)), Err(Refusal::SessionUnknown));
    assert_eq!(query::sessions_of_user(&world.store, user).len(), 1);
    assert_eq!(
        exchange(&mut world, token(2)),
        Err(Refusal::RefreshTokenReused)
    );
    let left = world
        .store
        .iter()
        .filter(|(key, _)| (0x04..=0x06).contains(&key[0]))
        .count();
    assert_eq!(
        left, 0,
        "a closed session leaves no record and no token behind"
    );
}

#[test]
fn erasing_cancels_five_hundred_bookings_at_a_time() {
    let mut world = World::new();
    let (user, desk) = (world.register("anna"), one_desk(&mut world));
    let space = query::desk(&world.store, desk).unwrap().space;
    let row = |n: u64| ImportRow {
        user,
        desk,
        interval: Interval::new(moment(2, n * 60), moment(2, n * 60 + 60)).unwrap(),
        slots: 1,
    };
    for from in [0, 500] {
        let rows = (from..from + 500).map(row).collect();
        world.must(
            Actor::Operator,
            Command::ImportBookings {
                space,
                schedule_revision: 1,
                rows,
            },
        );
    }
    world.must(
        Actor::Operator,
        Command::ImportBookings {
            space,
            schedule_revision: 1,
            rows: vec![row(1_000)],
        },
    );
    let mut erase = |actor| world.must(actor, Command::DeleteUser { user });
    assert_eq!(
        erase(Actor::Member(user)),
        Outcome::Erased {
            bookings_cancelled: 500,
            more: true
        }
    );
    assert_eq!(
        erase(Actor::System),
        Outcome::Erased {
            bookings_cancelled: 500,
            more: true
        }
    );
    assert_eq!(
        erase(Actor::System),
        Outcome::Erased {
            bookings_cancelled: 1,
            more: false
        }
    );
    assert_eq!(
        erase(Actor::System),
        Outcome::Erased {
            bookings_cancelled: 0,
            more: false
        }
    );
    assert_eq!(query::totals(&world.store).bookings_cancelled, 1_001);
    // All events of an index come together, however few were asked for.
    let first = query::events_since(&world.store, space, world.index - 4, 10);
    assert_eq!(first.len(), 500);
    assert!(first.iter().all(|event| event.index == world.index - 3));
}

/// Brings bookings in, a page after the other.
fn import(world: &mut World, space: SpaceId, rows: &[ImportRow]) {
    for page in rows.chunks(MAX_IMPORT_ROWS) {
        let rows = page.to_vec();
        let command = Command::ImportBookings {
            space,
            schedule_revision: 1,
            rows,
        };
        match world.must(Actor::Operator, command) {
            Outcome::Imported { refused: 0, .. } => {}
            other => panic!("importing answered {other:?}"),
        }
    }
}

#[test]
fn erasing_finds_bookings_however_many_days_they_fill() {
    let mut world = World::new();
    let (user, desk) = (world.register("anna"), one_desk(&mut world));
    let space = query::desk(&world.store, desk).unwrap().space;
    // A week from noon to noon touches eight days; the next one begins on a day of its own.
    let week = |n: u64| ImportRow {
        user,
        desk,
        interval: Interval::new(moment(1 + 8 * n, 12 * 60), moment(1 + 8 * n + 7, 12 * 60))
            .unwrap(),
        slots: 7 * 24,
    };
    let rows: Vec<ImportRow> = (0..502).map(week).collect();
    import(&mut world, space, &rows);
    world.now = moment(1, 13 * 60);
    let mut erase = || world.must(Actor::System, Command::DeleteUser { user });
    // The first has begun, and stays.
    let erased = |bookings_cancelled, more| Outcome::Erased {
        bookings_cancelled,
        more,
    };
    assert_eq!(erase(), erased(500, true));
    assert_eq!(erase(), erased(1, false));
}

#[test]
fn a_booking_on_every_day_ahead_counts_and_is_listed() {
    let mut world = World::new();
    let user = world.register("anna");
    let space = world.make_space("nevsky", |details| {
        details.rules.days_ahead = MAX_DAYS_AHEAD;
        details.rules.open_bookings_per_user = Some(MAX_DAYS_AHEAD);
    });
    let hall = world.make_hall(space, "main");
    let desk = world.make_desks(hall, &["A-1"])[0];
    let hour = |day: u64, hour: u64| {
        Interval::new(moment(day, hour * 60), moment(day, (hour + 1) * 60)).unwrap()
    };
    let days = u64::from(MAX_DAYS_AHEAD);
    let row = |day: u64| ImportRow {
        user,
        desk,
        interval: hour(day, 10),
        slots: 1,
    };
    let rows: Vec<ImportRow> = (2..2 + days).map(row).collect();
    import(&mut world, space, &rows);

    let placement = world.place(desk, hour(2, 12));
    let one_more = Command::CreateBooking {
        for_user: None,
        desk,
        placement,
    };
    assert_eq!(
        world.submit(Actor::Member(user), one_more).result,
        Err(Refusal::QuotaExceeded(Quota::OpenBookings {
            max: MAX_DAYS_AHEAD
        }))
    );
    let (mut listed, mut before) = (0, None);
    loop {
        let active = Some(BookingStatus::Active);
        let page = query::bookings_of_user(&world.store, user, active, before, 100, world.now);
        listed += page.items.len();
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(listed, usize::from(MAX_DAYS_AHEAD));
}

/// A store that notes the longest scan that was asked of it.
struct Watched {
    store: MemoryStore,
    longest: Cell<usize>,
}

impl Store for Watched {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.store.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Vec<Pair> {
        self.longest.set(self.longest.get().max(limit));
        self.store.scan(from, to, order, limit)
    }
}

impl StoreMut for Watched {
    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.store.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.store.delete(key);
    }
}

#[test]
fn deciding_a_booking_reads_no_more_days_than_can_be_booked() {
    let mut world = World::new();
    let user = world.register("anna");
    let space = world.make_space("nevsky", |details| {
        details.rules.open_bookings_per_user = Some(u16::MAX);
        details.rules.hours_per_week = Some(u16::MAX);
    });
    let hall = world.make_hall(space, "main");
    let desk = world.make_desks(hall, &["A-1"])[0];
    let interval = Interval::new(moment(2, 0), moment(2, 60)).unwrap();
    let envelope = Envelope {
        dedup: DedupKey::Node([1; 16]),
        fingerprint: Fingerprint::of(&[]),
        actor: Actor::Member(user),
        command: Command::CreateBooking {
            for_user: None,
            desk,
            placement: world.place(desk, interval),
        },
    };
    let stamp = Stamp {
        index: world.index + 1,
        now: world.now,
    };
    let mut watched = Watched {
        store: world.store,
        longest: Cell::new(0),
    };
    let reply = decode_reply(&apply(&mut watched, stamp, &envelope.encode())).unwrap();
    assert!(matches!(reply.result, Ok(Outcome::Booking(_))), "{reply:?}");
    let days = usize::from(MAX_DAYS_AHEAD);
    assert!((days..days + 100).contains(&watched.longest.get()));
}

#[test]
fn imports_come_in_bounded_pages_and_answers() {
    let mut world = World::new();
    let (user, desk) = (world.register("anna"), one_desk(&mut world));
    let space = query::desk(&world.store, desk).unwrap().space;
    let interval = Interval::new(moment(2, 0), moment(2, 60)).unwrap();
    let mut import = |rows| {
        let rows = vec![
            ImportRow {
                user,
                desk,
                interval,
                slots: 1
            };
            rows
        ];
        world
            .submit(
                Actor::Operator,
                Command::ImportBookings {
                    space,
                    schedule_revision: 1,
                    rows,
                },
            )
            .result
    };
    assert_eq!(import(501), Err(Refusal::Invalid(Invalid::ImportRows)));
    let Ok(Outcome::Imported {
        accepted,
        refused,
        first_refusals,
    }) = import(500)
    else {
        panic!("refused")
    };
    assert_eq!(
        (accepted, refused, first_refusals.len()),
        (1, 499, MAX_IMPORT_REFUSALS)
    );
}

fn one_desk(world: &mut World) -> DeskId {
    let space = world.make_space("nevsky", |_| {});
    let hall = world.make_hall(space, "main");
    world.make_desks(hall, &["A-1"])[0]
}

#[test]
fn the_largest_space_fits_the_store() {
    let mut world = World::new();
    let mut details = space_details("a");
    details.slug = "s".repeat(40).parse().unwrap();
    details.name = "Ж".repeat(60).parse().unwrap();
    details.time_zone = format!("A/{}", "b".repeat(58)).parse().unwrap();
    let openings = [0u16, 1, 2, 3].map(|n| Opening::new(300 * n + 10, 300 * n + 290).unwrap());
    details.opening_hours = OpeningHours::daily(&openings).unwrap();
    let closure = |n: u8| Closure {
        date: LocalDate::new(2025 + u16::from(n / 28), 1, n % 28 + 1).unwrap(),
        reason: Some("Ж".repeat(40).parse().unwrap()),
    };
    details.closures = (0u8..).take(MAX_CLOSURES).map(closure).collect();
    let put = |details| Command::PutSpace {
        space: None,
        details,
        expected_revision: None,
    };
    world.must(Actor::Operator, put(details.clone()));
    assert!(largest_value(&world) <= MAX_VALUE_BYTES);
    let mut twice = details.clone();
    twice.closures[1].date = twice.closures[0].date;
    let reply = world.submit(Actor::Operator, put(twice));
    assert_eq!(reply.result, Err(Refusal::Invalid(Invalid::Closures)));
    details.closures.push(Closure {
        date: "2030-01-01".parse().unwrap(),
        reason: None,
    });
    let reply = world.submit(Actor::Operator, put(details));
    assert_eq!(reply.result, Err(Refusal::Invalid(Invalid::Closures)));
}

#[test]
fn the_largest_hall_and_desk_fit_the_store() {
    let mut world = World::new();
    let space = world.make_space("nevsky", |_| {});
    let far = Point {
        x: 10_000,
        y: 10_000,
    };
    let mut draft = hall_draft("a");
    draft.name = "Ж".repeat(60).parse().unwrap();
    (draft.plan.width, draft.plan.height) = (10_000, 10_000);
    draft.plan.walls = vec![Wall { from: far, to: far }; MAX_WALLS];
    draft.plan.labels = vec![
        PlanLabel {
            at: far,
            text: "Ж".repeat(24).parse().unwrap()
        };
        MAX_PLAN_LABELS
    ];
    let zone = |n| ZoneDraft {
        id: None,
        name: format!("{}{n:02}", "Ж".repeat(58)).parse().unwrap(),
        kind: "k".repeat(40).parse().unwrap(),
    };
    draft.zones = (0..MAX_ZONES).map(zone).collect();
    let put = |draft| Command::PutHall {
        space,
        hall: None,
        draft,
        expected_version: None,
    };
    let Outcome::Hall {
        id: hall, zones, ..
    } = world.must(Actor::Operator, put(draft.clone()))
    else {
        panic!("no hall")
    };
    let mut desk = desk_draft(&"Ж".repeat(24), Some(zones[0]), far);
    desk.features = (0..MAX_FEATURES)
        .map(|n| format!("{}{n:02}", "f".repeat(38)).parse().unwrap())
        .collect();
    world.must(
        Actor::Operator,
        Command::PutDesks {
            hall,
            desks: vec![desk.clone()],
        },
    );
    assert!(
        largest_value(&world) <= MAX_VALUE_BYTES,
        "{}",
        largest_value(&world)
    );

    desk.features.insert("one-more".parse().unwrap());
    let reply = world.submit(
        Actor::Operator,
        Command::PutDesks {
            hall,
            desks: vec![desk],
        },
    );
    assert_eq!(reply.result, Err(Refusal::Invalid(Invalid::DeskFeatures)));
    let refused = |world: &mut World, draft, why| {
        assert_eq!(
            world.submit(Actor::Operator, put(draft)).result,
            Err(Refusal::Invalid(why))
        );
    };
    let mut walls = draft.clone();
    walls.plan.walls.push(Wall { from: far, to: far });
    refused(&mut world, walls, Invalid::Walls);
    let mut labels = draft.clone();
    labels.plan.labels[0].at = Point { x: 10_001, y: 0 };
    refused(&mut world, labels, Invalid::PlanLabels);
    draft.zones.push(zone(MAX_ZONES));
    refused(&mut world, draft, Invalid::Zones);
}

#[test]
fn the_fullest_day_of_a_desk_and_of_a_user_fits_the_store() {
    let mut world = World::new();
    let (user, desk) = (world.register("anna"), one_desk(&mut world));
    let space = query::desk(&world.store, desk).unwrap().space;
    // Ten minutes is the shortest that any grid can ask for; the first begins the day before.
    let row = |n: u64| {
        let starts = moment(2, 0)
            .minus_ms(5 * MINUTE_MS)
            .plus_ms(n * 10 * MINUTE_MS);
        let interval = Interval::new(starts, starts.plus_ms(10 * MINUTE_MS)).unwrap();
        ImportRow {
            user,
            desk,
            interval,
            slots: 1,
        }
    };
    let rows = (0..145).map(row).collect();
    let outcome = world.must(
        Actor::Operator,
        Command::ImportBookings {
            space,
            schedule_revision: 1,
            rows,
        },
    );
    assert!(matches!(
        outcome,
        Outcome::Imported {
            accepted: 145,
            refused: 0,
            ..
        }
    ));
    assert!(
        largest_value(&world) <= MAX_VALUE_BYTES,
        "{}",
        largest_value(&world)
    );
    assert!(largest_value(&world) > 4_000, "the sheets hold all of them");
}

#[test]
fn spaces_halls_and_desks_are_not_without_number() {
    let mut world = World::new();
    let space = world.make_space("nevsky", |_| {});
    let halls: Vec<_> = (0..MAX_HALLS_PER_SPACE)
        .map(|n| world.make_hall(space, &format!("hall {n}")))
        .collect();
    let put = Command::PutHall {
        space,
        hall: None,
        draft: hall_draft("more"),
        expected_version: None,
    };
    assert_eq!(
        world.submit(Actor::Operator, put).result,
        Err(Refusal::Full { max: 64 })
    );

    let labels: Vec<String> = (0..MAX_DESKS_PER_HALL).map(|n| format!("D-{n}")).collect();
    for page in labels.chunks(50) {
        world.make_desks(
            halls[0],
            &page.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }
    let one = |world: &mut World, count: usize| {
        let desk = |n| desk_draft(&format!("more {n}"), None, Point { x: 0, y: 0 });
        let desks = (0..count).map(desk).collect();
        world
            .submit(
                Actor::Operator,
                Command::PutDesks {
                    hall: halls[0],
                    desks,
                },
            )
            .result
    };
    assert_eq!(one(&mut world, 1), Err(Refusal::Full { max: 500 }));
    assert_eq!(
        one(&mut world, 65),
        Err(Refusal::Invalid(Invalid::DeskCount))
    );
    assert_eq!(
        query::desks_of_space(&world.store, space).len(),
        MAX_DESKS_PER_HALL
    );

    for n in 1..1_000 {
        world.make_space(&format!("space-{n}"), |_| {});
    }
    let details = space_details("more");
    let put = Command::PutSpace {
        space: None,
        details,
        expected_revision: None,
    };
    assert_eq!(
        world.submit(Actor::Operator, put).result,
        Err(Refusal::Full { max: 1_000 })
    );
    assert_eq!(all_spaces(&world), 1_000);
}

#[test]
fn of_two_who_make_one_hall_or_desk_the_second_is_told() {
    let mut world = World::new();
    let space = world.make_space("nevsky", |_| {});
    let put = |space, hall, name| Command::PutHall {
        space,
        hall,
        draft: hall_draft(name),
        expected_version: None,
    };
    let main = world.make_hall(space, "Main");
    let second = world.submit(Actor::Operator, put(space, None, "Main"));
    assert_eq!(second.result, Err(Refusal::NameTaken));
    let attic = world.make_hall(space, "Attic");
    let renamed = world.submit(Actor::Operator, put(space, Some(attic), "Main"));
    assert_eq!(renamed.result, Err(Refusal::NameTaken));
    world.must(Actor::Operator, put(space, Some(main), "Main"));
    world.must(Actor::Operator, put(space, Some(main), "Cellar"));
    world.must(Actor::Operator, put(space, Some(attic), "Main"));
    let elsewhere = world.make_space("arbat", |_| {});
    world.make_hall(elsewhere, "Main");
    assert_eq!(query::halls(&world.store, space).len(), 2);

    // A full hall is no reason to say anything but that the desks are there already.
    let labels: Vec<String> = (0..MAX_DESKS_PER_HALL).map(|n| format!("D-{n}")).collect();
    for page in labels.chunks(50) {
        let page: Vec<_> = page.iter().map(String::as_str).collect();
        world.make_desks(main, &page);
    }
    let again = Command::PutDesks {
        hall: main,
        desks: vec![desk_draft("D-0", None, Point { x: 0, y: 0 })],
    };
    let again = world.submit(Actor::Operator, again);
    assert_eq!(again.result, Err(Refusal::LabelTaken));
}

fn all_spaces(world: &World) -> usize {
    let (mut count, mut after) = (0, None);
    loop {
        let page = query::spaces(&world.store, after, 64);
        count += page.items.len();
        after = page.next;
        if after.is_none() {
            return count;
        }
    }
}

#[test]
fn forgetting_keeps_up_with_remembering() {
    let mut world = World::new();
    let user = world.register("anna");
    let rename = |n: u64| {
        let display_name = Some(format!("Anna {n}").parse().unwrap());
        Command::UpdateUser {
            user,
            display_name,
            expected_version: None,
        }
    };
    // One entry a second, for three hours: nodes' keys are remembered for twenty minutes at most.
    let mut most = 0;
    for n in 0..10_800 {
        world.now = world.now.plus_ms(1_000);
        world.must(Actor::System, rename(n));
        if n % 100 == 0 {
            most = most.max(
                world
                    .store
                    .scan(
                        &[0x40, 1],
                        &[0x40, 2],
                        mesto_booking::Order::Ascending,
                        usize::MAX,
                    )
                    .len(),
            );
        }
    }
    assert!(
        (600..=1_300).contains(&most),
        "{most} answers were remembered at once"
    );
}

#[test]
fn a_password_that_was_not_hashed_cannot_be_proposed() {
    assert!(PasswordHash::new("correct horse battery staple".to_owned()).is_err());
}

#[test]
fn a_zone_keeps_its_id_under_another_name_and_is_named_once() {
    let mut world = World::new();
    let space = world.make_space("nevsky", |_| {});
    let hall = world.make_hall(space, "main");
    let zone = |id, name: &str| ZoneDraft {
        id,
        name: name.parse().unwrap(),
        kind: "quiet".parse().unwrap(),
    };
    let mut put = |zones| {
        let mut draft = hall_draft("main");
        draft.zones = zones;
        let command = Command::PutHall {
            space,
            hall: Some(hall),
            draft,
            expected_version: None,
        };
        world.submit(Actor::Operator, command).result
    };
    let Ok(Outcome::Hall { zones, .. }) = put(vec![zone(None, "quiet")]) else {
        panic!("refused")
    };
    let first = zones[0];
    let id = Some(first);
    let renamed = put(vec![zone(None, "new"), zone(id, "silent")]);
    assert!(
        matches!(renamed, Ok(Outcome::Hall { ref zones, .. }) if zones[1] == first),
        "{renamed:?}"
    );
    let twice = put(vec![zone(id, "silent"), zone(id, "loud")]);
    assert_eq!(twice, Err(Refusal::Invalid(Invalid::Zones)));
}

#[test]
fn a_desk_changes_under_its_id_and_stays_in_its_hall() {
    let mut world = World::new();
    let space = world.make_space("nevsky", |_| {});
    let (main, attic) = (
        world.make_hall(space, "main"),
        world.make_hall(space, "attic"),
    );
    let desks = world.make_desks(main, &["A-1", "A-2"]);
    let draft = |id, label: &str| DeskDraft {
        id: Some(id),
        rotation_degrees: 90,
        ..desk_draft(label, None, Point { x: 7, y: 8 })
    };
    let mut put = |hall, desks| {
        world
            .submit(Actor::Operator, Command::PutDesks { hall, desks })
            .result
    };
    // They swap their labels.
    let swapped = put(main, vec![draft(desks[0], "A-2"), draft(desks[1], "A-1")]);
    assert_eq!(swapped, Ok(Outcome::Desks(desks.clone())));
    let twice = put(main, vec![draft(desks[0], "B-1"), draft(desks[0], "B-2")]);
    assert_eq!(twice, Err(Refusal::Invalid(Invalid::DeskCount)));
    let elsewhere = put(attic, vec![draft(desks[0], "B-1")]);
    assert_eq!(elsewhere, Err(Refusal::NotFound(Kind::Desk)));
    let desk = query::desk(&world.store, desks[0]).unwrap();
    assert_eq!(
        (desk.label.as_str(), desk.at),
        ("A-2", Point { x: 7, y: 8 })
    );
    assert_eq!((desk.rotation_degrees, desk.version), (90, 2));
    assert_eq!(query::totals(&world.store).desks, 2);
}
