//! Losing nodes while people book.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::api::{Cell, Person};
use super::processes::Cluster;

/// A steady stream of bookings, one after another, until told to stop: what was acknowledged, and the longest gap.
struct Steady {
    acknowledged: Vec<(String, String)>,
    longest_gap: Duration,
}

async fn book_steadily(
    cluster: &Cluster,
    person: &Person,
    cells: Vec<Cell>,
    stop: &AtomicBool,
    first: u64,
) -> Steady {
    let mut steady = Steady {
        acknowledged: Vec::new(),
        longest_gap: Duration::ZERO,
    };
    let mut last = Instant::now();
    for cell in cells {
        if stop.load(Ordering::SeqCst) {
            return steady;
        }
        let key = format!("{}-{}", person.email, cell.starts_at);
        let answer = cluster.book_surely(person, &cell, &key, first).await;
        assert_eq!(
            answer.status, 201,
            "a careful client is never told that it conflicts with itself: {answer:?}"
        );
        let id = answer.body["id"].as_str().expect("an id").to_owned();
        steady.acknowledged.push((id, cell.starts_at));
        steady.longest_gap = steady.longest_gap.max(last.elapsed());
        last = Instant::now();
    }
    steady
}

async fn cells_of_days(cluster: &Cluster, slug: &str, desk: usize, person: &Person) -> Vec<Cell> {
    let mut cells = Vec::new();
    for day in 1..60 {
        let mut of_day = cluster.cells(slug, day, &person.token).await;
        let mut desks: Vec<String> = of_day.iter().map(|cell| cell.desk.clone()).collect();
        desks.dedup();
        of_day.retain(|cell| cell.desk == desks[desk]);
        cells.extend(of_day);
    }
    cells
}

#[tokio::test(flavor = "multi_thread")]
async fn bookings_go_on_while_leaders_are_killed_and_none_is_lost_or_doubled() {
    let mut cluster = Cluster::start("").await;
    cluster.space("house", 2).await;
    let people = cluster.people("steady", 2).await;
    let mut cells = Vec::new();
    for (desk, person) in people.iter().enumerate() {
        cells.push(cells_of_days(&cluster, "house", desk, person).await);
    }
    let mut gaps = Vec::new();
    let mut all: Vec<Vec<(String, String)>> = vec![Vec::new(); people.len()];
    for round in 0..4 {
        let leader = cluster.leader().await;
        let stop = Arc::new(AtomicBool::new(false));
        let through = cluster
            .ids()
            .into_iter()
            .filter(|id| *id != leader)
            .collect::<Vec<_>>();
        // The bookings run on the side while this test kills and starts processes.
        let shared = &cluster;
        let streams = people
            .iter()
            .zip(&cells)
            .enumerate()
            .map(|(number, (person, cells))| {
                let (stop, done) = (Arc::clone(&stop), all[number].len());
                let (cells, through) = (cells[done..].to_vec(), through[number % through.len()]);
                async move { book_steadily(shared, person, cells, &stop, through).await }
            });
        let pid = shared.pid(leader);
        let killer = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Cluster::kill_pid(pid);
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            stop.store(true, Ordering::SeqCst);
        };
        let (steady, ()) = tokio::join!(futures_util::future::join_all(streams), killer);
        for (number, steady) in steady.into_iter().enumerate() {
            assert!(
                steady.acknowledged.len() > 20,
                "round {round}: hardly anything was booked"
            );
            gaps.push(steady.longest_gap);
            all[number].extend(steady.acknowledged);
        }
        cluster.reap(leader);
        cluster.spawn(leader);
        cluster.ready().await;
    }
    let worst = gaps.iter().max().copied().unwrap_or_default();
    assert!(worst < Duration::from_secs(5), "no service for {worst:?}");
    for (person, acknowledged) in people.iter().zip(&all) {
        let active = cluster.active(1, person).await;
        let held: Vec<&str> = active
            .iter()
            .filter_map(|booking| booking["id"].as_str())
            .collect();
        assert_eq!(
            held.len(),
            acknowledged.len(),
            "as many bookings as acknowledgements"
        );
        for (id, starts_at) in acknowledged {
            assert!(
                held.contains(&id.as_str()),
                "the booking at {starts_at} was acknowledged and is lost"
            );
        }
    }
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_hands_over_and_no_careful_client_notices() {
    let mut cluster = Cluster::start("").await;
    cluster.space("house", 1).await;
    let person = cluster.person("steady").await;
    let cells = cells_of_days(&cluster, "house", 0, &person).await;
    let leader = cluster.leader().await;
    let through = cluster
        .ids()
        .into_iter()
        .find(|id| *id != leader)
        .expect("a follower");
    let stop = AtomicBool::new(false);
    let pid = cluster.pid(leader);
    let stopper = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Cluster::signal_pid(pid, "TERM");
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (steady, ()) = tokio::join!(
        book_steadily(&cluster, &person, cells, &stop, through),
        stopper
    );
    assert!(
        steady.longest_gap < Duration::from_secs(2),
        "no service for {:?}",
        steady.longest_gap
    );
    assert_eq!(
        cluster.active(through, &person).await.len(),
        steady.acknowledged.len()
    );
    assert!(
        cluster.reap(leader).success(),
        "a clean end:\n{}",
        cluster.logged(leader)
    );
    cluster.leader_but(Some(leader)).await;
    cluster.spawn(leader);
    cluster.ready().await;
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_does_not_serve_and_says_so() {
    let mut cluster = Cluster::start("").await;
    cluster.space("house", 1).await;
    let anna = cluster.person("anna").await;
    let cells = cluster.cells("house", 1, &anna.token).await;
    let leader = cluster.leader().await;
    for id in cluster.ids() {
        if id != leader {
            cluster.kill(id);
        }
    }
    let status = |path: &'static str| {
        let request = cluster
            .http
            .get(cluster.url(leader, path))
            .bearer_auth(&anna.token);
        async { request.send().await.expect("an answer").status().as_u16() }
    };
    cluster
        .until("it is not ready", || async {
            status("/readyz").await == 503
        })
        .await;
    assert_eq!(status("/livez").await, 200);
    assert_eq!(status("/api/v1/spaces?consistency=local").await, 200);
    assert_eq!(
        status("/api/v1/spaces?consistency=local&max_staleness_ms=1").await,
        503
    );
    assert_eq!(status("/api/v1/spaces").await, 503);
    let written = cluster
        .book(leader, &anna, &cells[0], Some("alone"))
        .await
        .expect("an answer");
    assert_eq!(written.status, 503, "{written:?}");
    let outcome = written.body["outcome"].as_str().expect("an outcome");
    assert!(["not_applied", "unknown"].contains(&outcome), "{written:?}");
    for id in cluster.ids() {
        if id != leader {
            cluster.spawn(id);
        }
    }
    cluster.ready().await;
    let settled = cluster.book_surely(&anna, &cells[0], "alone", leader).await;
    assert_eq!(settled.status, 201, "{settled:?}");
    assert_eq!(cluster.active(leader, &anna).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_wakes_up_as_a_follower_and_answers_nothing_stale() {
    let cluster = Cluster::start("").await;
    cluster.space("house", 1).await;
    let anna = cluster.person("anna").await;
    let cells = cluster.cells("house", 1, &anna.token).await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = cluster
        .ids()
        .into_iter()
        .filter(|id| *id != leader)
        .collect();
    cluster.pause(leader, true);
    // The others must notice by themselves; the client goes to one of them.
    cluster
        .until("the others elect a leader and book", || async {
            cluster
                .book(others[0], &anna, &cells[0], Some("while-asleep"))
                .await
                .is_ok_and(|it| it.status == 201)
        })
        .await;
    // A read that reached the sleeper before it slept is answered after it woke: it must see the booking.
    let asked = cluster.get(leader, "/bookings?status=active", &anna.token);
    let wake = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cluster.pause(leader, false);
    };
    let (seen, ()) = tokio::join!(asked, wake);
    let count = seen.body["items"].as_array().map_or(0, Vec::len);
    assert!(
        seen.status == 503 || count == 1,
        "a stale read was answered: {seen:?}"
    );
    cluster.leader_but(Some(leader)).await;
    cluster.ready().await;
    cluster.converge().await;
    assert_eq!(cluster.active(leader, &anna).await.len(), 1);
}
