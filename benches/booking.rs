//! What the domain costs without a log, a network or a disk: apply, codec, queries.
//!
//! The store is a map in memory with a month of a busy space in it: 200 desks, 300 users,
//! some fifty thousand bookings.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use mesto::booking::calendar::{Opening, OpeningHours};
use mesto::booking::command::{Command, Grid, ImportRow, MAX_IMPORT_ROWS};
use mesto::booking::ids::{DeskId, SpaceId, UserId};
use mesto::booking::instant::{DAY_MS, HOUR_MS};
use mesto::booking::layout::{DeskDraft, HallDraft, Plan, Point, Rules, SpaceDetails};
use mesto::booking::secret::PasswordHash;
use mesto::booking::{
    Actor, DedupKey, Envelope, Fingerprint, Instant, Interval, MemoryStore, Outcome, Placement,
    Stamp, apply, decode_reply, query,
};
use std::collections::BTreeSet;
use std::hint::black_box;

const DESKS: u64 = 200;
const USERS: u64 = 300;
const BOOKED_DAYS: u64 = 30;
const HOURS_PER_DAY: u64 = 8;
const DAY_ZERO: u64 = 20_003;

struct Space {
    store: MemoryStore,
    index: u64,
    space: SpaceId,
    desks: Vec<DeskId>,
    users: Vec<UserId>,
}

impl Space {
    fn new() -> Space {
        let mut this = Space {
            store: MemoryStore::new(),
            index: 0,
            space: SpaceId::from_number(0),
            desks: Vec::new(),
            users: Vec::new(),
        };
        this.lay_out();
        for number in 0..USERS {
            let command = Command::RegisterUser {
                email: format!("user{number}@example.com")
                    .parse()
                    .expect("a good address"),
                display_name: None,
                password_hash: PasswordHash::new("$fake$hash".to_owned()).expect("a good hash"),
            };
            let Outcome::User(user) = this.must(command) else {
                panic!("no user")
            };
            this.users.push(user.id);
        }
        this.fill();
        this
    }

    fn lay_out(&mut self) {
        let openings = [Opening::new(0, 1440).expect("a whole day")];
        let details = SpaceDetails {
            slug: "bench".parse().expect("a good slug"),
            name: "Bench".parse().expect("a good name"),
            time_zone: "UTC".parse().expect("a good zone"),
            opening_hours: OpeningHours::daily(&openings).expect("good hours"),
            closures: Vec::new(),
            slot_minutes: 60,
            rules: Rules {
                days_ahead: 366,
                ..Rules::default()
            },
            open: true,
        };
        let put = Command::PutSpace {
            space: None,
            details,
            expected_revision: None,
        };
        let Outcome::Space { id: space, .. } = self.must(put) else {
            panic!("no space")
        };
        self.space = space;
        let plan = Plan {
            width: 1_000,
            height: 1_000,
            walls: Vec::new(),
            labels: Vec::new(),
        };
        let draft = HallDraft {
            name: "Main".parse().expect("a good name"),
            plan,
            zones: Vec::new(),
        };
        let put = Command::PutHall {
            space,
            hall: None,
            draft,
            expected_version: None,
        };
        let Outcome::Hall { id: hall, .. } = self.must(put) else {
            panic!("no hall")
        };
        for first in (0..DESKS).step_by(50) {
            let desks = (first..first + 50).map(desk).collect();
            let Outcome::Desks(ids) = self.must(Command::PutDesks { hall, desks }) else {
                panic!("no desks")
            };
            self.desks.extend(ids);
        }
    }

    /// Books every desk for the first hours of every day of the first month.
    fn fill(&mut self) {
        let rows: Vec<ImportRow> = (0..BOOKED_DAYS * HOURS_PER_DAY * DESKS)
            .map(|n| {
                let (slot, desk) = (n / DESKS, n % DESKS);
                let hour = slot / HOURS_PER_DAY * 24 + slot % HOURS_PER_DAY;
                self.row(desk, hour)
            })
            .collect();
        for page in rows.chunks(MAX_IMPORT_ROWS) {
            let command = Command::ImportBookings {
                space: self.space,
                schedule_revision: 1,
                rows: page.to_vec(),
            };
            let Outcome::Imported { refused: 0, .. } = self.must(command) else {
                panic!("refused")
            };
        }
    }

    fn row(&self, desk: u64, hour: u64) -> ImportRow {
        let number = |n: u64| usize::try_from(n).expect("a small number");
        let interval = hour_of(hour);
        ImportRow {
            user: self.users[number(desk)],
            desk: self.desks[number(desk)],
            interval,
            slots: 1,
        }
    }

    fn envelope(&self, actor: Actor, command: Command) -> Vec<u8> {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.index.to_le_bytes());
        let fingerprint = Fingerprint::from_bytes(key);
        Envelope {
            dedup: DedupKey::Node(key),
            fingerprint,
            actor,
            command,
        }
        .encode()
    }

    fn submit(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.index += 1;
        let stamp = Stamp {
            index: self.index,
            now: hour_of(0).starts().minus_ms(HOUR_MS),
        };
        apply(&mut self.store, stamp, bytes)
    }

    fn must(&mut self, command: Command) -> Outcome {
        let bytes = self.envelope(Actor::Operator, command);
        let reply = decode_reply(&self.submit(&bytes)).expect("a reply");
        reply.result.expect("a command that succeeds")
    }

    /// A booking of the `n`-th free hour: after the filled hours of a day, desk by desk.
    fn create(&self, n: u64) -> Vec<u8> {
        let (slot, desk) = (n / DESKS, n % DESKS);
        let free = 24 - HOURS_PER_DAY;
        let hour = slot / free * 24 + HOURS_PER_DAY + slot % free;
        let ImportRow {
            user,
            desk,
            interval,
            ..
        } = self.row(desk, hour);
        self.envelope(Actor::Member(user), create(self.space, desk, interval))
    }
}

fn desk(number: u64) -> DeskDraft {
    let at = |n: u64| u16::try_from(n * 10).expect("a small number");
    DeskDraft {
        id: None,
        zone: None,
        label: format!("D-{number}").parse().expect("a good label"),
        at: Point {
            x: at(number % 20),
            y: at(number / 20),
        },
        rotation_degrees: 0,
        features: BTreeSet::new(),
        active: true,
    }
}

fn hour_of(hour: u64) -> Interval {
    let starts = Instant::from_ms(DAY_ZERO * DAY_MS + hour * HOUR_MS);
    Interval::new(starts, starts.plus_ms(HOUR_MS)).expect("an hour")
}

fn create(space: SpaceId, desk: DeskId, interval: Interval) -> Command {
    let week =
        Interval::new(interval.starts(), interval.starts().plus_ms(7 * DAY_MS)).expect("a week");
    let placement = Placement {
        space,
        schedule_revision: 1,
        interval,
        grid: Ok(Grid { slots: 1 }),
        bookable_from: Instant::EPOCH,
        week,
    };
    Command::CreateBooking {
        for_user: None,
        desk,
        placement,
    }
}

fn applying(criterion: &mut Criterion) {
    let mut space = Space::new();
    let mut n = 0;
    criterion.bench_function("apply/create_booking", |bencher| {
        bencher.iter(|| {
            let bytes = space.create(n);
            n += 1;
            black_box(space.submit(&bytes))
        });
    });
    let last = decode_reply(&{
        let bytes = space.create(n);
        space.submit(&bytes)
    })
    .expect("a reply");
    assert!(last.result.is_ok(), "the free hours have run out: {last:?}");

    let taken = space.row(1, 0);
    criterion.bench_function("apply/slot_taken", |bencher| {
        bencher.iter(|| {
            let command = create(space.space, space.desks[0], taken.interval);
            let bytes = space.envelope(Actor::Member(space.users[250]), command);
            black_box(space.submit(&bytes))
        });
    });
    criterion.bench_function("apply/replay", |bencher| {
        let bytes = space.create(n);
        bencher.iter(|| black_box(space.submit(&bytes)));
    });
    criterion.bench_function("apply/create_and_cancel", |bencher| {
        bencher.iter_batched(
            || (),
            |()| {
                n += 1;
                let bytes = space.create(n);
                let reply = decode_reply(&space.submit(&bytes)).expect("a reply");
                let Ok(Outcome::Booking(booking)) = reply.result else {
                    panic!("refused: {reply:?}")
                };
                let command = Command::CancelBooking {
                    booking: booking.id,
                    expected_version: None,
                };
                let bytes = space.envelope(Actor::Member(booking.user), command);
                black_box(space.submit(&bytes))
            },
            BatchSize::SmallInput,
        );
    });
}

fn coding(criterion: &mut Criterion) {
    let (desk, user) = (DeskId::from_number(5 << 16), UserId::from_number(2 << 16));
    let envelope = Envelope {
        dedup: DedupKey::Client([7; 16]),
        fingerprint: Fingerprint::from_bytes([8; 16]),
        actor: Actor::Member(user),
        command: create(SpaceId::from_number(1 << 16), desk, hour_of(0)),
    };
    let bytes = envelope.encode();
    criterion.bench_function("codec/encode_command", |b| {
        b.iter(|| black_box(&envelope).encode());
    });
    criterion.bench_function("codec/decode_command", |b| {
        b.iter(|| Envelope::decode(black_box(&bytes)).expect("a command"));
    });
    let mut space = Space::new();
    let reply = {
        let bytes = space.create(0);
        space.submit(&bytes)
    };
    criterion.bench_function("codec/decode_reply", |b| {
        b.iter(|| decode_reply(black_box(&reply)).expect("a reply"));
    });
}

fn querying(criterion: &mut Criterion) {
    let space = Space::new();
    let day = Interval::new(hour_of(0).starts(), hour_of(24).starts()).expect("a day");
    criterion.bench_function("query/occupied_day_of_200_desks", |bencher| {
        bencher.iter(|| black_box(query::occupied(&space.store, space.space, day)));
    });
    let desk = query::desk(&space.store, space.desks[0]).expect("a desk");
    criterion.bench_function("query/alternatives", |bencher| {
        bencher.iter(|| black_box(query::alternatives(&space.store, &desk, hour_of(9), 3)));
    });
}

criterion_group!(benches, applying, coding, querying);
criterion_main!(benches);
