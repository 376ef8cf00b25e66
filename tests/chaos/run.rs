//! A run from its beginning to its report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum as _;
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::Options;
use crate::api::{self, Grid, Person};
use crate::checker::history::{Action, Outcome};
use crate::faults::{Chaos, Event, Fault, Schedule};
use crate::judge::{self, Judgement};
use crate::load::{Client, Shared};
use crate::nodes::{Cluster, SmallDisk};
use crate::probe::Probe;
use crate::random::Random;
use crate::recorder::{End, Kind};
use crate::report::{self, Run};
use crate::stalls;
use crate::stats;
use crate::timeline;
use crate::tools::Tools;

const EPOCH: Duration = Duration::from_secs(120);
const QUICK: Duration = Duration::from_secs(20);
const DESKS: usize = 8;
/// A full run has each fault at least once in so many minutes.
const FULL_MINUTES: f64 = 3.0;
/// Each kind of operation must succeed this often in a minute.
const LEAST_A_MINUTE: f64 = 20.0;

/// What a quick run has.
const QUICK_FAULTS: [Fault; 6] = [
    Fault::KillLeader,
    Fault::PauseLeader,
    Fault::IsolateLeader,
    Fault::StopLeader,
    Fault::AnswersLost,
    Fault::Lossy,
];

/// Runs, reports, and says whether all went as it must.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let name = if options.minutes.is_some() {
        "seed"
    } else {
        "quick"
    };
    let folder = options.out.join(format!("{name}-{}", options.seed));
    let nodes = folder.join("nodes");
    if nodes.exists() {
        std::fs::remove_dir_all(&nodes).context("what an earlier run has left is in the way")?;
    }
    std::fs::create_dir_all(&nodes)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let tools = Tools::found(&nodes);
    let ran = runtime.block_on(Box::pin(whole(options, &folder, &nodes, tools)));
    drop(runtime);
    let run = ran?;
    let page = report::write(&run, &folder)?;
    let passed = tell(options, &run, &page);
    if passed {
        std::fs::remove_dir_all(&nodes)?;
    }
    Ok(passed)
}

/// Prints the outcome. With a planted bug, a failure is what is wanted.
fn tell(options: &Options, run: &Run, page: &Path) -> bool {
    for failure in &run.failures {
        println!("FAILED: {failure}");
    }
    for (fault, why) in &run.skipped {
        println!("SKIPPED: {}: {why}", fault.name());
    }
    let found = stats::availability(&run.calm, &run.events);
    println!(
        "{} operations, {} faults of {} kinds; served within 2 s: {:.3} % while one node at a time failed, {:.3} % over all",
        run.samples.len(),
        run.events.len(),
        run.events
            .iter()
            .map(|event| event.fault)
            .collect::<BTreeSet<_>>()
            .len(),
        stats::Availability::percent(found.one_node_served, found.one_node_all),
        stats::Availability::percent(found.served, found.all),
    );
    for (from, until) in &run.stalls {
        let (at, length) = (*from as f64 / 1e9, (until - from) as f64 / 1e9);
        println!(
            "the machine stood still for {length:.1} s at {at:.1} s, which is left out of the figures"
        );
    }
    println!("report: {}", page.display());
    if let Some(plant) = options.plant {
        let caught = run.judgements.iter().any(|judgement| judgement.violation);
        println!(
            "the planted bug {plant:?} was {}",
            if caught { "found" } else { "NOT found" }
        );
        return caught;
    }
    if !run.failures.is_empty() {
        println!("what is left of it: {}", page.with_file_name("").display());
        println!("replay: {}", options.replay());
    }
    run.failures.is_empty()
}

/// What is made once and lives through the run.
struct World {
    cluster: Cluster,
    shared: Arc<Shared>,
    probe: Probe,
    people: Vec<Person>,
    desks: Vec<crate::checker::history::Id>,
}

async fn whole(
    options: &Options,
    folder: &Path,
    nodes: &Path,
    tools: Tools,
) -> anyhow::Result<Run> {
    let quick = options.minutes.is_none();
    let chosen = match (options.faults.is_empty(), quick) {
        (false, _) => options.faults.clone(),
        (true, true) => QUICK_FAULTS.to_vec(),
        (true, false) => Fault::value_variants().to_vec(),
    };
    let missing = |fault: &Fault| fault.missing(&tools).map(|why| (*fault, why));
    let skipped: Vec<_> = chosen.iter().filter_map(missing).collect();
    let possible: Vec<Fault> = chosen
        .into_iter()
        .filter(|fault| fault.missing(&tools).is_none())
        .collect();
    anyhow::ensure!(
        !possible.is_empty(),
        "none of the chosen faults can be had here: {skipped:?}"
    );
    anyhow::ensure!(
        !options.strict || skipped.is_empty(),
        "some faults cannot be had here: {skipped:?}"
    );
    let mut world = World::make(options, nodes, tools).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let stalling = stalls::watch(Arc::clone(&world.shared), Arc::clone(&stop));
    let watching = tokio::spawn(timeline::watch(
        Arc::clone(&world.shared),
        Arc::clone(&stop),
    ));

    let mut schedule = Schedule::new(possible.clone(), options.seed);
    let length = options
        .minutes
        .map_or(QUICK, |minutes| Duration::from_secs_f64(minutes * 60.0));
    let deadline = Instant::now() + length;
    let (mut events, mut failures, mut judging) = (Vec::new(), Vec::new(), Vec::new());
    let mut epoch = 0;
    while Instant::now() < deadline && failures.is_empty() {
        let end = deadline.min(Instant::now() + EPOCH);
        if let Err(error) = world
            .epoch(options, epoch, end, &mut schedule, &mut events)
            .await
        {
            failures.push(format!("epoch {epoch}: {error:#}"));
        }
        let (history, folder) = (world.shared.recorder.take_history(), folder.to_owned());
        let judge: JoinHandle<Judgement> =
            tokio::task::spawn_blocking(move || judge::judge(epoch, &history, &folder));
        judging.push(judge);
        epoch += 1;
    }
    let length_ns = world.shared.recorder.now();
    stop.store(true, Ordering::Relaxed);
    let reigns = watching.await?;
    let stalls = stalling
        .join()
        .map_err(|_| anyhow::anyhow!("the watch for stalls panicked"))?;
    let mut judgements = Vec::new();
    for judge in judging {
        judgements.push(judge.await?);
    }
    failures.extend(
        world
            .shared
            .recorder
            .take_strange()
            .into_iter()
            .map(|what| format!("an answer that is none: {what}")),
    );
    for judgement in &judgements {
        let kept = judgement
            .file
            .as_ref()
            .map(|file| format!(" (kept in {})", file.display()))
            .unwrap_or_default();
        failures.extend(
            judgement
                .faults
                .iter()
                .map(|fault| format!("epoch {}{kept}: {fault}", judgement.epoch)),
        );
    }
    let samples = world.shared.recorder.samples();
    let calm = stats::calm(&samples, &stalls);
    if options.plant.is_none() && failures.is_empty() {
        failures.extend(too_little(options, &calm, &events, &possible, length));
    }
    Ok(Run {
        command: options.replay(),
        seed: options.seed,
        length_ns,
        samples,
        calm,
        stalls,
        events,
        reigns,
        judgements,
        skipped,
        pieces: world.cluster.net.pieces(),
        failures,
    })
}

/// What happened too seldom to prove anything.
fn too_little(
    options: &Options,
    samples: &[crate::recorder::Sample],
    events: &[Event],
    possible: &[Fault],
    length: Duration,
) -> Vec<String> {
    let mut found = Vec::new();
    let least = LEAST_A_MINUTE * length.as_secs_f64() / 60.0;
    for kind in Kind::ALL {
        let done = samples
            .iter()
            .filter(|sample| sample.kind == kind && sample.end == End::Done)
            .count();
        if (done as f64) < least {
            found.push(format!(
                "only {done} times was a {} done, which proves little",
                kind.name()
            ));
        }
    }
    let had: BTreeSet<Fault> = events.iter().map(|event| event.fault).collect();
    let enough = options
        .minutes
        .is_some_and(|minutes| minutes >= FULL_MINUTES);
    for fault in possible
        .iter()
        .filter(|fault| enough && !had.contains(fault))
    {
        found.push(format!("{} never came", fault.name()));
    }
    let available = stats::availability(samples, events);
    let percent = stats::Availability::percent(available.one_node_served, available.one_node_all);
    if percent < options.least_available {
        found.push(format!("only {percent:.3} % of operations were served within 2 s while one node at a time failed"));
    }
    if events.is_empty() {
        found.push("no fault came at all".to_owned());
    }
    found
}

/// So many minutes, the last one begun counted whole.
fn whole_minutes(minutes: f64) -> u64 {
    Duration::from_secs_f64(minutes * 60.0)
        .as_secs()
        .div_ceil(60)
}

impl World {
    async fn make(options: &Options, nodes: &Path, tools: Tools) -> anyhow::Result<Self> {
        // One node has a disk that can be filled. It must hold what a whole run leaves on it.
        let small_disk = SmallDisk {
            node: 1 + Random::new(options.seed, 2).below(options.nodes),
            megabytes: 400 + 25 * options.minutes.map_or(0, whole_minutes),
        };
        let cluster = Cluster::start(nodes, options.nodes, small_disk, tools)
            .await
            .with_context(|| format!("the cluster did not start; see {}", nodes.display()))?;
        let desks = api::make_space(&cluster, DESKS)
            .await
            .context("the space could not be made")?;
        let mut people = Vec::new();
        // Two clients act for each person.
        for number in 0..usize::try_from(options.clients.div_ceil(2))? + 1 {
            people.push(
                api::make_person(&cluster, number)
                    .await
                    .context("a person could not be made")?,
            );
        }
        let person = people.pop().context("there is a person")?;
        let far = api::grid(&desks, 360)?;
        let starts_at =
            jiff::Timestamp::from_second(i64::try_from(far.slots[0])? * 3_600)?.to_string();
        let probe = Probe {
            person,
            desk: desks[0].to_string(),
            starts_at,
        };
        let shared = Arc::new(Shared::new(
            cluster.http.clone(),
            cluster.addresses(),
            options.plant,
        ));
        Ok(Self {
            cluster,
            shared,
            probe,
            people,
            desks,
        })
    }

    /// Load and faults until `end`, then peace, and a last look through every node.
    async fn epoch(
        &mut self,
        options: &Options,
        number: u64,
        end: Instant,
        schedule: &mut Schedule,
        events: &mut Vec<Event>,
    ) -> anyhow::Result<()> {
        let grid = api::grid(&self.desks, number)?;
        let stop = Arc::new(AtomicBool::new(false));
        let think = Duration::from_millis(options.think_ms);
        let clients = self.clients(options, number, &grid);
        let running: Vec<JoinHandle<()>> = clients
            .into_iter()
            .map(|client| tokio::spawn(client.run(Arc::clone(&stop), think)))
            .collect();
        let mut random = Random::new(options.seed, 1_000 + number);
        let mut failed = Ok(());
        while Instant::now() < end && failed.is_ok() {
            tokio::time::sleep(random.between_ms(600, 1_600)).await;
            let fault = schedule.next();
            let began = self.shared.recorder.now();
            let had = self.chaos(&random).have(fault).await;
            random.one_in(2);
            match had {
                Ok(event) => {
                    println!(
                        "{:7.1} s  {:22} node {:?}, held {} ms, recovered after {} ms. {}",
                        event.from as f64 / 1e9,
                        fault.name(),
                        event.nodes,
                        (event.healed - event.from) / 1_000_000,
                        (event.recovered - event.healed) / 1_000_000,
                        event.note,
                    );
                    events.push(event);
                }
                Err(error) => {
                    let at = began as f64 / 1e9;
                    failed = Err(error.context(format!("{} at {at:.1} s", fault.name())));
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        for client in running {
            client.await.context("a client panicked")?;
        }
        failed?;
        self.last_look(&grid, options, number).await
    }

    fn chaos(&mut self, random: &Random) -> Chaos<'_> {
        Chaos {
            cluster: &mut self.cluster,
            shared: &self.shared,
            probe: &self.probe,
            random: random.clone(),
        }
    }

    fn clients(&self, options: &Options, epoch: u64, grid: &Grid) -> Vec<Client> {
        let known: Vec<_> = self
            .people
            .iter()
            .map(|_| Arc::new(Mutex::new(BTreeMap::new())))
            .collect();
        (0..options.clients)
            .map(|number| {
                let person = usize::try_from(number).expect("few") % self.people.len();
                Client {
                    number,
                    shared: Arc::clone(&self.shared),
                    person: self.people[person].clone(),
                    grid: grid.clone(),
                    known: Arc::clone(&known[person]),
                    random: Random::new(options.seed, 1_000_000 + epoch * 1_000 + number),
                    seen: 0,
                    node: usize::try_from(number).expect("few"),
                }
            })
            .collect()
    }

    /// Everything is read through every node, replicas are compared, and the day is given up.
    async fn last_look(
        &mut self,
        grid: &Grid,
        options: &Options,
        epoch: u64,
    ) -> anyhow::Result<()> {
        self.cluster.ready().await?;
        self.cluster.converge().await?;
        let mut clients = self.clients(options, epoch, grid);
        for node in 0..self.cluster.ids().len() {
            let look = Action::Availability {
                local: false,
                desks: grid.desks.clone(),
                slots: grid.slots.clone(),
            };
            for (number, client) in clients.iter_mut().take(self.people.len()).enumerate() {
                client.node = node;
                if number == 0 {
                    client
                        .carry_out(&look, false)
                        .await
                        .context("a healed cluster does not answer")?;
                }
                let list = Action::List {
                    local: false,
                    user: client.person.name.clone(),
                };
                let listed = client
                    .carry_out(&list, false)
                    .await
                    .context("a healed cluster does not answer")?;
                let Outcome::Bookings { items, .. } = listed else {
                    continue;
                };
                if node + 1 == self.cluster.ids().len() {
                    for sight in items {
                        self.give_up(&client.person, &sight.booking).await?;
                    }
                }
            }
        }
        let strangers = self.cluster.net.strangers();
        anyhow::ensure!(
            strangers < 50,
            "{strangers} connections between nodes came from no known process"
        );
        Ok(())
    }

    /// Cancels a booking of a day that is over for us, so that lists stay short. Not part of the history.
    async fn give_up(&self, person: &Person, booking: &str) -> anyhow::Result<()> {
        let node = self.cluster.ids()[0];
        let path = self
            .cluster
            .url(node, &format!("/api/v1/bookings/{booking}/cancel"));
        let request = self
            .cluster
            .http
            .post(path)
            .bearer_auth(&person.token)
            .json(&json!({}));
        request
            .timeout(Duration::from_secs(10))
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }
}
