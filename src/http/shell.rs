//! What surrounds every request: identity, admission, time, panics, problems, and the one log line.
//!
//! The shell is the outermost layer. It bounds how many requests are worked on at once and how long each may take,
//! gives the request its id, waits for `Mesto-Min-Index`, turns whatever goes wrong inside (a refusal, an answer of the
//! framework's own, a panic, a time-out) into one shape, and writes one log line. The line names the route and never
//! the query, a header or a body, so that no token can get into it.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts,
    },
    middleware::Next,
    response::IntoResponse,
};
use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;

use super::{
    App,
    problem::{Code, Problem},
};
use crate::{
    limits,
    replica::ReadError,
    service::{Context, entropy::random},
};

/// The log index that an answer reflects.
pub const MESTO_INDEX: HeaderName = HeaderName::from_static("mesto-index");
/// The log index that an answer must reflect at least.
pub const MESTO_MIN_INDEX: HeaderName = HeaderName::from_static("mesto-min-index");
/// The id that follows a request through logs and forwards.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The index that an answer reflects, left by a handler for the shell.
#[derive(Debug, Clone, Copy)]
pub struct AnswerIndex(pub u64);

/// Who asked, left by authentication for the log line.
#[derive(Debug, Clone, Default)]
pub struct Asker(Arc<OnceLock<String>>);

impl Asker {
    /// Notes who asked; the first note stays.
    pub fn note(&self, who: &dyn std::fmt::Display) {
        self.0.get_or_init(|| who.to_string());
    }
}

/// Requests that are worked on at once, and those that wait for an index before that.
#[derive(Debug)]
pub struct Admission {
    turns: Arc<Semaphore>,
    limit: usize,
    index_waits: Semaphore,
}

impl Admission {
    /// Admits `limit` requests at once.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(limit)),
            limit,
            index_waits: Semaphore::new(limits::INDEX_WAITS_MAX),
        }
    }

    /// How many requests are worked on now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.limit.saturating_sub(self.turns.available_permits())
    }
}

/// The layer itself.
pub async fn surround(State(app): State<Arc<App>>, request: Request, next: Next) -> Response<Body> {
    // Taken apart, because a body cannot be looked at by two tasks and so must not be borrowed across a wait.
    let (mut head, body) = request.into_parts();
    let started = Instant::now();
    let request_id = request_id(&app, &head.headers);
    let method = head.method.clone();
    let route = head
        .extensions
        .get::<MatchedPath>()
        .map_or("none".into(), |path| Arc::from(path.as_str()));
    let asker = Asker::default();
    head.extensions.insert(Context::new(&request_id));
    head.extensions.insert(asker.clone());
    // Whatever is logged while the request is worked on carries its id.
    let span = tracing::info_span!("request", request_id);
    let response = match admit(&app, &head).await {
        Ok(_turn) => {
            run(&app, Request::from_parts(head, body), next)
                .instrument(span)
                .await
        }
        Err(problem) => problem.into_response(),
    };
    let response = finish(&app, response, &request_id, is_read(&method));
    let asker = asker.0.get().map_or("", String::as_str);
    record(
        &app,
        (&method, &route),
        &response,
        (&request_id, asker),
        started,
    );
    response
}

/// Checks what can be checked before any work is done, and takes a turn.
async fn admit(app: &App, head: &Parts) -> Result<Option<OwnedSemaphorePermit>, Problem> {
    let uri = &head.uri;
    if uri.path().len() + uri.query().map_or(0, str::len) > limits::URI_BYTES {
        return Err(Problem::of_status(StatusCode::URI_TOO_LONG));
    }
    // The server stops reading a header that goes on and on, but only somewhere beyond the limit.
    let lengths = head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    if lengths.sum::<usize>() > limits::HEADER_BYTES {
        return Err(Problem::of_status(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ));
    }
    if let Some(wanted) = min_index(&head.headers)? {
        wait_for_index(app, wanted).await?;
    }
    // What tells whether the node lives must not depend on how busy it is.
    if is_probe(uri.path()) {
        return Ok(None);
    }
    let turn = Arc::clone(&app.admission.turns).try_acquire_owned();
    turn.map(Some).map_err(|_| {
        Problem::new(
            Code::Overloaded,
            "the node works on as many requests as it takes; come back soon",
        )
    })
}

/// Waits until the node has got as far as the client wants. Who waits is not worked on and takes no turn; anyone may
/// send the header, so the waits have a bound of their own, and an index that cannot be reached in time is not waited
/// for.
async fn wait_for_index(app: &App, wanted: u64) -> Result<(), Problem> {
    let ahead = wanted.saturating_sub(*app.applied.borrow());
    if ahead == 0 {
        return Ok(());
    }
    if ahead > limits::INDEX_AHEAD_MAX {
        return Err(ReadError::Timeout.into());
    }
    let _wait = app.admission.index_waits.try_acquire().map_err(|_| {
        Problem::new(
            Code::Overloaded,
            "as many requests wait for an index as may; come back soon",
        )
    })?;
    let deadline = Duration::from_millis(app.service.limits().min_index_wait_ms);
    Ok(app.service.replica().wait_applied(wanted, deadline).await?)
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/metrics")
}

fn min_index(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(MESTO_MIN_INDEX) else {
        return Ok(None);
    };
    let digits = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or_else(|| {
            Problem::new(
                Code::InvalidHeader,
                "Mesto-Min-Index must be a log index: a whole number",
            )
        })
}

/// Runs the handler within its time, and catches its panic.
async fn run(app: &App, request: Request, next: Next) -> Response<Body> {
    let limit = Duration::from_millis(app.service.limits().request_ms);
    let guarded = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(limit, guarded).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => {
            tracing::error!("a handler panicked");
            Problem::new(
                Code::Internal,
                "the failure has been logged under this request id",
            )
            .into_response()
        }
        Err(_) => Problem::new(Code::TimedOut, "the answer was not ready in time").into_response(),
    }
}

/// Takes the client's request id where it is of use, and makes one where it is not.
fn request_id(app: &App, headers: &HeaderMap) -> String {
    headers
        .get(X_REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| !text.is_empty() && text.len() <= limits::REQUEST_ID_BYTES)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))
        .map_or_else(
            || {
                let bytes = random::<12>(app.service.entropy());
                bytes.iter().fold(String::from("req_"), |text, byte| {
                    format!("{text}{byte:02x}")
                })
            },
            str::to_owned,
        )
}

/// Gives every answer its shape and its headers.
fn finish(app: &App, response: Response<Body>, request_id: &str, is_read: bool) -> Response<Body> {
    let mut response = into_problem_where_needed(response, request_id, is_read);
    let index = response
        .extensions()
        .get::<AnswerIndex>()
        .map_or_else(|| *app.applied.borrow(), |index| index.0);
    let headers = response.headers_mut();
    headers.insert(MESTO_INDEX, HeaderValue::from(index));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, value);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(header::REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("no-referrer"));
    response
}

fn into_problem_where_needed(
    mut response: Response<Body>,
    request_id: &str,
    is_read: bool,
) -> Response<Body> {
    let said = |problem: Problem| {
        if is_read {
            problem.of_a_read()
        } else {
            problem
        }
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return dressed(&said(problem), &response, request_id);
    }
    let status = response.status();
    let is_failure = status.is_client_error() || status.is_server_error();
    let is_ours = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| {
            kind == HeaderValue::from_static("application/problem+json")
                || kind == HeaderValue::from_static("application/json")
        });
    if is_failure && !is_ours {
        dressed(&said(Problem::of_status(status)), &response, request_id)
    } else {
        response
    }
}

/// The problem's own answer, with what the first answer knew: the methods that are allowed and the index.
fn dressed(problem: &Problem, first: &Response<Body>, request_id: &str) -> Response<Body> {
    let mut answer = problem.render(request_id);
    if let Some(allow) = first.headers().get(header::ALLOW) {
        answer.headers_mut().insert(header::ALLOW, allow.clone());
    }
    if let Some(index) = first.extensions().get::<AnswerIndex>() {
        answer.extensions_mut().insert(*index);
    }
    answer.extensions_mut().insert(problem.code());
    answer
}

fn record(
    app: &App,
    (method, route): (&Method, &str),
    response: &Response<Body>,
    (request_id, user): (&str, &str),
    started: Instant,
) {
    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    app.metrics.observe(method, route, status, elapsed);
    let code = response
        .extensions()
        .get::<Code>()
        .map_or("", |code| code.as_str());
    let duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    if is_probe(route) {
        tracing::debug!(%method, route, status, duration_us, request_id, "probe");
    } else {
        tracing::info!(%method, route, status, duration_us, request_id, user, code, "request");
    }
}
