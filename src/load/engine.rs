//! Starts requests when they are due, and stops when the time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::report::{Counters, Summary};
use super::schedule::Schedule;
use super::setup::Stage;
use super::view::View;
use super::work::Work;
use super::{LoadArgs, Pattern};
use crate::cli::Client;
use crate::clock::{Clock as _, SystemClock};

/// How long the last requests may take to be answered: a time-out, a pause, and a time-out again.
const DRAIN: Duration = Duration::from_secs(65);
/// How often tokens are looked at.
const REFRESH_EVERY: Duration = Duration::from_secs(20);

/// Sends for the given time and sums up.
pub(super) async fn run(args: &LoadArgs, stage: Stage) -> anyhow::Result<Summary> {
    check(args)?;
    let client = Client::new(
        stage.nodes.clone(),
        Duration::from_secs(args.cluster.timeout_s),
    )?;
    let work = Arc::new(Work::new(args, stage, SystemClock.now_ms())?);
    let inflight = Arc::new(AtomicU64::new(0));
    let refresher = refresh_tokens(Arc::clone(&work), client);
    let view = View::start(args, Arc::clone(&work), Arc::clone(&inflight));
    let before = read_counters_when_warm(args, &work);

    let sent = match args.clients {
        Some(clients) => closed_loop(args, &work, &inflight, clients).await,
        None => open_loop(args, &work, &inflight).await?,
    };
    let elapsed = work.started.elapsed().saturating_sub(args.warmup());
    let after = Counters::read(&work.stage.nodes).await;
    let before = before.await?;
    view.stop();
    refresher.abort();
    Ok(Summary::of_load(
        args,
        &work,
        sent,
        elapsed,
        &after.since(&before),
    ))
}

fn check(args: &LoadArgs) -> anyhow::Result<()> {
    if args.pattern == Pattern::Distinct {
        ensure!(
            args.users <= args.desks,
            "the distinct pattern needs a desk for each user; raise --desks"
        );
    }
    let clients = u64::from(args.clients.unwrap_or(0));
    ensure!(
        clients <= args.users,
        "{clients} clients need as many users; raise --users"
    );
    Ok(())
}

fn read_counters_when_warm(args: &LoadArgs, work: &Arc<Work>) -> JoinHandle<Counters> {
    let work = Arc::clone(work);
    let warm_at = work.started + args.warmup();
    tokio::spawn(async move {
        tokio::time::sleep_until(warm_at.into()).await;
        Counters::read(&work.stage.nodes).await
    })
}

/// Answers how many requests were due after the warm-up.
async fn open_loop(
    args: &LoadArgs,
    work: &Arc<Work>,
    inflight: &Arc<AtomicU64>,
) -> anyhow::Result<u64> {
    let permits = Arc::new(Semaphore::new(args.max_inflight as usize));
    let runtime = tokio::runtime::Handle::current();
    let (args_there, work_there) = (args.clone(), Arc::clone(work));
    let (inflight, permits_there) = (Arc::clone(inflight), Arc::clone(&permits));
    // A thread of its own: the runtime's timers are a millisecond coarse, which would be added to
    // every latency.
    let dispatcher = tokio::task::spawn_blocking(move || {
        dispatch(
            &args_there,
            &work_there,
            &inflight,
            &permits_there,
            &runtime,
        )
    });
    let sent = dispatcher.await.context("the dispatcher failed")?;
    let drained = tokio::time::timeout(DRAIN, permits.acquire_many(args.max_inflight)).await;
    ensure!(
        drained.is_ok(),
        "some requests were not answered within {} s",
        DRAIN.as_secs()
    );
    Ok(sent)
}

fn dispatch(
    args: &LoadArgs,
    work: &Arc<Work>,
    inflight: &Arc<AtomicU64>,
    permits: &Arc<Semaphore>,
    runtime: &tokio::runtime::Handle,
) -> u64 {
    let until = args.warmup() + args.duration();
    let users = work.stage.users.len();
    let mut random = StdRng::seed_from_u64(args.seed);
    let schedule = Schedule::new(args.rate, args.arrivals, args.seed.wrapping_add(1));
    let mut sent = 0;
    for (number, due) in (0_u64..).zip(schedule.take_while(|due| *due < until)) {
        let intended = work.started + due;
        std::thread::sleep(intended.saturating_duration_since(Instant::now()));
        let Ok(permit) = runtime.block_on(Arc::clone(permits).acquire_owned()) else {
            break;
        };
        let user = random.random_range(0..users);
        let plan = work.plan(&mut random, user, number);
        sent += u64::from(due >= args.warmup());
        inflight.fetch_add(1, Ordering::Relaxed);
        let (work, inflight) = (Arc::clone(work), Arc::clone(inflight));
        runtime.spawn(async move {
            work.carry_out(plan, intended).await;
            inflight.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
    sent
}

async fn closed_loop(
    args: &LoadArgs,
    work: &Arc<Work>,
    inflight: &Arc<AtomicU64>,
    clients: u32,
) -> u64 {
    let warm = work.started + args.warmup();
    let until = warm + args.duration();
    let think = args.think_ms;
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let (work, inflight) = (Arc::clone(work), Arc::clone(inflight));
        let mut random = StdRng::seed_from_u64(args.seed.wrapping_add(u64::from(client) << 32));
        tasks.spawn(async move {
            let mut sent = 0_u64;
            for number in 0_u64.. {
                let now = Instant::now();
                if now >= until {
                    break;
                }
                // Each client is a user of its own; the number tells apart what all of them send.
                let plan = work.plan(
                    &mut random,
                    client as usize,
                    (u64::from(client) << 40) | number,
                );
                inflight.fetch_add(1, Ordering::Relaxed);
                work.carry_out(plan, now).await;
                inflight.fetch_sub(1, Ordering::Relaxed);
                sent += u64::from(now >= warm);
                if think > 0 {
                    let pause_ms = random.random_range(0..=2 * u64::from(think));
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
            }
            sent
        });
    }
    tasks.join_all().await.into_iter().sum()
}

fn refresh_tokens(work: Arc<Work>, client: Client) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(REFRESH_EVERY).await;
            for user in &work.stage.users {
                // A token that could not be refreshed shows as an unexpected 401 when it expires.
                drop(user.refresh_if_due(&client).await);
            }
        }
    })
}
