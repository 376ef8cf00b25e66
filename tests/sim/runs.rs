//! Many runs: on all cores, counted together, with the failures said out loud.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::bugs::Bug;
use crate::coverage::{Coverage, Event};
use crate::finish::OUT_OF_BUDGET;
use crate::plan::{Fault, Plan};
use crate::world::{self, Report};

/// From so many seeds on, everything that can happen must have happened.
const SEEDS_FOR_COVERAGE: u64 = 100;
/// Of so many seeds one is run twice, to see that a seed is one run.
const TWICE_EVERY: u64 = 25;
/// Seeds of the quick set.
const QUICK_SEEDS: u64 = 20;
/// Bugs of the quick set: those that are caught within a seed or two.
const QUICK_BUGS: &[Bug] = &[
    Bug::FlushSkipped,
    Bug::VoteForgotten,
    Bug::DedupForgotten,
    Bug::OwnClock,
    Bug::EntrySkipped,
    Bug::ConflictCheckOff,
    Bug::AcknowledgedEarly,
];
/// Most failures that are shown in full.
const SHOWN_FAILURES: usize = 3;
/// The stack of a run's thread, in bytes.
const STACK_BYTES: usize = 32 << 20;
/// Seeds that once failed, one a line, with the reason after it.
const REGRESSIONS: &str = include_str!("regressions.txt");

/// How runs are made.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) faults: Option<Vec<Fault>>,
    pub(crate) bug: Option<Bug>,
    pub(crate) jobs: usize,
    pub(crate) twice: bool,
    pub(crate) trace: Option<PathBuf>,
}

/// Says a line to whoever runs this.
pub(crate) fn say(line: &str) {
    // Nobody to hear it is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What came of many runs.
#[derive(Default)]
struct Sum {
    coverage: Coverage,
    seeds: u64,
    failures: Vec<Report>,
    requests: usize,
    entries: u64,
    simulated_ms: u64,
}

impl Order {
    fn plan(&self, seed: u64) -> Plan {
        let chosen = match (&self.faults, self.bug) {
            (Some(faults), _) => Some(faults.as_slice()),
            (None, Some(bug)) => Some(bug.faults()),
            (None, None) => None,
        };
        Plan::new(seed, chosen)
    }

    /// The same runs with a sound product.
    fn without_bug(&self, bug: Bug) -> Self {
        Self {
            faults: Some(self.faults.clone().unwrap_or_else(|| bug.faults().to_vec())),
            bug: None,
            ..self.clone()
        }
    }

    /// One seed, twice where that is due.
    fn run(&self, seed: u64) -> Report {
        let report = self.run_once(seed);
        let again = self.twice || (self.bug.is_none() && seed.is_multiple_of(TWICE_EVERY));
        if !again || report.failure.is_some() {
            return report;
        }
        let second = self.run_once(seed);
        if second.trace == report.trace {
            return report;
        }
        let detail = format!(
            "one seed gave two traces: {} and {}",
            report.trace, second.trace
        );
        let failure = Some(crate::shared::Failure {
            check: "same seed, same bytes",
            detail,
        });
        Report { failure, ..second }
    }

    fn run_once(&self, seed: u64) -> Report {
        let ran = world::run(self.plan(seed), self.bug, self.trace.as_deref());
        ran.expect("the file of the trace can be written")
    }

    /// How to run a seed again.
    fn replay(&self, seed: u64) -> String {
        let mut line = format!("scripts/simulate --seed {seed}");
        if let Some(faults) = &self.faults {
            let names: Vec<_> = faults.iter().map(|fault| fault.name()).collect();
            line = format!("{line} --faults {}", names.join(","));
        }
        match self.bug {
            Some(bug) => format!("{line} --bug {}", bug.name()),
            None => line,
        }
    }

    /// Runs seeds on several threads until they are through, time is up, or `stop` says so.
    fn run_all(
        &self,
        seeds: impl Iterator<Item = u64> + Send,
        until: Option<Instant>,
        mut each: impl FnMut(Report) -> bool,
    ) {
        let seeds = std::sync::Mutex::new(seeds);
        let stop = AtomicBool::new(false);
        let (sender, reports) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                let (sender, seeds, stop) = (sender.clone(), &seeds, &stop);
                let work = move || {
                    while !stop.load(Ordering::Relaxed)
                        && until.is_none_or(|until| Instant::now() < until)
                    {
                        let next = seeds.lock().expect("no thread panics with it").next();
                        let Some(seed) = next else { return };
                        if sender.send(self.run(seed)).is_err() {
                            return;
                        }
                    }
                };
                std::thread::Builder::new()
                    .stack_size(STACK_BYTES)
                    .spawn_scoped(scope, work)
                    .expect("a thread can be started");
            }
            drop(sender);
            for report in reports {
                if !each(report) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        });
    }
}

/// Runs these seeds; whether all was well.
pub(crate) fn seeds(order: &Order, seeds: Range<u64>, minutes: Option<u64>) -> bool {
    let began = Instant::now();
    let until = minutes.map(|minutes| began + Duration::from_secs(60 * minutes));
    let count = seeds.end - seeds.start;
    let mut sum = Sum::default();
    let told = AtomicU64::new(0);
    order.run_all(seeds, until, |report| {
        sum.add(order, report);
        let minutes = began.elapsed().as_secs() / 60;
        if told.swap(minutes, Ordering::Relaxed) != minutes {
            say(&format!(
                "{} seeds so far, {} failed",
                sum.seeds,
                sum.failures.len()
            ));
        }
        true
    });
    let whole = order.faults.is_none() && order.bug.is_none() && sum.seeds >= SEEDS_FOR_COVERAGE;
    sum.finish(began, count > 1, whole)
}

/// What `cargo test` runs: seeds that once failed, some others, one of them twice, and some planted bugs.
pub(crate) fn quick(order: &Order) -> bool {
    let began = Instant::now();
    let mut sum = Sum::default();
    let mut all: Vec<u64> = regressions().into_iter().collect();
    all.extend(1..=QUICK_SEEDS);
    order.run_all(all.into_iter(), None, |report| {
        sum.add(order, report);
        true
    });
    let twice = Order {
        twice: true,
        ..order.clone()
    };
    twice.run_all([1_001, 1_002].into_iter(), None, |report| {
        sum.add(&twice, report);
        true
    });
    let sound = sum.finish(began, false, false);
    all_bugs(order, QUICK_BUGS) && sound
}

/// Plants each bug and runs seeds until one is caught; whether all were.
pub(crate) fn all_bugs(order: &Order, bugs: &[Bug]) -> bool {
    let mut all_caught = true;
    say("planted bug                  caught by                     seed  seeds  what is wrong");
    for bug in bugs {
        let planted = Order {
            bug: Some(*bug),
            twice: false,
            ..order.clone()
        };
        let mut caught: Option<Report> = None;
        let mut tried = 0;
        planted.run_all(1..=bug.seeds(), None, |report| {
            tried += 1;
            let earlier = caught
                .as_ref()
                .is_none_or(|caught| report.seed < caught.seed);
            // A check that gave up has found nothing.
            let found = report.failure.as_ref();
            if found.is_some_and(|failure| failure.check != OUT_OF_BUDGET) && earlier {
                caught = Some(report);
            }
            caught.is_none()
        });
        let (name, what) = (bug.name(), bug.what());
        let failure = caught
            .as_ref()
            .and_then(|report| Some((report.seed, report.failure.as_ref()?)));
        let line = match failure {
            // The same run without the bug: what it fails of must be the bug.
            Some((seed, _)) if planted.without_bug(*bug).run_once(seed).failure.is_some() => {
                all_caught = false;
                format!(
                    "{name:<28} {:<29} {seed:>4} {tried:>6}  {what}",
                    "FAILS WITHOUT IT, TOO"
                )
            }
            Some((seed, failure)) => {
                format!(
                    "{name:<28} {:<29} {seed:>4} {tried:>6}  {what}",
                    failure.check
                )
            }
            None => {
                all_caught = false;
                format!(
                    "{name:<28} {:<29} {:>4} {tried:>6}  {what}",
                    "NOTHING CAUGHT IT", "-"
                )
            }
        };
        say(&line);
    }
    all_caught
}

/// The seeds of the file.
fn regressions() -> BTreeSet<u64> {
    let lines = REGRESSIONS.lines().map(str::trim);
    let seeds = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    seeds
        .map(|line| {
            let number = line.split_whitespace().next().unwrap_or_default();
            number.parse().expect("each line begins with a seed")
        })
        .collect()
}

impl Sum {
    fn add(&mut self, order: &Order, report: Report) {
        self.seeds += 1;
        self.requests += report.requests;
        self.entries += report.entries;
        self.simulated_ms += report.simulated_ms;
        self.coverage.merge(&report.coverage);
        let Some(failure) = &report.failure else {
            if order.trace.is_some() || order.twice {
                say(&format!("seed {}: {}", report.seed, report.trace));
            }
            return;
        };
        if self.failures.len() < SHOWN_FAILURES {
            say(&format!("\n{}", report.tail));
            say(&format!("seed {} failed: {failure}", report.seed));
        } else {
            say(&format!("seed {} failed: {}", report.seed, failure.check));
        }
        say(&format!("replay: {}", order.replay(report.seed)));
        self.failures.push(report);
    }

    fn finish(self, began: Instant, table: bool, whole: bool) -> bool {
        let seconds = began.elapsed().as_secs_f64();
        if table {
            for event in Event::ALL {
                say(&format!(
                    "{:>10}  {}",
                    self.coverage.of(*event),
                    event.text()
                ));
            }
        }
        let rate = f64::from(u32::try_from(self.seeds).unwrap_or(u32::MAX)) / seconds.max(0.001);
        say(&format!(
            "{} seeds, {} failed; {} requests, {} log entries, {} simulated seconds in {seconds:.1} s ({rate:.2} seeds/s)",
            self.seeds,
            self.failures.len(),
            self.requests,
            self.entries,
            self.simulated_ms / 1_000,
        ));
        let missing = self.coverage.missing(self.seeds);
        if whole && !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|event| event.text()).collect();
            say(&format!("what never happened: {}", names.join("; ")));
        }
        self.failures.is_empty() && (!whole || missing.is_empty())
    }
}
