//! The timeline as a drawing: requests a second, errors, faults as bands, and who led.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::faults::{Event, Reach};
use crate::recorder::{End, Sample};
use crate::stats::SERVED_NS;
use crate::timeline::Reign;

const WIDTH: f64 = 1_360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 128.0;
const CHART: f64 = 220.0;
const STRIP: f64 = 22.0;
/// The most bars that are drawn beside each other.
const BARS: u64 = 480;

const NODE_COLOURS: [&str; 6] = [
    "#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#9c755f",
];

/// Draws the run from its beginning to `end`, in nanoseconds.
pub(crate) fn draw(samples: &[Sample], events: &[Event], reigns: &[Reign], end: u64) -> String {
    let end = end.max(1_000_000_000);
    let bar_ns = (end / BARS).max(1_000_000_000);
    let mut drawing = Drawing {
        text: String::new(),
        end,
    };
    let height = TOP + CHART + 110.0;
    drawing.line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"11\" role=\"img\" \
         aria-label=\"Requests, faults and leaders over time\">"
    ));
    drawing.line(format_args!(
        "<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>"
    ));
    drawing.bands(events);
    drawing.bars(samples, bar_ns);
    drawing.leaders(reigns);
    drawing.axis();
    drawing.legend();
    drawing.text.push_str("</svg>\n");
    drawing.text
}

struct Drawing {
    text: String,
    end: u64,
}

impl Drawing {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string takes everything");
    }

    fn x(&self, at: u64) -> f64 {
        LEFT + at as f64 / self.end as f64 * (WIDTH - LEFT - RIGHT)
    }

    fn bands(&mut self, events: &[Event]) {
        let label_room = (WIDTH - LEFT - RIGHT) / 13.0;
        let with_labels = (events.len() as f64) < label_room;
        for event in events {
            let (from, to) = (self.x(event.from), self.x(event.recovered));
            let colour = match event.fault.reach() {
                Reach::OneNode => "#f6d9a8",
                Reach::Network => "#cfd8ea",
                Reach::Majority => "#f2b8b5",
            };
            let nodes: Vec<String> = event.nodes.iter().map(u64::to_string).collect();
            let name = event.fault.name();
            self.line(format_args!(
                "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{CHART}\" fill=\"{colour}\">\
                 <title>{name}, node {}: {:.1} s to {:.1} s</title></rect>",
                (to - from).max(1.0),
                nodes.join(", "),
                event.from as f64 / 1e9,
                event.recovered as f64 / 1e9,
            ));
            if with_labels {
                let middle = f64::midpoint(from, to) + 3.0;
                let base = TOP - 6.0;
                self.line(format_args!(
                    "<text transform=\"translate({middle:.1},{base}) rotate(-60)\" fill=\"#555\">{name}</text>"
                ));
            }
        }
    }

    fn bars(&mut self, samples: &[Sample], bar_ns: u64) {
        // Settled in time, settled late, not settled, given up on purpose.
        let mut counts: BTreeMap<u64, [u64; 4]> = BTreeMap::new();
        for sample in samples {
            let late = sample.until - sample.from > SERVED_NS;
            let which = match sample.end {
                End::Done | End::Refused if !late => 0,
                End::Done | End::Refused => 1,
                End::Unanswered => 2,
                End::GivenUp => 3,
            };
            counts.entry(sample.until / bar_ns).or_default()[which] += 1;
        }
        let rate = |count: u64| count as f64 / (bar_ns as f64 / 1e9);
        let most = counts
            .values()
            .map(|counts| rate(counts.iter().sum()))
            .fold(1.0, f64::max);
        for (bar, counts) in counts {
            let (from, to) = (
                self.x(bar * bar_ns),
                self.x(((bar + 1) * bar_ns).min(self.end)),
            );
            let mut base = TOP + CHART;
            for (count, colour) in counts
                .into_iter()
                .zip(["#2f6f4f", "#e0a100", "#c0392b", "#8d8d99"])
            {
                let tall = rate(count) / most * (CHART - 14.0);
                if count > 0 {
                    // What is rare must still be seen.
                    let tall = tall.max(1.5);
                    base -= tall;
                    self.line(format_args!(
                        "<rect x=\"{from:.1}\" y=\"{base:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"{colour}\" \
                         fill-opacity=\"0.85\"/>",
                        (to - from - 0.4).max(0.6),
                    ));
                }
            }
        }
        for share in [0.0, 0.5, 1.0] {
            let y = TOP + CHART - share * (CHART - 14.0);
            self.line(format_args!(
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#0002\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{:.0}/s</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                most * share,
            ));
        }
    }

    fn leaders(&mut self, reigns: &[Reign]) {
        let top = TOP + CHART + 10.0;
        for (number, reign) in reigns.iter().enumerate() {
            let until = reigns.get(number + 1).map_or(self.end, |next| next.from);
            let (from, to) = (self.x(reign.from), self.x(until));
            let (colour, name) = match reign.leader {
                Some(id) => (colour_of(id), format!("node {id} leads")),
                None => ("#ddd", "no leader is known".to_owned()),
            };
            self.line(format_args!(
                "<rect x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{STRIP}\" fill=\"{colour}\">\
                 <title>{name}, term {}</title></rect>",
                (to - from).max(0.5),
                reign.term,
            ));
            if let Some(id) = reign.leader.filter(|_| to - from > 12.0) {
                let (x, y) = (f64::midpoint(from, to), top + 15.0);
                self.line(format_args!(
                    "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\" fill=\"#fff\">{id}</text>"
                ));
            }
        }
        self.line(format_args!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"end\" fill=\"#555\">leader</text>",
            LEFT - 6.0,
            top + 15.0
        ));
    }

    fn axis(&mut self) {
        let seconds = self.end / 1_000_000_000;
        let steps = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800];
        let step = steps
            .into_iter()
            .find(|step| seconds / step <= 16)
            .unwrap_or(3_600);
        let y = TOP + CHART + 10.0 + STRIP + 16.0;
        for at in (0..=seconds).step_by(usize::try_from(step).expect("small")) {
            let x = self.x(at * 1_000_000_000);
            self.line(format_args!(
                "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\" fill=\"#555\">{}:{:02}</text>",
                at / 60,
                at % 60
            ));
        }
    }

    fn legend(&mut self) {
        let entries = [
            ("#2f6f4f", "settled within 2 s"),
            ("#e0a100", "settled later"),
            ("#c0392b", "never settled"),
            ("#8d8d99", "given up on purpose"),
            ("#f6d9a8", "fault of one node"),
            ("#cfd8ea", "fault of the network"),
            ("#f2b8b5", "no majority"),
        ];
        let y = TOP + CHART + 10.0 + STRIP + 34.0;
        for (number, (colour, name)) in entries.into_iter().enumerate() {
            let x = LEFT + number as f64 * 170.0;
            self.line(format_args!(
                "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{}\" fill=\"#333\">{name}</text>",
                x + 18.0,
                y + 10.0
            ));
        }
    }
}

fn colour_of(id: u64) -> &'static str {
    let number = usize::try_from(id.saturating_sub(1)).unwrap_or_default();
    NODE_COLOURS[number % NODE_COLOURS.len()]
}
