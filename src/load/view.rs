//! The live view: one line a second, on standard error.
//!
//! On a terminal the line is redrawn in place; into a file or a pipe, lines follow each other.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::LoadArgs;
use super::tally::Recent;
use super::work::Work;

/// A running live view.
#[derive(Debug)]
pub(super) struct View {
    task: Option<JoinHandle<()>>,
    in_place: bool,
}

impl View {
    /// Starts to show what is counted, once a second.
    pub(super) fn start(args: &LoadArgs, work: Arc<Work>, inflight: Arc<AtomicU64>) -> Self {
        let in_place = std::io::stderr().is_terminal();
        if args.quiet {
            return Self {
                task: None,
                in_place: false,
            };
        }
        let warmup = args.warmup();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let elapsed = work.started.elapsed();
                let recent = work.tally.take_recent();
                let now = inflight.load(Ordering::Relaxed);
                show(&line(elapsed, elapsed < warmup, &recent, now), in_place);
            }
        });
        Self {
            task: Some(task),
            in_place,
        }
    }

    /// Ends the view.
    pub(super) fn stop(self) {
        if let Some(task) = self.task {
            task.abort();
            if self.in_place {
                drop(writeln!(std::io::stderr()));
            }
        }
    }
}

/// Shows a line of progress, over the last one where the terminal allows it.
pub(super) fn show(line: &str, in_place: bool) {
    let mut out = std::io::stderr().lock();
    let written = if in_place {
        write!(out, "\r\x1b[2K{line}")
    } else {
        writeln!(out, "{line}")
    };
    // A view that nobody can see is no reason to stop.
    drop(written.and_then(|()| out.flush()));
}

fn line(elapsed: Duration, warming: bool, recent: &Recent, inflight: u64) -> String {
    let note = if warming { "  (warming up)" } else { "" };
    format!(
        "{:>5.0} s  {:>7} answers/s  p50 {:>8.2} ms  p99 {:>8.2} ms  max {:>8.2} ms  under way {:>5}  failures {}{note}",
        elapsed.as_secs_f64(),
        recent.answers,
        recent.p50_ms,
        recent.p99_ms,
        recent.max_ms,
        inflight,
        recent.failures_so_far,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_it_all() {
        let recent = Recent {
            answers: 998,
            p50_ms: 1.5,
            p99_ms: 12.25,
            max_ms: 30.0,
            failures_so_far: 2,
        };
        let line = line(Duration::from_secs(7), true, &recent, 4);
        for part in [
            "7 s",
            "998 answers/s",
            "12.25 ms",
            "under way     4",
            "failures 2",
            "warming up",
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
    }
}
