//! The stage: a space of its own, users of its own, their tokens.
//!
//! Everything is found again by the next run: the space by its slug, which names its size, and the
//! users by their e-mail addresses. Their passwords are derived from the operator token, so that
//! a cluster that others can reach does not get accounts that anybody knows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::LoadArgs;
use crate::cli::{Client, Method};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Address;

/// Short slots, so that a user can book often: at most one booking per user and slot.
pub(super) const SLOT_S: i64 = 15 * 60;
/// How many days of slots are used; below the booking window of the space, so that a run over
/// midnight stays inside it.
const DAYS: i64 = 360;
const DAYS_AHEAD: u32 = 366;
const DAY_S: i64 = 24 * 3_600;
/// The slots that a run may use.
pub(super) const SLOTS: i64 = DAYS * DAY_S / SLOT_S;
const DESKS_PER_HALL: u64 = 50;
/// Passwords are hashed on the nodes' cores; more at a time would only queue there.
const REGISTER_AT_ONCE: usize = 8;

/// What a run works with.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) slug: String,
    pub(super) halls: Vec<String>,
    /// The ids of the desks, in the order of their labels.
    pub(super) desks: Vec<String>,
    pub(super) users: Vec<User>,
    /// The number of the first slot, counted from the epoch: tomorrow at midnight, UTC.
    pub(super) first_slot: i64,
    pub(super) nodes: Vec<Address>,
}

/// One user under load.
#[derive(Debug)]
pub(super) struct User {
    pub(super) id: String,
    tokens: Mutex<Tokens>,
    /// The next slot that this user books, counted from the first one of the run.
    next_slot: Mutex<i64>,
    /// Bookings that this user holds, oldest first: id, desk, slot.
    pub(super) held: Mutex<VecDeque<(String, usize, i64)>>,
}

struct Tokens {
    access: String,
    refresh: String,
    since: Instant,
    lifetime: Duration,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl User {
    pub(super) fn token(&self) -> String {
        self.tokens.lock().access.clone()
    }

    /// A slot that this user has not booked yet, counted from the first one of the run.
    pub(super) fn take_slot(&self) -> i64 {
        let mut next = self.next_slot.lock();
        let slot = *next;
        *next = (slot + 1).rem_euclid(SLOTS);
        slot
    }

    /// Gets new tokens when half of their life is over.
    pub(super) async fn refresh_if_due(&self, client: &Client) -> anyhow::Result<()> {
        let refresh = {
            let tokens = self.tokens.lock();
            if tokens.since.elapsed() < tokens.lifetime / 2 {
                return Ok(());
            }
            tokens.refresh.clone()
        };
        let body = json!({ "refresh_token": refresh });
        let session = client
            .expect(Method::POST, "/api/v1/sessions/refresh", Some(&body))
            .await?;
        *self.tokens.lock() = Tokens::of(&session)?;
        Ok(())
    }
}

impl Tokens {
    fn of(session: &Value) -> anyhow::Result<Self> {
        let text = |name: &str| {
            session[name]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("the session has no {name}"))
        };
        Ok(Self {
            access: text("access_token")?,
            refresh: text("refresh_token")?,
            since: Instant::now(),
            lifetime: Duration::from_secs(session["expires_in"].as_u64().unwrap_or(300)),
        })
    }
}

/// Creates or finds the space and the users.
pub(super) async fn prepare(args: &LoadArgs, operator: &Client) -> anyhow::Result<Stage> {
    let slug = format!("load-{}", args.desks);
    let path = format!("/api/v1/admin/spaces/{slug}");
    operator
        .expect(Method::PUT, &path, Some(&space_document(&slug, args.desks)))
        .await
        .context("the space under load could not be created")?;
    let space = operator
        .expect(Method::GET, &format!("/api/v1/spaces/{slug}"), None)
        .await?;
    let (halls, desks) = halls_and_desks(&space)?;
    let wanted = usize::try_from(args.desks)?;
    ensure!(
        desks.len() == wanted,
        "the space {slug} has {} desks instead of {wanted}",
        desks.len()
    );
    let first_slot = first_slot();
    let users = users(args, operator, first_slot).await?;
    Ok(Stage {
        slug,
        halls,
        desks,
        users,
        first_slot,
        nodes: operator.nodes().to_vec(),
    })
}

fn first_slot() -> i64 {
    let now_s = i64::try_from(SystemClock.now_ms() / 1_000).expect("the year is below 292 billion");
    (now_s / DAY_S + 1) * DAY_S / SLOT_S
}

/// The space under load, as `PUT /admin/spaces/{slug}` takes it.
fn space_document(slug: &str, desks: u64) -> Value {
    let halls: Vec<Value> = (0..desks.div_ceil(DESKS_PER_HALL))
        .map(|hall| hall_document(hall, desks))
        .collect();
    let always = json!([["00:00", "24:00"]]);
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let hours: serde_json::Map<String, Value> = days
        .into_iter()
        .map(|day| (day.to_owned(), always.clone()))
        .collect();
    json!({
        "slug": slug,
        "name": format!("Load, {desks} desks"),
        "time_zone": "Etc/UTC",
        "slot_minutes": SLOT_S / 60,
        "opening_hours": hours,
        "closures": [],
        "rules": { "days_ahead": DAYS_AHEAD },
        "halls": halls,
    })
}

fn hall_document(hall: u64, desks: u64) -> Value {
    let first = hall * DESKS_PER_HALL;
    let last = (first + DESKS_PER_HALL).min(desks);
    let desks: Vec<Value> = (first..last)
        .map(|desk| {
            let place = desk - first;
            json!({
                "label": format!("L-{:04}", desk + 1),
                "x": 60 + place % 10 * 120,
                "y": 60 + place / 10 * 120,
                "rotation": 0,
                "zone": "Load",
                "features": ["monitor"],
                "active": true,
            })
        })
        .collect();
    json!({
        "name": format!("Hall {}", hall + 1),
        "plan": { "width": 1260, "height": 660, "walls": [], "labels": [] },
        "zones": [{ "name": "Load", "kind": "quiet" }],
        "desks": desks,
    })
}

fn halls_and_desks(space: &Value) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let halls = space["halls"]
        .as_array()
        .context("the space has no halls")?;
    let id = |object: &Value| {
        object["id"]
            .as_str()
            .map(str::to_owned)
            .context("an id is missing")
    };
    let hall_ids = halls.iter().map(id).collect::<anyhow::Result<Vec<_>>>()?;
    let mut desks = Vec::new();
    for desk in halls
        .iter()
        .flat_map(|hall| hall["desks"].as_array().into_iter().flatten())
    {
        desks.push((
            desk["label"].as_str().unwrap_or_default().to_owned(),
            id(desk)?,
        ));
    }
    desks.sort();
    Ok((hall_ids, desks.into_iter().map(|(_label, id)| id).collect()))
}

async fn users(args: &LoadArgs, operator: &Client, first_slot: i64) -> anyhow::Result<Vec<User>> {
    let secret = args.cluster.operator_token()?;
    let client = Client::new(
        operator.nodes().to_vec(),
        Duration::from_secs(args.cluster.timeout_s.max(60)),
    )?;
    let spread = SLOTS / i64::try_from(args.users)?;
    let each = (0..args.users).map(|number| {
        let client = client.clone();
        let email = format!("load-{:04}@example.com", number + 1);
        let password = password_of(secret.expose(), &email);
        async move {
            let start = i64::try_from(number)? * spread;
            sign_in(&client, &email, &password, first_slot, start)
                .await
                .with_context(|| format!("the user {email} could not be prepared"))
        }
    });
    futures_util::stream::iter(each)
        .buffered(REGISTER_AT_ONCE)
        .try_collect()
        .await
}

/// The password of a user under load; nobody without the operator token can tell it.
fn password_of(operator_token: &str, email: &str) -> String {
    let key = blake3::derive_key(
        "mesto 2026 password of a user under load",
        operator_token.as_bytes(),
    );
    blake3::keyed_hash(&key, email.as_bytes()).to_hex()[..32].to_owned()
}

async fn sign_in(
    client: &Client,
    email: &str,
    password: &str,
    first_slot: i64,
    start: i64,
) -> anyhow::Result<User> {
    let account = json!({ "email": email, "password": password });
    let answer = client
        .send(Method::POST, "/api/v1/users", Some(&account))
        .await?;
    if !answer.is_success() && answer.code() != "email_taken" {
        anyhow::bail!(
            "registering was answered {} {}",
            answer.status,
            answer.code()
        );
    }
    let session = client
        .expect(Method::POST, "/api/v1/sessions", Some(&account))
        .await?;
    let tokens = Tokens::of(&session)?;
    let id = session["user"]["id"]
        .as_str()
        .context("the session names no user")?
        .to_owned();
    let mine = client.clone().with_token(&tokens.access);
    let newest = mine
        .expect(Method::GET, "/api/v1/bookings?status=active&limit=1", None)
        .await?;
    let next_slot = slot_after(&newest["items"][0], first_slot).unwrap_or(start);
    Ok(User {
        id,
        tokens: Mutex::new(tokens),
        next_slot: Mutex::new(next_slot),
        held: Mutex::default(),
    })
}

/// Where the last run stopped: the slot after the newest booking, if that still lies ahead.
fn slot_after(booking: &Value, first_slot: i64) -> Option<i64> {
    let starts_at: jiff::Timestamp = booking["starts_at"].as_str()?.parse().ok()?;
    let slot = starts_at.as_second() / SLOT_S + 1 - first_slot;
    (0..SLOTS).contains(&slot).then_some(slot)
}

impl Stage {
    /// When a slot of the run starts, in seconds since the epoch.
    pub(super) fn starts_at_s(&self, slot: i64) -> i64 {
        (self.first_slot + slot) * SLOT_S
    }
}

/// An instant as the API writes it.
pub(super) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|instant| instant.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_has_every_desk_once() {
        for desks in [1, 50, 51, 200] {
            let document = space_document("load-x", desks);
            let mut labels: Vec<String> = document["halls"]
                .as_array()
                .expect("halls")
                .iter()
                .flat_map(|hall| hall["desks"].as_array().expect("desks").iter())
                .map(|desk| desk["label"].as_str().expect("a label").to_owned())
                .collect();
            labels.sort();
            labels.dedup();
            assert_eq!(labels.len() as u64, desks);
        }
    }

    #[test]
    fn desks_come_in_the_order_of_their_labels() {
        let space = json!({ "halls": [
            { "id": "hal_2", "desks": [{ "id": "dsk_b", "label": "L-0002" }] },
            { "id": "hal_1", "desks": [{ "id": "dsk_a", "label": "L-0001" }] },
        ]});
        let (halls, desks) = halls_and_desks(&space).expect("sound");
        assert_eq!(halls, ["hal_2", "hal_1"]);
        assert_eq!(desks, ["dsk_a", "dsk_b"]);
        assert!(halls_and_desks(&json!({})).is_err());
    }

    #[test]
    fn a_run_goes_on_where_the_last_one_stopped() {
        let first = 2_000_000;
        let booking = |slot: i64| json!({ "starts_at": rfc3339((first + slot) * SLOT_S) });
        assert_eq!(slot_after(&booking(10), first), Some(11));
        assert_eq!(slot_after(&booking(-5), first), None, "it lies behind");
        assert_eq!(
            slot_after(&booking(SLOTS), first),
            None,
            "it lies beyond the window"
        );
        assert_eq!(slot_after(&Value::Null, first), None);
    }

    #[test]
    fn passwords_differ_by_user_and_by_cluster() {
        let one = password_of("token-a", "load-0001@example.com");
        assert_eq!(one.len(), 32);
        assert_eq!(one, password_of("token-a", "load-0001@example.com"));
        assert_ne!(one, password_of("token-a", "load-0002@example.com"));
        assert_ne!(one, password_of("token-b", "load-0001@example.com"));
    }
}
