//! The log against a naive model, on both engines: random appends, truncations, purges, facts,
//! reads and reopenings, in every order.

use std::collections::BTreeMap;

use mesto_storage::{Log, LogWriter};
use proptest::prelude::*;

use crate::disks::{Disk, Opened, ignore, open_log, record, settle};

#[derive(Debug, Clone)]
enum Step {
    Append {
        sizes: Vec<usize>,
        fill: u8,
    },
    Truncate {
        back: u64,
    },
    Purge {
        ahead: u64,
        beyond: bool,
    },
    Meta {
        fill: u8,
        durable: bool,
    },
    Read {
        skip: u64,
        count: u64,
        max_bytes: usize,
    },
    Write,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![
        6 => 0..400_usize,
        2 => 3_000..8_000_usize,
        1 => 7_150..7_170_usize,
        1 => 10_000..60_000_usize,
    ];
    prop_oneof![
        6 => (prop::collection::vec(size, 1..12), any::<u8>())
            .prop_map(|(sizes, fill)| Step::Append { sizes, fill }),
        2 => (0..30_u64).prop_map(|back| Step::Truncate { back }),
        2 => (0..40_u64, prop::bool::weighted(0.1))
            .prop_map(|(ahead, beyond)| Step::Purge { ahead, beyond }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(fill, durable)| Step::Meta { fill, durable }),
        4 => (0..60_u64, 0..60_u64, 0..20_000_usize)
            .prop_map(|(skip, count, max_bytes)| Step::Read { skip, count, max_bytes }),
        4 => Just(Step::Write),
        1 => Just(Step::Reopen),
    ]
}

/// What a log is, as simply as can be.
#[derive(Default)]
struct Model {
    records: BTreeMap<u64, Vec<u8>>,
    floor: Option<u64>,
    meta: Option<Vec<u8>>,
}

impl Model {
    fn next(&self) -> u64 {
        let last = self.records.keys().next_back().copied();
        last.or(self.floor).map_or(1, |index| index + 1)
    }
}

struct Run {
    disk: Disk,
    opened: Option<Opened>,
    log: Option<(Log, LogWriter)>,
    model: Model,
}

impl Run {
    fn new(disk: Disk) -> Run {
        let opened = disk.open();
        let log = open_log(&opened);
        Run {
            disk,
            opened: Some(opened),
            log: Some(log),
            model: Model::default(),
        }
    }

    fn log(&mut self) -> &mut (Log, LogWriter) {
        self.log.as_mut().expect("the log is open")
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { sizes, fill } => self.append(&sizes, fill),
            Step::Truncate { back } => {
                let floor = self.model.floor.map_or(0, |floor| floor + 1);
                let from = self.model.next().saturating_sub(back).max(floor);
                self.log().0.truncate_from(from, ignore());
                self.model.records.split_off(&from);
            }
            Step::Purge { ahead, beyond } => self.purge(ahead, beyond),
            Step::Meta { fill, durable } => {
                let value = vec![fill; usize::from(fill)];
                self.log()
                    .0
                    .put_meta("vote", value.clone(), durable, ignore());
                self.model.meta = Some(value);
            }
            Step::Read {
                skip,
                count,
                max_bytes,
            } => self.read(skip, count, max_bytes),
            Step::Write => {
                self.log().1.step();
            }
            Step::Reopen => self.reopen(),
        }
        self.check_ends();
    }

    fn append(&mut self, sizes: &[usize], fill: u8) {
        let next = self.model.next();
        let records: Vec<_> = (next..)
            .zip(sizes)
            .map(|(index, size)| record(index, vec![fill ^ index.to_le_bytes()[0]; *size]))
            .collect();
        for record in &records {
            self.model
                .records
                .insert(record.index, record.bytes.to_vec());
        }
        self.log().0.append(records, ignore());
    }

    fn purge(&mut self, ahead: u64, beyond: bool) {
        let first = self
            .model
            .records
            .keys()
            .next()
            .copied()
            .unwrap_or(self.model.next());
        let last = self.model.next().saturating_sub(1);
        let index = if beyond {
            last + ahead
        } else {
            (first + ahead).min(last)
        };
        self.log()
            .0
            .purge_to(index, index.to_string().into_bytes(), ignore());
        if self.model.floor.is_none_or(|floor| index > floor) {
            self.model.floor = Some(index);
            self.model.records = self.model.records.split_off(&(index + 1));
        }
    }

    fn read(&mut self, skip: u64, count: u64, max_bytes: usize) {
        let first = self.model.records.keys().next().copied().unwrap_or(0);
        let (from, to) = (first.saturating_add(skip), first + skip + count);
        let got = self
            .log()
            .0
            .read(from, to, max_bytes)
            .expect("reads succeed");
        let expected: Vec<_> = self.model.records.range(from..to).collect();
        assert_eq!(
            got.is_empty(),
            expected.is_empty(),
            "something where something is"
        );
        let mut bytes = 0;
        for (place, (got, (index, expected))) in got.iter().zip(&expected).enumerate() {
            assert_eq!(
                (got.index, got.bytes.as_ref()),
                (**index, expected.as_slice())
            );
            bytes += got.bytes.len();
            assert!(
                bytes <= max_bytes || place == 0,
                "the limit holds but for the first"
            );
        }
    }

    fn reopen(&mut self) {
        settle(&mut self.log().1);
        self.log = None;
        self.opened = None;
        let opened = self.disk.open();
        self.log = Some(open_log(&opened));
        self.opened = Some(opened);
        self.check_all();
    }

    fn check_ends(&mut self) {
        let first = self.model.records.keys().next().copied();
        let last = self
            .model
            .records
            .iter()
            .next_back()
            .map(|(i, b)| (*i, b.clone()));
        let mark = self.model.floor.map(|floor| floor.to_string().into_bytes());
        let meta = self.model.meta.clone();
        let log = &self.log().0;
        assert_eq!(log.first_index(), first);
        assert_eq!(
            log.last()
                .map(|record| (record.index, record.bytes.to_vec())),
            last
        );
        assert_eq!(log.purge_mark(), mark);
        assert_eq!(log.get_meta("vote").expect("facts can be read"), meta);
    }

    fn check_all(&mut self) {
        self.check_ends();
        let got: BTreeMap<u64, Vec<u8>> = self
            .log()
            .0
            .read(0, u64::MAX - 1, usize::MAX)
            .expect("reads succeed")
            .into_iter()
            .map(|record| (record.index, record.bytes.to_vec()))
            .collect();
        assert!(got == self.model.records, "every record as appended");
    }
}

fn run(disk: Disk, steps: Vec<Step>) {
    let mut run = Run::new(disk);
    for step in steps {
        run.step(step);
    }
    run.check_all();
    run.reopen();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn on_the_memory_disk(steps in prop::collection::vec(step(), 1..80)) {
        run(Disk::memory(), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn on_sled(steps in prop::collection::vec(step(), 1..80)) {
        run(Disk::sled(), steps);
    }
}

/// A purge of many chunks takes the space back in portions, none of which holds up an append.
#[test]
fn a_large_purge_is_removed_in_portions() {
    let disk = Disk::memory();
    let opened = disk.open();
    let (log, mut writer) = open_log(&opened);
    for index in 1..=1000 {
        log.append(vec![record(index, vec![1; 100])], ignore());
        writer.step();
    }
    log.purge_to(990, b"mark".to_vec(), ignore());
    let mut steps = 0;
    while writer.step() {
        steps += 1;
    }
    assert!(steps > 5, "990 chunks in {steps} portions");
    let Disk::Memory(memory) = &disk else {
        unreachable!("it is a memory disk")
    };
    assert!(
        memory.engine().stats().bytes_on_disk < 3_000,
        "the space is taken back"
    );
    assert_eq!(
        log.read(1, 2_000, usize::MAX)
            .map(|records| records.len())
            .ok(),
        Some(10)
    );
}
