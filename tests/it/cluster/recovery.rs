//! Restarting nodes, catching up, and looking at what they stored.

use std::fs;

use reqwest::Method;
use serde_json::json;

use super::processes::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_are_killed_at_once_and_have_everything_again() {
    let mut cluster = Cluster::start("").await;
    cluster.space("house", 4).await;
    let people = cluster.people("crowd", 4).await;
    let cells = cluster.cells("house", 1, &people[0].token).await;
    let mut ids = Vec::new();
    for (number, cell) in cells.iter().take(40).enumerate() {
        let person = &people[number / 24];
        let answer = cluster
            .book(number as u64 % 3 + 1, person, cell, None)
            .await
            .expect("an answer");
        assert_eq!(answer.status, 201, "{answer:?}");
        ids.push((number / 24, answer.body["id"].clone()));
    }
    for id in cluster.ids() {
        cluster.kill(id);
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    cluster.ready().await;
    for (person, id) in ids {
        let path = format!("/bookings/{}", id.as_str().expect("an id"));
        let seen = cluster.get(2, &path, &people[person].token).await;
        assert_eq!(seen.body["status"], "active", "{seen:?}");
    }
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_down_catches_up_by_log_and_by_snapshot() {
    let mut cluster = Cluster::start("snapshot_every_entries = 100\nkeep_log_entries = 20").await;
    cluster.space("house", 30).await;
    let people = cluster.people("crowd", 10).await;
    let leader = cluster.leader().await;
    let down = cluster
        .ids()
        .into_iter()
        .find(|id| *id != leader)
        .expect("a follower");
    let up = cluster
        .ids()
        .into_iter()
        .find(|id| *id != down)
        .expect("another");
    let mut days = 1..;
    for bookings in [10, 400] {
        cluster.kill(down);
        let mut booked = 0;
        while booked < bookings {
            let cells = cluster
                .book_day(up, &people, days.next().expect("endless"))
                .await;
            booked += cells;
        }
        cluster.spawn(down);
        cluster.ready().await;
        cluster.converge().await;
    }
    let view = cluster.view(down).await.expect("an answer");
    assert!(
        view["snapshot"].as_u64().expect("it was sent a snapshot") > 200,
        "{view}"
    );
    assert!(view["purged"].as_u64().is_some(), "{view}");
    // What each stored is whole, and says so by itself.
    for id in cluster.ids() {
        cluster.terminate(id);
        let folder = cluster.data(id);
        let verified = cluster
            .mesto(&["verify", folder.to_str().expect("text")])
            .output()
            .expect("mesto runs");
        assert!(
            verified.status.success(),
            "{}",
            String::from_utf8_lossy(&verified.stdout)
        );
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    cluster.ready().await;
    assert_eq!(
        cluster.active(down, &people[0]).await.len(),
        cluster.active(up, &people[0]).await.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_disk_is_refused_under_its_old_id() {
    let mut cluster = Cluster::start("").await;
    cluster.space("house", 1).await;
    let anna = cluster.person("anna").await;
    let cells = cluster.cells("house", 1, &anna.token).await;
    let leader = cluster.leader().await;
    let wiped = cluster
        .ids()
        .into_iter()
        .find(|id| *id != leader)
        .expect("a follower");
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.data(wiped)).expect("its folder");
    cluster.spawn(wiped);
    let booked = cluster
        .book_surely(&anna, &cells[0], "two-of-three", leader)
        .await;
    assert_eq!(booked.status, 201, "{booked:?}");
    cluster
        .until("the refusal is logged", || async {
            cluster.logged(wiped).contains("wiped")
        })
        .await;
    let ready = cluster
        .http
        .get(cluster.url(wiped, "/readyz"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(ready.status(), 503);
    let write = cluster
        .book(wiped, &anna, &cells[1], None)
        .await
        .expect("an answer");
    assert!(matches!(write.status.as_u16(), 401 | 503), "{write:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_its_sessions_lives_on_every_node() {
    let cluster = Cluster::start("").await;
    let anna = cluster.person("anna").await;
    for id in cluster.ids() {
        let me = cluster.get(id, "/me", &anna.token).await;
        assert_eq!(me.body["email"], anna.email.as_str(), "{me:?}");
    }
    let granted = cluster
        .mesto(&["admin", "grant", &anna.email])
        .output()
        .expect("mesto runs");
    assert!(
        granted.status.success(),
        "{}",
        String::from_utf8_lossy(&granted.stderr)
    );
    assert_eq!(
        cluster.get(3, "/me", &anna.token).await.body["role"],
        "admin"
    );
    let out = cluster
        .call(
            2,
            Method::DELETE,
            "/sessions",
            Some(&anna.token),
            None,
            None,
        )
        .await
        .expect("an answer");
    assert_eq!(out.status, 204, "{out:?}");
    for id in cluster.ids() {
        let me = cluster.get(id, "/me", &anna.token).await;
        assert_eq!(me.status, 401, "node {id}: {me:?}");
    }
    let none = cluster
        .call(1, Method::GET, "/cluster", None, None, Some(&json!({})))
        .await
        .expect("an answer");
    assert_eq!(none.status, 401, "{none:?}");
}
