//! People who book and cancel without a pause, and remember what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::dice::Dice;
use crate::ledger::{Account, Asked, Booking, Bookings, Cell, Status, Wish, doubles};
use crate::nodes::{Nodes, OPERATOR};

const PASSWORD: &str = "a-password-of-a-test";
const DESKS: usize = 40;
/// A few cells that everybody wants.
const HOT_DESKS: usize = 3;
const HOT_SHARE_PERCENT: u64 = 20;
const CANCEL_SHARE_PERCENT: u64 = 25;
const DAYS: u64 = 300;
const DAY_S: i64 = 24 * 60 * 60;
/// How many answered requests each person repeats after a fault.
const REPEATED: usize = 3;
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(20);
const SETTLE_PATIENCE: Duration = Duration::from_secs(20);

/// What a request came to.
enum Outcome {
    Done(String),
    Refused,
    /// Nobody knows, or a later try may succeed; whether it may have happened.
    Open(bool),
}

struct Person {
    name: String,
    token: String,
    account: Account,
    asked: u64,
    dice: Dice,
}

/// Everybody, between two loads.
pub(crate) struct People {
    people: Vec<Person>,
    desks: Arc<Vec<String>>,
    first_s: i64,
}

/// A load that goes on until it is stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<anyhow::Result<Person>>,
}

impl People {
    /// Registers `count` people and makes a space for them.
    pub(crate) async fn prepare(
        nodes: &Nodes,
        count: usize,
        dice: &mut Dice,
    ) -> anyhow::Result<People> {
        let url = nodes.url(nodes.running()[0]);
        let (slug, space) = new_space();
        let made = call(
            nodes.http(),
            &url,
            Method::POST,
            "/admin/spaces",
            OPERATOR,
            None,
            Some(&space),
        )
        .await?;
        ensure!(made.0 == 201, "cannot make a space: {made:?}");
        let read = call(
            nodes.http(),
            &url,
            Method::GET,
            &format!("/spaces/{slug}"),
            OPERATOR,
            None,
            None,
        )
        .await?;
        let desks = desks_of(&read.1);
        ensure!(desks.len() == DESKS, "the space has {} desks", desks.len());
        let mut people = Vec::new();
        for number in 0..count {
            let name = format!("person-{number}");
            let account = json!({ "email": format!("{name}@example.org"), "password": PASSWORD });
            for path in ["/users", "/sessions"] {
                let made = call(
                    nodes.http(),
                    &url,
                    Method::POST,
                    path,
                    "",
                    None,
                    Some(&account),
                )
                .await?;
                ensure!(made.0 == 201, "{path}: {made:?}");
                if path == "/sessions" {
                    people.push(Person {
                        name: name.clone(),
                        token: made.1["access_token"]
                            .as_str()
                            .unwrap_or_default()
                            .to_owned(),
                        account: Account::default(),
                        asked: 0,
                        dice: dice.fork(),
                    });
                }
            }
        }
        let today_s = jiff::Timestamp::now().as_second() / DAY_S * DAY_S;
        Ok(People {
            people,
            desks: Arc::new(desks),
            first_s: today_s + 2 * DAY_S,
        })
    }

    /// How many bookings were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        let accounts = self.people.iter().map(|person| &person.account);
        accounts.map(|account| account.acknowledged.len()).sum()
    }

    /// Sets everybody to work on the running nodes.
    pub(crate) fn begin(&mut self, nodes: &Nodes) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let urls: Vec<String> = nodes.running().iter().map(|id| nodes.url(*id)).collect();
        let urls = Arc::new(urls);
        let mut tasks = JoinSet::new();
        for person in self.people.drain(..) {
            let (stop, urls, desks) = (
                Arc::clone(&stop),
                Arc::clone(&urls),
                Arc::clone(&self.desks),
            );
            let http = nodes.http().clone();
            tasks.spawn(person.work(http, urls, desks, self.first_s, stop));
        }
        Load { stop, tasks }
    }

    /// Ends a load; what is in flight is answered or not.
    pub(crate) async fn end(&mut self, mut load: Load) -> anyhow::Result<()> {
        load.stop.store(true, Ordering::SeqCst);
        while let Some(person) = load.tasks.join_next().await {
            self.people.push(person.context("a person broke")??);
        }
        self.people.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(())
    }

    /// Demands that the running nodes know everything that was acknowledged, no more than was asked for, and nothing
    /// twice; and that what was answered is answered in the same way again.
    pub(crate) async fn check(&mut self, nodes: &Nodes) -> anyhow::Result<()> {
        let urls: Vec<String> = nodes.running().iter().map(|id| nodes.url(*id)).collect();
        let http = nodes.http();
        let mut found = Vec::new();
        let mut everyone = Vec::new();
        for (number, person) in self.people.iter_mut().enumerate() {
            let url = &urls[number % urls.len()];
            let listed = person.list(http, url, "").await?;
            found.extend(person.account.contradictions(&listed));
            everyone.push(listed);
        }
        found.extend(doubles(&everyone));
        fail_if_any(&found)?;
        for person in &mut self.people {
            found.extend(person.repeat(http, &urls).await?);
            found.extend(person.settle(http, &urls).await?);
        }
        fail_if_any(&found)
    }

    /// Demands that one node alone, asked for what it has itself, knows the same.
    pub(crate) async fn check_locally(&self, nodes: &Nodes, id: u64) -> anyhow::Result<()> {
        let mut found = Vec::new();
        for person in &self.people {
            let listed = person
                .list(nodes.http(), &nodes.url(id), "&consistency=local")
                .await?;
            found.extend(person.account.contradictions(&listed));
        }
        fail_if_any(&found)
    }
}

fn fail_if_any(found: &[String]) -> anyhow::Result<()> {
    let shown = &found[..found.len().min(10)];
    ensure!(
        found.is_empty(),
        "{} contradictions of what was acknowledged, among them:\n  {}",
        found.len(),
        shown.join("\n  ")
    );
    Ok(())
}

impl Person {
    async fn work(
        mut self,
        http: reqwest::Client,
        urls: Arc<Vec<String>>,
        desks: Arc<Vec<String>>,
        first_s: i64,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<Person> {
        while !stop.load(Ordering::SeqCst) {
            let wish = self.wish(&desks, first_s);
            self.asked += 1;
            let mut asked = Asked {
                key: format!("{}-{}", self.name, self.asked),
                wish,
                may_have_happened: false,
            };
            let mut settled = false;
            for _ in 0..ATTEMPTS {
                let url = self.dice.pick(&urls).clone();
                settled = self.attempt(&http, &url, &mut asked).await?;
                if settled || stop.load(Ordering::SeqCst) {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            if !settled {
                self.account.open.push(asked);
            }
        }
        Ok(self)
    }

    fn wish(&mut self, desks: &[String], first_s: i64) -> Wish {
        let free = |(_, booking): &(&String, &Booking)| booking.status == Status::Active;
        if self.dice.percent(CANCEL_SHARE_PERCENT) && !self.account.acknowledged.is_empty() {
            let at = self.dice.index(self.account.acknowledged.len());
            let mut from = self.account.acknowledged.iter().skip(at);
            if let Some((id, _)) = from.find(free) {
                return Wish::Cancel(id.clone());
            }
        }
        let (desks, hours) = if self.dice.percent(HOT_SHARE_PERCENT) {
            (&desks[..HOT_DESKS], 24)
        } else {
            (desks, DAYS * 24)
        };
        let hour = i64::try_from(self.dice.below(hours)).expect("a few thousand hours");
        Wish::Book(Cell {
            desk: self.dice.pick(desks).clone(),
            starts_s: first_s + hour * 60 * 60,
        })
    }

    /// Asks once, and notes the answer. Gives whether it is settled.
    async fn attempt(
        &mut self,
        http: &reqwest::Client,
        url: &str,
        asked: &mut Asked,
    ) -> anyhow::Result<bool> {
        match self.ask(http, url, asked).await? {
            Outcome::Done(id) => {
                self.account.done(asked, &id);
                if self.account.answered.len() >= REPEATED {
                    let at = self.dice.index(REPEATED);
                    self.account.answered.remove(at);
                }
                self.account.answered.push((asked.clone(), id));
                Ok(true)
            }
            Outcome::Refused => Ok(true),
            Outcome::Open(may_have_happened) => {
                asked.may_have_happened |= may_have_happened;
                Ok(false)
            }
        }
    }

    async fn ask(
        &self,
        http: &reqwest::Client,
        url: &str,
        asked: &Asked,
    ) -> anyhow::Result<Outcome> {
        let (path, body) = match &asked.wish {
            Wish::Book(cell) => {
                let starts_at = jiff::Timestamp::from_second(cell.starts_s)?.to_string();
                (
                    "/bookings".to_owned(),
                    json!({ "desk": cell.desk, "starts_at": starts_at }),
                )
            }
            Wish::Cancel(id) => (format!("/bookings/{id}/cancel"), json!({})),
        };
        let answer = call(
            http,
            url,
            Method::POST,
            &path,
            &self.token,
            Some(&asked.key),
            Some(&body),
        );
        let Ok((status, answer)) = answer.await else {
            return Ok(Outcome::Open(true));
        };
        match status {
            200 | 201 => {
                let id = answer["id"].as_str().context("a booking without an id")?;
                Ok(Outcome::Done(id.to_owned()))
            }
            409 => Ok(Outcome::Refused),
            429 | 500.. => Ok(Outcome::Open(answer["outcome"] != "not_applied")),
            _ => bail!("{path} was answered {status}: {answer}"),
        }
    }

    /// All bookings of this person, as a node lists them.
    async fn list(
        &self,
        http: &reqwest::Client,
        url: &str,
        more: &str,
    ) -> anyhow::Result<Bookings> {
        let mut all = Bookings::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/bookings?limit=100{more}{cursor}");
            let (status, page) =
                call(http, url, Method::GET, &path, &self.token, None, None).await?;
            ensure!(status == 200, "{path} was answered {status}: {page}");
            for item in page["items"].as_array().context("a page without items")? {
                let text = |name: &str| {
                    let text = item[name].as_str().map(str::to_owned);
                    text.with_context(|| format!("a booking without {name}: {item}"))
                };
                let status = match item["status"].as_str() {
                    Some("active") => Status::Active,
                    Some("cancelled") => Status::Cancelled,
                    _ => bail!("a status that cannot be: {item}"),
                };
                let starts_at: jiff::Timestamp = text("starts_at")?.parse()?;
                let cell = Cell {
                    desk: text("desk")?,
                    starts_s: starts_at.as_second(),
                };
                all.insert(text("id")?, Booking { cell, status });
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(all),
            }
        }
    }

    /// Sends some answered requests again: each must be answered with the same booking.
    async fn repeat(
        &mut self,
        http: &reqwest::Client,
        urls: &[String],
    ) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for (asked, id) in self.account.answered.clone() {
            let deadline = Instant::now() + SETTLE_PATIENCE;
            loop {
                let url = self.dice.pick(urls).clone();
                match self.ask(http, &url, &asked).await? {
                    Outcome::Done(again) if again == id => break,
                    Outcome::Open(_) if Instant::now() < deadline => {
                        tokio::time::sleep(PAUSE).await;
                    }
                    Outcome::Done(again) => {
                        found.push(format!("{asked:?} gave {id}, and {again} the second time"));
                        break;
                    }
                    Outcome::Refused | Outcome::Open(_) => {
                        found.push(format!(
                            "{asked:?} gave {id}, and was refused the second time"
                        ));
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    /// Asks again for everything that is open, until it is answered.
    async fn settle(
        &mut self,
        http: &reqwest::Client,
        urls: &[String],
    ) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for mut asked in std::mem::take(&mut self.account.open) {
            let deadline = Instant::now() + SETTLE_PATIENCE;
            loop {
                let url = self.dice.pick(urls).clone();
                if self.attempt(http, &url, &mut asked).await? {
                    break;
                }
                if Instant::now() > deadline {
                    found.push(format!("{asked:?} is never answered"));
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(found)
    }
}

/// One request; the status and the body, or a failure on the way.
async fn call(
    http: &reqwest::Client,
    url: &str,
    method: Method,
    path: &str,
    token: &str,
    key: Option<&str>,
    body: Option<&Value>,
) -> anyhow::Result<(u16, Value)> {
    let mut request = http.request(method, format!("{url}/api/v1{path}"));
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.json().await?))
}

fn new_space() -> (&'static str, Value) {
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let hours: serde_json::Map<String, Value> = days
        .iter()
        .map(|day| ((*day).to_owned(), json!([["00:00", "24:00"]])))
        .collect();
    let desks: Vec<Value> = (0..DESKS)
        .map(|number| json!({ "label": format!("D-{number}"), "x": number % 40, "y": number / 40 }))
        .collect();
    let space = json!({
        "slug": "house", "name": "Test", "time_zone": "UTC", "opening_hours": hours,
        "rules": { "days_ahead": 366 },
        "halls": [{ "name": "Hall", "plan": { "width": 100, "height": 100 }, "desks": desks }],
    });
    ("house", space)
}

fn desks_of(space: &Value) -> Vec<String> {
    let halls = space["halls"].as_array().into_iter().flatten();
    let desks = halls.flat_map(|hall| hall["desks"].as_array().into_iter().flatten());
    let ids = desks.filter_map(|desk| desk["id"].as_str());
    ids.map(str::to_owned).collect()
}
