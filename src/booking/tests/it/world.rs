//! A little world to try the domain in: a store in memory, a log index, a clock that tests turn,
//! and a proposer for spaces in UTC.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use mesto_booking::calendar::{Opening, OpeningHours};
use mesto_booking::command::{Command, Grid};
use mesto_booking::ids::{DeskId, HallId, SpaceId, UserId, ZoneId};
use mesto_booking::instant::{DAY_MS, MINUTE_MS};
use mesto_booking::layout::{DeskDraft, HallDraft, Plan, Point, Rules, Space, SpaceDetails};
use mesto_booking::secret::PasswordHash;
use mesto_booking::{
    Actor, DedupKey, Envelope, Fingerprint, Instant, Interval, MemoryStore, Outcome, Placement,
    Reply, Stamp, apply, decode_reply, query,
};
use std::collections::BTreeSet;

/// Day 1 of every scenario, in days since 1970: Monday, 7 October 2024.
pub(crate) const DAY_ONE: u64 = 20_003;

/// The moment `minutes` after midnight of day `day` (from 1), in UTC.
pub(crate) fn moment(day: u64, minutes: u64) -> Instant {
    Instant::from_ms((DAY_ONE + day - 1) * DAY_MS + minutes * MINUTE_MS)
}

pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) index: u64,
    pub(crate) now: Instant,
}

impl World {
    /// Nothing is there yet; it is seven o'clock on day 1.
    pub(crate) fn new() -> World {
        World {
            store: MemoryStore::new(),
            index: 0,
            now: moment(1, 7 * 60),
        }
    }

    /// Applies a command under a key of its own.
    pub(crate) fn submit(&mut self, actor: Actor, command: Command) -> Reply {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&(self.index + 1).to_be_bytes());
        self.submit_as(actor, DedupKey::Node(key), b"", command)
    }

    /// Applies a command under a key, as a request with that body.
    pub(crate) fn submit_as(
        &mut self,
        actor: Actor,
        dedup: DedupKey,
        body: &[u8],
        command: Command,
    ) -> Reply {
        let envelope = Envelope {
            dedup,
            fingerprint: Fingerprint::of(&[body]),
            actor,
            command,
        };
        self.submit_bytes(&envelope.encode())
    }

    /// Applies any bytes.
    pub(crate) fn submit_bytes(&mut self, bytes: &[u8]) -> Reply {
        self.index += 1;
        let stamp = Stamp {
            index: self.index,
            now: self.now,
        };
        decode_reply(&apply(&mut self.store, stamp, bytes)).unwrap()
    }

    /// Applies a command that must succeed.
    pub(crate) fn must(&mut self, actor: Actor, command: Command) -> Outcome {
        let shown = format!("{command:?}");
        let reply = self.submit(actor, command);
        reply
            .result
            .unwrap_or_else(|refusal| panic!("{shown} was refused: {refusal}"))
    }

    pub(crate) fn register(&mut self, name: &str) -> UserId {
        let command = Command::RegisterUser {
            email: format!("{name}@example.com").parse().unwrap(),
            display_name: None,
            password_hash: PasswordHash::new(format!("$fake${name}")).unwrap(),
        };
        match self.must(Actor::System, command) {
            Outcome::User(user) => user.id,
            other => panic!("registering answered {other:?}"),
        }
    }

    pub(crate) fn make_space(
        &mut self,
        slug: &str,
        details: impl FnOnce(&mut SpaceDetails),
    ) -> SpaceId {
        let mut all = space_details(slug);
        details(&mut all);
        let command = Command::PutSpace {
            space: None,
            details: all,
            expected_revision: None,
        };
        match self.must(Actor::Operator, command) {
            Outcome::Space { id, .. } => id,
            other => panic!("making a space answered {other:?}"),
        }
    }

    pub(crate) fn make_hall(&mut self, space: SpaceId, name: &str) -> HallId {
        let draft = hall_draft(name);
        let command = Command::PutHall {
            space,
            hall: None,
            draft,
            expected_version: None,
        };
        match self.must(Actor::Operator, command) {
            Outcome::Hall { id, .. } => id,
            other => panic!("making a hall answered {other:?}"),
        }
    }

    pub(crate) fn make_desks(&mut self, hall: HallId, labels: &[&str]) -> Vec<DeskId> {
        let desk = |(label, n): (&&str, u16)| desk_draft(label, None, Point { x: n * 10, y: 0 });
        let desks = labels.iter().zip(0..).map(desk).collect();
        match self.must(Actor::Operator, Command::PutDesks { hall, desks }) {
            Outcome::Desks(ids) => ids,
            other => panic!("making desks answered {other:?}"),
        }
    }

    /// What an honest proposer says of an interval in a space whose time zone is UTC and which is
    /// always open.
    pub(crate) fn place(&self, desk: DeskId, interval: Interval) -> Placement {
        let space =
            query::desk(&self.store, desk).and_then(|desk| query::space(&self.store, desk.space));
        match space {
            Some(space) => place_in(&space, interval),
            None => Placement {
                space: SpaceId::from_number(0),
                ..place_in(&nowhere(), interval)
            },
        }
    }
}

fn nowhere() -> Space {
    Space {
        id: SpaceId::from_number(0),
        details: space_details("nowhere"),
        schedule_revision: 0,
        created_at: Instant::EPOCH,
    }
}

fn place_in(space: &Space, interval: Interval) -> Placement {
    let day_starts = interval.starts().as_ms() / DAY_MS * DAY_MS;
    let ahead_ms = u64::from(space.details.rules.days_ahead) * DAY_MS;
    let slot_ms = u64::from(space.details.slot_minutes) * MINUTE_MS;
    Placement {
        space: space.id,
        schedule_revision: space.schedule_revision,
        interval,
        grid: Ok(Grid {
            slots: u16::try_from(interval.length_ms() / slot_ms).unwrap_or(u16::MAX),
        }),
        bookable_from: Instant::from_ms(day_starts).minus_ms(ahead_ms),
        week: week_of(interval.starts()),
    }
}

/// The week from Monday to Monday, in UTC.
pub(crate) fn week_of(moment: Instant) -> Interval {
    let day = moment.as_ms() / DAY_MS;
    // 1 January 1970 was a Thursday.
    let monday = Instant::from_ms((day - (day + 3) % 7) * DAY_MS);
    Interval::new(monday, monday.plus_ms(7 * DAY_MS)).unwrap()
}

pub(crate) fn space_details(slug: &str) -> SpaceDetails {
    SpaceDetails {
        slug: slug.parse().unwrap(),
        name: slug.parse().unwrap(),
        time_zone: "UTC".parse().unwrap(),
        opening_hours: OpeningHours::daily(&[Opening::new(0, 1440).unwrap()]).unwrap(),
        closures: Vec::new(),
        slot_minutes: 60,
        rules: Rules::default(),
        open: true,
    }
}

pub(crate) fn hall_draft(name: &str) -> HallDraft {
    let plan = Plan {
        width: 1_000,
        height: 500,
        walls: Vec::new(),
        labels: Vec::new(),
    };
    HallDraft {
        name: name.parse().unwrap(),
        plan,
        zones: Vec::new(),
    }
}

pub(crate) fn desk_draft(label: &str, zone: Option<ZoneId>, at: Point) -> DeskDraft {
    DeskDraft {
        id: None,
        zone,
        label: label.parse().unwrap(),
        at,
        rotation_degrees: 0,
        features: BTreeSet::new(),
        active: true,
    }
}
