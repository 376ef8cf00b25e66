//! What a scenario shows: replies, and what can be read, as text.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::story::{Line, Story};
use crate::world::moment;
use mesto_booking::account::Role;
use mesto_booking::ids::SessionId;
use mesto_booking::instant::{DAY_MS, MINUTE_MS};
use mesto_booking::reply::Quota;
use mesto_booking::reservation::{Booking, BookingStatus, EventKind};
use mesto_booking::{Instant, Interval, Outcome, Refusal, Reply, query};
use std::fmt::Write as _;

impl Story {
    // Reading the state.

    pub(crate) fn events(&self, space: &str, after: u64) -> String {
        let events = query::events_since(&self.world.store, self.space(space), after, 1);
        let all = query::events_since(&self.world.store, self.space(space), after, 1_000);
        assert!(all.starts_with(&events) && (all.is_empty() || !events.is_empty()));
        let floor = query::event_floor(&self.world.store, self.space(space));
        let mut text = if floor > 0 {
            format!("removed up to {floor}\n")
        } else {
            String::new()
        };
        for event in all {
            let what = match event.kind {
                EventKind::Booked {
                    booking,
                    desk,
                    interval,
                } => {
                    format!(
                        "{} booked {} {}",
                        self.name_of(booking),
                        self.label(desk),
                        show(interval)
                    )
                }
                EventKind::Moved {
                    booking,
                    from_desk,
                    from,
                    to_desk,
                    to,
                } => format!(
                    "{} moved from {} {} to {} {}",
                    self.name_of(booking),
                    self.label(from_desk),
                    show(from),
                    self.label(to_desk),
                    show(to)
                ),
                EventKind::Cancelled {
                    booking,
                    desk,
                    interval,
                } => {
                    format!(
                        "{} cancelled {} {}",
                        self.name_of(booking),
                        self.label(desk),
                        show(interval)
                    )
                }
                EventKind::Imported { bookings } => format!("imported {bookings}"),
                EventKind::DeskChanged { desk } => format!("desk {}", self.label(desk)),
                EventKind::HallChanged { .. } => "hall".to_owned(),
                EventKind::SpaceChanged => "space".to_owned(),
            };
            writeln!(text, "{}.{} {what}", event.index, event.ordinal).unwrap();
        }
        text
    }

    pub(crate) fn taken(&self, space: &str, interval: &str) -> String {
        let span = self.interval(interval);
        let occupied = query::occupied(&self.world.store, self.space(space), span);
        let mut text = String::new();
        for (desk, row) in occupied {
            let whole = query::desk(&self.world.store, desk).unwrap();
            assert_eq!(query::desk_occupied(&self.world.store, &whole, span), row);
            let row: Vec<String> = row
                .iter()
                .map(|taken| format!("{} {}", show(taken.interval), self.name_of(taken.booking)))
                .collect();
            writeln!(text, "{}: {}", self.label(desk), row.join(", ")).unwrap();
        }
        text
    }

    pub(crate) fn near(&self, desk: &str, interval: &str) -> String {
        let desk = query::desk(&self.world.store, self.desk(desk)).unwrap();
        let free = query::alternatives(&self.world.store, &desk, self.interval(interval), 3);
        free.iter()
            .map(|desk| desk.label.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub(crate) fn list(&self, user: &str, status: &str, line: &Line<'_>) -> String {
        let status = match status {
            "active" => Some(BookingStatus::Active),
            "past" => Some(BookingStatus::Past),
            "cancelled" => Some(BookingStatus::Cancelled),
            "all" => None,
            other => panic!("no such status: {other}"),
        };
        let limit = line.small("limit").unwrap_or(100);
        let before = line.options.get("before").map(|name| self.booking(name));
        let page = query::bookings_of_user(
            &self.world.store,
            self.user(user),
            status,
            before,
            limit,
            self.world.now,
        );
        let mut text: String = page
            .items
            .iter()
            .map(|booking| self.show_booking(booking) + "\n")
            .collect();
        if let Some(next) = page.next {
            writeln!(text, "more before {}", self.name_of(next)).unwrap();
        }
        text
    }

    pub(crate) fn list_sessions(&self, user: &str) -> String {
        let sessions = query::sessions_of_user(&self.world.store, self.user(user));
        let name = |id: SessionId| self.sessions.iter().position(|known| *known == id).unwrap() + 1;
        let shown: Vec<String> = sessions
            .iter()
            .map(|s| format!("s{}", name(s.id)))
            .collect();
        if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join(" ")
        }
    }

    pub(crate) fn totals(&self) -> String {
        let t = query::totals(&self.world.store);
        format!(
            "users {} sessions {} spaces {} halls {} desks {} bookings {} cancelled {}",
            t.users, t.sessions, t.spaces, t.halls, t.desks, t.bookings, t.bookings_cancelled
        )
    }

    /// How many answers the state remembers, of clients' and of nodes' keys.
    pub(crate) fn answers(&self) -> String {
        let of = |key_space| {
            self.world
                .store
                .iter()
                .filter(|(key, _)| key.starts_with(&[0x40, key_space]))
                .count()
        };
        format!("clients {} nodes {}", of(0), of(1))
    }

    // Answers as text.

    pub(crate) fn reply(&self, reply: &Reply) -> String {
        let again = if reply.replayed { "again: " } else { "" };
        let what = match &reply.result {
            Ok(outcome) => self.outcome(outcome),
            Err(refusal) => format!("refused {}", self.refusal(refusal)),
        };
        format!("{again}{what}")
    }

    fn outcome(&self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Done => "done".to_owned(),
            Outcome::SigningKey(id) => {
                let number = self.keys.iter().position(|known| known == id).unwrap() + 1;
                format!(
                    "key {number} of {}",
                    query::signing_keys(&self.world.store).len()
                )
            }
            Outcome::User(user) => {
                let email = user.email.as_ref().map_or("nobody", |email| email.as_str());
                let role = if user.role == Role::Admin {
                    "admin"
                } else {
                    "member"
                };
                let name = user
                    .display_name
                    .as_ref()
                    .map_or(String::new(), |name| format!(" {name:?}"));
                let barred = if user.is_active() { "" } else { " barred" };
                format!(
                    "user {}{name} {role}{barred} v{}",
                    email.split('@').next().unwrap(),
                    user.version
                )
            }
            Outcome::Erased {
                bookings_cancelled,
                more,
            } => {
                format!(
                    "erased, {bookings_cancelled} cancelled{}",
                    if *more { ", more to do" } else { "" }
                )
            }
            Outcome::Session {
                id,
                user,
                expires_at,
            } => {
                let number = self.sessions.iter().position(|known| known == id).unwrap() + 1;
                format!(
                    "session s{number} of {} until {}",
                    self.name_of_user(*user),
                    show_time(*expires_at)
                )
            }
            Outcome::Space {
                schedule_revision, ..
            } => format!("space revision {schedule_revision}"),
            Outcome::Hall { zones, version, .. } => {
                format!("hall v{version}, {} zones", zones.len())
            }
            Outcome::Desks(ids) => format!("desks {}", ids.len()),
            Outcome::Booking(booking) => self.show_booking(booking),
            Outcome::Imported {
                accepted,
                refused,
                first_refusals,
            } => {
                let mut text = format!("imported {accepted}, refused {refused}");
                for (row, refusal) in first_refusals {
                    write!(text, "\nrow {row}: {}", self.refusal(refusal)).unwrap();
                }
                text
            }
        }
    }

    fn show_booking(&self, booking: &Booking) -> String {
        let status = match booking.status(self.world.now) {
            BookingStatus::Active => "active",
            BookingStatus::Past => "past",
            BookingStatus::Cancelled => "cancelled",
        };
        let details = query::booking_details(&self.world.store, booking.clone());
        format!(
            "{} {} {} {} {status} v{}",
            self.name_of(booking.id),
            self.name_of_user(booking.user),
            details.desk_label,
            show(booking.interval),
            booking.version
        )
    }

    fn refusal(&self, refusal: &Refusal) -> String {
        let more = match refusal {
            Refusal::NotFound(kind) => kind.to_string(),
            Refusal::Invalid(what) => what.field().to_owned(),
            Refusal::VersionMismatch { current } | Refusal::StaleSchedule { current } => {
                format!("now {current}")
            }
            Refusal::QuotaExceeded(Quota::OpenBookings { max }) => format!("{max} open"),
            Refusal::QuotaExceeded(Quota::HoursPerWeek { max }) => format!("{max} hours"),
            Refusal::SlotTaken { taken } => show(*taken),
            Refusal::UserAlreadyBooked { booking } => self.name_of(*booking),
            Refusal::Full { max } => max.to_string(),
            _ => String::new(),
        };
        format!("{} {more}", refusal.code()).trim_end().to_owned()
    }
}

fn show_time(time: Instant) -> String {
    let minutes = (time.as_ms() - moment(1, 0).as_ms()) / MINUTE_MS;
    let (day, of_day) = (minutes * MINUTE_MS / DAY_MS + 1, minutes % 1440);
    let clock = format!("{:02}:{:02}", of_day / 60, of_day % 60);
    if day == 1 {
        clock
    } else {
        format!("{day}T{clock}")
    }
}

fn show(interval: Interval) -> String {
    format!(
        "{}-{}",
        show_time(interval.starts()),
        show_time(interval.ends())
    )
}
