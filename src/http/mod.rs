//! Where requests enter and are answered.
//!
//! The route table below is all there is: each line names a handler, whose method and path stand above it together with
//! its documentation, so that the OpenAPI document and the routes cannot disagree. A handler takes parsed values out of
//! the request, calls the service, and shows what came of it; it decides nothing. What goes wrong anywhere becomes a
//! [`problem::Problem`], and the [`shell`] around all of it bounds, identifies, times and logs each request.
//!
//! ```text
//!   shell ── extract ── handler ── service ── replica
//!     ▲                    │
//!     └── problem ◀────────┴──▶ answer (wire)
//! ```
//!
//! No cross-origin requests are allowed: there is no CORS header, and the pages are served from the same origin.

pub mod admin;
pub mod answer;
mod bookings;
pub mod cluster;
mod docs;
pub mod extract;
mod health;
mod me;
pub mod metrics;
mod openapi;
pub mod problem;
mod refusal;
mod serve;
pub mod shell;
mod spaces;
mod users;
pub mod wire;

use std::sync::Arc;

use axum::{Router, middleware};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::{
    extract::IDEMPOTENCY_KEY,
    serve::serve,
    shell::{MESTO_INDEX, MESTO_MIN_INDEX, X_REQUEST_ID},
};
use self::{metrics::Metrics, shell::Admission};
use crate::{replica::Control, service::Service};

/// What handlers share.
pub struct App {
    service: Arc<Service>,
    control: Option<Arc<dyn Control>>,
    applied: watch::Receiver<u64>,
    admission: Admission,
    metrics: Metrics,
    openapi: bytes::Bytes,
}

/// The whole of it: what is served to clients. `registry` holds the node's own metrics.
pub fn router(
    service: Arc<Service>,
    control: Option<Arc<dyn Control>>,
    registry: Registry,
) -> Router {
    let (routes, document) = routes_and_document();
    let app = Arc::new(App {
        applied: service.replica().applied(),
        admission: Admission::new(service.limits().requests_in_flight),
        metrics: Metrics::new(registry),
        openapi: document.into(),
        service,
        control,
    });
    routes
        .merge(docs::browser())
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            shell::surround,
        ))
        .with_state(app)
}

/// The OpenAPI document, as JSON.
#[must_use]
pub fn openapi_document() -> String {
    routes_and_document().1
}

/// The route table.
fn routes_and_document() -> (Router<Arc<App>>, String) {
    let (routes, document) = OpenApiRouter::with_openapi(openapi::frame())
        // Registering, signing in and out.
        .routes(routes!(users::register))
        .routes(routes!(users::sign_in, users::sign_out_everywhere))
        .routes(routes!(users::refresh))
        .routes(routes!(users::sign_out))
        // Oneself.
        .routes(routes!(me::show, me::change, me::erase))
        .routes(routes!(me::change_password))
        .routes(routes!(me::export))
        // Spaces, what is free in them, what changes in them.
        .routes(routes!(spaces::list))
        .routes(routes!(spaces::show))
        .routes(routes!(spaces::availability))
        .routes(routes!(spaces::events))
        // Bookings.
        .routes(routes!(bookings::create, bookings::list))
        .routes(routes!(bookings::show, bookings::change))
        .routes(routes!(bookings::cancel))
        // Administrators.
        .routes(routes!(admin::create_space))
        .routes(routes!(admin::put_space))
        .routes(routes!(admin::set_role))
        .routes(routes!(admin::import))
        // Operators.
        .routes(routes!(cluster::show))
        .routes(routes!(cluster::init))
        .routes(routes!(cluster::transfer_leader))
        .routes(routes!(cluster::snapshot))
        .routes(routes!(cluster::add_node))
        .routes(routes!(cluster::remove_node))
        // Health.
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        // What explains all this.
        .routes(routes!(docs::openapi))
        .routes(routes!(docs::problems))
        .split_for_parts();
    (routes, openapi::complete(document))
}
