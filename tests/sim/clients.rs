//! What clients do: book, move, cancel, look, sign in and out; on any node, with retries, giving up and switching.
//!
//! All clients share a few users, desks and slots, so that nearly every write competes with another.

mod accounts;
mod answers;
mod asking;
mod bookings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesto_raft::NodeId;
use serde_json::{Value, json};

use self::answers::{instant, sight};
use crate::checker::history::Id;
use crate::dice::Dice;
use crate::front::Response;
use crate::town::Town;

/// The slug of the one space.
pub(crate) const SPACE: &str = "nevsky";
/// The day that clients fight for, and its first slot, in hours since the epoch.
pub(crate) const DAY: &str = "2026-03-05";
pub(crate) const FIRST_SLOT: u64 = 492_416;
/// How long a patient client waits for an answer, in milliseconds.
const PATIENCE_MS: u64 = 7_000;
/// How often a client tries again at the most.
const TRIES: u64 = 6;

/// How long the one who looks back waits before it asks again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The password of a user, at first.
fn password(user: u64) -> String {
    format!("password of user {user}")
}

/// A user's e-mail address.
pub(crate) fn email(user: u64) -> String {
    format!("u{user}@example.com")
}

/// A user's name in histories.
pub(crate) fn user_name(user: u64) -> Id {
    Id::from(format!("u{user}"))
}

/// A client.
pub(crate) struct Client {
    number: u64,
    town: Arc<Town>,
    dice: Dice,
    keys: u64,
    node: NodeId,
    sessions: BTreeMap<u64, Session>,
    /// The highest index of any answer that it got.
    seen_index: u64,
}

#[derive(Clone)]
struct Session {
    access: String,
    refresh: String,
}

/// How a request ended for who made it.
enum Ended {
    /// It was answered, and that settles it.
    Answered(Arc<Response>),
    /// Nobody knows, or nothing was done and the client has had enough.
    Open,
}

impl Client {
    /// Client number so-and-so.
    pub(crate) fn new(town: &Arc<Town>, number: u64) -> Self {
        let mut dice = Dice::new(town.plan.seed, &format!("client {number}"));
        let node = *dice.pick(&town.nodes.lock());
        Self {
            number,
            town: Arc::clone(town),
            dice,
            keys: 0,
            node,
            sessions: BTreeMap::new(),
            seen_index: 0,
        }
    }

    /// Lives until the town closes.
    pub(crate) async fn live(mut self) {
        while !self.town.is_closing() {
            let think_ms = self.dice.between(0, 2 * self.town.plan.load.think_ms);
            tokio::time::sleep(Duration::from_millis(think_ms)).await;
            if self.dice.chance(0.1) {
                self.switch();
            }
            match self.dice.below(100) {
                0..30 => self.create().await,
                30..42 => self.cancel().await,
                42..52 => self.relocate().await,
                52..68 => self.look_around().await,
                68..78 => self.list().await,
                78..86 => self.look_at_one().await,
                86..95 => self.account().await,
                _ => self.administer().await,
            }
        }
        *self.town.left.lock() += 1;
    }

    /// After the trouble is over: asks everything once more until it is answered, so that what was lost shows.
    pub(crate) async fn look_back(mut self) {
        for _ in 0..3 {
            while !self.availability(false, None).await {
                self.ask_elsewhere().await;
            }
        }
        for user in 0..self.town.plan.load.users {
            while !self.bookings_of(user, false, None).await {
                self.ask_elsewhere().await;
            }
        }
        let known = self.town.bookings.lock().clone();
        for (user, booking) in known {
            while !self.booking_of(user, booking.clone(), false).await {
                self.ask_elsewhere().await;
            }
        }
        self.town.looked_back.store(true, Ordering::Relaxed);
    }

    /// A node whose disk is lost may never answer.
    async fn ask_elsewhere(&mut self) {
        self.switch();
        tokio::time::sleep(ASK_AGAIN).await;
    }

    fn switch(&mut self) {
        self.node = *self.dice.pick(&self.town.nodes.lock());
    }

    fn key(&mut self) -> Id {
        self.keys += 1;
        Id::from(format!("c{}-{}", self.number, self.keys))
    }

    fn user(&mut self) -> u64 {
        self.dice.below(self.town.plan.load.users)
    }

    fn patience_ms(&mut self) -> u64 {
        if self.dice.chance(self.town.plan.load.impatience) {
            self.dice.between(5, 400)
        } else {
            self.town.plan.load.patience_ms
        }
    }

    fn wanted(&mut self) -> (Id, Vec<u64>) {
        let desk = self.dice.pick(&self.town.desks.lock()).clone();
        let all = self.town.plan.load.slots;
        let first = self.dice.below(all);
        let length = self.dice.between(1, 3).min(all - first);
        let slots = (0..length)
            .map(|number| FIRST_SLOT + first + number)
            .collect();
        (desk, slots)
    }
}

/// The one space: a hall with so many desks.
pub(crate) fn space_document(desks: u64, days_ahead: u64) -> Value {
    let day = json!([["08:00", "22:00"]]);
    let desks: Vec<Value> = (0..desks)
        .map(|number| json!({"label": format!("A-{number}"), "x": 10 + number, "y": 10}))
        .collect();
    json!({
        "slug": SPACE, "name": "Nevsky", "time_zone": "UTC", "slot_minutes": 60,
        "opening_hours": {"mon": day, "tue": day, "wed": day, "thu": day, "fri": day},
        "rules": {"days_ahead": days_ahead, "open_bookings_per_user": null},
        "halls": [{"name": "Main", "plan": {"width": 400, "height": 200}, "zones": [], "desks": desks}]
    })
}
