//! A client of the HTTP API, for commands.
//!
//! It knows several nodes and needs one of them. A request goes to each in turn until one answers; an
//! answer that says it may be retried, and a connection that broke, are tried again elsewhere after
//! a pause, until the time is up. That is safe for writes because each carries an idempotency key:
//! the second try of a write that had taken effect gets the answer of the first.
//!
//! It never follows redirections and uses no proxy: the operator token goes to the nodes that were
//! named, and nowhere else.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::Rng as _;
use serde_json::Value;
use thiserror::Error;

pub use reqwest::Method;

use crate::config::Address;

/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after every node was tried in vain.
const PAUSE: Duration = Duration::from_millis(150);
/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// A client of a cluster.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    nodes: Vec<Address>,
    token: Option<String>,
    timeout: Duration,
    next: std::sync::Arc<AtomicUsize>,
}

/// What a node answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; `null` where it is empty or no JSON.
    pub body: Value,
}

/// Why there is no answer, or not the wanted one.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The client could not be built.
    #[error("cannot set up the HTTP client: {0}")]
    Setup(#[source] reqwest::Error),
    /// No node answered in time.
    #[error("no node answered {request} within {} s; the last failure was: {last}", .timeout.as_secs())]
    NoAnswer {
        /// Method and path.
        request: String,
        /// The last failure, without addresses' secrets: what the connection said.
        last: String,
        /// How long it was tried.
        timeout: Duration,
    },
    /// The cluster refused.
    #[error("{request} was refused with {status} {code}: {detail}")]
    Refused {
        /// Method and path.
        request: String,
        /// The HTTP status.
        status: u16,
        /// The stable code of the problem.
        code: String,
        /// The problem's text.
        detail: String,
    },
}

impl Answer {
    /// The `code` of a problem, or an empty text.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The error for an answer that is not what was wanted of this request.
    pub fn refused(&self, method: &Method, path: &str) -> ClientError {
        let text = |name: &str| self.body[name].as_str().unwrap_or_default().to_owned();
        let mut detail = text("detail");
        if detail.is_empty() {
            detail = text("title");
        }
        for field in self.body["errors"].as_array().into_iter().flatten() {
            let part = |name: &str| field[name].as_str().unwrap_or_default();
            detail.push_str("; ");
            detail.push_str(part("pointer"));
            detail.push_str(": ");
            detail.push_str(part("detail"));
        }
        ClientError::Refused {
            request: format!("{method} {path}"),
            status: self.status,
            code: text("code"),
            detail,
        }
    }

    /// Whether the status is one of success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the same request may be sent again: overload, or no leader at the moment.
    pub fn is_retryable(&self) -> bool {
        matches!(self.status, 429 | 502 | 503 | 504)
            && self.body["retryable"].as_bool().unwrap_or(true)
    }
}

impl Client {
    /// A client of these nodes, which tries for `timeout`.
    pub fn new(nodes: Vec<Address>, timeout: Duration) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TRY_TIMEOUT)
            .build()
            .map_err(ClientError::Setup)?;
        Ok(Self {
            http,
            nodes,
            token: None,
            timeout,
            next: std::sync::Arc::default(),
        })
    }

    /// The same client, presenting a bearer token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// The same client, presenting nothing.
    #[must_use]
    pub fn without_token(mut self) -> Self {
        self.token = None;
        self
    }

    /// The same client, asking one node only.
    #[must_use]
    pub fn only(mut self, node: Address) -> Self {
        self.nodes = vec![node];
        self
    }

    /// The nodes that it knows.
    pub fn nodes(&self) -> &[Address] {
        &self.nodes
    }

    /// Sends a request to whichever node answers, and gives the answer, whatever its status.
    /// `path` begins with a slash and may hold a query.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let key = new_key();
        let deadline = Instant::now() + self.timeout;
        let mut last = "nothing was tried".to_owned();
        for attempt in 0_usize.. {
            let at = self.next.load(Ordering::Relaxed);
            let Some(node) = self.nodes.get(at % self.nodes.len().max(1)) else {
                break;
            };
            match self.try_once(node, method.clone(), path, body, &key).await {
                Ok(answer) if !answer.is_retryable() => return Ok(answer),
                Ok(answer) => last = format!("{node} answered {} {}", answer.status, answer.code()),
                Err(error) => last = format!("{node}: {}", root_cause(&error)),
            }
            self.next.fetch_add(1, Ordering::Relaxed);
            if (attempt + 1).is_multiple_of(self.nodes.len()) {
                if Instant::now() + PAUSE >= deadline {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Err(ClientError::NoAnswer {
            request: format!("{method} {path}"),
            last,
            timeout: self.timeout,
        })
    }

    /// Sends a request, and takes only success for an answer.
    pub async fn expect(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let answer = self.send(method.clone(), path, body).await?;
        if answer.is_success() {
            Ok(answer.body)
        } else {
            Err(answer.refused(&method, path))
        }
    }

    /// Sends a request to one node, once.
    pub async fn try_once(
        &self,
        node: &Address,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: &str,
    ) -> Result<Answer, reqwest::Error> {
        let writes = method != Method::GET;
        let mut request = self.http.request(method, format!("http://{node}{path}"));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if writes {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut response = request.send().await?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        })
    }
}

/// The innermost cause: `connection refused` says more than `error sending request`.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A new idempotency key.
pub(crate) fn new_key() -> String {
    let mut bytes = [0_u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    format!("mesto-{:032x}", u128::from_be_bytes(bytes))
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("nodes", &self.nodes)
            .field("token", &self.token.as_ref().map(|_| "[redacted]"))
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
