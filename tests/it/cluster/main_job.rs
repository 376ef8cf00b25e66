//! The main job on three real nodes: register, book, conflict, cancel, history, retries, many at once.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use super::processes::{Cluster, OPERATOR};

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_is_made_contested_cancelled_and_remembered_on_any_node() {
    let cluster = Cluster::start("").await;
    cluster.space("house", 3).await;
    let anna = cluster.person("anna").await;
    let boris = cluster.person("boris").await;
    let cell = cluster.cells("house", 1, &anna.token).await[0].clone();

    let booked = cluster
        .book(1, &anna, &cell, None)
        .await
        .expect("an answer");
    assert_eq!(booked.status, 201, "{booked:?}");
    let id = booked.body["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("bkg_"), "{id}");

    let late = cluster
        .book(2, &boris, &cell, None)
        .await
        .expect("an answer");
    assert_eq!(
        (late.status.as_u16(), late.code()),
        (409, "slot_taken"),
        "{late:?}"
    );
    assert!(
        !late.body["alternatives"]
            .as_array()
            .expect("alternatives")
            .is_empty(),
        "{late:?}"
    );
    let again = cluster.cells("house", 1, &boris.token).await;
    let elsewhere = again
        .iter()
        .find(|other| other.starts_at == cell.starts_at)
        .expect("another desk");
    let twice = cluster
        .book(3, &anna, elsewhere, None)
        .await
        .expect("an answer");
    assert_eq!(
        (twice.status.as_u16(), twice.code()),
        (409, "user_already_booked"),
        "{twice:?}"
    );

    let hidden = cluster
        .get(2, &format!("/bookings/{id}"), &boris.token)
        .await;
    assert_eq!(
        (hidden.status.as_u16(), hidden.code()),
        (404, "not_found"),
        "{hidden:?}"
    );
    let seen = cluster
        .get(3, &format!("/bookings/{id}"), &anna.token)
        .await;
    assert_eq!(seen.body["status"], "active", "{seen:?}");

    let cancelled = cluster
        .post(
            3,
            &format!("/bookings/{id}/cancel"),
            &anna.token,
            &json!({}),
        )
        .await;
    assert_eq!(
        (cancelled.status.as_u16(), &cancelled.body["status"]),
        (200, &json!("cancelled")),
        "{cancelled:?}"
    );
    let free = cluster
        .book(2, &boris, &cell, None)
        .await
        .expect("an answer");
    assert_eq!(free.status, 201, "{free:?}");
    let history = cluster
        .get(1, "/bookings?status=cancelled", &anna.token)
        .await;
    assert_eq!(history.body["items"][0]["id"], id.as_str(), "{history:?}");
    assert_eq!(cluster.active(2, &boris).await.len(), 1);
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_want_the_same_twenty_cells() {
    let cluster = Cluster::start("").await;
    cluster.space("house", 20).await;
    let people = cluster.people("crowd", 64).await;
    let cells = cluster.cells("house", 2, &people[0].token).await;
    let first = cells[0].starts_at.clone();
    // Twenty desks at one time: nobody can hold two of them, everybody tries every one.
    let wanted: Vec<_> = cells
        .into_iter()
        .filter(|cell| cell.starts_at == first)
        .collect();
    assert_eq!(wanted.len(), 20);
    let tries = people.iter().enumerate().map(|(number, person)| {
        let (cluster, wanted) = (&cluster, &wanted);
        async move {
            let mut won = 0;
            for step in 0..wanted.len() {
                let cell = &wanted[(number + step) % wanted.len()];
                let node = (number + step) as u64 % 3 + 1;
                let answer = cluster
                    .book(node, person, cell, None)
                    .await
                    .expect("an answer");
                match (answer.status.as_u16(), answer.code()) {
                    (201, _) => won += 1,
                    (409, "slot_taken" | "user_already_booked") => {}
                    _ => panic!("{answer:?}"),
                }
            }
            won
        }
    });
    let won: Vec<usize> = futures_util::future::join_all(tries).await;
    assert_eq!(won.iter().sum::<usize>(), 20, "{won:?}");
    assert!(won.iter().all(|bookings| *bookings <= 1), "{won:?}");
    let mut taken = BTreeSet::new();
    for person in &people {
        for booking in cluster.active(2, person).await {
            let desk = booking["desk"].as_str().expect("a desk").to_owned();
            assert!(taken.insert(desk), "a desk was booked twice: {booking}");
        }
    }
    assert_eq!(taken.len(), 20);
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_with_the_same_key_is_answered_as_the_first_time_on_any_node() {
    let cluster = Cluster::start("").await;
    cluster.space("house", 2).await;
    let anna = cluster.person("anna").await;
    let boris = cluster.person("boris").await;
    let cells = cluster.cells("house", 1, &anna.token).await;
    let first = cluster
        .book(1, &anna, &cells[0], Some("key-1"))
        .await
        .expect("an answer");
    assert_eq!(first.status, 201, "{first:?}");
    for node in [2, 3, 1] {
        let again = cluster
            .book(node, &anna, &cells[0], Some("key-1"))
            .await
            .expect("an answer");
        assert_eq!((again.status, &again.body), (first.status, &first.body));
    }
    let reused = cluster
        .book(2, &anna, &cells[1], Some("key-1"))
        .await
        .expect("an answer");
    assert_eq!(
        (reused.status.as_u16(), reused.code()),
        (422, "idempotency_key_reused"),
        "{reused:?}"
    );
    // The same key of another person is another key.
    let theirs = cluster
        .book(3, &boris, &cells[1], Some("key-1"))
        .await
        .expect("an answer");
    assert_eq!(theirs.status, 201, "{theirs:?}");
    // A refusal is remembered as well: after the cell is free again, the old key still gets the old answer.
    let refused = cluster
        .book(2, &boris, &cells[0], Some("key-2"))
        .await
        .expect("an answer");
    assert_eq!(refused.status, 409, "{refused:?}");
    let id = first.body["id"].as_str().expect("an id");
    cluster
        .post(
            1,
            &format!("/bookings/{id}/cancel"),
            &anna.token,
            &json!({}),
        )
        .await;
    let still = cluster
        .book(1, &boris, &cells[0], Some("key-2"))
        .await
        .expect("an answer");
    assert_eq!(
        (still.status, still.code()),
        (refused.status, refused.code())
    );
    // Two tries at once are one booking.
    let both = futures_util::future::join_all((0..12).map(|number| {
        let (cluster, anna, cell) = (&cluster, &anna, &cells[0]);
        async move {
            cluster
                .book(number % 3 + 1, anna, cell, Some("key-3"))
                .await
                .expect("an answer")
        }
    }));
    let ids: BTreeSet<String> = both
        .await
        .iter()
        .map(|answer| answer.body["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(cluster.active(2, &anna).await.len(), 1);
    // A registration can be retried too, without a second account and without a conflict.
    let account = json!({ "email": "vera@example.org", "password": "a-password-of-vera" });
    let make = |node| {
        cluster.call(
            node,
            Method::POST,
            "/users",
            None,
            Some("vera"),
            Some(&account),
        )
    };
    let made = make(1).await.expect("an answer");
    let remade = make(2).await.expect("an answer");
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!((remade.status, &remade.body), (made.status, &made.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn six_lay_out_one_space_at_once_and_nothing_is_there_twice() {
    let cluster = Cluster::start("").await;
    let document = |slug: &str, number: u64| {
        let halls = ["H0", "H1"].map(|name| {
            let desks: Vec<_> = (0..40)
                .map(|desk| json!({ "label": format!("D{desk}"), "x": desk, "y": number }))
                .collect();
            json!({ "name": name, "plan": { "width": 100, "height": 100 }, "desks": desks })
        });
        json!({ "slug": slug, "name": "Test", "time_zone": "UTC", "opening_hours": {}, "halls": halls })
    };
    for (slug, method) in [("put", Method::PUT), ("post", Method::POST)] {
        let path = match slug {
            "put" => "/admin/spaces/put",
            _ => "/admin/spaces",
        };
        let tries = (0..6).map(|number| {
            let (cluster, method, body) = (&cluster, method.clone(), document(slug, number));
            async move {
                let node = number % 3 + 1;
                let call = cluster.call(node, method, path, Some(OPERATOR), None, Some(&body));
                call.await.expect("an answer")
            }
        });
        let answers = futures_util::future::join_all(tries).await;
        let mut made = 0;
        for answer in &answers {
            match (slug, answer.status.as_u16(), answer.code()) {
                (_, 201, _) => made += 1,
                ("put", 200, _) | ("put", 412, "version_mismatch") => {}
                ("post", 409, "slug_taken") => {}
                _ => panic!("{answer:?}"),
            }
        }
        assert_eq!(made, 1, "{slug}: {answers:?}");
        let space = cluster.get(1, &format!("/spaces/{slug}"), OPERATOR).await;
        let texts = |list: &serde_json::Value, name: &str| -> Vec<String> {
            let list = list.as_array().expect("a list");
            list.iter().map(|one| one[name].to_string()).collect()
        };
        let names = texts(&space.body["halls"], "name");
        assert_eq!(names, ["\"H0\"", "\"H1\""], "{slug}");
        for hall in space.body["halls"].as_array().expect("halls") {
            let labels = texts(&hall["desks"], "label");
            let distinct: BTreeSet<_> = labels.iter().collect();
            assert_eq!((labels.len(), distinct.len()), (40, 40), "{slug}");
        }
    }
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_can_be_followed_through_the_forward() {
    let cluster = Cluster::start("").await;
    cluster.space("house", 1).await;
    let anna = cluster.person("anna").await;
    let cell = cluster.cells("house", 1, &anna.token).await[0].clone();
    let leader = cluster.leader().await;
    let follower = cluster
        .ids()
        .into_iter()
        .find(|id| *id != leader)
        .expect("a follower");
    let request = cluster
        .http
        .post(cluster.url(follower, "/api/v1/bookings"))
        .bearer_auth(&anna.token);
    let body = json!({ "desk": cell.desk, "starts_at": cell.starts_at });
    let answer = request
        .header("X-Request-Id", "follow-me-42")
        .json(&body)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["x-request-id"], "follow-me-42");
    for id in [follower, leader] {
        cluster
            .until("the request is logged", || async {
                cluster.logged(id).contains("follow-me-42")
            })
            .await;
    }
    for id in cluster.ids() {
        let log = cluster.logged(id);
        for secret in [super::api::PASSWORD, anna.token.as_str(), OPERATOR] {
            assert!(!log.contains(secret), "a secret is in the log of node {id}");
        }
    }
}
