//! A client's request and its answer, and how a node answers: through the very router that serves real clients.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request as HttpRequest;
use axum::{Extension, Router};
use serde_json::Value;
use tower::{Layer, ServiceExt};

/// The longest answer that a client reads, in bytes.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// What a client asks.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) uri: String,
    pub(crate) token: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) min_index: Option<u64>,
    pub(crate) if_match: Option<u64>,
    pub(crate) body: Option<Value>,
}

/// What it is told.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) index: Option<u64>,
    pub(crate) body: Value,
    bytes: usize,
    hash: u32,
}

impl Request {
    /// A request without anything beside.
    pub(crate) fn new(method: &'static str, uri: impl Into<String>) -> Self {
        Self {
            method,
            uri: uri.into(),
            token: None,
            key: None,
            min_index: None,
            if_match: None,
            body: None,
        }
    }

    /// With this body.
    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// With this token.
    pub(crate) fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// With this idempotency key.
    pub(crate) fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    fn to_http(&self) -> HttpRequest<Body> {
        let mut request = HttpRequest::builder()
            .method(self.method)
            .uri(self.uri.as_str());
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key.as_str());
        }
        if let Some(index) = self.min_index {
            request = request.header("mesto-min-index", index);
        }
        if let Some(version) = self.if_match {
            request = request.header("if-match", format!("\"v{version}\""));
        }
        let body = match &self.body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        request
            .body(body)
            .expect("the simulation makes requests that can be sent")
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.uri)?;
        if let Some(key) = &self.key {
            write!(f, " key={key}")?;
        }
        if let Some(index) = self.min_index {
            write!(f, " min={index}")?;
        }
        match &self.body {
            // A password is no secret here, but a trace need not show one.
            Some(body) if body.get("password").is_none() && body.get("current").is_none() => {
                write!(f, " {}", short(&body.to_string()))
            }
            _ => Ok(()),
        }
    }
}

impl Response {
    /// The problem's code, where it is one.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("")
    }

    /// Whether it did what was asked.
    pub(crate) fn is_success(&self) -> bool {
        self.status < 300
    }

    /// Whether it leaves open what happened.
    pub(crate) fn is_unknown(&self) -> bool {
        self.body["outcome"] == "unknown"
    }

    /// Whether it promises that nothing happened.
    pub(crate) fn is_not_applied(&self) -> bool {
        self.body["outcome"] == "not_applied"
    }
}

impl std::fmt::Display for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let index = self.index.unwrap_or(0);
        write!(
            f,
            "{} @{index} {} {:08x}",
            self.status, self.bytes, self.hash
        )?;
        match self.code() {
            "" => Ok(()),
            code => write!(f, " {code}"),
        }
    }
}

/// The beginning of a text.
pub(crate) fn short(text: &str) -> &str {
    let end = (0..=160.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// Has the node's router answer.
pub(crate) async fn answer(router: Router, request: Arc<Request>) -> Response {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let router = Extension(ConnectInfo(address)).layer(router);
    let answered = router.oneshot(request.to_http()).await;
    let (parts, body) = answered
        .expect("the router answers everything")
        .into_parts();
    let bytes = to_bytes(body, MAX_ANSWER_BYTES)
        .await
        .expect("an answer in memory ends");
    let header = |name: &str| parts.headers.get(name)?.to_str().ok();
    let hash = blake3::hash(&bytes);
    Response {
        status: parts.status.as_u16(),
        index: header("mesto-index").and_then(|text| text.parse().ok()),
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        bytes: bytes.len(),
        hash: u32::from_be_bytes(
            hash.as_bytes()[..4]
                .try_into()
                .expect("a hash has four bytes"),
        ),
    }
}
