//! How frames get from one node to another: a trait, so that a simulated network can take the place of sockets, and its
//! implementation over HTTP.
//!
//! Four lanes keep what is urgent from queueing behind what is large: each lane has connections of its own, so a
//! heartbeat never waits for a big append, nor a client's command for a snapshot. Every call has a deadline.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes as Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::net::TcpListener;

/// The most that one frame may take, in bytes.
pub const MAX_FRAME_BYTES: usize = 8 << 20;

/// Which connections a call uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Log entries.
    Log,
    /// Heartbeats, votes, hand-overs and read indexes: small and urgent.
    Heartbeat,
    /// Snapshot chunks.
    Snapshot,
    /// Forwarded commands, status and operators' requests.
    Forward,
}

const LANES: usize = 4;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransportError {
    /// No connection could be made: the frame was certainly not delivered.
    #[error("cannot connect to {0}")]
    Unreachable(String),
    /// It may or may not have been delivered.
    #[error("no answer from {0}")]
    Lost(String),
}

/// Carries a frame to the node at `address` (`host:port`) and its answer back.
pub trait Transport: Send + Sync + 'static {
    /// Ends within `timeout`.
    fn call<'a>(
        &'a self,
        lane: Lane,
        address: &'a str,
        frame: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes, TransportError>>;
}

/// The receiving end: takes a frame, gives the answer's frame, or nothing where the frame is not authentic.
pub trait Receive: Send + Sync + 'static {
    /// Handles one frame.
    fn receive(&self, frame: Bytes) -> BoxFuture<'_, Option<Bytes>>;
}

/// Frames as bodies of HTTP/1.1 requests over kept-alive connections.
pub struct HttpTransport {
    lanes: [reqwest::Client; LANES],
}

impl HttpTransport {
    /// Connections are made when they are first needed. Fails only where the HTTP client cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = || {
            reqwest::Client::builder()
                .no_proxy()
                .tcp_nodelay(true)
                .connect_timeout(Duration::from_millis(500))
                .pool_idle_timeout(Duration::from_secs(30))
                .redirect(reqwest::redirect::Policy::none())
                .build()
        };
        Ok(Self {
            lanes: [client()?, client()?, client()?, client()?],
        })
    }
}

impl Transport for HttpTransport {
    fn call<'a>(
        &'a self,
        lane: Lane,
        address: &'a str,
        frame: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes, TransportError>> {
        let client = &self.lanes[lane as usize];
        Box::pin(async move {
            let lost = || TransportError::Lost(address.to_owned());
            let response = client
                .post(format!("http://{address}/peer"))
                .timeout(timeout)
                .body(frame)
                .send()
                .await
                .map_err(|error| {
                    if error.is_connect() {
                        TransportError::Unreachable(address.to_owned())
                    } else {
                        lost()
                    }
                })?;
            if response.status() != StatusCode::OK {
                return Err(lost());
            }
            let body = response.bytes().await.map_err(|_| lost())?;
            if body.len() > MAX_FRAME_BYTES {
                Err(lost())
            } else {
                Ok(body)
            }
        })
    }
}

/// Serves `receiver` on `listener` until `stop` ends.
pub async fn serve_peers(
    listener: TcpListener,
    receiver: Arc<dyn Receive>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/peer", post(receive))
        .layer(DefaultBodyLimit::max(MAX_FRAME_BYTES))
        .with_state(receiver);
    axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch off Nagle's algorithm for a peer's connection");
        }
    }), router)
    .with_graceful_shutdown(stop)
    .await
}

async fn receive(
    State(receiver): State<Arc<dyn Receive>>,
    frame: Body,
) -> Result<Bytes, StatusCode> {
    // A stranger learns nothing, not even which part was wrong.
    receiver.receive(frame).await.ok_or(StatusCode::FORBIDDEN)
}
