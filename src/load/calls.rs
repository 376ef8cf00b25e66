//! Requests to the nodes in turn, with one retry, and the judgement of their answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::mix::Kind;
use super::tally::Outcome;
use crate::cli::Method;
use crate::config::Address;

/// Longer than any answer may take; a request that hits it counts as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before the one retry after a 503, so that an election has a chance.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The nodes under load.
#[derive(Debug)]
pub(super) struct Nodes {
    http: reqwest::Client,
    addresses: Vec<String>,
    next: AtomicUsize,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) path: String,
    pub(super) token: String,
    pub(super) body: Option<String>,
    /// The idempotency key; every write has one.
    pub(super) key: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) outcome: Outcome,
    pub(super) retried: bool,
    pub(super) body: Bytes,
}

#[derive(Default, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
}

impl Nodes {
    pub(super) fn new(addresses: &[Address]) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()?;
        let addresses = addresses
            .iter()
            .map(|address| format!("http://{address}"))
            .collect();
        Ok(Self {
            http,
            addresses,
            next: AtomicUsize::new(0),
        })
    }

    /// Sends to the next node; if that cannot serve, once more to the one after it.
    pub(super) async fn send(&self, call: &Call) -> Reply {
        let first = self.try_once(call).await;
        let again = match &first {
            Ok((503, _)) => Some(RETRY_PAUSE),
            Ok(_) => None,
            Err(_) => Some(Duration::ZERO),
        };
        let Some(pause) = again else {
            return judge(call.kind, first, false);
        };
        tokio::time::sleep(pause).await;
        judge(call.kind, self.try_once(call).await, true)
    }

    async fn try_once(&self, call: &Call) -> Result<(u16, Bytes), String> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
        let url = format!("{}{}", self.addresses[at], call.path);
        let method = if call.kind == Kind::Availability {
            Method::GET
        } else {
            Method::POST
        };
        let mut request = self.http.request(method, url).bearer_auth(&call.token);
        if let Some(key) = &call.key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = &call.body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.clone());
        }
        let response = request.send().await.map_err(|error| name_of(&error))?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|error| name_of(&error))?;
        Ok((status, body))
    }
}

fn name_of(error: &reqwest::Error) -> String {
    let name = if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connection refused"
    } else {
        "connection broken"
    };
    name.to_owned()
}

/// What an answer means. Everything that no correct cluster says is *unexpected*.
fn judge(kind: Kind, answer: Result<(u16, Bytes), String>, retried: bool) -> Reply {
    let (status, body) = match answer {
        Ok(answer) => answer,
        Err(name) => {
            return Reply {
                outcome: Outcome::Failed(name),
                retried,
                body: Bytes::new(),
            };
        }
    };
    let code = || {
        serde_json::from_slice::<Problem>(&body)
            .unwrap_or_default()
            .code
    };
    let outcome = match (kind, status) {
        (Kind::Availability | Kind::Cancel, 200) | (Kind::Book, 201) => Outcome::Done,
        (Kind::Book, 409) => match code().as_str() {
            "slot_taken" | "user_already_booked" => Outcome::Conflict,
            other => Outcome::Unexpected(format!("409 {other}")),
        },
        (_, 429 | 503) => Outcome::Failed(format!("{status} {}", code())),
        _ => Outcome::Unexpected(format!("{status} {}", code())),
    };
    Reply {
        outcome,
        retried,
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(kind: Kind, status: u16, code: &str) -> Outcome {
        let body = Bytes::from(format!("{{\"code\":\"{code}\"}}"));
        judge(kind, Ok((status, body)), false).outcome
    }

    #[test]
    fn answers_are_judged_by_status_and_code() {
        assert_eq!(outcome(Kind::Availability, 200, ""), Outcome::Done);
        assert_eq!(outcome(Kind::Book, 201, ""), Outcome::Done);
        assert_eq!(outcome(Kind::Cancel, 200, ""), Outcome::Done);
        assert_eq!(outcome(Kind::Book, 409, "slot_taken"), Outcome::Conflict);
        assert_eq!(
            outcome(Kind::Book, 409, "user_already_booked"),
            Outcome::Conflict
        );
        assert_eq!(
            outcome(Kind::Book, 503, "no_leader"),
            Outcome::Failed("503 no_leader".to_owned())
        );
    }

    #[test]
    fn what_no_correct_cluster_says_is_unexpected() {
        for (kind, status, code) in [
            (Kind::Book, 500, "internal"),
            (Kind::Book, 409, "quota_exceeded"),
            (Kind::Book, 422, "off_grid"),
            (Kind::Book, 200, ""),
            (Kind::Cancel, 404, "not_found"),
            (Kind::Cancel, 409, "already_started"),
            (Kind::Availability, 401, "unauthorized"),
        ] {
            let judged = outcome(kind, status, code);
            assert!(
                matches!(judged, Outcome::Unexpected(_)),
                "{kind:?} {status}: {judged:?}"
            );
        }
    }

    #[test]
    fn an_answer_that_is_no_problem_document_is_still_named() {
        let judged = judge(Kind::Book, Ok((502, Bytes::from_static(b"<html>"))), true);
        assert_eq!(judged.outcome, Outcome::Unexpected("502 ".to_owned()));
        assert!(judged.retried);
    }
}
