//! What tells whether this node lives, serves, and how it is.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{App, problem::Problem};

/// How long a probe waits for the cluster.
const PROBE: Duration = Duration::from_millis(1_000);

/// Alive
///
/// The process is up and its event loop turns.
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, description = "It is")))]
pub(super) async fn livez() -> Response {
    axum::Json(json!({"status": "live"})).into_response()
}

/// Ready
///
/// This node can serve: a linearizable read goes through now.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses((status = 200, description = "It can")))]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let index = app.service.replica().read_barrier(PROBE).await?;
    Ok(axum::Json(json!({"status": "ready", "index": index})).into_response())
}

/// Metrics
///
/// In the text format of OpenMetrics, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", security(()), responses(
    (status = 200, description = "The metrics", body = String, content_type = "application/openmetrics-text"),
))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.metrics.encode(&app);
    let kind =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text).into_response()
}
