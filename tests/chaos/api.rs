//! The HTTP API as the clients of a run use it: one try of one action, and what may be concluded from its answer.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::checker::history::{Action, Id, Outcome, Refusal, Sight};
use crate::nodes::{Cluster, OPERATOR};

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) name: Id,
    pub(crate) token: String,
    email: String,
}

/// The desks and slots of one epoch. A slot is named by the hour that it starts at, counted from 1970.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    pub(crate) desks: Vec<Id>,
    pub(crate) date: jiff::civil::Date,
    pub(crate) slots: Vec<u64>,
}

/// Everybody's password.
const PASSWORD: &str = "a-password-of-chaos";

/// The slug of the space that everybody books in.
pub(crate) const SPACE: &str = "chaos";

/// What one try came to.
#[derive(Debug)]
pub(crate) enum Try {
    /// An answer that settles it.
    Settled(Option<u64>, Outcome),
    /// A promise that nothing happened; it may be tried again.
    NotApplied,
    /// Nobody knows.
    Unknown,
    /// An answer that a correct system never gives.
    Strange(String),
}

/// One try, all that it needs.
pub(crate) struct Request<'a> {
    pub(crate) http: &'a reqwest::Client,
    /// `http://HOST:PORT` of the node.
    pub(crate) node: &'a str,
    pub(crate) person: &'a Person,
    pub(crate) grid: &'a Grid,
    pub(crate) action: &'a Action,
    /// The idempotency key as it is sent.
    pub(crate) key: Option<&'a str>,
    pub(crate) min_index: Option<u64>,
    /// Whether the answer may be any state of the node; the same as the action says, but in a planted bug.
    pub(crate) local: bool,
    pub(crate) timeout: Duration,
}

impl Request<'_> {
    pub(crate) async fn send(&self) -> Try {
        let (method, path, body) = self.shape();
        let state = match (self.local, path.contains('?')) {
            (false, _) => "",
            (true, false) => "?consistency=local",
            (true, true) => "&consistency=local",
        };
        let url = format!("{}/api/v1{path}{state}", self.node);
        let mut request = self
            .http
            .request(method, url)
            .bearer_auth(&self.person.token);
        if let Some(key) = self.key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(index) = self.min_index {
            request = request.header("Mesto-Min-Index", index);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        match request.timeout(self.timeout).send().await {
            Ok(response) => self.conclude(response).await,
            Err(error) if error.is_connect() => Try::NotApplied,
            Err(_) => Try::Unknown,
        }
    }

    fn shape(&self) -> (Method, String, Option<Value>) {
        let place = |desk: &Id, slots: &[u64]| {
            let (first, last) = (slots[0], slots[slots.len() - 1]);
            json!({ "desk": **desk, "starts_at": time(first), "ends_at": time(last + 1) })
        };
        match self.action {
            Action::Create { desk, slots, .. } => {
                (Method::POST, "/bookings".into(), Some(place(desk, slots)))
            }
            Action::Cancel { booking, .. } => (
                Method::POST,
                format!("/bookings/{booking}/cancel"),
                Some(json!({})),
            ),
            Action::Move {
                booking,
                desk,
                slots,
                ..
            } => (
                Method::PATCH,
                format!("/bookings/{booking}"),
                Some(place(desk, slots)),
            ),
            Action::Availability { .. } => (
                Method::GET,
                format!("/spaces/{SPACE}/availability?date={}", self.grid.date),
                None,
            ),
            Action::List { .. } => (
                Method::GET,
                "/bookings?status=active&limit=100".into(),
                None,
            ),
            Action::Get { booking, .. } => (Method::GET, format!("/bookings/{booking}"), None),
        }
    }

    async fn conclude(&self, response: Response) -> Try {
        let status = response.status();
        let index = response.headers().get("mesto-index");
        let index = index
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let Ok(body) = response.json::<Value>().await else {
            return Try::Unknown;
        };
        let strange = || Try::Strange(format!("{status} {body} to {:?}", self.action));
        if status.is_success() {
            return self
                .outcome(&body)
                .map_or_else(strange, |outcome| Try::Settled(index, outcome));
        }
        let refused = |refusal| Try::Settled(index, Outcome::Refused(refusal));
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        match (status.as_u16(), text("code")) {
            (409, "slot_taken") => match self.taken(&body) {
                Some(taken) => refused(Refusal::SlotTaken(taken)),
                None => strange(),
            },
            (409, "user_already_booked") => refused(Refusal::UserBooked),
            (409, "booking_cancelled") => refused(Refusal::BookingCancelled),
            (404, "not_found") => refused(Refusal::NotFound),
            (409, "stale_schedule") => Try::NotApplied,
            (408 | 429 | 503 | 504, _) => match text("outcome") {
                "not_applied" => Try::NotApplied,
                "unknown" => Try::Unknown,
                _ => strange(),
            },
            _ => strange(),
        }
    }

    fn outcome(&self, body: &Value) -> Option<Outcome> {
        match self.action {
            Action::Availability { .. } => self.free(body),
            Action::List { .. } => {
                let all: Option<Vec<Sight>> = body["items"].as_array()?.iter().map(sight).collect();
                // Earlier epochs have been on other days; their slots are in other histories.
                let here = |sight: &Sight| {
                    sight
                        .slots
                        .iter()
                        .any(|slot| self.grid.slots.contains(slot))
                };
                let items = all?.into_iter().filter(here).collect();
                Some(Outcome::Bookings {
                    items,
                    whole: body["next_cursor"].is_null(),
                })
            }
            _ => sight(body).map(Outcome::Booking),
        }
    }

    fn free(&self, body: &Value) -> Option<Outcome> {
        let slots: Option<Vec<u64>> = body["slots"]
            .as_array()?
            .iter()
            .map(|slot| hour(&slot["starts_at"]))
            .collect();
        let slots = slots?;
        let mut free = Vec::new();
        for desk in body["desks"].as_array()? {
            let name: Id = desk["desk"].as_str()?.into();
            for number in desk["free"].as_array()? {
                let slot = slots.get(usize::try_from(number.as_u64()?).ok()?)?;
                free.push((name.clone(), *slot));
            }
        }
        Some(Outcome::Free(free))
    }

    /// Which of the wanted slots are in the way, as the answer says.
    fn taken(&self, body: &Value) -> Option<Vec<u64>> {
        let (from, to) = (
            hour(&body["taken"]["starts_at"])?,
            hour(&body["taken"]["ends_at"])?,
        );
        let (Action::Create { slots, .. } | Action::Move { slots, .. }) = self.action else {
            return None;
        };
        let taken: Vec<u64> = slots
            .iter()
            .copied()
            .filter(|slot| (from..to).contains(slot))
            .collect();
        (!taken.is_empty()).then_some(taken)
    }
}

fn sight(body: &Value) -> Option<Sight> {
    let (from, to) = (hour(&body["starts_at"])?, hour(&body["ends_at"])?);
    Some(Sight {
        booking: body["id"].as_str()?.into(),
        desk: body["desk"].as_str()?.into(),
        slots: (from..to).collect(),
        active: body["status"].as_str()? == "active",
        version: body["version"].as_u64()?,
    })
}

fn hour(value: &Value) -> Option<u64> {
    let time: jiff::Timestamp = value.as_str()?.parse().ok()?;
    u64::try_from(time.as_second() / 3_600).ok()
}

fn time(hour: u64) -> String {
    let seconds = i64::try_from(hour * 3_600).expect("hours of this century");
    jiff::Timestamp::from_second(seconds)
        .expect("hours of this century")
        .to_string()
}

/// Makes the space: open day and night, in UTC, so that all slots are whole hours. Gives the ids of its desks.
pub(crate) async fn make_space(cluster: &Cluster, desks: usize) -> anyhow::Result<Vec<Id>> {
    let hours: serde_json::Map<String, Value> = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
        .map(|day| (day.to_owned(), json!([["00:00", "24:00"]])))
        .into_iter()
        .collect();
    let desks: Vec<Value> = (0..desks)
        .map(|desk| json!({ "label": format!("D-{desk}"), "x": desk, "y": 1 }))
        .collect();
    let space = json!({
        "slug": SPACE, "name": "Chaos", "time_zone": "UTC", "opening_hours": hours, "rules": { "days_ahead": 366 },
        "halls": [{ "name": "Hall", "plan": { "width": 100, "height": 100 }, "desks": desks }],
    });
    let node = cluster.ids()[0];
    let request = cluster
        .http
        .post(cluster.url(node, "/api/v1/admin/spaces"))
        .bearer_auth(OPERATOR)
        .json(&space);
    let made: Value = request.send().await?.error_for_status()?.json().await?;
    let halls = made["halls"].as_array().context("a space has halls")?;
    let desks = halls
        .iter()
        .flat_map(|hall| hall["desks"].as_array().cloned().unwrap_or_default());
    let ids: Option<Vec<Id>> = desks
        .map(|desk| desk["id"].as_str().map(Id::from))
        .collect();
    ids.filter(|ids| !ids.is_empty()).context("desks have ids")
}

/// Registers a person and signs them in.
pub(crate) async fn make_person(cluster: &Cluster, number: usize) -> anyhow::Result<Person> {
    let email = format!("client-{number}@example.org");
    let account = json!({ "email": email, "password": PASSWORD });
    let ids = cluster.ids();
    let node = ids[number % ids.len()];
    let users = cluster
        .http
        .post(cluster.url(node, "/api/v1/users"))
        .json(&account);
    let user: Value = users.send().await?.error_for_status()?.json().await?;
    let sessions = cluster
        .http
        .post(cluster.url(node, "/api/v1/sessions"))
        .json(&account);
    let session: Value = sessions.send().await?.error_for_status()?.json().await?;
    Ok(Person {
        name: user["id"].as_str().context("a user has an id")?.into(),
        token: session["access_token"]
            .as_str()
            .context("a session has a token")?
            .to_owned(),
        email,
    })
}

/// When a node says that it issues a token, in seconds since 1970 by its own clock; nothing if it does not issue one now.
pub(crate) async fn issue_time(cluster: &Cluster, node: u64, person: &Person) -> Option<i64> {
    let account = json!({ "email": person.email, "password": PASSWORD });
    let request = cluster
        .http
        .post(cluster.url(node, "/api/v1/sessions"))
        .json(&account);
    let answer = request.timeout(Duration::from_secs(2)).send().await.ok()?;
    let session: Value = answer.error_for_status().ok()?.json().await.ok()?;
    let claims = session["access_token"].as_str()?.split('.').nth(1)?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(claims)
        .ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims["iat"].as_i64()
}

/// The grid of epoch `number`: a day of its own.
pub(crate) fn grid(desks: &[Id], number: u64) -> anyhow::Result<Grid> {
    let days = i64::try_from(number)? + 2;
    let today = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    let date = today.checked_add(jiff::Span::new().days(days))?;
    let midnight = date
        .to_zoned(jiff::tz::TimeZone::UTC)?
        .timestamp()
        .as_second();
    let first = u64::try_from(midnight / 3_600)?;
    Ok(Grid {
        desks: desks.to_vec(),
        date,
        slots: (first..first + 24).collect(),
    })
}
