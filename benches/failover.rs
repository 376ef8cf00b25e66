//! Time without service: how long bookings stop when the leader is killed, and when it is asked to stop.
//!
//! Three real nodes; a careful client on each survivor books one cell after another, each with its own idempotency key,
//! and tries again on another node after a failed connection or a retryable answer. The time without service of one
//! event is the longest time, over the clients, between two acknowledgements around it. At the end every
//! acknowledged booking must be there, once. Each event has people and desks of its own, so nothing ever conflicts.
//!
//! ```text
//! cargo bench --bench failover -- [--events N]
//! ```

#![expect(clippy::print_stdout, reason = "a report is what this is for")]

#[expect(dead_code, reason = "shared with the tests, which need more of it")]
#[path = "../tests/it/cluster/api.rs"]
mod api;
#[expect(dead_code, reason = "shared with the tests, which need more of it")]
#[path = "../tests/it/cluster/processes.rs"]
mod processes;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::{Cell, Person};
use processes::Cluster;

/// How many clients book at once; each goes to a survivor first.
const CLIENTS: usize = 2;
/// How many days of cells each client has: more than it can book in one event.
const DAYS: i64 = 150;

/// One client's run: what was acknowledged, when, and how many requests failed at the first try and at the second.
#[derive(Default)]
struct Run {
    acknowledged: Vec<(Instant, String)>,
    failed_once: usize,
    failed_twice: usize,
}

async fn book_until(
    cluster: &Cluster,
    person: &Person,
    cells: &[Cell],
    through: &[u64],
    stop: &AtomicBool,
) -> Run {
    let mut run = Run::default();
    for cell in cells {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("{}-{}", person.email, cell.starts_at);
        for attempt in 0_usize.. {
            let node = through[attempt % through.len()];
            match cluster.book(node, person, cell, Some(&key)).await {
                Ok(answer) if answer.status == 201 => {
                    let id = answer.body["id"].as_str().expect("a booking has an id");
                    run.acknowledged.push((Instant::now(), id.to_owned()));
                    break;
                }
                Ok(answer) if !answer.status.is_server_error() => {
                    panic!("a wrong answer: {answer:?}")
                }
                Ok(_) | Err(_) => {
                    run.failed_once += usize::from(attempt == 0);
                    run.failed_twice += usize::from(attempt == 1);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
    run
}

fn longest_gap(run: &Run, from: Instant) -> Duration {
    let around = |pair: &&[(Instant, String)]| pair[1].0 > from;
    let gaps = run
        .acknowledged
        .windows(2)
        .filter(around)
        .map(|pair| pair[1].0 - pair[0].0);
    gaps.max().unwrap_or(Duration::MAX)
}

async fn measure(
    cluster: &mut Cluster,
    signal: &str,
    people: &[Person],
    desks: &[String],
    starts: &[String],
) {
    let (mut gaps, mut failed_once, mut failed_twice) = (Vec::new(), 0, 0);
    for (people, desks) in people
        .chunks_exact(CLIENTS)
        .zip(desks.chunks_exact(CLIENTS))
    {
        let leader = cluster.leader().await;
        let survivors: Vec<u64> = cluster
            .ids()
            .into_iter()
            .filter(|id| *id != leader)
            .collect();
        let stop = AtomicBool::new(false);
        let pid = cluster.pid(leader);
        let (runs, at) = {
            let (shared, stop) = (&*cluster, &stop);
            let clients = people
                .iter()
                .zip(desks)
                .enumerate()
                .map(|(number, (person, desk))| {
                    let mut through = survivors.clone();
                    through.rotate_left(number % survivors.len());
                    let cell = |start: &String| Cell {
                        desk: desk.clone(),
                        starts_at: start.clone(),
                    };
                    let cells: Vec<Cell> = starts.iter().map(cell).collect();
                    async move { book_until(shared, person, &cells, &through, stop).await }
                });
            let event = async {
                tokio::time::sleep(Duration::from_millis(700)).await;
                let at = Instant::now();
                Cluster::signal_pid(pid, signal);
                tokio::time::sleep(Duration::from_millis(2_000)).await;
                stop.store(true, Ordering::SeqCst);
                at
            };
            tokio::join!(futures_util::future::join_all(clients), event)
        };
        gaps.push(
            runs.iter()
                .map(|run| longest_gap(run, at))
                .max()
                .expect("there are clients"),
        );
        for (run, person) in runs.iter().zip(people) {
            failed_once += run.failed_once;
            failed_twice += run.failed_twice;
            let there = cluster.active(survivors[0], person).await;
            let held: BTreeSet<&str> = there
                .iter()
                .filter_map(|booking| booking["id"].as_str())
                .collect();
            assert_eq!(held.len(), there.len(), "no booking is listed twice");
            assert!(
                there.len() <= run.acknowledged.len() + 1,
                "nothing that nobody asked for"
            );
            for (_, id) in &run.acknowledged {
                assert!(
                    held.contains(id.as_str()),
                    "{id} was acknowledged and is lost"
                );
            }
        }
        cluster.reap(leader);
        cluster.spawn(leader);
        cluster.ready().await;
    }
    gaps.sort();
    let ms = |gap: Duration| gap.as_secs_f64() * 1_000.0;
    println!(
        "SIG{signal} of the leader, {} times: no service for p50 {:.0} ms, max {:.0} ms; \
         {failed_once} requests failed once, {failed_twice} failed again when retried",
        gaps.len(),
        ms(gaps[gaps.len() / 2]),
        ms(*gaps.last().expect("at least one event")),
    );
}

async fn run(events: usize) {
    let mut cluster = Cluster::start("").await;
    let clients = CLIENTS * events * 2;
    cluster.space("house", clients).await;
    let mut people = Vec::new();
    for round in 0..events * 2 {
        people.extend(cluster.people(&format!("round-{round}"), CLIENTS).await);
    }
    let (mut desks, mut starts) = (Vec::new(), Vec::new());
    for day in 1..DAYS {
        let of_day = cluster.cells("house", day, &people[0].token).await;
        let first = of_day[0].desk.clone();
        starts.extend(
            of_day
                .iter()
                .filter(|cell| cell.desk == first)
                .map(|cell| cell.starts_at.clone()),
        );
        if desks.is_empty() {
            desks = of_day.into_iter().map(|cell| cell.desk).collect();
            desks.dedup();
        }
    }
    let half = clients / 2;
    measure(
        &mut cluster,
        "KILL",
        &people[..half],
        &desks[..half],
        &starts,
    )
    .await;
    measure(
        &mut cluster,
        "TERM",
        &people[half..],
        &desks[half..],
        &starts,
    )
    .await;
    cluster.converge().await;
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let events = words
        .iter()
        .position(|word| word == "--events")
        .and_then(|at| words.get(at + 1));
    let events = events
        .map_or(Ok(20), |count| count.parse())
        .expect("--events takes a number");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(Box::pin(run(events)));
}
