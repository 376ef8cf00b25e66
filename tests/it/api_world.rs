//! A node in one process for tests of the API: the real router over a replica in memory, a clock that tests turn.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode},
};
use mesto::{
    booking::{Instant, query},
    clock::ManualClock,
    http,
    limits::Limits,
    replica::{Fault, LocalReplica, Replica},
    service::{Parts, Service, entropy::SeededEntropy, passwords::PasswordCost},
};
use serde_json::{Value, json};
use tower::ServiceExt;

/// Monday, 2 March 2026, 09:30 in Moscow.
pub(crate) const START_MS: u64 = 1_772_433_000_000;
pub(crate) const OPERATOR: &str = "operator-token-of-the-tests";
pub(crate) const PASSWORD: &str = "correct horse battery";
/// A day on which the space is open and nothing has started yet.
pub(crate) const TOMORROW: &str = "2026-03-03";

pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) service: Arc<Service>,
    pub(crate) replica: Arc<LocalReplica>,
    pub(crate) clock: ManualClock,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

/// A request that is being put together.
#[derive(Clone)]
pub(crate) struct Call {
    method: Method,
    uri: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self::build(limits, PasswordCost::LEAST)
    }

    pub(crate) fn build(limits: Limits, password_cost: PasswordCost) -> Self {
        let clock = ManualClock::new(START_MS);
        let replica = Arc::new(LocalReplica::new(Arc::new(clock.clone())));
        let service = Service::new(Parts {
            replica: Arc::clone(&replica) as Arc<dyn Replica>,
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SeededEntropy::new(1)),
            limits,
            password_cost,
            operator_token: Some(OPERATOR.to_owned()),
        });
        let router = http::router(
            Arc::clone(&service),
            None,
            prometheus_client::registry::Registry::default(),
        );
        Self {
            router,
            service,
            replica,
            clock,
        }
    }

    /// A world with the example space in it.
    pub(crate) async fn furnished() -> Self {
        let world = Self::new();
        world.furnish().await;
        world
    }

    pub(crate) async fn furnish(&self) {
        let answer = self
            .send(
                put("/api/v1/admin/spaces/nevsky")
                    .token(OPERATOR)
                    .json(&nevsky()),
            )
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }

    pub(crate) async fn send(&self, call: Call) -> Answer {
        let mut request = Request::builder().method(call.method).uri(&call.uri);
        if let Some(headers) = request.headers_mut() {
            *headers = call.headers;
        }
        let request = request
            .body(Body::from(call.body))
            .expect("the tests make requests that can be sent");
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("the router answers everything");
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 16 * 1024 * 1024)
            .await
            .expect("the body ends");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
            text,
        }
    }

    pub(crate) async fn register(&self, email: &str) {
        let body = json!({"email": email, "password": PASSWORD});
        let answer = self.send(post("/api/v1/users").json(&body)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }

    /// Opens a session, and answers it whole.
    pub(crate) async fn sign_in(&self, email: &str) -> Value {
        let body = json!({"email": email, "password": PASSWORD});
        let answer = self.send(post("/api/v1/sessions").json(&body)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.body
    }

    /// A new user's access token.
    pub(crate) async fn member(&self, email: &str) -> String {
        self.register(email).await;
        self.sign_in(email).await["access_token"]
            .as_str()
            .expect("a token")
            .to_owned()
    }

    pub(crate) async fn admin(&self, email: &str) -> String {
        self.register(email).await;
        let role = put(&format!("/api/v1/admin/users/{email}/role"))
            .token(OPERATOR)
            .json(&json!({"role": "admin"}));
        assert_eq!(self.send(role).await.status, StatusCode::OK);
        self.sign_in(email).await["access_token"]
            .as_str()
            .expect("a token")
            .to_owned()
    }

    /// The ids of the desks of the first hall, in order of label.
    pub(crate) async fn desks(&self) -> Vec<String> {
        let space = self.send(get("/api/v1/spaces/nevsky")).await.body;
        let desks = space["halls"][0]["desks"].as_array().expect("desks").iter();
        desks
            .map(|desk| desk["id"].as_str().expect("an id").to_owned())
            .collect()
    }

    /// Books from one local time of tomorrow to another.
    pub(crate) async fn book(&self, token: &str, desk: &str, from: &str, to: &str) -> Answer {
        self.send(
            post("/api/v1/bookings")
                .token(token)
                .json(&booking(desk, from, to)),
        )
        .await
    }

    /// What clients can see of the state, in one text: a refusal that is remembered under its key changes the store, but
    /// nothing that anyone could book, read or be.
    pub(crate) fn state(&self) -> String {
        let mut state = String::new();
        let read = self.replica.view(&mut |store, _| {
            let totals = query::totals(store);
            let users = query::users(store, None, 100).items;
            let spaces = query::spaces(store, None, 100).items;
            let halls: Vec<_> = spaces.iter().map(|space| query::halls(store, space.id)).collect();
            let desks: Vec<_> = spaces.iter().map(|space| query::desks_of_space(store, space.id)).collect();
            let bookings: Vec<_> = users
                .iter()
                .map(|user| query::bookings_of_user(store, user.id, None, None, 100, Instant::EPOCH))
                .collect();
            let sessions: Vec<_> = users.iter().map(|user| query::sessions_of_user(store, user.id)).collect();
            state = format!("{totals:?}\n{users:?}\n{spaces:?}\n{halls:?}\n{desks:?}\n{bookings:?}\n{sessions:?}");
        });
        read.expect("a replica in memory can be read");
        state
    }

    pub(crate) fn fail(&self, fault: Option<Fault>) {
        self.replica.set_fault(fault);
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }

    pub(crate) fn index(&self) -> u64 {
        self.header("mesto-index")
            .parse()
            .expect("each answer has an index")
    }

    /// Asserts that this is the problem with this status and code, whole and in its shape.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status.as_u16(), self.body["code"].as_str()),
            (status, Some(code)),
            "{self:?}"
        );
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        assert_eq!(self.body["status"], status, "{self:?}");
        assert_eq!(
            self.body["type"],
            format!("/api/docs/problems#{code}"),
            "{self:?}"
        );
        assert_eq!(
            self.body["request_id"],
            self.header("x-request-id"),
            "{self:?}"
        );
        assert!(
            self.body["title"].is_string() && self.body["detail"].is_string(),
            "{self:?}"
        );
        assert!(
            self.body["retryable"].is_boolean() && self.body["errors"].is_array(),
            "{self:?}"
        );
        assert!(
            matches!(
                self.body["outcome"].as_str(),
                Some("not_applied" | "unknown")
            ),
            "{self:?}"
        );
        assert!(
            !self.text.contains("panicked") && !self.text.contains(".rs"),
            "{self:?}"
        );
        self.index();
    }
}

impl Call {
    fn new(method: Method, uri: &str) -> Self {
        Self {
            method,
            uri: uri.to_owned(),
            headers: HeaderMap::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        self.raw_header(name, value.as_bytes())
    }

    pub(crate) fn raw_header(mut self, name: &str, value: &[u8]) -> Self {
        let name: HeaderName = name.parse().expect("a header name");
        self.headers.append(
            name,
            HeaderValue::from_bytes(value).expect("a header value"),
        );
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body(body.to_string().as_bytes())
    }

    /// A body that says that it is JSON.
    pub(crate) fn body(self, body: &[u8]) -> Self {
        self.header("content-type", "application/json")
            .bare_body(body)
    }

    pub(crate) fn bare_body(mut self, body: &[u8]) -> Self {
        body.clone_into(&mut self.body);
        self
    }
}

pub(crate) fn get(uri: &str) -> Call {
    Call::new(Method::GET, uri)
}

pub(crate) fn post(uri: &str) -> Call {
    Call::new(Method::POST, uri)
}

pub(crate) fn put(uri: &str) -> Call {
    Call::new(Method::PUT, uri)
}

pub(crate) fn patch(uri: &str) -> Call {
    Call::new(Method::PATCH, uri)
}

pub(crate) fn delete(uri: &str) -> Call {
    Call::new(Method::DELETE, uri)
}

pub(crate) fn other(method: &str, uri: &str) -> Call {
    Call::new(method.parse().expect("a method"), uri)
}

pub(crate) fn at(local: &str) -> String {
    format!("{TOMORROW}T{local}:00+03:00")
}

pub(crate) fn booking(desk: &str, from: &str, to: &str) -> Value {
    json!({"desk": desk, "starts_at": at(from), "ends_at": at(to)})
}

/// Two halls, four desks in the first and one in the second.
pub(crate) fn nevsky() -> Value {
    let plan = json!({"width": 400, "height": 200, "walls": [{"x1": 0, "y1": 0, "x2": 400, "y2": 0}],
                      "labels": [{"x": 20, "y": 20, "text": "Kitchen"}]});
    let desk = |label: &str, x: u16, zone: &str, features: &[&str]| json!({"label": label, "x": x, "y": 50, "rotation": 90, "zone": zone, "features": features});
    let day = json!([["08:00", "22:00"]]);
    json!({
        "slug": "nevsky", "name": "Nevsky", "time_zone": "Europe/Moscow", "slot_minutes": 60,
        "opening_hours": {"mon": day, "tue": day, "wed": day, "thu": day, "fri": day, "sat": [["10:00", "20:00"]]},
        "closures": [{"date": "2026-03-06", "reason": "Repairs"}],
        "rules": {"days_ahead": 30},
        "halls": [
            {"name": "Main", "plan": plan,
             "zones": [{"name": "Quiet", "kind": "quiet"}, {"name": "By the window", "kind": "window"}],
             "desks": [desk("A-1", 40, "Quiet", &["monitor"]), desk("A-2", 80, "Quiet", &["monitor", "standing"]),
                       desk("A-3", 120, "By the window", &[]), desk("A-4", 160, "By the window", &["standing"])]},
            {"name": "Attic", "plan": {"width": 100, "height": 100},
             "zones": [], "desks": [{"label": "B-1", "x": 10, "y": 10}]}
        ]
    })
}
