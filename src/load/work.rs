//! One unit of work: choose, send, judge, remember.

use std::time::Instant;

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde::Deserialize;

use super::calls::{Call, Nodes};
use super::mix::{Kind, Mix};
use super::setup::{SLOT_S, SLOTS, Stage, rfc3339};
use super::tally::{Outcome, Sample, Tally};
use super::{LoadArgs, Pattern};

/// How many desks everyone wants in the hot pattern.
const HOT_DESKS: usize = 20;
/// The days ahead that people look at.
const DAYS_LOOKED_AT: i64 = 60;
const DAY_S: i64 = 24 * 3_600;

/// Everything that the workers share.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) stage: Stage,
    pub(super) nodes: Nodes,
    pub(super) tally: Tally,
    mix: Mix,
    pattern: Pattern,
    /// When the run began.
    pub(super) started: Instant,
    hot_start: i64,
    run: u64,
    warm_at: Instant,
}

/// What is to be done, chosen before it is due.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    kind: Kind,
    user: usize,
    target: Target,
    key: String,
}

#[derive(Clone, Debug)]
enum Target {
    Look { hall: usize, day: i64, hour: u8 },
    Desk { desk: usize, slot: i64 },
    Held { id: String, desk: usize, slot: i64 },
}

#[derive(Deserialize)]
struct Booked {
    id: String,
}

impl Work {
    pub(super) fn new(args: &LoadArgs, stage: Stage, run: u64) -> anyhow::Result<Self> {
        let nodes = Nodes::new(&stage.nodes)?;
        let (mix, pattern) = (args.mix.clone(), args.pattern);
        let hot_start = i64::try_from(run % SLOTS.unsigned_abs())?;
        let started = Instant::now();
        let warm_at = started + args.warmup();
        Ok(Self {
            stage,
            nodes,
            tally: Tally::new(),
            mix,
            pattern,
            started,
            hot_start,
            run,
            warm_at,
        })
    }

    /// Chooses what `user` does next. A cancellation with nothing to cancel becomes a booking.
    pub(super) fn plan(&self, random: &mut StdRng, user: usize, number: u64) -> Plan {
        let mut kind = self.mix.pick(random.random_range(0..self.mix.total()));
        let held = if kind == Kind::Cancel {
            self.stage.users[user].held.lock().pop_front()
        } else {
            None
        };
        let target = match (kind, held) {
            (Kind::Availability, _) => Target::Look {
                hall: random.random_range(0..self.stage.halls.len()),
                day: random.random_range(0..DAYS_LOOKED_AT),
                hour: random.random_range(6..18),
            },
            (Kind::Cancel, Some((id, desk, slot))) => Target::Held { id, desk, slot },
            (Kind::Book | Kind::Cancel, _) => {
                kind = Kind::Book;
                self.desk_for(random, user)
            }
        };
        Plan {
            kind,
            user,
            target,
            key: format!("load-{:x}-{number}", self.run),
        }
    }

    fn desk_for(&self, random: &mut StdRng, user: usize) -> Target {
        let desks = self.stage.desks.len();
        match self.pattern {
            Pattern::Spread => Target::Desk {
                desk: random.random_range(0..desks),
                slot: self.stage.users[user].take_slot(),
            },
            Pattern::Distinct => Target::Desk {
                desk: user % desks,
                slot: self.stage.users[user].take_slot(),
            },
            Pattern::Hot => {
                let seconds = i64::try_from(self.started.elapsed().as_secs()).unwrap_or(0);
                let slot = (self.hot_start + seconds).rem_euclid(SLOTS);
                Target::Desk {
                    desk: random.random_range(0..desks.min(HOT_DESKS)),
                    slot,
                }
            }
        }
    }

    /// Does it, and counts it. `intended` is when it should have started.
    pub(super) async fn carry_out(&self, plan: Plan, intended: Instant) {
        if let Target::Held { desk, slot, .. } = &plan.target {
            self.tally.release(*desk, self.stage.starts_at_s(*slot));
        }
        let reply = self.nodes.send(&self.call(&plan)).await;
        let latency = intended.elapsed();
        let mut outcome = reply.outcome;
        if let (Target::Desk { desk, slot }, Outcome::Done) = (&plan.target, &outcome) {
            match serde_json::from_slice::<Booked>(&reply.body) {
                Ok(booked) => {
                    self.tally.acknowledge(*desk, self.stage.starts_at_s(*slot));
                    // Only what will be cancelled has to be remembered.
                    if self.mix.has(Kind::Cancel) {
                        self.stage.users[plan.user]
                            .held
                            .lock()
                            .push_back((booked.id, *desk, *slot));
                    }
                }
                Err(_) => outcome = Outcome::Unexpected("201 without a booking".to_owned()),
            }
        }
        let warmup = intended < self.warm_at;
        self.tally.record(Sample {
            kind: plan.kind,
            latency,
            outcome,
            retried: reply.retried,
            warmup,
        });
    }

    fn call(&self, plan: &Plan) -> Call {
        let token = self.stage.users[plan.user].token();
        let (path, body) = match &plan.target {
            Target::Look { hall, day, hour } => (self.look_path(*hall, *day, *hour), None),
            Target::Desk { desk, slot } => {
                let starts_at_s = self.stage.starts_at_s(*slot);
                let body = format!(
                    r#"{{"desk":"{}","starts_at":"{}","ends_at":"{}"}}"#,
                    self.stage.desks[*desk],
                    rfc3339(starts_at_s),
                    rfc3339(starts_at_s + SLOT_S)
                );
                ("/api/v1/bookings".to_owned(), Some(body))
            }
            Target::Held { id, .. } => (format!("/api/v1/bookings/{id}/cancel"), None),
        };
        let key = (plan.kind != Kind::Availability).then(|| plan.key.clone());
        Call {
            kind: plan.kind,
            path,
            token,
            body,
            key,
        }
    }

    /// Four hours of one hall on one day: what a floor plan asks for.
    fn look_path(&self, hall: usize, day: i64, hour: u8) -> String {
        let date = rfc3339(self.stage.starts_at_s(0) + day * DAY_S);
        format!(
            "/api/v1/spaces/{}/availability?date={}&from={hour:02}:00&to={:02}:00&hall={}",
            self.stage.slug,
            date.get(..10).unwrap_or_default(),
            hour + 4,
            self.stage.halls[hall]
        )
    }
}
