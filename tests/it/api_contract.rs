//! The contract of the API, call by call, against a node in one process.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use futures_util::{StreamExt, pin_mut};
use mesto::{limits::Limits, replica::Fault, service::events::Item};
use serde_json::{Value, json};

use crate::api_world::{
    OPERATOR, PASSWORD, START_MS, TOMORROW, World, at, booking, delete, get, nevsky, patch, post,
    put,
};

#[tokio::test]
async fn a_stranger_registers_signs_in_and_books() {
    let world = World::furnished().await;
    let body = json!({"email": " Anna@Example.com ", "password": PASSWORD, "display_name": "Anna"});
    let user = world.send(post("/api/v1/users").json(&body)).await;
    assert_eq!(user.status, StatusCode::CREATED);
    assert_eq!(user.body["email"], "anna@example.com");
    assert_eq!(
        (&user.body["role"], &user.body["display_name"]),
        (&json!("member"), &json!("Anna"))
    );
    assert!(!user.text.contains("argon2"));

    let session = world.sign_in("ANNA@example.com").await;
    assert_eq!(
        (&session["token_type"], &session["expires_in"]),
        (&json!("Bearer"), &json!(900))
    );
    assert_eq!(session["user"]["id"], user.body["id"]);
    let token = session["access_token"].as_str().expect("a token");

    let desks = world.desks().await;
    let request = json!({"desk": desks[0], "starts_at": at("10:00")});
    let booked = world
        .send(post("/api/v1/bookings").token(token).json(&request))
        .await;
    assert_eq!(booked.status, StatusCode::CREATED, "{booked:?}");
    let id = booked.body["id"].as_str().expect("an id");
    assert_eq!(booked.header("location"), format!("/api/v1/bookings/{id}"));
    assert_eq!(booked.header("etag"), "\"v1\"");
    assert_eq!(
        booked.index(),
        booked.body["index"].as_u64().expect("an index")
    );
    for (member, value) in [
        ("desk", json!(desks[0])),
        ("desk_label", json!("A-1")),
        ("starts_at", json!(at("10:00"))),
        ("ends_at", json!(at("11:00"))),
        ("time_zone", json!("Europe/Moscow")),
        ("status", json!("active")),
        ("cancelled_at", Value::Null),
        ("group", Value::Null),
        ("series", Value::Null),
        ("version", json!(1)),
        ("user", user.body["id"].clone()),
    ] {
        assert_eq!(booked.body[member], value, "{member}");
    }
    let shown = world
        .send(get(&format!("/api/v1/bookings/{id}")).token(token))
        .await;
    assert_eq!((shown.status, &shown.body), (StatusCode::OK, &booked.body));
}

#[tokio::test]
async fn accounts_refuse_what_they_must() {
    let world = World::new();
    world.register("anna@example.com").await;
    let again = json!({"email": "ANNA@example.com", "password": "another password"});
    world
        .send(post("/api/v1/users").json(&again))
        .await
        .is_problem(409, "email_taken");
    for (email, password) in [
        ("anna@example.com", "not her password"),
        ("nobody@example.com", PASSWORD),
    ] {
        let body = json!({"email": email, "password": password});
        world
            .send(post("/api/v1/sessions").json(&body))
            .await
            .is_problem(401, "bad_credentials");
    }
    for uri in [
        "/api/v1/me",
        "/api/v1/bookings",
        "/api/v1/me/export",
        "/api/v1/cluster",
    ] {
        let answer = world.send(get(uri)).await;
        answer.is_problem(401, "unauthenticated");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
}

#[tokio::test]
async fn a_session_is_refreshed_once_a_token_and_ends_when_told() {
    let world = World::new();
    world.register("anna@example.com").await;
    let session = world.sign_in("anna@example.com").await;
    let refresh =
        |token: &Value| post("/api/v1/sessions/refresh").json(&json!({"refresh_token": token}));

    let second = world
        .send(refresh(&session["refresh_token"]).key("r-1"))
        .await;
    assert_eq!(second.status, StatusCode::CREATED, "{second:?}");
    assert_ne!(second.body["refresh_token"], session["refresh_token"]);
    // The answer was lost on the way: the same key gets the same token, and nobody is suspected of theft.
    let retried = world
        .send(refresh(&session["refresh_token"]).key("r-1"))
        .await;
    assert_eq!(retried.status, StatusCode::CREATED, "{retried:?}");
    assert_eq!(retried.body["refresh_token"], second.body["refresh_token"]);

    let token = second.body["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    assert_eq!(
        world.send(get("/api/v1/me").token(&token)).await.status,
        StatusCode::OK
    );
    world
        .send(refresh(&session["refresh_token"]))
        .await
        .is_problem(401, "refresh_token_reused");
    world
        .send(get("/api/v1/me").token(&token))
        .await
        .is_problem(401, "unauthenticated");
    world
        .send(refresh(&second.body["refresh_token"]))
        .await
        .is_problem(401, "session_unknown");

    let third = world.sign_in("anna@example.com").await;
    let fourth = world.sign_in("anna@example.com").await;
    let token = |session: &Value| {
        session["access_token"]
            .as_str()
            .expect("a token")
            .to_owned()
    };
    let out = world
        .send(delete("/api/v1/sessions/current").token(&token(&third)))
        .await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    world
        .send(get("/api/v1/me").token(&token(&third)))
        .await
        .is_problem(401, "unauthenticated");
    assert_eq!(
        world
            .send(get("/api/v1/me").token(&token(&fourth)))
            .await
            .status,
        StatusCode::OK
    );
    let all = world
        .send(delete("/api/v1/sessions").token(&token(&fourth)))
        .await;
    assert_eq!(all.status, StatusCode::NO_CONTENT);
    world
        .send(get("/api/v1/me").token(&token(&fourth)))
        .await
        .is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn an_access_token_ends_with_its_time() {
    let world = World::new();
    let token = world.member("anna@example.com").await;
    world.clock.advance_ms(15 * 60 * 1_000 - 1_000);
    assert_eq!(
        world.send(get("/api/v1/me").token(&token)).await.status,
        StatusCode::OK
    );
    world.clock.advance_ms(1_000);
    let answer = world.send(get("/api/v1/me").token(&token)).await;
    answer.is_problem(401, "token_expired");
    assert!(answer.header("www-authenticate").contains("invalid_token"));
}

#[tokio::test]
async fn a_password_is_changed_with_a_retry_and_closes_other_sessions() {
    let world = World::new();
    world.register("anna@example.com").await;
    let (one, other) = (
        world.sign_in("anna@example.com").await,
        world.sign_in("anna@example.com").await,
    );
    let token = one["access_token"].as_str().expect("a token");
    let change = |current: &str| {
        let body = json!({"current_password": current, "new_password": "a fresh password"});
        post("/api/v1/me/password").token(token).json(&body)
    };
    world
        .send(change("not the password"))
        .await
        .is_problem(401, "bad_credentials");
    assert_eq!(
        world.send(change(PASSWORD).key("p-1")).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        world.send(change(PASSWORD).key("p-1")).await.status,
        StatusCode::NO_CONTENT,
        "a retry"
    );
    world
        .send(change(PASSWORD))
        .await
        .is_problem(401, "bad_credentials");
    assert_eq!(
        world.send(get("/api/v1/me").token(token)).await.status,
        StatusCode::OK
    );
    let other = other["access_token"].as_str().expect("a token");
    world
        .send(get("/api/v1/me").token(other))
        .await
        .is_problem(401, "unauthenticated");
    let old = json!({"email": "anna@example.com", "password": PASSWORD});
    world
        .send(post("/api/v1/sessions").json(&old))
        .await
        .is_problem(401, "bad_credentials");
    let new = json!({"email": "anna@example.com", "password": "a fresh password"});
    assert_eq!(
        world.send(post("/api/v1/sessions").json(&new)).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn one_changes_exports_and_erases_oneself() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    assert_eq!(
        world.book(&token, &desks[0], "10:00", "12:00").await.status,
        StatusCode::CREATED
    );

    let named = world
        .send(
            patch("/api/v1/me")
                .token(&token)
                .json(&json!({"display_name": "Anna"})),
        )
        .await;
    assert_eq!(
        (named.status, named.header("etag")),
        (StatusCode::OK, "\"v2\"")
    );
    assert_eq!(named.body["display_name"], "Anna");
    let stale = patch("/api/v1/me")
        .token(&token)
        .header("if-match", "\"v1\"")
        .json(&json!({"display_name": null}));
    let answer = world.send(stale).await;
    answer.is_problem(412, "version_mismatch");
    assert_eq!(answer.body["current_version"], 2);
    let unchanged = world
        .send(patch("/api/v1/me").token(&token).json(&json!({})))
        .await;
    assert_eq!(unchanged.body, named.body);

    let export = world.send(get("/api/v1/me/export").token(&token)).await;
    assert_eq!(export.body["user"]["email"], "anna@example.com");
    assert_eq!(export.body["bookings"].as_array().map(Vec::len), Some(1));
    assert_eq!(export.body["sessions"].as_array().map(Vec::len), Some(1));
    assert!(!export.text.contains("hash") && !export.text.contains("argon2"));

    assert_eq!(
        world.send(delete("/api/v1/me").token(&token)).await.status,
        StatusCode::NO_CONTENT
    );
    world
        .send(get("/api/v1/me").token(&token))
        .await
        .is_problem(401, "unauthenticated");
    let body = json!({"email": "anna@example.com", "password": PASSWORD});
    world
        .send(post("/api/v1/sessions").json(&body))
        .await
        .is_problem(401, "bad_credentials");
    world.register("anna@example.com").await;
    let other = world.sign_in("anna@example.com").await["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    assert_eq!(
        world.book(&other, &desks[0], "10:00", "12:00").await.status,
        StatusCode::CREATED,
        "the desk is free"
    );
}

#[tokio::test]
async fn a_space_is_shown_whole_by_id_and_slug() {
    let world = World::furnished().await;
    let list = world.send(get("/api/v1/spaces")).await;
    assert_eq!(list.body["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(list.body["next_cursor"], Value::Null);
    let id = list.body["items"][0]["id"].as_str().expect("an id");
    let by_slug = world.send(get("/api/v1/spaces/nevsky")).await;
    let by_id = world.send(get(&format!("/api/v1/spaces/{id}"))).await;
    assert_eq!(by_slug.body, by_id.body);
    let space = by_id.body;
    assert_eq!(space["opening_hours"]["sat"], json!([["10:00", "20:00"]]));
    assert_eq!(space["opening_hours"]["sun"], json!([]));
    assert_eq!(
        space["closures"],
        json!([{"date": "2026-03-06", "reason": "Repairs"}])
    );
    assert_eq!(space["rules"]["days_ahead"], 30);
    assert_eq!(space["halls"].as_array().map(Vec::len), Some(2));
    let hall = &space["halls"][0];
    assert_eq!(
        hall["plan"]["walls"],
        json!([{"x1": 0, "y1": 0, "x2": 400, "y2": 0}])
    );
    let desk = &hall["desks"][1];
    assert_eq!(
        (&desk["label"], &desk["rotation"]),
        (&json!("A-2"), &json!(90))
    );
    assert_eq!(desk["zone"], hall["zones"][0]["id"]);
    assert_eq!(desk["features"], json!(["monitor", "standing"]));
    world
        .send(get("/api/v1/spaces/nowhere"))
        .await
        .is_problem(404, "not_found");
}

#[tokio::test]
async fn putting_a_space_again_changes_nothing_and_a_change_changes_only_itself() {
    let world = World::furnished().await;
    let (before, index) = (
        world.send(get("/api/v1/spaces/nevsky")).await.body,
        world.replica.digest(),
    );
    let again = world
        .send(
            put("/api/v1/admin/spaces/nevsky")
                .token(OPERATOR)
                .json(&nevsky()),
        )
        .await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &before));
    assert_eq!(world.replica.digest(), index, "not even an entry");

    let mut document = nevsky();
    document["halls"][0]["desks"][0]["active"] = false.into();
    document["halls"][1]["desks"] = json!([{"label": "B-2", "x": 20, "y": 20}]);
    let changed = world
        .send(
            put("/api/v1/admin/spaces/nevsky")
                .token(OPERATOR)
                .json(&document),
        )
        .await;
    assert_eq!(changed.status, StatusCode::OK);
    assert_eq!(
        changed.body["schedule_revision"],
        before["schedule_revision"]
    );
    assert_eq!(changed.body["halls"][0]["desks"][0]["active"], false);
    assert_eq!(
        changed.body["halls"][0]["desks"][1],
        before["halls"][0]["desks"][1]
    );
    assert_eq!(
        changed.body["halls"][1]["desks"].as_array().map(Vec::len),
        Some(2),
        "what is left out stays"
    );

    let create = world
        .send(post("/api/v1/admin/spaces").token(OPERATOR).json(&nevsky()))
        .await;
    create.is_problem(409, "slug_taken");
    let member = world.member("anna@example.com").await;
    let forbidden = world
        .send(
            put("/api/v1/admin/spaces/nevsky")
                .token(&member)
                .json(&nevsky()),
        )
        .await;
    forbidden.is_problem(403, "forbidden");
}

#[tokio::test]
async fn availability_holds_free_desks_and_slots_that_have_not_started() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    assert_eq!(
        world.book(&token, &desks[0], "09:00", "11:00").await.status,
        StatusCode::CREATED
    );
    let day = |extra: &str| format!("/api/v1/spaces/nevsky/availability?date={TOMORROW}{extra}");

    let all = world.send(get(&day(""))).await.body;
    assert_eq!(all["slots"].as_array().map(Vec::len), Some(14));
    assert_eq!(
        all["slots"][0],
        json!({"starts_at": at("08:00"), "ends_at": at("09:00"), "local": "08:00"})
    );
    assert_eq!(
        (&all["date"], &all["time_zone"]),
        (&json!(TOMORROW), &json!("Europe/Moscow"))
    );
    assert_eq!(all["desks"].as_array().map(Vec::len), Some(5));
    assert_eq!(all["desks"][0]["desk"], desks[0].as_str());
    assert_eq!(
        all["desks"][0]["free"],
        json!([0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
    );

    let only = async |extra: &str| -> Vec<String> {
        let body = world.send(get(&day(extra))).await.body;
        let desks = body["desks"].as_array().expect("desks").iter();
        desks
            .map(|desk| desk["label"].as_str().expect("a label").to_owned())
            .collect()
    };
    assert_eq!(
        only("&from=09:00&to=11:00").await,
        ["A-2", "A-3", "A-4", "B-1"],
        "A-1 has no free slot then"
    );
    assert_eq!(only("&hall=Attic").await, ["B-1"]);
    assert_eq!(only("&zone=quiet").await, ["A-1", "A-2"]);
    assert_eq!(
        only("&zone=By%20the%20window&feature=standing").await,
        ["A-4"]
    );
    assert_eq!(only("&feature=monitor&feature=standing").await, ["A-2"]);

    // It is 09:30 on Monday: the slots of 08:00 and 09:00 have started.
    let today = world
        .send(get("/api/v1/spaces/nevsky/availability?date=2026-03-02"))
        .await
        .body;
    assert_eq!(today["slots"][0]["local"], "10:00");
    for closed in ["2026-03-06", "2026-03-08"] {
        let body = world
            .send(get(&format!(
                "/api/v1/spaces/nevsky/availability?date={closed}"
            )))
            .await
            .body;
        assert_eq!(
            (&body["slots"], &body["desks"]),
            (&json!([]), &json!([])),
            "{closed}"
        );
    }
}

#[tokio::test]
async fn each_rule_of_booking_has_its_answer() {
    let world = World::furnished().await;
    let (anna, boris) = (
        world.member("anna@example.com").await,
        world.member("boris@example.com").await,
    );
    let desks = world.desks().await;
    assert_eq!(
        world.book(&anna, &desks[0], "10:00", "12:00").await.status,
        StatusCode::CREATED
    );

    let taken = world.book(&boris, &desks[0], "11:00", "13:00").await;
    taken.is_problem(409, "slot_taken");
    assert_eq!(taken.body["outcome"], "not_applied");
    assert_eq!(
        taken.body["alternatives"][0],
        json!({"desk": desks[1], "label": "A-2"}),
        "the nearest first"
    );
    let busy = world.book(&anna, &desks[1], "11:00", "13:00").await;
    busy.is_problem(409, "user_already_booked");
    assert!(
        busy.body["booking"]
            .as_str()
            .is_some_and(|id| id.starts_with("bkg_"))
    );

    world
        .book(&boris, &desks[1], "10:30", "11:30")
        .await
        .is_problem(422, "off_grid");
    world
        .book(&boris, &desks[1], "21:00", "23:00")
        .await
        .is_problem(422, "outside_opening_hours");
    let single = |starts_at: &str| {
        post("/api/v1/bookings")
            .token(&boris)
            .json(&json!({"desk": desks[1], "starts_at": starts_at}))
    };
    world
        .send(single("2026-03-06T10:00:00+03:00"))
        .await
        .is_problem(422, "closed");
    world
        .send(single("2026-03-02T09:00:00+03:00"))
        .await
        .is_problem(422, "in_the_past");
    world
        .send(single("2026-05-04T10:00:00+03:00"))
        .await
        .is_problem(422, "too_far_ahead");
    let other_offset = world.send(single("2026-03-03T07:00:00Z")).await;
    assert_eq!(
        (other_offset.status, &other_offset.body["starts_at"]),
        (StatusCode::CREATED, &json!(at("10:00")))
    );

    let nowhere = world
        .book(&boris, "dsk_0000000zzzzzz", "10:00", "11:00")
        .await;
    nowhere.is_problem(404, "not_found");
    let for_another = json!({"desk": desks[2], "starts_at": at("10:00"), "user": world.sign_in("anna@example.com").await["user"]["id"]});
    world
        .send(post("/api/v1/bookings").token(&boris).json(&for_another))
        .await
        .is_problem(403, "forbidden");
}

#[tokio::test]
async fn an_administrator_books_for_others_and_sees_their_bookings() {
    let world = World::furnished().await;
    let anna = world.member("anna@example.com").await;
    let admin = world.admin("admin@example.com").await;
    let user = world.send(get("/api/v1/me").token(&anna)).await.body["id"].clone();
    let desks = world.desks().await;
    let body = json!({"desk": desks[0], "starts_at": at("10:00"), "user": user});
    let booked = world
        .send(post("/api/v1/bookings").token(&admin).json(&body))
        .await;
    assert_eq!(
        (booked.status, &booked.body["user"]),
        (StatusCode::CREATED, &user),
        "{booked:?}"
    );
    let uri = format!(
        "/api/v1/bookings/{}",
        booked.body["id"].as_str().expect("an id")
    );
    assert_eq!(
        world.send(get(&uri).token(&anna)).await.status,
        StatusCode::OK
    );
    assert_eq!(
        world.send(get(&uri).token(&admin)).await.status,
        StatusCode::OK
    );
    let boris = world.member("boris@example.com").await;
    world
        .send(get(&uri).token(&boris))
        .await
        .is_problem(404, "not_found");
    world
        .send(patch(&uri).token(&boris).json(&json!({"desk": desks[1]})))
        .await
        .is_problem(404, "not_found");
    world
        .send(post(&format!("{uri}/cancel")).token(&boris))
        .await
        .is_problem(404, "not_found");
}

#[tokio::test]
async fn a_booking_is_moved_and_cancelled_by_version() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let booked = world.book(&token, &desks[0], "10:00", "12:00").await;
    let uri = format!(
        "/api/v1/bookings/{}",
        booked.body["id"].as_str().expect("an id")
    );

    let moved = patch(&uri)
        .token(&token)
        .header("if-match", "\"v1\"")
        .json(&json!({"starts_at": at("11:00")}));
    let moved = world.send(moved).await;
    assert_eq!(
        (moved.status, moved.header("etag")),
        (StatusCode::OK, "\"v2\""),
        "{moved:?}"
    );
    assert_eq!(
        (&moved.body["starts_at"], &moved.body["ends_at"]),
        (&json!(at("11:00")), &json!(at("13:00")))
    );
    let stale = patch(&uri)
        .token(&token)
        .header("if-match", "\"v1\"")
        .json(&json!({"desk": desks[1]}));
    let stale = world.send(stale).await;
    stale.is_problem(412, "version_mismatch");
    assert_eq!(stale.body["current_version"], 2);
    let other_desk = world
        .send(patch(&uri).token(&token).json(&json!({"desk": desks[1]})))
        .await;
    assert_eq!(
        (
            &other_desk.body["desk_label"],
            &other_desk.body["starts_at"]
        ),
        (&json!("A-2"), &json!(at("11:00")))
    );

    let cancelled = world
        .send(post(&format!("{uri}/cancel")).token(&token))
        .await;
    assert_eq!(
        (cancelled.status, &cancelled.body["status"]),
        (StatusCode::OK, &json!("cancelled"))
    );
    assert!(cancelled.body["cancelled_at"].is_string());
    let twice = world
        .send(post(&format!("{uri}/cancel")).token(&token).body(b"{}"))
        .await;
    assert_eq!(
        (twice.status, &twice.body),
        (StatusCode::OK, &cancelled.body)
    );
    world
        .send(patch(&uri).token(&token).json(&json!({"desk": desks[0]})))
        .await
        .is_problem(409, "booking_cancelled");
    assert_eq!(
        world.book(&token, &desks[1], "11:00", "13:00").await.status,
        StatusCode::CREATED,
        "the slots are free"
    );

    let started = world.book(&token, &desks[0], "14:00", "16:00").await;
    world.clock.set_ms(START_MS + 29 * 3_600_000);
    let token = world.sign_in("anna@example.com").await["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let uri = format!(
        "/api/v1/bookings/{}",
        started.body["id"].as_str().expect("an id")
    );
    world
        .send(post(&format!("{uri}/cancel")).token(&token))
        .await
        .is_problem(409, "already_started");
    let later = json!({"starts_at": at("18:00")});
    world
        .send(patch(&uri).token(&token).json(&later))
        .await
        .is_problem(409, "already_started");
}

#[tokio::test]
async fn the_history_is_paged_newest_first_and_filtered_by_status() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let mut ids = Vec::new();
    for hour in 9..14 {
        let answer = world
            .book(
                &token,
                &desks[0],
                &format!("{hour:02}:00"),
                &format!("{:02}:00", hour + 1),
            )
            .await;
        ids.push(answer.body["id"].as_str().expect("an id").to_owned());
    }
    ids.reverse();
    world
        .send(post(&format!("/api/v1/bookings/{}/cancel", ids[1])).token(&token))
        .await;

    let mut seen = Vec::new();
    let mut uri = "/api/v1/bookings?limit=2".to_owned();
    loop {
        let page = world.send(get(&uri).token(&token)).await.body;
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 2);
        seen.extend(
            items
                .iter()
                .map(|item| item["id"].as_str().expect("an id").to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        uri = format!("/api/v1/bookings?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ids);
    let count = async |status: &str, token: &str| {
        let uri = format!("/api/v1/bookings?status={status}");
        world.send(get(&uri).token(token)).await.body["items"]
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(count("active", &token).await, Some(4));
    assert_eq!(count("cancelled", &token).await, Some(1));
    assert_eq!(count("past", &token).await, Some(0));
    world.clock.set_ms(START_MS + 48 * 3_600_000);
    let token = world.sign_in("anna@example.com").await["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    assert_eq!(count("past", &token).await, Some(4));
    assert_eq!(count("active", &token).await, Some(0));
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer() {
    let world = World::furnished().await;
    let (anna, boris) = (
        world.member("anna@example.com").await,
        world.member("boris@example.com").await,
    );
    let desks = world.desks().await;
    let book = |token: &str, desk: &str| {
        post("/api/v1/bookings")
            .token(token)
            .key("k-1")
            .json(&booking(desk, "10:00", "11:00"))
    };
    let first = world.send(book(&anna, &desks[0])).await;
    assert_eq!(first.status, StatusCode::CREATED);
    let state = world.replica.digest();
    let again = world.send(book(&anna, &desks[0])).await;
    assert_eq!(
        (again.status, &again.body, again.index()),
        (StatusCode::CREATED, &first.body, first.index())
    );
    assert_eq!(world.replica.digest(), state, "nothing was applied twice");
    // Neither the order of members nor white space makes another request of it.
    let respaced = format!(
        "{{ \"ends_at\": \"{}\",\n \"starts_at\": \"{}\", \"desk\": \"{}\" }}",
        at("11:00"),
        at("10:00"),
        desks[0]
    );
    let respaced = world
        .send(
            post("/api/v1/bookings")
                .token(&anna)
                .key("k-1")
                .body(respaced.as_bytes()),
        )
        .await;
    assert_eq!(respaced.body, first.body);
    world
        .send(book(&anna, &desks[1]))
        .await
        .is_problem(422, "idempotency_key_reused");
    let elsewhere = post(&format!(
        "/api/v1/bookings/{}/cancel",
        first.body["id"].as_str().expect("an id")
    ))
    .token(&anna)
    .key("k-1");
    world
        .send(elsewhere)
        .await
        .is_problem(422, "idempotency_key_reused");
    // Another user's key is another key; and a refusal is remembered like any answer.
    let refused = world.send(book(&boris, &desks[0])).await;
    refused.is_problem(409, "slot_taken");
    let cancel = post(&format!(
        "/api/v1/bookings/{}/cancel",
        first.body["id"].as_str().expect("an id")
    ))
    .token(&anna);
    world.send(cancel).await;
    world
        .send(book(&boris, &desks[0]))
        .await
        .is_problem(409, "slot_taken");
    assert_eq!(
        world.book(&boris, &desks[0], "10:00", "11:00").await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_registration_is_safe_to_retry_and_its_key_does_not_open_another_account() {
    let world = World::new();
    let register = |email: &str, password: &str| {
        post("/api/v1/users")
            .key("reg-1")
            .json(&json!({"email": email, "password": password}))
    };
    let first = world.send(register("anna@example.com", PASSWORD)).await;
    let again = world.send(register("anna@example.com", PASSWORD)).await;
    assert_eq!(
        (again.status, &again.body),
        (StatusCode::CREATED, &first.body)
    );
    world
        .send(register("anna@example.com", "another password"))
        .await
        .is_problem(422, "idempotency_key_reused");
    let other = world.send(register("boris@example.com", PASSWORD)).await;
    assert_eq!(
        other.status,
        StatusCode::CREATED,
        "a stranger's key is bound to the e-mail"
    );
    world.sign_in("anna@example.com").await;
}

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
async fn a_lost_answer_is_unknown_and_the_same_key_finds_out() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let book = || {
        post("/api/v1/bookings")
            .token(&token)
            .key("k-7")
            .json(&booking(&desks[0], "10:00", "11:00"))
    };
    world.fail(Some(Fault::AnswerLost));
    let lost = world.send(book()).await;
    lost.is_problem(503, "outcome_unknown");
    assert_eq!(
        (&lost.body["outcome"], &lost.body["retryable"]),
        (&json!("unknown"), &json!(true))
    );
    world.fail(None);
    let found = world.send(book()).await;
    assert_eq!(found.status, StatusCode::CREATED, "{found:?}");
    let items = world.send(get("/api/v1/bookings").token(&token)).await.body;
    assert_eq!(
        items["items"].as_array().map(Vec::len),
        Some(1),
        "booked once"
    );

    world.fail(Some(Fault::CommandLost));
    let lost = post("/api/v1/bookings")
        .token(&token)
        .key("k-8")
        .json(&booking(&desks[0], "12:00", "13:00"));
    world
        .send(lost.clone())
        .await
        .is_problem(503, "outcome_unknown");
    world.fail(None);
    assert_eq!(world.send(lost).await.status, StatusCode::CREATED);

    world.fail(Some(Fault::Overloaded));
    let answer = world.book(&token, &desks[0], "14:00", "15:00").await;
    answer.is_problem(503, "overloaded");
    assert_eq!(
        (answer.header("retry-after"), &answer.body["outcome"]),
        ("1", &json!("not_applied"))
    );
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
async fn failed_sign_ins_are_limited_by_account_and_by_address() {
    let limits = Limits {
        failed_sign_ins_per_account: 3,
        failed_sign_ins_per_address: 5,
        ..Limits::default()
    };
    let world = World::with(limits);
    world.register("anna@example.com").await;
    world.register("boris@example.com").await;
    let try_in = |email: &str, password: &str| {
        post("/api/v1/sessions").json(&json!({"email": email, "password": password}))
    };
    for _ in 0..3 {
        world
            .send(try_in("anna@example.com", "a wrong guess"))
            .await
            .is_problem(401, "bad_credentials");
    }
    let barred = world.send(try_in("anna@example.com", PASSWORD)).await;
    barred.is_problem(429, "too_many_attempts");
    assert_eq!(barred.header("retry-after"), "900");
    assert_eq!(
        world
            .send(try_in("boris@example.com", PASSWORD))
            .await
            .status,
        StatusCode::CREATED
    );
    for _ in 0..2 {
        world
            .send(try_in("nobody@example.com", "a wrong guess"))
            .await
            .is_problem(401, "bad_credentials");
    }
    world
        .send(try_in("boris@example.com", PASSWORD))
        .await
        .is_problem(429, "too_many_attempts");
    world.clock.advance_ms(15 * 60 * 1_000);
    assert_eq!(
        world
            .send(try_in("anna@example.com", PASSWORD))
            .await
            .status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_hundred_people_behind_one_address_register_and_sign_in_at_once() {
    let world = std::sync::Arc::new(World::new());
    let people = (0..100).map(|number| {
        let world = std::sync::Arc::clone(&world);
        tokio::spawn(async move { world.member(&format!("person{number}@example.com")).await })
    });
    let mut tokens = BTreeSet::new();
    for person in people.collect::<Vec<_>>() {
        tokens.insert(person.await.expect("nobody was turned away"));
    }
    assert_eq!(tokens.len(), 100);
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
async fn bookings_are_brought_in_by_the_page() {
    let world = World::furnished().await;
    world.register("anna@example.com").await;
    let desks = world.desks().await;
    let row = |desk: &str, starts_at: &str| json!({"user": "anna@example.com", "desk": desk, "starts_at": starts_at});
    let rows = [
        row(&desks[0], "2026-02-02T10:00:00+03:00"),
        row(&desks[1], "2026-02-02T10:00:00+03:00"),
        row(&desks[1], "2026-02-03T10:00:00+03:00"),
    ];
    let page = post("/api/v1/admin/bookings/import")
        .token(OPERATOR)
        .json(&json!({"space": "nevsky", "bookings": rows}));
    let answer = world.send(page).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(
        (&answer.body["accepted"], &answer.body["refused"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        answer.body["first_refusals"],
        json!([{"row": 1, "code": "user_already_booked"}])
    );
    let token = world.sign_in("anna@example.com").await["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let past = world
        .send(get("/api/v1/bookings?status=past").token(&token))
        .await
        .body;
    assert_eq!(past["items"].as_array().map(Vec::len), Some(2));
    let off = post("/api/v1/admin/bookings/import").token(OPERATOR).json(
        &json!({"space": "nevsky", "bookings": [row(&desks[0], "2026-02-04T10:30:00+03:00")]}),
    );
    let answer = world.send(off).await;
    answer.is_problem(422, "invalid_fields");
    assert_eq!(answer.body["errors"][0]["code"], "off_grid");
    assert_eq!(answer.body["errors"][0]["pointer"], "/bookings/0/starts_at");
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
            let call = crate::api_world::other(&method.to_uppercase(), &uri).token(OPERATOR);
            let answer = world.send(call).await;
            let unrouted = answer.status == StatusCode::METHOD_NOT_ALLOWED
                || answer.body["detail"] == "there is nothing at this path";
            assert!(!unrouted, "{method} {path}: {answer:?}");
        }
    }
}

/// Keeps the list of what a booking is in step with the contract.
#[tokio::test]
async fn a_booking_has_the_members_of_the_contract() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let body = world.book(&token, &desks[0], "10:00", "11:00").await.body;
    for member in [
        "id",
        "space",
        "hall",
        "desk",
        "desk_label",
        "user",
        "starts_at",
        "ends_at",
        "time_zone",
        "status",
        "created_at",
        "cancelled_at",
        "group",
        "series",
        "version",
        "index",
    ] {
        assert!(body.get(member).is_some(), "{member}");
    }
}
