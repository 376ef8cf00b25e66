//! What is counted of the requests, beside what the node registers of its own.

use std::time::Duration;

use axum::http::Method;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::App;
use crate::booking::query;

/// Upper bounds of the buckets of request durations, in seconds.
const BUCKETS_S: [f64; 13] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

type Durations = Family<Route, Histogram, fn() -> Histogram>;

/// The metrics of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Durations,
    in_flight: Gauge,
    waiting: Gauge,
    applied: Gauge,
    totals: Family<Kind, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: String,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

impl Metrics {
    /// Registers the metrics of HTTP beside what `registry` holds already.
    #[must_use]
    pub fn new(mut registry: Registry) -> Self {
        let requests = Family::default();
        let durations = Durations::new_with_constructor(|| Histogram::new(BUCKETS_S));
        let (in_flight, waiting, applied) = (Gauge::default(), Gauge::default(), Gauge::default());
        let totals = Family::default();
        registry.register(
            "mesto_http_requests",
            "Requests by route and status",
            requests.clone(),
        );
        registry.register(
            "mesto_http_request_duration_seconds",
            "Time to answer by route",
            durations.clone(),
        );
        registry.register(
            "mesto_http_requests_in_flight",
            "Requests that are worked on",
            in_flight.clone(),
        );
        registry.register(
            "mesto_passwords_waiting",
            "Requests that wait for a password to be hashed",
            waiting.clone(),
        );
        registry.register(
            "mesto_applied_index",
            "The last log index that this node has applied",
            applied.clone(),
        );
        registry.register(
            "mesto_state",
            "How much of everything there is",
            totals.clone(),
        );
        Self {
            registry,
            requests,
            durations,
            in_flight,
            waiting,
            applied,
            totals,
        }
    }

    /// Counts an answer.
    pub fn observe(&self, method: &Method, route: &str, status: u16, elapsed: Duration) {
        // A method that nobody has heard of must not make a series of its own.
        let known = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ];
        let method = if known.contains(method) {
            method.as_str()
        } else {
            "other"
        }
        .to_owned();
        let route = route.to_owned();
        self.durations
            .get_or_create(&Route {
                method: method.clone(),
                route: route.clone(),
            })
            .observe(elapsed.as_secs_f64());
        self.requests
            .get_or_create(&Request {
                method,
                route,
                status,
            })
            .inc();
    }

    /// Everything in the text format of OpenMetrics.
    pub(super) fn encode(&self, app: &App) -> String {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.in_flight.set(gauge(app.admission.in_flight()));
        self.waiting.set(gauge(app.service.passwords().waiting()));
        self.applied
            .set(i64::try_from(*app.applied.borrow()).unwrap_or(i64::MAX));
        if let Ok(seen) = app.service.look(|sight| query::totals(sight.store)) {
            let totals = seen.value;
            for (kind, count) in [
                ("users", totals.users),
                ("sessions", totals.sessions),
                ("spaces", totals.spaces),
                ("halls", totals.halls),
                ("desks", totals.desks),
                ("bookings", totals.bookings),
                ("bookings_cancelled", totals.bookings_cancelled),
            ] {
                let gauge = self.totals.get_or_create(&Kind {
                    kind: kind.to_owned(),
                });
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        let mut text = String::new();
        // Writing into a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
