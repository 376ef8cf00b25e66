//! The API as a client of a cluster sees it, for tests.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::processes::{Cluster, OPERATOR};

/// A signed-in person.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) email: String,
    pub(crate) token: String,
}

/// What a request came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

/// A free cell: a desk and when.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) desk: String,
    pub(crate) starts_at: String,
}

pub(crate) const PASSWORD: &str = "a-password-of-a-test";

async fn answer(response: Response) -> Answer {
    let status = response.status();
    Answer {
        status,
        body: response.json().await.unwrap_or(Value::Null),
    }
}

impl Cluster {
    /// One request to node `id`. `Err` is a failed connection.
    pub(crate) async fn call(
        &self,
        id: u64,
        method: Method,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self
            .http
            .request(method, self.url(id, &format!("/api/v1{path}")));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        Ok(answer(request.send().await?).await)
    }

    pub(crate) async fn get(&self, id: u64, path: &str, token: &str) -> Answer {
        self.call(id, Method::GET, path, Some(token), None, None)
            .await
            .expect("the node answers")
    }

    pub(crate) async fn post(&self, id: u64, path: &str, token: &str, body: &Value) -> Answer {
        self.call(id, Method::POST, path, Some(token), None, Some(body))
            .await
            .expect("the node answers")
    }

    /// Registers a person on one node and signs them in on another.
    pub(crate) async fn person(&self, name: &str) -> Person {
        let ids = self.ids();
        let email = format!("{name}@example.org");
        let account = json!({ "email": email, "password": PASSWORD });
        let made = self
            .call(ids[0], Method::POST, "/users", None, None, Some(&account))
            .await
            .expect("an answer");
        assert_eq!(made.status, 201, "{made:?}");
        let other = ids[ids.len() - 1];
        let session = self
            .call(other, Method::POST, "/sessions", None, None, Some(&account))
            .await
            .expect("an answer");
        assert_eq!(session.status, 201, "{session:?}");
        let token = session.body["access_token"]
            .as_str()
            .expect("a token")
            .to_owned();
        Person { email, token }
    }

    pub(crate) async fn people(&self, prefix: &str, count: usize) -> Vec<Person> {
        let names = (0..count)
            .map(|number| format!("{prefix}-{number}"))
            .collect::<Vec<_>>();
        futures_util::future::join_all(names.iter().map(|name| self.person(name))).await
    }

    /// Makes a space that is open day and night, with `desks` desks in one hall, bookable a year ahead.
    pub(crate) async fn space(&self, slug: &str, desks: usize) {
        let all_day = json!([["00:00", "24:00"]]);
        let desks: Vec<Value> = (0..desks)
            .map(|number| json!({ "label": format!("D-{number}"), "x": number % 40, "y": number / 40 }))
            .collect();
        let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let hours: serde_json::Map<String, Value> = days
            .iter()
            .map(|day| ((*day).to_owned(), all_day.clone()))
            .collect();
        let space = json!({
            "slug": slug, "name": "Test", "time_zone": "UTC", "opening_hours": hours,
            "rules": { "days_ahead": 366 },
            "halls": [{ "name": "Hall", "plan": { "width": 100, "height": 100 }, "desks": desks }],
        });
        let made = self
            .post(self.ids()[0], "/admin/spaces", OPERATOR, &space)
            .await;
        assert!(made.status.is_success(), "{made:?}");
    }

    /// Free cells of a space, all those of the first day that has some, `days` days from now.
    pub(crate) async fn cells(&self, slug: &str, days: i64, token: &str) -> Vec<Cell> {
        let date = jiff::Zoned::now()
            .with_time_zone(jiff::tz::TimeZone::UTC)
            .date()
            + jiff::Span::new().days(days);
        let path = format!("/spaces/{slug}/availability?date={date}");
        let day = self.get(self.running()[0], &path, token).await;
        assert_eq!(day.status, 200, "{day:?}");
        let slots = day.body["slots"].as_array().expect("slots");
        let mut cells = Vec::new();
        for desk in day.body["desks"].as_array().expect("desks") {
            for free in desk["free"].as_array().expect("indexes") {
                let slot =
                    &slots[usize::try_from(free.as_u64().expect("an index")).expect("small")];
                let text = |value: &Value| value.as_str().expect("text").to_owned();
                cells.push(Cell {
                    desk: text(&desk["desk"]),
                    starts_at: text(&slot["starts_at"]),
                });
            }
        }
        cells
    }

    /// Books one cell on node `id`.
    pub(crate) async fn book(
        &self,
        id: u64,
        person: &Person,
        cell: &Cell,
        key: Option<&str>,
    ) -> Result<Answer, reqwest::Error> {
        let body = json!({ "desk": cell.desk, "starts_at": cell.starts_at });
        self.call(
            id,
            Method::POST,
            "/bookings",
            Some(&person.token),
            key,
            Some(&body),
        )
        .await
    }

    /// Books a whole day of the space `house` for `people`, one desk each, all at once on node `id`; gives how many.
    pub(crate) async fn book_day(&self, id: u64, people: &[Person], day: i64) -> usize {
        let cells = self.cells("house", day, &people[0].token).await;
        let mut desks: Vec<&str> = cells.iter().map(|cell| cell.desk.as_str()).collect();
        desks.dedup();
        let books = people.iter().zip(desks).map(|(person, desk)| {
            let own = cells.iter().filter(move |cell| cell.desk == desk);
            async move {
                let mut count = 0;
                for cell in own {
                    let answer = self.book(id, person, cell, None).await.expect("an answer");
                    assert_eq!(answer.status, 201, "{answer:?}");
                    count += 1;
                }
                count
            }
        });
        futures_util::future::join_all(books)
            .await
            .into_iter()
            .sum()
    }

    /// Books as a careful client does: the same key on another node after a failed connection or a retryable answer.
    pub(crate) async fn book_surely(
        &self,
        person: &Person,
        cell: &Cell,
        key: &str,
        first: u64,
    ) -> Answer {
        let ids = self.ids();
        let mut at = ids.iter().position(|id| *id == first).expect("a node");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            match self.book(ids[at], person, cell, Some(key)).await {
                Ok(answer) if !answer.status.is_server_error() => return answer,
                other => assert!(
                    tokio::time::Instant::now() < deadline,
                    "never answered: {other:?}"
                ),
            }
            at = (at + 1) % ids.len();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All active bookings of a person, linearizable, from node `id`.
    pub(crate) async fn active(&self, id: u64, person: &Person) -> Vec<Value> {
        let mut all = Vec::new();
        let mut path = "/bookings?status=active&limit=100".to_owned();
        loop {
            let page = self.get(id, &path, &person.token).await;
            assert_eq!(page.status, 200, "{page:?}");
            all.extend(
                page.body["items"]
                    .as_array()
                    .expect("items")
                    .iter()
                    .cloned(),
            );
            match page.body["next_cursor"].as_str() {
                Some(cursor) => path = format!("/bookings?status=active&limit=100&cursor={cursor}"),
                None => return all,
            }
        }
    }
}
