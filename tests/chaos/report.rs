//! What a run came to, for people: Markdown, and the same as a page with the timeline.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::faults::{Event, Fault, Reach};
use crate::judge::Judgement;
use crate::recorder::Sample;
use crate::stalls::Stall;
use crate::stats::{self, Availability, Spread};
use crate::svg;
use crate::timeline::Reign;

/// All that is known at the end.
pub(crate) struct Run {
    pub(crate) command: String,
    pub(crate) seed: u64,
    pub(crate) length_ns: u64,
    pub(crate) samples: Vec<Sample>,
    /// Those that no stall of the machine touched.
    pub(crate) calm: Vec<Sample>,
    pub(crate) stalls: Vec<Stall>,
    pub(crate) events: Vec<Event>,
    pub(crate) reigns: Vec<Reign>,
    pub(crate) judgements: Vec<Judgement>,
    /// What could not be had here, and why.
    pub(crate) skipped: Vec<(Fault, &'static str)>,
    /// How many pieces of data the proxies carried.
    pub(crate) pieces: u64,
    /// What failed; empty if the run passed.
    pub(crate) failures: Vec<String>,
}

/// Writes the report into `folder`; gives the page.
pub(crate) fn write(run: &Run, folder: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let drawing = svg::draw(&run.samples, &run.events, &run.reigns, run.length_ns);
    let sections = sections(run)?;
    let mut markdown = format!("# Chaos, seed {}\n\n![timeline](timeline.svg)\n", run.seed);
    let mut page = String::new();
    for Section {
        title,
        paragraph,
        head,
        rows,
    } in &sections
    {
        write!(markdown, "\n## {title}\n\n{paragraph}\n")?;
        write!(
            page,
            "<h2>{}</h2>\n<p>{}</p>\n",
            escaped(title),
            escaped(paragraph)
        )?;
        if rows.is_empty() {
            continue;
        }
        write!(
            markdown,
            "\n| {} |\n|{}\n",
            head.join(" | "),
            "---|".repeat(head.len())
        )?;
        let cells = |cells: &[String], tag: &str| -> String {
            cells
                .iter()
                .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)))
                .collect()
        };
        let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
        writeln!(page, "<table><tr>{}</tr>", cells(&head, "th"))?;
        for row in rows {
            writeln!(markdown, "| {} |", row.join(" | "))?;
            writeln!(page, "<tr>{}</tr>", cells(row, "td"))?;
        }
        page.push_str("</table>\n");
    }
    std::fs::write(folder.join("timeline.svg"), &drawing)?;
    std::fs::write(folder.join("report.md"), markdown)?;
    let file = folder.join("report.html");
    std::fs::write(&file, html(run, &drawing, &page))?;
    Ok(file)
}

struct Section {
    title: &'static str,
    paragraph: String,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

fn sections(run: &Run) -> anyhow::Result<Vec<Section>> {
    Ok(vec![
        outcome(run),
        availability(run),
        faults(run),
        operations(run),
        events(run),
        proofs(run),
    ])
}

fn outcome(run: &Run) -> Section {
    let verdict = if run.failures.is_empty() {
        "Passed."
    } else {
        "FAILED."
    };
    let kept: usize = run.judgements.iter().map(|judgement| judgement.kept).sum();
    let terms: std::collections::BTreeSet<u64> =
        run.reigns.iter().map(|reign| reign.term).collect();
    let paragraph = format!(
        "{verdict} Seed {}, {:.1} minutes, {} operations of clients, {} faults, {} terms, {} pieces of data between the \
         nodes. {kept} bookings were acknowledged and never touched again, and every one was there at the end. The seed \
         decides the schedule of faults and what clients ask; real time is not deterministic, so a replay is alike, not \
         the same: {}",
        run.seed,
        run.length_ns as f64 / 6e10,
        run.samples.len(),
        run.events.len(),
        terms.len(),
        run.pieces,
        run.command,
    );
    let failures = run
        .failures
        .iter()
        .map(|failure| vec![failure.replace('|', "/")]);
    Section {
        title: "Outcome",
        paragraph,
        head: vec!["failure"],
        rows: failures.collect(),
    }
}

fn availability(run: &Run) -> Section {
    let found = stats::availability(&run.calm, &run.events);
    let percent = Availability::percent;
    let row = |what: &str, served: u64, all: u64| {
        vec![
            what.to_owned(),
            all.to_string(),
            (all - served).to_string(),
            format!("{:.3} %", percent(served, all)),
        ]
    };
    Section {
        title: "Availability",
        paragraph: format!(
            "An operation is served if it is settled within 2 s of its first try, retries with the same key included. \
             Clients that give up on purpose are left out. {}",
            stalls(run)
        ),
        head: vec!["", "operations", "not served", "served"],
        rows: vec![
            row(
                "while one node at a time fails",
                found.one_node_served,
                found.one_node_all,
            ),
            row(
                "over all, faults of the network and loss of the majority included",
                found.served,
                found.all,
            ),
        ],
    }
}

fn stalls(run: &Run) -> String {
    if run.stalls.is_empty() {
        return "The machine never stood still for a second.".to_owned();
    }
    let whole: u64 = run.stalls.iter().map(|(from, until)| until - from).sum();
    format!(
        "The machine stood still {} times, for {:.1} s in all; {} operations of these times are left out of the figures, \
         though not of the history.",
        run.stalls.len(),
        whole as f64 / 1e9,
        run.samples.len() - run.calm.len(),
    )
}

fn faults(run: &Run) -> Section {
    let mut rows = Vec::new();
    for (fault, (waited, recovery)) in stats::without_service(&run.calm, &run.events) {
        let reach = match fault.reach() {
            Reach::OneNode => "one node",
            Reach::Network => "network",
            Reach::Majority => "majority",
        };
        let Spread {
            count,
            p50,
            p99,
            max,
        } = waited;
        rows.push(vec![
            fault.name(),
            reach.to_owned(),
            count.to_string(),
            ms(p50),
            ms(p99),
            ms(max),
            ms(recovery.p50),
            ms(recovery.max),
        ]);
    }
    for (fault, why) in &run.skipped {
        rows.push(vec![
            fault.name(),
            "SKIPPED".to_owned(),
            "0".to_owned(),
            (*why).to_owned(),
        ]);
        rows.last_mut()
            .expect("just pushed")
            .resize(8, String::new());
    }
    Section {
        title: "Faults",
        paragraph: "Time without service: the longest that any careful client waited for one write, from its first try to \
                    the answer, for each event. Recovery: from healing until every member served again."
            .to_owned(),
        head: vec![
            "fault",
            "takes away",
            "events",
            "without service p50",
            "p99",
            "max",
            "recovery p50",
            "max",
        ],
        rows,
    }
}

fn operations(run: &Run) -> Section {
    let tallies = stats::by_kind(&run.samples);
    let row = |(kind, tally): (&crate::recorder::Kind, &stats::Tally)| {
        vec![
            kind.name().to_owned(),
            tally.done.to_string(),
            tally.refused.to_string(),
            tally.retried.to_string(),
            tally.late.to_string(),
            tally.unanswered.to_string(),
            tally.given_up.to_string(),
            ms(tally.latency.p50),
            ms(tally.latency.p99),
            ms(tally.latency.max),
        ]
    };
    Section {
        title: "Operations",
        paragraph: "What clients asked for, and how long they waited, all faults included."
            .to_owned(),
        head: vec![
            "kind",
            "done",
            "refused",
            "retried",
            "late",
            "unanswered",
            "given up",
            "p50",
            "p99",
            "max",
        ],
        rows: tallies.iter().map(row).collect(),
    }
}

fn events(run: &Run) -> Section {
    let waits = stats::longest_waits(&run.calm, &run.events);
    let row = |(event, wait): (&Event, u64)| {
        let nodes: Vec<String> = event.nodes.iter().map(u64::to_string).collect();
        vec![
            format!("{:.1} s", event.from as f64 / 1e9),
            event.fault.name(),
            nodes.join(", "),
            ms(event.healed - event.from),
            ms(event.recovered - event.healed),
            ms(wait),
            event.note.replace('|', "/"),
        ]
    };
    Section {
        title: "Events",
        paragraph: "In order of time.".to_owned(),
        head: vec![
            "at",
            "fault",
            "nodes",
            "held",
            "recovered after",
            "without service",
            "seen",
        ],
        rows: run.events.iter().zip(waits).map(row).collect(),
    }
}

fn proofs(run: &Run) -> Section {
    let mut caught: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for (name, outcome) in run
        .judgements
        .iter()
        .flat_map(|judgement| &judgement.changes)
    {
        let which = match outcome {
            Some(true) => 0,
            Some(false) => 1,
            None => 2,
        };
        caught.entry(name).or_default()[which] += 1;
    }
    let verdicts: Vec<String> = run
        .judgements
        .iter()
        .map(|judgement| format!("epoch {}: {}", judgement.epoch, judgement.verdict))
        .collect();
    Section {
        title: "Verdicts, and whether they can be bad",
        paragraph: format!(
            "{}. Each epoch's history was also checked with one answer changed, which must be found.",
            verdicts.join("; ")
        ),
        head: vec!["change", "found", "let pass", "history had no place for it"],
        rows: caught
            .into_iter()
            .map(|(name, counts)| {
                let mut row = vec![name.to_owned()];
                row.extend(counts.map(|count| count.to_string()));
                row
            })
            .collect(),
    }
}

fn ms(ns: u64) -> String {
    if ns >= 10_000_000_000 {
        format!("{:.1} s", ns as f64 / 1e9)
    } else {
        format!("{:.0} ms", ns as f64 / 1e6)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\n', "<br>")
}

fn html(run: &Run, drawing: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Chaos, seed {0}</title>\n<style>\n\
         body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1360px; padding: 0 1rem; \
         color: #222 }}\nsvg {{ width: 100%; height: auto }}\ntable {{ border-collapse: collapse; font-size: 13px; \
         margin: 1rem 0 }}\nth, td {{ text-align: left; padding: .25rem .75rem; border-bottom: 1px solid #ddd; \
         vertical-align: top }}\nth {{ background: #f5f5f2 }}\nh1, h2 {{ line-height: 1.2; margin-top: 2rem }}\n\
         </style></head><body>\n<h1>Chaos, seed {0}</h1>\n{drawing}\n{body}</body></html>\n",
        run.seed
    )
}
