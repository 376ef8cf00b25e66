//! What all calls have in common: consistency, events, headers, limits, documents.

use std::{collections::BTreeSet, time::Duration};

use axum::http::StatusCode;
use futures_util::{StreamExt, future::join_all, pin_mut};
use mesto::{
    limits::{INDEX_WAITS_MAX, Limits},
    replica::Fault,
    service::events::Item,
};
use serde_json::json;

use crate::api_world::{OPERATOR, World, get, other, post};

#[tokio::test]
async fn without_a_leader_writes_and_linearizable_reads_say_so_and_local_reads_go_on() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let state = world.replica.digest();
    world.fail(Some(Fault::NoLeader));
    let refused = world.book(&token, &desks[0], "10:00", "11:00").await;
    refused.is_problem(503, "no_leader");
    assert_eq!(
        (&refused.body["outcome"], &refused.body["retryable"]),
        (&json!("not_applied"), &json!(true))
    );
    assert_eq!(refused.header("retry-after"), "1");
    world
        .send(get("/api/v1/spaces"))
        .await
        .is_problem(503, "no_leader");
    world
        .send(get("/readyz"))
        .await
        .is_problem(503, "no_leader");
    assert_eq!(world.send(get("/livez")).await.status, StatusCode::OK);
    let local = world
        .send(get("/api/v1/bookings?consistency=local").token(&token))
        .await;
    assert_eq!(local.status, StatusCode::OK, "{local:?}");
    let bounded = world
        .send(get(
            "/api/v1/spaces?consistency=local&max_staleness_ms=1000",
        ))
        .await;
    bounded.is_problem(503, "too_stale");
    assert_eq!(world.replica.digest(), state);
    world.fail(None);
    assert_eq!(world.send(get("/readyz")).await.status, StatusCode::OK);
    let fresh = world
        .send(get(
            "/api/v1/spaces?consistency=local&max_staleness_ms=1000",
        ))
        .await;
    assert_eq!(fresh.status, StatusCode::OK);
}

#[tokio::test]
async fn a_wanted_index_is_waited_for_and_not_for_ever() {
    let world = World::with(Limits {
        min_index_wait_ms: 50,
        ..Limits::default()
    });
    world.furnish().await;
    let index = world.send(get("/api/v1/spaces")).await.index();
    let reached = world
        .send(get("/api/v1/spaces").header("mesto-min-index", &index.to_string()))
        .await;
    assert_eq!(reached.status, StatusCode::OK);
    let not_yet = world
        .send(get("/api/v1/spaces").header("mesto-min-index", &(index + 1).to_string()))
        .await;
    not_yet.is_problem(503, "index_not_reached");
    assert!(!not_yet.header("retry-after").is_empty());
}

#[tokio::test]
async fn waiting_for_an_index_takes_no_turn_and_is_bounded_by_itself() {
    let world = World::with(Limits {
        requests_in_flight: 1,
        ..Limits::default()
    });
    world.furnish().await;
    let index = world.send(get("/api/v1/spaces")).await.index();
    let wait = |ahead: u64| {
        let wanted = index.saturating_add(ahead).to_string();
        world.send(get("/api/v1/spaces").header("mesto-min-index", &wanted))
    };
    // Longer than the test may take, were it waited for.
    let absurd = tokio::time::timeout(Duration::from_secs(1), wait(u64::MAX)).await;
    absurd
        .expect("nobody waits for that")
        .is_problem(503, "index_not_reached");

    let mut waiting = join_all((0..INDEX_WAITS_MAX).map(|_| wait(1)));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "they wait");
    let one_more = tokio::time::timeout(Duration::from_secs(1), wait(1)).await;
    let one_more = one_more.expect("it is told at once");
    one_more.is_problem(503, "overloaded");
    assert!(!one_more.header("retry-after").is_empty());
    assert_eq!(
        world.send(get("/api/v1/spaces")).await.status,
        StatusCode::OK,
        "the only turn is free"
    );
    world.register("anna@example.com").await;
    for reached in waiting.await {
        assert_eq!(reached.status, StatusCode::OK, "{reached:?}");
    }
    assert_eq!(wait(1).await.status, StatusCode::OK);
}

#[tokio::test]
async fn events_are_followed_live_and_resumed_without_a_gap() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let stream = world
        .service
        .follow("nevsky", None)
        .await
        .expect("the space is there")
        .items();
    pin_mut!(stream);
    let Some(Item::Ready { index: start }) = stream.next().await else {
        panic!("a stream begins with ready")
    };
    let mut booked = Vec::new();
    for hour in 9..12 {
        let answer = world
            .book(
                &token,
                &desks[0],
                &format!("{hour:02}:00"),
                &format!("{:02}:00", hour + 1),
            )
            .await;
        booked.push(answer.index());
    }
    for index in &booked {
        let Some(Item::Change(change)) = stream.next().await else {
            panic!("a change")
        };
        assert_eq!(change.index, *index);
    }
    // Someone who was cut off after the first goes on with the second.
    let resumed = world
        .service
        .follow("nevsky", Some(booked[0]))
        .await
        .expect("the space is there")
        .items();
    let items: Vec<Item> = resumed.take(3).collect().await;
    assert_eq!(items[0], Item::Ready { index: booked[0] });
    let indexes = items[1..].iter().map(|item| match item {
        Item::Change(change) => change.index,
        _ => 0,
    });
    assert_eq!(indexes.collect::<Vec<_>>(), booked[1..]);
    assert!(start < booked[0]);
    // An index that nobody has reached yet cannot have been seen here.
    let future = world
        .service
        .follow("nevsky", Some(1_000_000))
        .await
        .expect("the space is there")
        .items();
    pin_mut!(future);
    assert!(matches!(future.next().await, Some(Item::Reset { .. })));
    assert_eq!(
        world.service.events().feeders(),
        1,
        "one feeder, however many look"
    );
}

#[tokio::test]
async fn the_stream_over_http_has_ids_and_types() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let before = world.send(get("/api/v1/spaces")).await.index();
    let booked = world.book(&token, &desks[0], "10:00", "11:00").await;
    world.service.events().stop();
    // The stream has ended before it began; what is stored is not read, but the first event is there.
    let uri = "/api/v1/spaces/nevsky/events";
    let answer = world
        .send(get(uri).header("last-event-id", &before.to_string()))
        .await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (StatusCode::OK, "text/event-stream")
    );
    assert!(
        answer.text.contains("event: ready\n") && answer.text.contains(&format!("id: {before}\n")),
        "{answer:?}"
    );
    assert!(booked.index() > before);
}

#[tokio::test]
async fn streams_are_bounded() {
    let world = World::with(Limits {
        event_streams: 1,
        ..Limits::default()
    });
    world.furnish().await;
    let _held = world
        .service
        .follow("nevsky", None)
        .await
        .expect("the first");
    world
        .send(get("/api/v1/spaces/nevsky/events"))
        .await
        .is_problem(503, "overloaded");
}

#[tokio::test]
async fn the_cluster_is_shown_to_operators_and_admins_only() {
    let world = World::new();
    let view = world.send(get("/api/v1/cluster").token(OPERATOR)).await;
    assert_eq!(view.status, StatusCode::OK);
    assert_eq!(view.body["leader"], 1);
    assert!(
        view.body["nodes"][0]["digest"].is_string()
            && view.body["nodes"][0]["up"].as_bool() == Some(true)
    );
    let admin = world.admin("admin@example.com").await;
    assert_eq!(
        world
            .send(get("/api/v1/cluster").token(&admin))
            .await
            .status,
        StatusCode::OK
    );
    let member = world.member("anna@example.com").await;
    world
        .send(get("/api/v1/cluster").token(&member))
        .await
        .is_problem(403, "forbidden");
    world
        .send(post("/api/v1/cluster/snapshot").token(OPERATOR))
        .await
        .is_problem(409, "cluster_refused");
}

#[tokio::test]
async fn every_answer_has_an_id_an_index_and_safe_headers() {
    let world = World::furnished().await;
    for uri in [
        "/api/v1/spaces",
        "/livez",
        "/metrics",
        "/api/v1/openapi.json",
        "/api/docs/problems",
        "/nowhere",
    ] {
        let answer = world
            .send(get(uri).header("x-request-id", "trace-42"))
            .await;
        assert_eq!(answer.header("x-request-id"), "trace-42", "{uri}");
        answer.index();
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{uri}");
        assert!(!answer.header("cache-control").is_empty(), "{uri}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{uri}");
    }
    let made = world
        .send(get("/livez").header("x-request-id", &"x".repeat(129)))
        .await;
    assert!(made.header("x-request-id").starts_with("req_"));
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_never_by_path() {
    let world = World::furnished().await;
    world.send(get("/api/v1/spaces/nevsky")).await;
    world.send(get("/nowhere/usr_secret")).await;
    let metrics = world.send(get("/metrics")).await;
    assert!(
        metrics
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    assert!(
        metrics
            .text
            .contains("route=\"/api/v1/spaces/{space}\",status=\"200\""),
        "{}",
        metrics.text
    );
    assert!(
        metrics.text.contains("mesto_state{kind=\"desks\"} 5"),
        "{}",
        metrics.text
    );
    assert!(!metrics.text.contains("usr_secret"));
}

#[tokio::test]
async fn more_requests_than_the_node_takes_are_refused_at_once() {
    let world = World::with(Limits {
        requests_in_flight: 0,
        ..Limits::default()
    });
    let answer = world.send(get("/api/v1/spaces")).await;
    answer.is_problem(503, "overloaded");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(
        world.send(get("/livez")).await.status,
        StatusCode::OK,
        "probes are let through"
    );
}

#[tokio::test]
async fn the_documents_explain_everything_and_load_nothing_from_elsewhere() {
    let world = World::new();
    let answer = world.send(get("/api/v1/openapi.json")).await;
    let document = answer.body;
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1"))
    );
    let mut operations = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let name = format!("{} {path}", method.to_uppercase());
            assert!(operation["summary"].is_string(), "{name} has no summary");
            let responses = operation["responses"].as_object().expect("responses");
            assert!(
                responses.keys().any(|status| status.starts_with('2')),
                "{name} never goes well"
            );
            for (status, response) in responses {
                if status.starts_with(['4', '5']) {
                    let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                    assert_eq!(
                        schema, "#/components/schemas/ProblemBody",
                        "{name} {status}"
                    );
                }
            }
            assert!(responses.contains_key("503"), "{name}");
            operations.insert(name);
        }
    }
    for wanted in [
        "POST /api/v1/users",
        "POST /api/v1/sessions",
        "POST /api/v1/sessions/refresh",
        "DELETE /api/v1/sessions/current",
        "DELETE /api/v1/sessions",
        "GET /api/v1/me",
        "PATCH /api/v1/me",
        "POST /api/v1/me/password",
        "GET /api/v1/me/export",
        "DELETE /api/v1/me",
        "GET /api/v1/spaces",
        "GET /api/v1/spaces/{space}",
        "GET /api/v1/spaces/{space}/availability",
        "GET /api/v1/spaces/{space}/events",
        "POST /api/v1/bookings",
        "GET /api/v1/bookings",
        "GET /api/v1/bookings/{id}",
        "PATCH /api/v1/bookings/{id}",
        "POST /api/v1/bookings/{id}/cancel",
        "GET /api/v1/cluster",
        "GET /livez",
        "GET /readyz",
        "GET /metrics",
        "POST /api/v1/admin/spaces",
        "PUT /api/v1/admin/users/{user}/role",
        "POST /api/v1/admin/bookings/import",
    ] {
        assert!(
            operations.contains(wanted),
            "{wanted} is not in the document"
        );
    }
    let problems = world.send(get("/api/docs/problems")).await;
    for code in mesto::http::problem::Code::ALL {
        assert!(
            problems.text.contains(&format!("id=\"{}\"", code.as_str())),
            "{}",
            code.as_str()
        );
    }
    let browser = world.send(get("/api/docs/")).await;
    assert_eq!(browser.status, StatusCode::OK, "{browser:?}");
    assert!(
        browser
            .header("content-security-policy")
            .starts_with("default-src 'self'")
    );
    assert!(
        !browser.text.contains("http://") && !browser.text.contains("https://"),
        "{}",
        browser.text
    );
}

#[tokio::test]
async fn every_documented_operation_is_served() {
    let world = World::furnished().await;
    let document = world.send(get("/api/v1/openapi.json")).await.body;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("operations").keys() {
            let uri = path
                .replace("{space}", "nevsky")
                .replace("{id}", "1")
                .replace("{slug}", "nevsky")
                .replace("{user}", "x");
            if uri.ends_with("/events") {
                continue;
            }
            let call = other(&method.to_uppercase(), &uri).token(OPERATOR);
            let answer = world.send(call).await;
            let unrouted = answer.status == StatusCode::METHOD_NOT_ALLOWED
                || answer.body["detail"] == "there is nothing at this path";
            assert!(!unrouted, "{method} {path}: {answer:?}");
        }
    }
}

#[test]
fn the_guide_names_every_problem_with_its_status() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let guide = std::fs::read_to_string(path).expect("the guide is there");
    for code in mesto::http::problem::Code::ALL {
        let retryable = if code.retryable() { "yes" } else { "no" };
        let row = format!(
            "| `{}` | {} | {retryable} | {} |",
            code.as_str(),
            code.status().as_u16(),
            code.title()
        );
        assert!(guide.contains(&row), "docs/api.md lacks {row}");
    }
}
