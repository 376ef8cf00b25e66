//! What came of the requests: latencies, outcomes, and the one promise that can be judged from here.
//!
//! Latencies are kept in HDR histograms, to three digits, from 1 µs to two minutes. Each kind has
//! two: one for the whole run and one for the last second, which the live view takes away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::mix::Kind;
use super::schedule::count;

const HIGHEST_US: u64 = 120_000_000;
const DIGITS: u8 = 3;
/// The most kinds of error that are told apart.
const MAX_ERROR_KINDS: usize = 64;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As wished.
    Done,
    /// Someone else has the desk, or the user has another booking: right, but not as wished.
    Conflict,
    /// The cluster could not serve: overload, no leader, a broken connection. Named by its code.
    Failed(String),
    /// An answer that no correct cluster gives. Named by status and code.
    Unexpected(String),
}

/// One answered request.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) kind: Kind,
    pub(super) latency: Duration,
    pub(super) outcome: Outcome,
    pub(super) retried: bool,
    pub(super) warmup: bool,
}

/// Everything that was counted.
#[derive(Debug)]
pub(super) struct Tally {
    kinds: [Mutex<KindTally>; Kind::ALL.len()],
    held: Mutex<BTreeSet<(usize, i64)>>,
    doubles: Mutex<Vec<String>>,
}

/// The counts of one kind.
#[derive(Clone, Debug)]
pub(super) struct KindTally {
    pub(super) whole: Histogram<u64>,
    recent: Histogram<u64>,
    pub(super) done: u64,
    pub(super) conflicts: u64,
    pub(super) retried: u64,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) unexpected: BTreeMap<String, u64>,
}

/// What the live view shows of the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Recent {
    pub(super) answers: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    pub(super) failures_so_far: u64,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            kinds: std::array::from_fn(|_| Mutex::new(KindTally::new())),
            held: Mutex::default(),
            doubles: Mutex::default(),
        }
    }

    /// Counts a sample. One of the warm-up shows in the live view only, unless it is unexpected:
    /// that is wrong at any time.
    pub(super) fn record(&self, sample: Sample) {
        let mut kind = self.kinds[sample.kind.position()].lock();
        kind.record(sample);
    }

    /// Notes that a booking was acknowledged. A desk that is held already has been given twice.
    pub(super) fn acknowledge(&self, desk: usize, starts_at_s: i64) {
        if !self.held.lock().insert((desk, starts_at_s)) {
            self.doubles
                .lock()
                .push(format!("desk {desk} at {starts_at_s}"));
        }
    }

    /// Notes that a booking is about to be cancelled. This comes before the request: from then on
    /// someone else may rightly get the desk.
    pub(super) fn release(&self, desk: usize, starts_at_s: i64) {
        self.held.lock().remove(&(desk, starts_at_s));
    }

    /// Desks that were given twice for one slot.
    pub(super) fn doubles(&self) -> Vec<String> {
        self.doubles.lock().clone()
    }

    /// A copy of the counts of one kind.
    pub(super) fn kind(&self, kind: Kind) -> KindTally {
        self.kinds[kind.position()].lock().clone()
    }

    /// What happened since the last call.
    pub(super) fn take_recent(&self) -> Recent {
        let mut all = new_histogram();
        let mut failures_so_far = 0;
        for kind in &self.kinds {
            let mut kind = kind.lock();
            all.add(&kind.recent)
                .expect("histograms of equal bounds can be added");
            kind.recent.reset();
            failures_so_far += kind
                .failed
                .values()
                .chain(kind.unexpected.values())
                .sum::<u64>();
        }
        Recent {
            answers: all.len(),
            p50_ms: quantile_ms(&all, 0.5),
            p99_ms: quantile_ms(&all, 0.99),
            max_ms: count(all.max()) / 1_000.0,
            failures_so_far,
        }
    }
}

impl KindTally {
    fn new() -> Self {
        Self {
            whole: new_histogram(),
            recent: new_histogram(),
            done: 0,
            conflicts: 0,
            retried: 0,
            failed: BTreeMap::new(),
            unexpected: BTreeMap::new(),
        }
    }

    fn record(&mut self, sample: Sample) {
        let micros = u64::try_from(sample.latency.as_micros()).unwrap_or(u64::MAX);
        self.recent.saturating_record(micros.max(1));
        if sample.warmup && !matches!(sample.outcome, Outcome::Unexpected(_)) {
            return;
        }
        self.whole.saturating_record(micros.max(1));
        self.retried += u64::from(sample.retried);
        match sample.outcome {
            Outcome::Done => self.done += 1,
            Outcome::Conflict => self.conflicts += 1,
            Outcome::Failed(name) => note(&mut self.failed, name),
            Outcome::Unexpected(name) => note(&mut self.unexpected, name),
        }
    }

    /// Every answer and every failure.
    pub(super) fn total(&self) -> u64 {
        self.whole.len()
    }

    /// A quantile of the latencies, in milliseconds; 0 where there are none.
    pub(super) fn quantile_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.whole, quantile)
    }
}

fn note(names: &mut BTreeMap<String, u64>, name: String) {
    let known = names.len() < MAX_ERROR_KINDS || names.contains_key(&name);
    *names
        .entry(if known { name } else { "others".to_owned() })
        .or_default() += 1;
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_US, DIGITS).expect("the bounds are sound")
}

fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    count(histogram.value_at_quantile(quantile)) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: Kind, ms: u64, outcome: Outcome) -> Sample {
        Sample {
            kind,
            latency: Duration::from_millis(ms),
            outcome,
            retried: false,
            warmup: false,
        }
    }

    #[test]
    fn quantiles_are_those_of_the_samples() {
        let tally = Tally::new();
        for ms in 1..=1_000 {
            tally.record(sample(Kind::Book, ms, Outcome::Done));
        }
        let book = tally.kind(Kind::Book);
        for (quantile, ms) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let measured = book.quantile_ms(quantile);
            assert!(
                (measured - ms).abs() <= ms * 0.002,
                "{quantile}: {measured}"
            );
        }
        assert_eq!((book.done, book.total()), (1_000, 1_000));
        assert_eq!(tally.kind(Kind::Cancel).total(), 0);
    }

    #[test]
    fn a_stall_longer_than_the_histogram_still_counts() {
        let tally = Tally::new();
        tally.record(sample(
            Kind::Book,
            10_000_000,
            Outcome::Failed("no_leader".to_owned()),
        ));
        assert_eq!(tally.kind(Kind::Book).total(), 1);
        assert!(tally.kind(Kind::Book).quantile_ms(1.0) >= 119_000.0);
    }

    #[test]
    fn one_desk_given_twice_is_noticed() {
        let tally = Tally::new();
        tally.acknowledge(7, 3_600);
        tally.acknowledge(7, 7_200);
        tally.acknowledge(8, 3_600);
        assert!(tally.doubles().is_empty());
        tally.release(7, 3_600);
        tally.acknowledge(7, 3_600);
        assert!(tally.doubles().is_empty(), "it was cancelled in between");
        tally.acknowledge(7, 3_600);
        assert_eq!(tally.doubles(), ["desk 7 at 3600"]);
    }

    #[test]
    fn the_warm_up_does_not_count_unless_it_is_wrong() {
        let tally = Tally::new();
        let warm = |outcome| Sample {
            warmup: true,
            ..sample(Kind::Book, 5, outcome)
        };
        tally.record(warm(Outcome::Done));
        tally.record(warm(Outcome::Failed("503 no_leader".to_owned())));
        assert_eq!(tally.kind(Kind::Book).total(), 0);
        assert_eq!(tally.take_recent().answers, 2);
        tally.record(warm(Outcome::Unexpected("500".to_owned())));
        assert_eq!(tally.kind(Kind::Book).unexpected.len(), 1);
    }

    #[test]
    fn the_last_second_is_taken_once() {
        let tally = Tally::new();
        tally.record(sample(Kind::Availability, 4, Outcome::Done));
        tally.record(sample(
            Kind::Book,
            8,
            Outcome::Failed("no_leader".to_owned()),
        ));
        let recent = tally.take_recent();
        assert_eq!((recent.answers, recent.failures_so_far), (2, 1));
        assert!((7.9..8.1).contains(&recent.max_ms), "{recent:?}");
        assert_eq!(
            tally.take_recent(),
            Recent {
                failures_so_far: 1,
                ..Recent::default()
            }
        );
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let tally = Tally::new();
        for number in 0..1_000 {
            tally.record(sample(Kind::Book, 1, Outcome::Failed(format!("e{number}"))));
        }
        let failed = tally.kind(Kind::Book).failed;
        assert_eq!(failed.len(), MAX_ERROR_KINDS + 1);
        assert_eq!(failed.values().sum::<u64>(), 1_000);
    }
}
