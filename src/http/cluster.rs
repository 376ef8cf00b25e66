//! The cluster, for operators.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App,
    answer::Answer,
    extract::{Administrator, Json, NoBody, PathText, Plain, Query, id_in_path},
    problem::{Code, Problem},
};
use crate::{
    replica::{Control, NewNode},
    service::Seen,
};

/// Whom to hand leadership to.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// The node; the most advanced other voter if left out.
    #[serde(default)]
    pub to: Option<u64>,
}

/// A node that is to join.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeRequest {
    /// Never used before in this cluster.
    pub id: u64,
    /// Where it serves clients.
    #[schema(example = "127.0.0.1:8104")]
    pub http: String,
    /// Where it serves its peers.
    #[schema(example = "127.0.0.1:8204")]
    pub peer: String,
}

/// A cluster that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClusterId {
    /// The cluster's id.
    pub cluster_id: String,
}

/// A snapshot that was taken.
#[derive(Debug, Serialize, ToSchema)]
pub struct SnapshotBody {
    /// The last log index that it covers.
    pub index: u64,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct Confirmation {
    /// Always true.
    pub done: bool,
}

/// The cluster
///
/// As this node sees it at once, whatever consistency is asked for: who leads, and how far each node is.
#[utoipa::path(get, path = "/api/v1/cluster", tag = "cluster", responses(
    (status = 200, description = "The cluster", body = serde_json::Value, example = json!({
        "leader": 2, "term": 5, "node": 1,
        "nodes": [{"id": 1, "http": "127.0.0.1:8101", "state": "follower", "up": true, "applied": 812}]
    })),
))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    _: Administrator,
    _: Query<Plain>,
) -> Result<axum::response::Response, Problem> {
    use axum::response::IntoResponse;
    Ok((StatusCode::OK, axum::Json(app.service.replica().cluster())).into_response())
}

/// Make the cluster
///
/// Once, on one node.
#[utoipa::path(post, path = "/api/v1/cluster/init", tag = "cluster", responses(
    (status = 200, description = "The cluster is made", body = ClusterId),
    (status = 409, description = "`already_initialized`"),
))]
pub(super) async fn init(
    State(app): State<Arc<App>>,
    _: Administrator,
    _: NoBody,
) -> Result<Answer<ClusterId>, Problem> {
    let cluster_id = control(&app)?.initialize().await?;
    Ok(answer(&app, ClusterId { cluster_id }))
}

/// Hand over leadership
#[utoipa::path(post, path = "/api/v1/cluster/transfer-leader", tag = "cluster", request_body = Transfer, responses(
    (status = 200, description = "Another node leads, or is about to", body = Confirmation),
    (status = 409, description = "`cluster_refused`"),
))]
pub(super) async fn transfer_leader(
    State(app): State<Arc<App>>,
    _: Administrator,
    request: Json<Transfer>,
) -> Result<Answer<Confirmation>, Problem> {
    control(&app)?.transfer_leader(request.value.to).await?;
    Ok(answer(&app, Confirmation { done: true }))
}

/// Take a snapshot
///
/// On this node.
#[utoipa::path(post, path = "/api/v1/cluster/snapshot", tag = "cluster", responses(
    (status = 200, description = "The snapshot is taken", body = SnapshotBody),
    (status = 409, description = "`cluster_refused`"),
))]
pub(super) async fn snapshot(
    State(app): State<Arc<App>>,
    _: Administrator,
    _: NoBody,
) -> Result<Answer<SnapshotBody>, Problem> {
    let index = control(&app)?.snapshot().await?;
    Ok(answer(&app, SnapshotBody { index }))
}

/// Add a node
///
/// It must be running, with an empty data directory.
#[utoipa::path(post, path = "/api/v1/cluster/nodes", tag = "cluster", request_body = NodeRequest, responses(
    (status = 200, description = "The node is a voter", body = Confirmation),
    (status = 409, description = "`cluster_refused`"),
))]
pub(super) async fn add_node(
    State(app): State<Arc<App>>,
    _: Administrator,
    request: Json<NodeRequest>,
) -> Result<Answer<Confirmation>, Problem> {
    let NodeRequest { id, http, peer } = request.value;
    for (pointer, address) in [("/http", &http), ("/peer", &peer)] {
        if !is_address(address) {
            return Err(Problem::field(
                pointer,
                "malformed",
                "an address is a host and a port",
            ));
        }
    }
    control(&app)?.add_node(NewNode { id, http, peer }).await?;
    Ok(answer(&app, Confirmation { done: true }))
}

/// Remove a node
///
/// For good: its id is never used again.
#[utoipa::path(delete, path = "/api/v1/cluster/nodes/{id}", tag = "cluster",
    params(("id" = u64, Path, description = "Its id")),
    responses(
        (status = 200, description = "The node is no member any more", body = Confirmation),
        (status = 409, description = "`cluster_refused`"),
))]
pub(super) async fn remove_node(
    State(app): State<Arc<App>>,
    _: Administrator,
    PathText(id): PathText,
    _: NoBody,
) -> Result<Answer<Confirmation>, Problem> {
    let id = id_in_path(&id, "node")?;
    control(&app)?.remove_node(id).await?;
    Ok(answer(&app, Confirmation { done: true }))
}

fn control(app: &App) -> Result<&Arc<dyn Control>, Problem> {
    let refused = || Problem::new(Code::ClusterRefused, "this node is not part of a cluster");
    app.control.as_ref().ok_or_else(refused)
}

fn answer<T>(app: &App, value: T) -> Answer<T> {
    Answer::ok(
        Seen {
            value,
            index: *app.applied.borrow(),
        },
        |value| value,
    )
}

/// A host and a port.
fn is_address(text: &str) -> bool {
    let split = text
        .rsplit_once(':')
        .filter(|_| text.len() <= 261 && text.is_ascii());
    split.is_some_and(|(host, port)| {
        let good = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'[' | b']' | b':')
        };
        !host.is_empty() && host.bytes().all(good) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}
