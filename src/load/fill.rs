//! Fills the space under load with many bookings, by pages of an import.
//!
//! The bookings of one slot are those of all users, each at another desk, and the desks move on
//! from slot to slot, so that every desk gets its share and nobody is booked twice at a time. Pages
//! that were imported before are refused row by row, so a second fill of the same cluster adds
//! nothing; say so rather than count it.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use super::LoadArgs;
use super::mix::Kind;
use super::report::{Counters, Summary};
use super::setup::{SLOT_S, SLOTS, Stage, rfc3339};
use super::tally::{Outcome, Sample, Tally};
use super::view::show;
use crate::booking::command::MAX_IMPORT_ROWS;
use crate::cli::{Client, Method};

const PATH: &str = "/api/v1/admin/bookings/import";
/// Enough to keep the leader's log busy, few enough to keep the order of the calendar.
const PAGES_AT_ONCE: usize = 4;
const VIEW_EVERY: Duration = Duration::from_secs(1);

/// Imports `bookings` bookings and sums up.
pub(super) async fn run(
    args: &LoadArgs,
    operator: &Client,
    stage: &Stage,
    bookings: u64,
) -> anyhow::Result<Summary> {
    let users = stage.users.len().min(stage.desks.len());
    let room = SLOTS.unsigned_abs() * users as u64;
    ensure!(
        bookings <= room,
        "{users} users on {} desks have room for {room} bookings; raise --users and --desks",
        stage.desks.len()
    );
    let (imported, refused) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let tally = Tally::new();
    let view = (!args.quiet).then(|| progress(Arc::clone(&imported), bookings));
    let before = Counters::read(&stage.nodes).await;
    let began = Instant::now();
    let pages = (0..bookings).step_by(MAX_IMPORT_ROWS).map(|first| {
        let last = (first + MAX_IMPORT_ROWS as u64).min(bookings);
        page(stage, users as u64, first..last)
    });
    futures_util::stream::iter(pages)
        .map(|page| import(operator, page, &tally))
        .buffer_unordered(PAGES_AT_ONCE)
        .try_for_each(|(taken, not_taken)| {
            imported.fetch_add(taken, Ordering::Relaxed);
            refused.fetch_add(not_taken, Ordering::Relaxed);
            std::future::ready(Ok(()))
        })
        .await?;
    let elapsed = began.elapsed();
    if let Some(view) = view {
        view.abort();
    }
    let counters = Counters::read(&stage.nodes).await.since(&before);
    let (imported, refused) = (
        imported.load(Ordering::Relaxed),
        refused.load(Ordering::Relaxed),
    );
    Ok(Summary::of_fill(
        imported,
        refused,
        elapsed,
        &tally.kind(Kind::Book),
        &counters,
    ))
}

/// Which user, desk and slot the booking with this number has.
fn place(number: u64, users: u64, desks: u64) -> (u64, u64, u64) {
    let (slot, user) = (number / users, number % users);
    (user, (user + slot * users) % desks, slot)
}

fn page(stage: &Stage, users: u64, numbers: std::ops::Range<u64>) -> Value {
    let at = |position: u64| {
        usize::try_from(position).expect("positions are below the number of users and desks")
    };
    let rows: Vec<Value> = numbers
        .map(|number| {
            let (user, desk, slot) = place(number, users, stage.desks.len() as u64);
            let starts_at_s =
                stage.starts_at_s(i64::try_from(slot).expect("slots are below SLOTS"));
            json!({
                "user": stage.users[at(user)].id,
                "desk": stage.desks[at(desk)],
                "starts_at": rfc3339(starts_at_s),
                "ends_at": rfc3339(starts_at_s + SLOT_S),
            })
        })
        .collect();
    json!({ "space": stage.slug, "bookings": rows })
}

/// Sends a page; answers how many of its bookings were taken, and how many were not.
async fn import(operator: &Client, page: Value, tally: &Tally) -> anyhow::Result<(u64, u64)> {
    let rows = page["bookings"].as_array().map_or(0, Vec::len) as u64;
    let began = Instant::now();
    let answer = operator.expect(Method::POST, PATH, Some(&page)).await?;
    let latency = began.elapsed();
    tally.record(Sample {
        kind: Kind::Book,
        latency,
        outcome: Outcome::Done,
        retried: false,
        warmup: false,
    });
    let accepted = answer["accepted"]
        .as_u64()
        .context("the answer to an import does not say how many were imported")?;
    Ok((accepted, rows.saturating_sub(accepted)))
}

fn progress(imported: Arc<AtomicU64>, bookings: u64) -> tokio::task::JoinHandle<()> {
    let in_place = std::io::stderr().is_terminal();
    tokio::spawn(async move {
        let mut last = 0;
        loop {
            tokio::time::sleep(VIEW_EVERY).await;
            let now = imported.load(Ordering::Relaxed);
            show(
                &format!("{now} of {bookings} bookings, {}/s", now - last),
                in_place,
            );
            last = now;
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_desk_and_no_user_is_booked_twice_at_a_time() {
        for (users, desks) in [(3, 7), (100, 200), (5, 5)] {
            let mut by_desk = BTreeSet::new();
            let mut by_user = BTreeSet::new();
            for number in 0..5_000 {
                let (user, desk, slot) = place(number, users, desks);
                assert!(user < users && desk < desks);
                assert!(
                    by_desk.insert((desk, slot)),
                    "{users} users, {desks} desks, booking {number}"
                );
                assert!(
                    by_user.insert((user, slot)),
                    "{users} users, {desks} desks, booking {number}"
                );
            }
        }
    }

    #[test]
    fn every_desk_gets_its_share() {
        let mut counts = [0_u64; 200];
        for number in 0..200_000 {
            let (_, desk, _) = place(number, 100, 200);
            counts[usize::try_from(desk).expect("small")] += 1;
        }
        assert!(counts.iter().all(|count| *count == 1_000), "{counts:?}");
    }
}
