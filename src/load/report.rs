//! The summary: for people, and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::LoadArgs;
use super::mix::Kind;
use super::schedule::count;
use super::tally::KindTally;
use super::work::Work;
use crate::config::Address;

const QUANTILES: [(&str, f64); 6] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99_9", 0.999),
    ("p99_99", 0.9999),
    ("max", 1.0),
];
/// How long a node may take to tell its counters.
const METRICS_TIMEOUT: Duration = Duration::from_secs(3);
/// How many examples of a broken promise are shown.
const MAX_EXAMPLES: usize = 5;

/// What came out.
#[derive(Debug)]
pub(super) struct Summary {
    json: Value,
    lines: Vec<String>,
    is_good: bool,
}

impl Summary {
    pub(super) fn to_json(&self) -> &Value {
        &self.json
    }

    pub(super) fn to_lines(&self) -> Vec<String> {
        self.lines.clone()
    }

    /// Whether every answer was one that a correct cluster gives.
    pub(super) fn is_good(&self) -> bool {
        self.is_good
    }

    /// Sums up a run of the open or the closed loop.
    pub(super) fn of_load(
        args: &LoadArgs,
        work: &Work,
        sent: u64,
        elapsed: Duration,
        counters: &Counters,
    ) -> Self {
        let kinds: Vec<(Kind, KindTally)> = Kind::ALL
            .into_iter()
            .map(|kind| (kind, work.tally.kind(kind)))
            .collect();
        Self::of_counts(
            &way(args),
            sent,
            elapsed,
            &kinds,
            &work.tally.doubles(),
            counters,
        )
    }

    fn of_counts(
        way: &str,
        sent: u64,
        elapsed: Duration,
        kinds: &[(Kind, KindTally)],
        doubles: &[String],
        counters: &Counters,
    ) -> Self {
        let seconds = elapsed.as_secs_f64().max(f64::EPSILON);
        let answered: u64 = kinds.iter().map(|(_, tally)| tally.total()).sum();
        let unexpected: u64 = kinds
            .iter()
            .flat_map(|(_, tally)| tally.unexpected.values())
            .sum();
        let per_kind: serde_json::Map<String, Value> = kinds
            .iter()
            .filter(|(_, tally)| tally.total() > 0)
            .map(|(kind, tally)| (kind.name().to_owned(), kind_json(tally, seconds)))
            .collect();
        let served: u64 = kinds
            .iter()
            .map(|(_, tally)| tally.done + tally.conflicts)
            .sum();
        let is_good = unexpected == 0 && doubles.is_empty() && served > 0;
        let json = json!({
            "mode": way,
            "seconds": round(seconds),
            "sent": sent,
            "answered": answered,
            "answered_per_second": round(count(answered) / seconds),
            "kinds": per_kind,
            "double_bookings": doubles.len(),
            "unexpected": unexpected,
            "counters_per_second": counters.per_second(seconds),
            "good": is_good,
        });
        let lines = lines(
            way, sent, answered, seconds, kinds, doubles, counters, is_good,
        );
        Self {
            json,
            lines,
            is_good,
        }
    }

    /// Sums up an import.
    pub(super) fn of_fill(
        imported: u64,
        refused: u64,
        elapsed: Duration,
        pages: &KindTally,
        counters: &Counters,
    ) -> Self {
        let seconds = elapsed.as_secs_f64().max(f64::EPSILON);
        let rate = round(count(imported) / seconds);
        let is_good = imported > 0;
        let mut lines = vec![
            format!(
                "imported {imported} bookings in {seconds:.1} s: {rate:.0} bookings/s; {refused} were taken already"
            ),
            format!(
                "a page took p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                pages.quantile_ms(0.5),
                pages.quantile_ms(0.99),
                pages.quantile_ms(1.0)
            ),
        ];
        lines.extend(counters.lines(seconds));
        let json = json!({
            "mode": "fill",
            "seconds": round(seconds),
            "imported": imported,
            "refused": refused,
            "bookings_per_second": rate,
            "page": kind_json(pages, seconds),
            "counters_per_second": counters.per_second(seconds),
            "good": is_good,
        });
        Self {
            json,
            lines,
            is_good,
        }
    }
}

fn way(args: &LoadArgs) -> String {
    match args.clients {
        Some(clients) => format!("closed loop, {clients} clients"),
        None => format!("open loop, {}/s", args.rate),
    }
}

fn kind_json(tally: &KindTally, seconds: f64) -> Value {
    let latency: serde_json::Map<String, Value> = QUANTILES
        .iter()
        .map(|(name, quantile)| ((*name).to_owned(), json!(tally.quantile_ms(*quantile))))
        .collect();
    json!({
        "total": tally.total(),
        "done": tally.done,
        "done_per_second": round(count(tally.done) / seconds),
        "conflicts": tally.conflicts,
        "retried": tally.retried,
        "failed": tally.failed,
        "unexpected": tally.unexpected,
        "latency_ms": latency,
    })
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one report, each used once"
)]
fn lines(
    way: &str,
    sent: u64,
    answered: u64,
    seconds: f64,
    kinds: &[(Kind, KindTally)],
    doubles: &[String],
    counters: &Counters,
    is_good: bool,
) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{way}, {seconds:.1} s: {sent} sent, {answered} answered, {:.0}/s",
            count(answered) / seconds
        ),
        String::new(),
        format!(
            "{:<13}{:>10}{:>9}{:>10}{:>9}{:>9}   {:>9}{:>9}{:>9}{:>9}{:>9}",
            "",
            "done",
            "done/s",
            "conflicts",
            "retried",
            "failed",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms"
        ),
    ];
    for (kind, tally) in kinds.iter().filter(|(_, tally)| tally.total() > 0) {
        lines.push(format!(
            "{:<13}{:>10}{:>9.0}{:>10}{:>9}{:>9}   {:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9.2}",
            kind.name(),
            tally.done,
            count(tally.done) / seconds,
            tally.conflicts,
            tally.retried,
            tally.failed.values().sum::<u64>(),
            tally.quantile_ms(0.5),
            tally.quantile_ms(0.9),
            tally.quantile_ms(0.99),
            tally.quantile_ms(0.999),
            tally.quantile_ms(1.0),
        ));
    }
    lines.push(String::new());
    for (kind, tally) in kinds {
        for (name, times) in &tally.failed {
            lines.push(format!(
                "failed: {} was answered {name} {times} times",
                kind.name()
            ));
        }
        for (name, times) in &tally.unexpected {
            lines.push(format!(
                "UNEXPECTED: {} was answered {name} {times} times",
                kind.name()
            ));
        }
    }
    for double in doubles.iter().take(MAX_EXAMPLES) {
        lines.push(format!("DOUBLE BOOKING: {double} was acknowledged twice"));
    }
    lines.extend(counters.lines(seconds));
    lines.push(
        if is_good {
            "no answer was wrong, and no desk was given twice"
        } else {
            "NOT GOOD: something above is wrong, or nothing was served"
        }
        .to_owned(),
    );
    lines
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// What the nodes count about their disks, summed over all of them.
#[derive(Debug, Default)]
pub(super) struct Counters(BTreeMap<String, f64>);

impl Counters {
    /// Reads `/metrics` of every node; one that does not answer counts nothing.
    pub(super) async fn read(nodes: &[Address]) -> Self {
        let mut sums = BTreeMap::new();
        let Ok(http) = reqwest::Client::builder()
            .no_proxy()
            .timeout(METRICS_TIMEOUT)
            .build()
        else {
            return Self::default();
        };
        for node in nodes {
            let Ok(response) = http.get(format!("http://{node}/metrics")).send().await else {
                continue;
            };
            add_counters(&response.text().await.unwrap_or_default(), &mut sums);
        }
        Self(sums)
    }

    /// What was counted since an earlier reading. A node that restarted in between counts from 0
    /// again, so that nothing sensible can be said; such counters are left out.
    pub(super) fn since(&self, before: &Self) -> Self {
        let grown = self.0.iter().filter_map(|(name, now)| {
            let growth = now - before.0.get(name).copied().unwrap_or(0.0);
            (growth >= 0.0).then(|| (name.clone(), growth))
        });
        Self(grown.collect())
    }

    fn per_second(&self, seconds: f64) -> BTreeMap<&str, f64> {
        self.0
            .iter()
            .map(|(name, growth)| (name.as_str(), round(growth / seconds)))
            .collect()
    }

    fn lines(&self, seconds: f64) -> Vec<String> {
        self.0
            .iter()
            .map(|(name, growth)| format!("all nodes together: {name} {:.0}/s", growth / seconds))
            .collect()
    }
}

/// Adds up the counters of flushes in a text of the Prometheus exposition format.
fn add_counters(text: &str, sums: &mut BTreeMap<String, f64>) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let name = series.split('{').next().unwrap_or_default();
        let counts_flushes =
            name.ends_with("_total") && (name.contains("flush") || name.contains("sync"));
        if let (true, Ok(value)) = (counts_flushes, value.parse::<f64>()) {
            *sums.entry(name.to_owned()).or_default() += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::{Outcome, Sample, Tally};
    use super::*;

    fn kinds(outcomes: &[Outcome]) -> Vec<(Kind, KindTally)> {
        let tally = Tally::new();
        for outcome in outcomes {
            let latency = Duration::from_millis(3);
            let outcome = outcome.clone();
            tally.record(Sample {
                kind: Kind::Book,
                latency,
                outcome,
                retried: false,
                warmup: false,
            });
        }
        vec![(Kind::Book, tally.kind(Kind::Book))]
    }

    fn summary(outcomes: &[Outcome], doubles: &[String]) -> Summary {
        let second = Duration::from_secs(2);
        Summary::of_counts(
            "closed loop",
            4,
            second,
            &kinds(outcomes),
            doubles,
            &Counters::default(),
        )
    }

    #[test]
    fn conflicts_and_failures_are_counted_but_are_not_wrong() {
        let failed = Outcome::Failed("503 no_leader".to_owned());
        let summary = summary(
            &[Outcome::Done, Outcome::Done, Outcome::Conflict, failed],
            &[],
        );
        assert!(summary.is_good());
        let book = &summary.to_json()["kinds"]["book"];
        assert_eq!(
            (book["done"].as_u64(), book["conflicts"].as_u64()),
            (Some(2), Some(1))
        );
        assert_eq!(book["done_per_second"], 1.0);
        assert_eq!(book["failed"]["503 no_leader"], 1);
        assert!(
            book["latency_ms"]["p50"]
                .as_f64()
                .is_some_and(|ms| (2.9..3.1).contains(&ms))
        );
        assert!(summary.to_lines().join("\n").contains("503 no_leader"));
    }

    #[test]
    fn an_unexpected_answer_a_double_booking_or_silence_is_wrong() {
        assert!(!summary(&[Outcome::Unexpected("500 internal".to_owned())], &[]).is_good());
        assert!(!summary(&[Outcome::Done], &["desk 1 at 3600".to_owned()]).is_good());
        assert!(
            !summary(&[], &[]).is_good(),
            "a run without answers proves nothing"
        );
    }

    #[test]
    fn flushes_are_summed_over_the_nodes() {
        let text =
            "# HELP x\nmesto_storage_flushes_total{node=\"1\"} 40\nmesto_http_requests_total 7\n";
        let mut sums = BTreeMap::new();
        add_counters(text, &mut sums);
        add_counters("mesto_storage_flushes_total 2\n", &mut sums);
        let after = Counters(sums);
        assert_eq!(
            after.0,
            BTreeMap::from([("mesto_storage_flushes_total".to_owned(), 42.0)])
        );
        let before = Counters(BTreeMap::from([(
            "mesto_storage_flushes_total".to_owned(),
            22.0,
        )]));
        assert_eq!(
            after.since(&before).per_second(2.0)["mesto_storage_flushes_total"],
            10.0
        );
        assert!(
            before.since(&after).0.is_empty(),
            "a counter that ran backwards is left out"
        );
    }
}
