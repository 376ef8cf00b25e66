//! Accounts and sessions as the contract has them, against a node in one process.

use std::{collections::BTreeSet, time::Instant};

use axum::http::StatusCode;
use mesto::{limits::Limits, service::passwords::PasswordCost};
use serde_json::{Value, json};

use crate::api_world::{PASSWORD, World, at, delete, get, patch, post};

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
async fn a_change_of_password_is_retried_even_after_the_next_change() {
    let world = World::new();
    let token = world.member("anna@example.com").await;
    let change = |key: &str, current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        post("/api/v1/me/password")
            .token(&token)
            .key(key)
            .json(&body)
    };
    let first = world.send(change("one", PASSWORD, "the second one")).await;
    assert_eq!(first.status, StatusCode::NO_CONTENT, "{first:?}");
    let next = world.send(change("two", "the second one", "the third one"));
    assert_eq!(next.await.status, StatusCode::NO_CONTENT);
    let again = world.send(change("one", PASSWORD, "the second one")).await;
    assert_eq!(
        (again.status, again.index()),
        (StatusCode::NO_CONTENT, first.index())
    );
    // Neither a new key nor another wish gets through with an old password.
    let fresh = world
        .send(change("three", PASSWORD, "the second one"))
        .await;
    fresh.is_problem(401, "bad_credentials");
    let other = world.send(change("one", PASSWORD, "the fourth one")).await;
    other.is_problem(422, "idempotency_key_reused");
    let body = json!({"email": "anna@example.com", "password": "the third one"});
    let signed_in = world.send(post("/api/v1/sessions").json(&body)).await;
    assert_eq!(signed_in.status, StatusCode::CREATED, "{signed_in:?}");
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

/// The one test with passwords of full cost: whether there is an account must not show in the time that it takes.
#[tokio::test]
async fn an_unknown_e_mail_takes_as_long_as_a_wrong_password() {
    let world = World::build(
        Limits {
            failed_sign_ins_per_account: 100,
            ..Limits::default()
        },
        PasswordCost::RECOMMENDED,
    );
    world.register("anna@example.com").await;
    let time = async |email: &str| {
        let mut times = Vec::new();
        for _ in 0..5 {
            let body = json!({"email": email, "password": "a wrong guess"});
            let started = Instant::now();
            let answer = world.send(post("/api/v1/sessions").json(&body)).await;
            times.push(started.elapsed());
            answer.is_problem(401, "bad_credentials");
        }
        times.sort();
        times[times.len() / 2]
    };
    let (known, unknown) = (
        time("anna@example.com").await,
        time("nobody@example.com").await,
    );
    let ratio = unknown.as_secs_f64() / known.as_secs_f64();
    assert!(
        (0.5..2.0).contains(&ratio),
        "{known:?} for a wrong password, {unknown:?} for no account"
    );
}
