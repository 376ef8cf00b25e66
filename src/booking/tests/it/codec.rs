//! The bytes of the domain: what is sent through the log, what is answered, what is stored.
//!
//! `tests/golden/booking.txt` pins them, one `name hex` line each: a program that writes other
//! bytes, or can't read these any more, would fall out with its own log. After a deliberate change
//! of format (with a new version byte) run the tests with `MESTO_WRITE_GOLDEN=1` and look at the
//! difference.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::world::{World, hall_draft, moment, space_details};
use mesto_booking::account::Role;
use mesto_booking::calendar::Closure;
use mesto_booking::codec::{self, DecodeError};
use mesto_booking::command::{Command, Grid, GridRefusal, ImportRow, MAX_COMMAND_BYTES};
use mesto_booking::ids::{BookingId, DeskId, HallId, KeyId, SessionId, SpaceId, UserId, ZoneId};
use mesto_booking::layout::{DeskDraft, PlanLabel, Point, Wall, ZoneDraft};
use mesto_booking::reply::{Invalid, Kind, Quota};
use mesto_booking::reservation::Booking;
use mesto_booking::secret::{KeySecret, PasswordHash, TokenHash};
use mesto_booking::{
    Actor, DedupKey, Envelope, Fingerprint, Instant, Interval, MemoryStore, Outcome, Placement,
    Refusal, Reply, Stamp, StoreMut, apply, decode_reply, query,
};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

fn interval() -> Interval {
    Interval::new(moment(2, 600), moment(2, 660)).unwrap()
}

fn placement() -> Placement {
    Placement {
        space: SpaceId::from_number(0x3_0000),
        schedule_revision: 1,
        interval: interval(),
        grid: Ok(Grid { slots: 1 }),
        bookable_from: moment(1, 0),
        week: Interval::new(moment(1, 0), moment(8, 0)).unwrap(),
    }
}

fn password() -> PasswordHash {
    PasswordHash::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".to_owned()).unwrap()
}

/// One of every command, in an order in which all of them succeed.
fn commands() -> Vec<(&'static str, Actor, Command)> {
    let (user, space) = (
        UserId::from_number(0x2_0000),
        SpaceId::from_number(0x3_0000),
    );
    let (hall, zone) = (HallId::from_number(0x4_0000), ZoneId::from_number(0x4_0001));
    let (desk, booking) = (
        DeskId::from_number(0x5_0000),
        BookingId::from_number(0x6_0000),
    );
    let (member, operator) = (Actor::Member(user), Actor::Operator);
    let mut commands = vec![
        (
            "install_signing_key",
            Actor::System,
            Command::InstallSigningKey {
                secret: KeySecret::new([9; 32]),
                replaces: None,
            },
        ),
        (
            "register_user",
            Actor::System,
            Command::RegisterUser {
                email: "anna@example.com".parse().unwrap(),
                display_name: Some("Анна".parse().unwrap()),
                password_hash: password(),
            },
        ),
    ];
    commands.extend(layout_commands(space, hall, zone));
    commands.extend([
        (
            "create_booking",
            member,
            Command::CreateBooking {
                for_user: Some(user),
                desk,
                placement: placement(),
            },
        ),
        (
            "move_booking",
            member,
            Command::MoveBooking {
                booking,
                desk: None,
                placement: Placement {
                    interval: Interval::new(moment(2, 720), moment(2, 780)).unwrap(),
                    ..placement()
                },
                expected_version: Some(1),
            },
        ),
        (
            "cancel_booking",
            member,
            Command::CancelBooking {
                booking,
                expected_version: None,
            },
        ),
        (
            "import_bookings",
            operator,
            Command::ImportBookings {
                space,
                schedule_revision: 1,
                rows: vec![ImportRow {
                    user,
                    desk,
                    interval: interval(),
                    slots: 1,
                }],
            },
        ),
        (
            "set_desk_active",
            operator,
            Command::SetDeskActive {
                desk,
                active: false,
            },
        ),
        ("noop", Actor::System, Command::Noop),
    ]);
    commands.extend(account_commands(user));
    commands
}

fn layout_commands(
    space: SpaceId,
    hall: HallId,
    zone: ZoneId,
) -> Vec<(&'static str, Actor, Command)> {
    let mut details = space_details("nevsky");
    details.closures = vec![Closure {
        date: "2025-01-01".parse().unwrap(),
        reason: Some("Новый год".parse().unwrap()),
    }];
    details.rules.longest_slots = Some(8);
    let mut draft = hall_draft("Большой зал");
    draft.zones = vec![ZoneDraft {
        id: None,
        name: "Тихая".parse().unwrap(),
        kind: "quiet".parse().unwrap(),
    }];
    draft.plan.walls = vec![Wall {
        from: Point { x: 0, y: 0 },
        to: Point { x: 1_000, y: 0 },
    }];
    draft.plan.labels = vec![PlanLabel {
        at: Point { x: 10, y: 20 },
        text: "Кухня".parse().unwrap(),
    }];
    let desk = DeskDraft {
        id: None,
        zone: Some(zone),
        label: "A-12".parse().unwrap(),
        at: Point { x: 300, y: 40 },
        rotation_degrees: 90,
        features: ["monitor", "standing"]
            .map(|feature| feature.parse().unwrap())
            .into(),
        active: true,
    };
    vec![
        (
            "put_space",
            Actor::Operator,
            Command::PutSpace {
                space: None,
                details,
                expected_revision: None,
            },
        ),
        (
            "put_hall",
            Actor::Operator,
            Command::PutHall {
                space,
                hall: None,
                draft,
                expected_version: None,
            },
        ),
        (
            "put_desks",
            Actor::Operator,
            Command::PutDesks {
                hall,
                desks: vec![desk],
            },
        ),
    ]
}

fn account_commands(user: UserId) -> Vec<(&'static str, Actor, Command)> {
    let member = Actor::Member(user);
    let session = SessionId::from_number(0xf_0000);
    let (old, new) = (TokenHash::new([1; 32]), TokenHash::new([2; 32]));
    vec![
        (
            "update_user",
            member,
            Command::UpdateUser {
                user,
                display_name: None,
                expected_version: Some(1),
            },
        ),
        (
            "set_role",
            Actor::Operator,
            Command::SetRole {
                email: "anna@example.com".parse().unwrap(),
                role: Role::Admin,
            },
        ),
        (
            "set_user_disabled",
            Actor::Operator,
            Command::SetUserDisabled {
                user,
                disabled: false,
            },
        ),
        (
            "open_session",
            Actor::System,
            Command::OpenSession {
                user,
                credential_version: 1,
                refresh_token_hash: old,
                ttl_ms: 86_400_000,
            },
        ),
        (
            "rotate_refresh_token",
            Actor::System,
            Command::RotateRefreshToken {
                old,
                new,
                ttl_ms: 86_400_000,
            },
        ),
        (
            "change_password",
            member,
            Command::ChangePassword {
                user,
                password_hash: password(),
                expected_credential: Some(1),
                keep_session: Some(session),
            },
        ),
        ("close_session", member, Command::CloseSession { session }),
        (
            "close_all_sessions",
            member,
            Command::CloseAllSessions { user },
        ),
        (
            "set_role_of",
            Actor::Operator,
            Command::SetRoleOf {
                user,
                role: Role::Admin,
            },
        ),
        ("delete_user", member, Command::DeleteUser { user }),
    ]
}

fn envelopes() -> Vec<(&'static str, Envelope)> {
    let keyed = |(name, actor, command): (&'static str, Actor, Command)| {
        let dedup = match name.len() % 2 {
            0 => DedupKey::Node(sixteen(name)),
            _ => DedupKey::Client(sixteen(name)),
        };
        (
            name,
            Envelope {
                dedup,
                fingerprint: Fingerprint::of(&[name.as_bytes()]),
                actor,
                command,
            },
        )
    };
    commands().into_iter().map(keyed).collect()
}

/// Sixteen bytes that differ from name to name.
fn sixteen(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (at, byte) in name.bytes().enumerate() {
        bytes[at % 16] ^= byte;
    }
    bytes
}

/// Every refusal that there is.
fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::BadCommand,
        Refusal::IdempotencyKeyReused,
        Refusal::Forbidden,
        Refusal::NotFound(Kind::User),
        Refusal::NotFound(Kind::Session),
        Refusal::NotFound(Kind::Space),
        Refusal::NotFound(Kind::Hall),
        Refusal::NotFound(Kind::Zone),
        Refusal::NotFound(Kind::Desk),
        Refusal::NotFound(Kind::Booking),
        Refusal::VersionMismatch { current: 7 },
        Refusal::Invalid(Invalid::SlotMinutes),
        Refusal::Invalid(Invalid::ImportRows),
        Refusal::EmailTaken,
        Refusal::SlugTaken,
        Refusal::LabelTaken,
        Refusal::ZoneInUse,
        Refusal::Full { max: 64 },
        Refusal::SessionUnknown,
        Refusal::RefreshTokenReused,
        Refusal::BookingCancelled,
        Refusal::AlreadyStarted,
        Refusal::SpaceClosed,
        Refusal::DeskInactive,
        Refusal::StaleSchedule { current: 3 },
        Refusal::OffGrid,
        Refusal::OutsideOpeningHours,
        Refusal::Closed,
        Refusal::InThePast,
        Refusal::TooShortNotice,
        Refusal::TooFarAhead,
        Refusal::TooLong,
        Refusal::QuotaExceeded(Quota::OpenBookings { max: 2 }),
        Refusal::QuotaExceeded(Quota::HoursPerWeek { max: 40 }),
        Refusal::SlotTaken { taken: interval() },
        Refusal::UserAlreadyBooked {
            booking: BookingId::from_number(5 << 16),
        },
        Refusal::NameTaken,
    ]
}

/// Applies every command in turn. Comes back: the store as it was before sessions were closed and
/// the account erased, when it held something of every kind; and the replies by name.
fn history() -> (MemoryStore, Vec<(String, Vec<u8>)>) {
    let (mut store, mut replies) = (MemoryStore::new(), Vec::new());
    let mut fullest = None;
    for ((name, envelope), index) in envelopes().into_iter().zip(1..) {
        if name == "close_session" {
            fullest = Some(store.clone());
        }
        let stamp = Stamp {
            index,
            now: moment(1, 420),
        };
        let reply = apply(&mut store, stamp, &envelope.encode());
        assert!(
            decode_reply(&reply).unwrap().result.is_ok(),
            "{name}: {:?}",
            decode_reply(&reply)
        );
        replies.push((name.to_owned(), reply));
    }
    (fullest.expect("a session is closed"), replies)
}

fn golden_lines() -> Vec<(String, Vec<u8>)> {
    let mut lines: Vec<(String, Vec<u8>)> = Vec::new();
    lines.extend(
        envelopes()
            .iter()
            .map(|(name, envelope)| (format!("command.{name}"), envelope.encode())),
    );
    let (store, replies) = history();
    lines.extend(
        replies
            .into_iter()
            .map(|(name, bytes)| (format!("reply.{name}"), bytes)),
    );
    for (at, refusal) in refusals().into_iter().enumerate() {
        let name = format!("refusal.{at}.{}", refusal.code());
        let reply = Reply {
            index: 9,
            replayed: at % 2 == 1,
            result: Err(refusal),
        };
        lines.push((name, reply.encode()));
    }
    let stored = |(key, value): (&[u8], &[u8])| (format!("stored.{}", hex(key)), value.to_vec());
    lines.extend(store.iter().map(stored));
    lines
}

fn golden_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/booking.txt")
}

fn golden_file() -> Vec<(String, Vec<u8>)> {
    let text = std::fs::read_to_string(golden_path()).unwrap();
    let line = |line: &str| {
        let (name, bytes) = line.split_once(' ').unwrap();
        (name.to_owned(), unhex(bytes))
    };
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(line)
        .collect()
}

#[test]
fn today_s_bytes_are_the_golden_ones() {
    let lines = golden_lines();
    if std::env::var_os("MESTO_WRITE_GOLDEN").is_some() {
        let mut text =
            "# Bytes of the booking domain, format version 1: name, then hex.\n".to_owned();
        for (name, bytes) in &lines {
            writeln!(text, "{name} {}", hex(bytes)).unwrap();
        }
        std::fs::write(golden_path(), text).unwrap();
    }
    let golden = golden_file();
    for (line, golden) in lines.iter().zip(&golden) {
        assert_eq!(line, golden, "the bytes of {} have changed", line.0);
    }
    assert_eq!(lines.len(), golden.len());
}

#[test]
fn the_golden_bytes_still_open() {
    let mut store = MemoryStore::new();
    let mut commands = envelopes().into_iter();
    let mut refusals = refusals().into_iter();
    for (name, bytes) in golden_file() {
        match name.split('.').next().unwrap() {
            "command" => assert_eq!(Envelope::decode(&bytes), Ok(commands.next().unwrap().1)),
            "reply" => assert!(decode_reply(&bytes).unwrap().result.is_ok()),
            "refusal" => assert_eq!(
                decode_reply(&bytes).unwrap().result,
                Err(refusals.next().unwrap())
            ),
            _ => store.put(&unhex(name.strip_prefix("stored.").unwrap()), bytes),
        }
    }
    assert!(commands.next().is_none() && refusals.next().is_none());
    assert_eq!(
        store,
        history().0,
        "a state of old bytes is the state of today"
    );
    let kinds: BTreeSet<u8> = store.iter().map(|(key, _)| key[0]).collect();
    assert_eq!(
        kinds.len(),
        20,
        "records of every kind but the event floor: {kinds:02x?}"
    );
    let desk = query::desk(&store, DeskId::from_number(0x5_0000)).unwrap();
    assert_eq!(
        (desk.label.as_str(), desk.rotation_degrees, desk.active),
        ("A-12", 90, false)
    );
    assert_eq!(query::desk_occupied(&store, &desk, interval()).len(), 1);
    let user = query::user_by_email(&store, &"anna@example.com".parse().unwrap()).unwrap();
    assert_eq!(query::credential(&store, user.id).unwrap().version, 2);
    assert_eq!(
        query::session_by_token(&store, TokenHash::new([1; 32]))
            .unwrap()
            .user,
        user.id
    );
    let all = query::bookings_of_user(
        &store,
        UserId::from_number(0x2_0000),
        None,
        None,
        9,
        moment(1, 0),
    );
    assert_eq!(all.items.len(), 2);
    assert_eq!(
        query::signing_keys(&store)[0].id,
        KeyId::from_number(0x1_0000)
    );
}

#[test]
fn secrets_are_not_shown() {
    let fingerprint = Fingerprint::from_bytes([77; 16]);
    assert_eq!(format!("{fingerprint:?}"), "Fingerprint(…)");
    for (name, envelope) in envelopes() {
        let shown = format!("{envelope:?}");
        for secret in ["argon2id", "9, 9, 9", "1, 1, 1", "2, 2, 2"] {
            assert!(!shown.contains(secret), "{name} shows {secret}: {shown}");
        }
    }
}

#[test]
fn decoding_takes_all_bytes_of_a_known_version_or_nothing() {
    let reply = Reply {
        index: 1,
        replayed: false,
        result: Ok(Outcome::Done),
    };
    let bytes = reply.encode();
    assert_eq!(decode_reply(&bytes), Ok(reply));
    assert_eq!(decode_reply(&[]), Err(DecodeError::Empty));
    assert_eq!(
        decode_reply(&bytes[..bytes.len() - 1]),
        Err(DecodeError::Malformed)
    );
    assert_eq!(
        decode_reply(&[&bytes[..], &[0, 0]].concat()),
        Err(DecodeError::LeftOver(2))
    );
    let other = [&[2], &bytes[1..]].concat();
    assert_eq!(decode_reply(&other), Err(DecodeError::UnknownVersion(2)));
    let long = vec![1; MAX_COMMAND_BYTES + 1];
    assert_eq!(
        Envelope::decode(&long),
        Err(DecodeError::TooLong(long.len()))
    );
}

#[test]
fn a_length_that_lies_costs_no_memory() {
    // A vector of four thousand million elements, in nine bytes.
    let lie = [&[1u8, 253][..], &u64::MAX.to_le_bytes()].concat();
    assert_eq!(codec::decode::<Vec<u64>>(&lie), Err(DecodeError::Malformed));
    assert_eq!(codec::decode::<String>(&lie), Err(DecodeError::Malformed));
}

#[test]
fn values_check_themselves_when_decoded() {
    let refused = |bytes: Vec<u8>| codec::decode::<Interval>(&bytes) == Err(DecodeError::Malformed);
    assert!(refused(codec::encode(&(5u64, 5u64))));
    assert!(!refused(codec::encode(&(5u64, 6u64))));
    let email = codec::encode(&"Anna@example.com\n");
    assert_eq!(
        codec::decode::<mesto_booking::text::Email>(&email)
            .unwrap()
            .as_str(),
        "anna@example.com"
    );
    let email = codec::encode(&"anna");
    assert!(codec::decode::<mesto_booking::text::Email>(&email).is_err());
    assert!(
        codec::decode::<mesto_booking::calendar::LocalDate>(&codec::encode(&(2023u16, 2u8, 29u8)))
            .is_err()
    );
    assert_eq!(
        codec::decode::<Instant>(&codec::encode(&u64::MAX)),
        Ok(Instant::MAX)
    );
}

fn a_grid() -> impl Strategy<Value = Result<Grid, GridRefusal>> {
    prop_oneof![
        any::<u16>().prop_map(|slots| Ok(Grid { slots })),
        Just(Err(GridRefusal::OffGrid)),
        Just(Err(GridRefusal::OutsideOpeningHours)),
        Just(Err(GridRefusal::Closed)),
    ]
}

fn an_instant() -> impl Strategy<Value = Instant> {
    any::<u64>().prop_map(Instant::from_ms)
}

fn an_interval() -> impl Strategy<Value = Interval> {
    (0u64..1 << 47, 1u64..1 << 46).prop_map(|(starts, length)| {
        Interval::new(Instant::from_ms(starts), Instant::from_ms(starts + length)).unwrap()
    })
}

fn a_placement() -> impl Strategy<Value = Placement> {
    (
        any::<u64>(),
        any::<u32>(),
        an_interval(),
        a_grid(),
        an_instant(),
        an_interval(),
    )
        .prop_map(
            |(space, schedule_revision, interval, grid, bookable_from, week)| Placement {
                space: SpaceId::from_number(space),
                schedule_revision,
                interval,
                grid,
                bookable_from,
                week,
            },
        )
}

fn a_booking() -> impl Strategy<Value = Booking> {
    (
        any::<[u64; 5]>(),
        an_interval(),
        any::<u16>(),
        an_instant(),
        prop::option::of(an_instant()),
        any::<u32>(),
        any::<u64>(),
    )
        .prop_map(
            |(ids, interval, slots, created_at, cancelled_at, version, index)| Booking {
                id: BookingId::from_number(ids[0]),
                user: UserId::from_number(ids[1]),
                space: SpaceId::from_number(ids[2]),
                hall: HallId::from_number(ids[3]),
                desk: DeskId::from_number(ids[4]),
                interval,
                slots,
                created_at,
                cancelled_at,
                version,
                index,
            },
        )
}

/// A world in which the golden commands have been carried out but for the last, the erasure.
fn a_world() -> World {
    let mut world = World::new();
    for (_, actor, command) in commands().into_iter().take(11) {
        world.must(actor, command);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bookings_and_placements_come_back_as_they_went(
        booking in a_booking(), placement in a_placement(), desk: u64, key: [u8; 16], index: u64,
    ) {
        let reply = Reply { index, replayed: index % 2 == 0, result: Ok(Outcome::Booking(booking)) };
        prop_assert_eq!(decode_reply(&reply.encode()), Ok(reply));
        let command = Command::CreateBooking { for_user: None, desk: DeskId::from_number(desk), placement };
        let fingerprint = Fingerprint::from_bytes(key);
        let envelope =
            Envelope { dedup: DedupKey::Client(key), fingerprint, actor: Actor::System, command };
        prop_assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
    }

    /// Whatever bytes arrive: an answer, the same on every replica, and never a panic.
    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300), version: bool) {
        let mut world = a_world();
        let bytes = if version { [&[1], &bytes[..]].concat() } else { bytes };
        let mut replica = world.store.clone();
        world.submit_bytes(&bytes);
        let stamp = Stamp { index: world.index, now: world.now };
        apply(&mut replica, stamp, &bytes);
        prop_assert_eq!(world.store, replica);
    }

    /// The same with commands that were damaged on the way: these often decode.
    #[test]
    fn damaged_commands_get_an_answer(
        number in 0usize..20, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut world = a_world();
        let envelopes = envelopes();
        let mut bytes = envelopes[number % envelopes.len()].1.encode();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut replica = world.store.clone();
        world.submit_bytes(&bytes);
        apply(&mut replica, Stamp { index: world.index, now: world.now }, &bytes);
        prop_assert_eq!(&world.store, &replica);
        let _ = decode_reply(&bytes);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
