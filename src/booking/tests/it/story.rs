//! A story that goes on in a little world: what the command lines of a scenario mean.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::world::{World, desk_draft, hall_draft, moment, space_details};
use mesto_booking::account::Role;
use mesto_booking::command::{Command, Grid, GridRefusal, ImportRow};
use mesto_booking::ids::{BookingId, DeskId, HallId, KeyId, SessionId, SpaceId, UserId, ZoneId};
use mesto_booking::instant::HOUR_MS;
use mesto_booking::layout::{Point, SpaceDetails, ZoneDraft};
use mesto_booking::secret::{KeySecret, PasswordHash, TokenHash};
use mesto_booking::text::Email;
use mesto_booking::{Actor, DedupKey, Instant, Interval, Outcome, Placement, Reply, query};
use std::collections::BTreeMap;

/// A world, and the names that its things have in the story.
pub(crate) struct Story {
    pub(crate) world: World,
    pub(crate) users: BTreeMap<String, UserId>,
    pub(crate) spaces: BTreeMap<String, SpaceId>,
    pub(crate) halls: BTreeMap<String, HallId>,
    pub(crate) desks: BTreeMap<String, DeskId>,
    pub(crate) bookings: Vec<BookingId>,
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) keys: Vec<KeyId>,
}

/// A command line taken apart: words, and options.
pub(crate) struct Line<'a> {
    pub(crate) words: Vec<&'a str>,
    pub(crate) options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Line<'a> {
        let (options, words): (Vec<&str>, Vec<&str>) =
            line.split_whitespace().partition(|word| word.contains('='));
        let options = options
            .into_iter()
            .map(|word| word.split_once('=').unwrap())
            .collect();
        Line { words, options }
    }

    pub(crate) fn number(&self, option: &str) -> Option<u64> {
        self.options.get(option).map(|text| text.parse().unwrap())
    }

    pub(crate) fn small<T: TryFrom<u64>>(&self, option: &str) -> Option<T> {
        self.number(option)
            .map(|n| T::try_from(n).unwrap_or_else(|_| panic!("{option} is too large")))
    }
}

impl Story {
    pub(crate) fn new() -> Story {
        Story {
            world: World::new(),
            users: BTreeMap::new(),
            spaces: BTreeMap::new(),
            halls: BTreeMap::new(),
            desks: BTreeMap::new(),
            bookings: Vec::new(),
            sessions: Vec::new(),
            keys: Vec::new(),
        }
    }

    pub(crate) fn tell(&mut self, text: &str) -> String {
        let line = Line::parse(text);
        match line.words.as_slice() {
            ["now", time] => {
                self.world.now = self.time(time);
                String::new()
            }
            ["bytes", hex] => self.bytes(hex),
            ["bytes"] => self.bytes(""),
            ["events", space] => self.events(space, line.number("after").unwrap_or(0)),
            ["taken", space, interval] => self.taken(space, interval),
            ["near", desk, interval] => self.near(desk, interval),
            ["list", user, status] => self.list(user, status, &line),
            ["sessions", user] => self.list_sessions(user),
            ["totals"] => self.totals(),
            ["answers"] => self.answers(),
            words => match self.command(words, &line) {
                Some((actor, command)) => self.submit(actor, command, &line),
                None => panic!("no such command: {text}"),
            },
        }
    }

    fn submit(&mut self, actor: Actor, command: Command, line: &Line<'_>) -> String {
        let reply = match (line.options.get("key"), actor) {
            (None, _) => self.world.submit(actor, command),
            (Some(key), Actor::Member(user)) => {
                let body = line.options.get("body").unwrap_or(&"");
                self.world.submit_as(
                    actor,
                    DedupKey::for_user(user, key),
                    body.as_bytes(),
                    command,
                )
            }
            (Some(key), _) => {
                let body = line.options.get("body").unwrap_or(&"");
                self.world.submit_as(
                    actor,
                    DedupKey::for_stranger("", key),
                    body.as_bytes(),
                    command,
                )
            }
        };
        self.name_new_things(line, &reply);
        self.reply(&reply)
    }

    fn bytes(&mut self, hex: &str) -> String {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let reply = self.world.submit_bytes(&bytes);
        self.reply(&reply)
    }

    /// The command that these words mean, and who asks.
    fn command(&mut self, words: &[&str], line: &Line<'_>) -> Option<(Actor, Command)> {
        self.account_command(words, line)
            .or_else(|| self.session_command(words, line))
            .or_else(|| self.layout_command(words, line))
            .or_else(|| self.booking_command(words, line))
    }

    fn account_command(&self, words: &[&str], line: &Line<'_>) -> Option<(Actor, Command)> {
        let expected_version = line.small("version");
        Some(match *words {
            ["register", name] => (
                self.actor_option(line, Actor::System),
                Command::RegisterUser {
                    email: email(name),
                    display_name: None,
                    password_hash: password(name),
                },
            ),
            [who, "renames", user, name] => (
                self.actor(who),
                Command::UpdateUser {
                    user: self.user(user),
                    display_name: Some(name.parse().unwrap()),
                    expected_version,
                },
            ),
            [who, "makes", user, role @ ("admin" | "member")] => (
                self.actor(who),
                Command::SetRole {
                    email: email(user),
                    role: if role == "admin" {
                        Role::Admin
                    } else {
                        Role::Member
                    },
                },
            ),
            [who, verb @ ("bars" | "admits"), user] => (
                self.actor(who),
                Command::SetUserDisabled {
                    user: self.user(user),
                    disabled: verb == "bars",
                },
            ),
            [who, "erases", user] => (
                self.actor(who),
                Command::DeleteUser {
                    user: self.user(user),
                },
            ),
            [who, "changes", "password", "of", user] => (
                self.actor(who),
                Command::ChangePassword {
                    user: self.user(user),
                    password_hash: password("another"),
                    expected_credential: line.small("credential"),
                    keep_session: line.options.get("keep").map(|name| self.session(name)),
                },
            ),
            _ => return None,
        })
    }

    fn session_command(&self, words: &[&str], line: &Line<'_>) -> Option<(Actor, Command)> {
        let ttl_ms = line.number("hours").unwrap_or(24) * HOUR_MS;
        let system = self.actor_option(line, Actor::System);
        Some(match *words {
            ["sign", "in", user, "with", token] => (
                system,
                Command::OpenSession {
                    user: self.user(user),
                    credential_version: line.small("credential").unwrap_or(1),
                    refresh_token_hash: hash(token),
                    ttl_ms,
                },
            ),
            ["exchange", old, "for", new] => (
                system,
                Command::RotateRefreshToken {
                    old: hash(old),
                    new: hash(new),
                    ttl_ms,
                },
            ),
            [who, "closes", "all", "of", user] => (
                self.actor(who),
                Command::CloseAllSessions {
                    user: self.user(user),
                },
            ),
            [who, "closes", session] => (
                self.actor(who),
                Command::CloseSession {
                    session: self.session(session),
                },
            ),
            [who, "installs", "key", secret] => (
                self.actor(who),
                Command::InstallSigningKey {
                    secret: KeySecret::new(*hash(secret).expose()),
                    replaces: line
                        .small::<usize>("replaces")
                        .map(|number| self.keys[number - 1]),
                },
            ),
            _ => return None,
        })
    }

    fn layout_command(&self, words: &[&str], line: &Line<'_>) -> Option<(Actor, Command)> {
        let operator = self.actor_option(line, Actor::Operator);
        Some(match *words {
            ["space", slug] => {
                let space = self.spaces.get(slug).copied();
                let old = space.and_then(|id| query::space(&self.world.store, id));
                let blank = || space_details(slug);
                let mut details = old.map_or_else(blank, |space| space.details);
                set_details(&mut details, line);
                let expected_revision = line.small("revision");
                (
                    operator,
                    Command::PutSpace {
                        space,
                        details,
                        expected_revision,
                    },
                )
            }
            ["hall", name, "in", space] => {
                let hall = self.halls.get(name).copied();
                let mut draft = hall_draft(name);
                let old = hall.and_then(|id| query::hall(&self.world.store, id));
                let zones = line
                    .options
                    .get("zones")
                    .map_or(Vec::new(), |names| names.split(',').collect());
                draft.plan.width = line.small("width").unwrap_or(draft.plan.width);
                draft.zones = zones
                    .into_iter()
                    .map(|name| ZoneDraft {
                        id: old
                            .iter()
                            .flat_map(|hall| &hall.zones)
                            .find(|z| z.name.as_str() == name)
                            .map(|z| z.id),
                        name: name.parse().unwrap(),
                        kind: "quiet".parse().unwrap(),
                    })
                    .collect();
                let space = self.space(space);
                (
                    operator,
                    Command::PutHall {
                        space,
                        hall,
                        draft,
                        expected_version: line.small("version"),
                    },
                )
            }
            ["desks", "in", hall, ref labels @ ..] => {
                (operator, self.put_desks(hall, labels, line))
            }
            [who, "switches", desk, state @ ("on" | "off")] => (
                self.actor(who),
                Command::SetDeskActive {
                    desk: self.desk(desk),
                    active: state == "on",
                },
            ),
            _ => return None,
        })
    }

    fn put_desks(&self, hall: &str, labels: &[&str], line: &Line<'_>) -> Command {
        let hall = self.halls[hall];
        let zones = query::hall(&self.world.store, hall).unwrap().zones;
        let zone = line.options.get("zone").map(|name| {
            let known = zones.iter().find(|zone| zone.name.as_str() == *name);
            known.map_or(ZoneId::from_number(0), |zone| zone.id)
        });
        let spacing = line.small("spacing").unwrap_or(10);
        let desk = |(label, n): (&&str, u16)| {
            let mut draft = desk_draft(
                label,
                zone,
                Point {
                    x: n * spacing,
                    y: 0,
                },
            );
            draft.id = self.desks.get(*label).copied();
            draft
        };
        Command::PutDesks {
            hall,
            desks: labels.iter().zip(1..).map(desk).collect(),
        }
    }

    fn booking_command(&self, words: &[&str], line: &Line<'_>) -> Option<(Actor, Command)> {
        let expected_version = line.small("version");
        Some(match *words {
            [who, "books", desk, interval] => {
                let desk = self.desk(desk);
                (
                    self.actor(who),
                    Command::CreateBooking {
                        for_user: line.options.get("for").map(|name| self.user(name)),
                        desk,
                        placement: self.placement(desk, interval, line),
                    },
                )
            }
            [who, "moves", booking, "to", desk, interval] => {
                let desk = self.desk(desk);
                (
                    self.actor(who),
                    Command::MoveBooking {
                        booking: self.booking(booking),
                        desk: Some(desk),
                        placement: self.placement(desk, interval, line),
                        expected_version,
                    },
                )
            }
            [who, "moves", booking, "to", interval] => {
                let id = self.booking(booking);
                let desk = query::booking(&self.world.store, id).map(|booking| booking.desk);
                let placement =
                    self.placement(desk.unwrap_or(DeskId::from_number(0)), interval, line);
                (
                    self.actor(who),
                    Command::MoveBooking {
                        booking: id,
                        desk: None,
                        placement,
                        expected_version,
                    },
                )
            }
            [who, "cancels", booking] => (
                self.actor(who),
                Command::CancelBooking {
                    booking: self.booking(booking),
                    expected_version,
                },
            ),
            [who, "imports", "into", space, ref rows @ ..] => {
                let space = self.space(space);
                let current =
                    query::space(&self.world.store, space).map_or(0, |s| s.schedule_revision);
                (
                    self.actor(who),
                    Command::ImportBookings {
                        space,
                        schedule_revision: line.small("revision").unwrap_or(current),
                        rows: rows.iter().map(|row| self.import_row(row)).collect(),
                    },
                )
            }
            _ => return None,
        })
    }

    /// `anna/A-1/10:00-11:00`
    fn import_row(&self, row: &str) -> ImportRow {
        let parts: Vec<&str> = row.split('/').collect();
        let [user, desk, interval] = parts[..] else {
            panic!("not a row: {row}")
        };
        ImportRow {
            user: self.user(user),
            desk: self.desk(desk),
            interval: self.interval(interval),
            slots: 1,
        }
    }

    fn placement(&self, desk: DeskId, interval: &str, line: &Line<'_>) -> Placement {
        let mut placement = self.world.place(desk, self.interval(interval));
        match line.options.get("grid") {
            None => {}
            Some(&"off") => placement.grid = Err(GridRefusal::OffGrid),
            Some(&"outside") => placement.grid = Err(GridRefusal::OutsideOpeningHours),
            Some(&"closed") => placement.grid = Err(GridRefusal::Closed),
            Some(slots) => {
                placement.grid = Ok(Grid {
                    slots: slots.parse().unwrap(),
                });
            }
        }
        if let Some(revision) = line.small("revision") {
            placement.schedule_revision = revision;
        }
        if let Some(space) = line.options.get("placed_in") {
            placement.space = self.space(space);
        }
        if let Some(week) = line.options.get("week") {
            placement.week = self.interval(week);
        }
        placement
    }

    /// Remembers what the answer made under the name that the command gave it.
    fn name_new_things(&mut self, line: &Line<'_>, reply: &Reply) {
        let Ok(outcome) = &reply.result else { return };
        match (outcome, line.words.as_slice()) {
            (Outcome::User(user), ["register", name]) => {
                self.users.insert((*name).to_owned(), user.id);
            }
            (Outcome::Space { id, .. }, ["space", slug]) => {
                self.spaces.insert((*slug).to_owned(), *id);
            }
            (Outcome::Hall { id, .. }, ["hall", name, ..]) => {
                self.halls.insert((*name).to_owned(), *id);
            }
            (Outcome::Desks(ids), ["desks", "in", _, labels @ ..]) => {
                self.desks.extend(
                    labels
                        .iter()
                        .map(|label| (*label).to_owned())
                        .zip(ids.iter().copied()),
                );
            }
            (Outcome::Booking(booking), _) if !self.bookings.contains(&booking.id) => {
                self.bookings.push(booking.id);
            }
            (Outcome::Session { id, .. }, _) if !self.sessions.contains(id) => {
                self.sessions.push(*id);
            }
            (Outcome::SigningKey(id), _) if !self.keys.contains(id) => self.keys.push(*id),
            _ => {}
        }
    }

    // Names and numbers.

    fn actor(&self, name: &str) -> Actor {
        match name {
            "operator" => Actor::Operator,
            "system" => Actor::System,
            name => Actor::Member(self.user(name)),
        }
    }

    fn actor_option(&self, line: &Line<'_>, otherwise: Actor) -> Actor {
        line.options
            .get("by")
            .map_or(otherwise, |name| self.actor(name))
    }

    pub(crate) fn user(&self, name: &str) -> UserId {
        self.users
            .get(name)
            .copied()
            .unwrap_or(UserId::from_number(0))
    }

    pub(crate) fn space(&self, name: &str) -> SpaceId {
        self.spaces
            .get(name)
            .copied()
            .unwrap_or(SpaceId::from_number(0))
    }

    pub(crate) fn desk(&self, label: &str) -> DeskId {
        self.desks
            .get(label)
            .copied()
            .unwrap_or(DeskId::from_number(0))
    }

    pub(crate) fn booking(&self, name: &str) -> BookingId {
        let number: usize = name[1..].parse().unwrap();
        self.bookings
            .get(number - 1)
            .copied()
            .unwrap_or(BookingId::from_number(0))
    }

    fn session(&self, name: &str) -> SessionId {
        let number: usize = name[1..].parse().unwrap();
        self.sessions
            .get(number - 1)
            .copied()
            .unwrap_or(SessionId::from_number(0))
    }

    pub(crate) fn name_of(&self, booking: BookingId) -> String {
        match self.bookings.iter().position(|known| *known == booking) {
            Some(at) => format!("b{}", at + 1),
            None => "another".to_owned(),
        }
    }

    pub(crate) fn label(&self, desk: DeskId) -> String {
        query::desk(&self.world.store, desk)
            .unwrap()
            .label
            .to_string()
    }

    pub(crate) fn name_of_user(&self, id: UserId) -> &str {
        self.users
            .iter()
            .find(|(_, known)| **known == id)
            .map_or("a stranger", |(name, _)| name)
    }

    fn time(&self, text: &str) -> Instant {
        let (day, clock) = text.split_once('T').unwrap_or(("1", text));
        let (hours, minutes) = clock
            .split_once(':')
            .unwrap_or_else(|| panic!("not a time: {text}"));
        moment(
            day.parse().unwrap(),
            hours.parse::<u64>().unwrap() * 60 + minutes.parse::<u64>().unwrap(),
        )
    }

    pub(crate) fn interval(&self, text: &str) -> Interval {
        let (from, to) = text
            .split_once('-')
            .unwrap_or_else(|| panic!("not an interval: {text}"));
        Interval::new(self.time(from), self.time(to)).unwrap()
    }
}

fn set_details(details: &mut SpaceDetails, line: &Line<'_>) {
    let rules = &mut details.rules;
    let or_none = |n: Option<u16>, old: Option<u16>| n.map_or(old, |n| (n > 0).then_some(n));
    details.slot_minutes = line.small("slot").unwrap_or(details.slot_minutes);
    rules.minimum_notice_minutes = line.small("notice").unwrap_or(rules.minimum_notice_minutes);
    rules.days_ahead = line.small("days").unwrap_or(rules.days_ahead);
    rules.longest_slots = or_none(line.small("longest"), rules.longest_slots);
    rules.open_bookings_per_user = or_none(line.small("quota"), rules.open_bookings_per_user);
    rules.hours_per_week = or_none(line.small("hours"), rules.hours_per_week);
    details.open = line
        .options
        .get("open")
        .map_or(details.open, |open| *open == "yes");
    details.slug = line
        .options
        .get("slug")
        .map_or(details.slug.clone(), |slug| slug.parse().unwrap());
}

fn email(name: &str) -> Email {
    format!("{name}@example.com").parse().unwrap()
}

fn password(of: &str) -> PasswordHash {
    PasswordHash::new(format!("$fake${of}")).unwrap()
}

fn hash(token: &str) -> TokenHash {
    let mut bytes = [0; 32];
    bytes[..token.len()].copy_from_slice(token.as_bytes());
    TokenHash::new(bytes)
}
