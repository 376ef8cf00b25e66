//! A cluster that is none, for tests of the commands: nodes that answer as the contract says, each
//! from its own memory. They do not replicate, and some tests want exactly that: a load generator
//! that sees no double booking there would not see one anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path as Segment, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post, put};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// What one node remembers, and what tests tell it.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) id: u64,
    /// The cluster that it belongs to.
    pub(crate) cluster: Option<String>,
    /// Every request: method, path, idempotency key, bearer token.
    pub(crate) requests: Vec<(String, String, String, String)>,
    /// So many requests are answered 503 before the next one is served.
    pub(crate) unavailable: u32,
    /// Bookings are answered with this status instead.
    pub(crate) broken_bookings: Option<u16>,
    pub(crate) spaces: BTreeMap<String, Value>,
    pub(crate) roles: BTreeMap<String, String>,
    pub(crate) members: BTreeSet<u64>,
    emails: BTreeSet<String>,
    taken: BTreeMap<(String, String), u64>,
    booked: u64,
}

type Shared = Arc<Mutex<Memory>>;
type Answer = (StatusCode, Json<Value>);

/// One running node.
#[derive(Debug)]
pub(crate) struct FakeNode {
    pub(crate) address: SocketAddr,
    pub(crate) memory: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FakeNode {
    /// Starts a node on a free port, on a thread of its own.
    pub(crate) fn start(id: u64) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a socket can be made non-blocking");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let memory: Shared = Arc::new(Mutex::new(Memory {
            id,
            ..Memory::default()
        }));
        let (stop, stopped) = oneshot::channel();
        let app = router(Arc::clone(&memory));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => served.expect("it serves"),
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            memory,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Some nodes with a configuration and secrets in a directory of their own.
#[derive(Debug)]
pub(crate) struct FakeCluster {
    pub(crate) nodes: Vec<FakeNode>,
    directory: tempfile::TempDir,
}

impl FakeCluster {
    pub(crate) fn start(count: u64) -> Self {
        let nodes: Vec<FakeNode> = (1..=count).map(FakeNode::start).collect();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let entries = nodes.iter().zip(1..).map(|(node, id)| {
            let (http, data) = (node.address, format!("data/node-{id}"));
            format!("[[nodes]]\nid = {id}\nhttp = \"{http}\"\npeer = \"127.0.0.1:{id}\"\ndata = \"{data}\"\n")
        });
        std::fs::write(
            directory.path().join("cluster.toml"),
            entries.collect::<String>(),
        )
        .expect("it is written");
        for name in ["cluster.secret", "operator.token"] {
            let path = directory.path().join("data").join(name);
            crate::config::create_secret_file(&path).expect("it is created");
        }
        Self { nodes, directory }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("cluster.toml")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn memory(&self, position: usize) -> parking_lot::MutexGuard<'_, Memory> {
        self.nodes[position].memory.lock()
    }
}

fn router(memory: Shared) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route(
            "/metrics",
            get(|| async { "mesto_storage_flushes_total 5\n" }),
        )
        .route("/api/v1/cluster", get(view))
        .route("/api/v1/cluster/init", post(init))
        .route(
            "/api/v1/cluster/transfer-leader",
            post(|| async { Json(json!({ "leader": 2 })) }),
        )
        .route(
            "/api/v1/cluster/snapshot",
            post(|| async { Json(json!({ "index": 812 })) }),
        )
        .route("/api/v1/cluster/nodes", post(add_member))
        .route("/api/v1/cluster/nodes/{id}", delete(remove_member))
        .route("/api/v1/spaces/{slug}", get(space))
        .route(
            "/api/v1/spaces/{slug}/availability",
            get(|| async { Json(json!({ "slots": [], "desks": [] })) }),
        )
        .route("/api/v1/admin/spaces/{slug}", put(put_space))
        .route("/api/v1/admin/users/{email}/role", put(set_role))
        .route("/api/v1/admin/bookings/import", post(import))
        .route("/api/v1/users", post(register))
        .route("/api/v1/sessions", post(sign_in))
        .route("/api/v1/sessions/refresh", post(sign_in))
        .route(
            "/api/v1/bookings",
            get(|| async { Json(json!({ "items": [] })) }).post(book),
        )
        .route("/api/v1/bookings/{id}/cancel", post(cancel))
        .layer(from_fn_with_state(Arc::clone(&memory), remember))
        .with_state(memory)
}

async fn remember(State(memory): State<Shared>, request: Request, next: Next) -> Response {
    let header = |headers: &HeaderMap, name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let refused = {
        let mut memory = memory.lock();
        let (key, token) = (
            header(request.headers(), "idempotency-key"),
            header(request.headers(), "authorization"),
        );
        memory.requests.push((
            request.method().to_string(),
            request.uri().to_string(),
            key,
            token,
        ));
        let refuse = memory.unavailable > 0;
        memory.unavailable = memory.unavailable.saturating_sub(1);
        refuse
    };
    if refused {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "no_leader").into_response();
    }
    next.run(request).await
}

fn problem(status: StatusCode, code: &str) -> Answer {
    (
        status,
        Json(
            json!({ "code": code, "detail": "a fake says so", "retryable": status.as_u16() == 503 }),
        ),
    )
}

fn done(body: Value) -> Answer {
    (StatusCode::OK, Json(body))
}

async fn ready(State(memory): State<Shared>) -> Answer {
    if memory.lock().cluster.is_some() {
        done(json!({}))
    } else {
        problem(StatusCode::SERVICE_UNAVAILABLE, "no_leader")
    }
}

async fn view(State(memory): State<Shared>) -> Answer {
    let memory = memory.lock();
    let state = if memory.id == 1 { "leader" } else { "follower" };
    done(json!({
        "cluster": memory.cluster, "node": memory.id, "state": state, "leader": 1, "term": 3,
        "applied": 40, "commit": 41, "digest": "5eed", "nodes": [],
    }))
}

async fn init(State(memory): State<Shared>) -> Answer {
    let mut memory = memory.lock();
    if memory.cluster.is_some() {
        return problem(StatusCode::CONFLICT, "already_initialized");
    }
    memory.cluster = Some("fake-cluster".to_owned());
    done(json!({ "cluster_id": "fake-cluster" }))
}

async fn add_member(State(memory): State<Shared>, Json(body): Json<Value>) -> Answer {
    memory
        .lock()
        .members
        .insert(body["id"].as_u64().expect("an id"));
    done(json!({}))
}

async fn remove_member(State(memory): State<Shared>, Segment(id): Segment<u64>) -> Answer {
    let known = memory.lock().members.remove(&id);
    if known {
        done(json!({}))
    } else {
        problem(StatusCode::NOT_FOUND, "not_found")
    }
}

async fn space(State(memory): State<Shared>, Segment(slug): Segment<String>) -> Answer {
    match memory.lock().spaces.get(&slug) {
        Some(space) => done(space.clone()),
        None => problem(StatusCode::NOT_FOUND, "not_found"),
    }
}

async fn put_space(
    State(memory): State<Shared>,
    Segment(slug): Segment<String>,
    Json(mut space): Json<Value>,
) -> Answer {
    let mut next = 0;
    let mut name = |kind: &str| {
        next += 1;
        json!(format!("{kind}_{next}"))
    };
    for hall in space["halls"].as_array_mut().into_iter().flatten() {
        hall["id"] = name("hal");
        for desk in hall["desks"].as_array_mut().into_iter().flatten() {
            desk["id"] = name("dsk");
        }
    }
    memory.lock().spaces.insert(slug, space);
    done(json!({}))
}

async fn set_role(
    State(memory): State<Shared>,
    Segment(email): Segment<String>,
    Json(body): Json<Value>,
) -> Answer {
    let mut memory = memory.lock();
    if !memory.emails.contains(&email) {
        return problem(StatusCode::NOT_FOUND, "not_found");
    }
    memory
        .roles
        .insert(email, body["role"].as_str().unwrap_or_default().to_owned());
    done(json!({}))
}

async fn import(Json(body): Json<Value>) -> Answer {
    done(json!({ "accepted": body["bookings"].as_array().map_or(0, Vec::len), "refused": 0 }))
}

async fn register(State(memory): State<Shared>, Json(body): Json<Value>) -> Answer {
    let email = body["email"].as_str().unwrap_or_default().to_owned();
    if memory.lock().emails.insert(email) {
        (StatusCode::CREATED, Json(json!({})))
    } else {
        problem(StatusCode::CONFLICT, "email_taken")
    }
}

async fn sign_in() -> Answer {
    let session = json!({ "access_token": "a", "refresh_token": "r", "expires_in": 900, "user": { "id": "usr_1" } });
    (StatusCode::CREATED, Json(session))
}

async fn book(State(memory): State<Shared>, Json(body): Json<Value>) -> Answer {
    let mut memory = memory.lock();
    if let Some(status) = memory.broken_bookings {
        return problem(StatusCode::from_u16(status).expect("a status"), "broken");
    }
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let wanted = (text("desk"), text("starts_at"));
    if memory.taken.contains_key(&wanted) {
        return problem(StatusCode::CONFLICT, "slot_taken");
    }
    memory.booked += 1;
    let number = memory.booked;
    memory.taken.insert(wanted, number);
    (
        StatusCode::CREATED,
        Json(json!({ "id": format!("bkg_{}_{number}", memory.id) })),
    )
}

async fn cancel(State(memory): State<Shared>, Segment(id): Segment<String>) -> Answer {
    let number: u64 = id
        .rsplit('_')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    memory.lock().taken.retain(|_, booked| *booked != number);
    done(json!({}))
}
