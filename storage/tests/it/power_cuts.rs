//! Power cuts on the memory disk, over hundreds of seeds: whatever prefix of the un-flushed
//! writes survives, what was acknowledged is there, and log and state fit together. And a disk
//! that lies about its flushes is found out, so these tests can fail.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use mesto_storage::{Log, LogWriter, MemoryDisk, State, StateWriter};

use crate::disks::{Dice, record, settle, small_layers, small_options};
use crate::state_model::{self, random_commit};

type Versions = BTreeMap<u64, Vec<u8>>;
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the log promised: acknowledged records that were not taken back since.
#[derive(Default)]
struct Told {
    acknowledged: Versions,
    truncations: u64,
    vote: u8,
}

struct Node {
    log: Log,
    writer: LogWriter,
    state: State,
    carrier: StateWriter,
    /// The state after each applied index.
    models: Rc<RefCell<BTreeMap<u64, Model>>>,
    told: Arc<Mutex<Told>>,
    /// Every version that was ever appended at an index.
    versions: BTreeMap<u64, Vec<Vec<u8>>>,
}

impl Node {
    fn next(&self) -> u64 {
        let floor = floor_of(&self.log);
        self.log.last().map_or(floor, |record| record.index) + 1
    }

    fn append(&mut self, dice: &Dice) {
        let next = self.next();
        let records: Versions = (next..=next + dice.below(6))
            .map(|index| {
                (
                    index,
                    dice.bytes(if dice.below(10) == 0 { 30_000 } else { 500 }),
                )
            })
            .collect();
        for (index, bytes) in &records {
            self.versions.entry(*index).or_default().push(bytes.clone());
        }
        let appended = records
            .iter()
            .map(|(index, bytes)| record(*index, bytes.clone()))
            .collect();
        let told = Arc::clone(&self.told);
        let truncations = told.lock().expect("not poisoned").truncations;
        self.log.append(
            appended,
            Box::new(move |result| {
                let mut told = told.lock().expect("not poisoned");
                if result.is_ok() && told.truncations == truncations {
                    told.acknowledged.extend(records);
                }
            }),
        );
    }

    fn truncate(&mut self, dice: &Dice) {
        let from = (self.state.applied().index + 1).max(self.next().saturating_sub(dice.below(9)));
        let mut told = self.told.lock().expect("not poisoned");
        told.truncations += 1;
        told.acknowledged.split_off(&from);
        drop(told);
        self.log.truncate_from(from, Box::new(drop));
    }

    fn vote(&mut self) {
        let next = self
            .log
            .get_meta("vote")
            .expect("facts can be read")
            .map_or(0, |v| v[0])
            + 1;
        let told = Arc::clone(&self.told);
        self.log.put_meta(
            "vote",
            vec![next],
            true,
            Box::new(move |result| {
                if result.is_ok() {
                    told.lock().expect("not poisoned").vote = next;
                }
            }),
        );
    }

    /// Applies records, written or not: the writer of the state waits for the log by itself.
    fn apply(&mut self, dice: &Dice) {
        let from = self.state.applied().index + 1;
        let to = (from + dice.below(8)).min(self.next() - 1);
        if to < from {
            return;
        }
        let mut model = self
            .models
            .borrow()
            .get(&(from - 1))
            .cloned()
            .unwrap_or_default();
        random_commit(&self.state, &mut model, dice, to);
        self.models.borrow_mut().insert(to, model);
    }

    fn purge(&mut self, dice: &Dice) {
        let upto = self.state.applied().index.saturating_sub(dice.below(20));
        if upto == 0 {
            return;
        }
        let log = self.log.clone();
        self.state.persist_to(
            upto,
            Box::new(move |result| {
                if result.is_ok() {
                    log.purge_to(upto, upto.to_be_bytes().to_vec(), Box::new(drop));
                }
            }),
        );
    }
}

/// The purge mark holds the index.
fn floor_of(log: &Log) -> u64 {
    let mark = log.purge_mark();
    mark.map_or(0, |mark| {
        u64::from_be_bytes(mark.try_into().expect("eight bytes"))
    })
}

fn open(disk: &MemoryDisk, models: &Rc<RefCell<BTreeMap<u64, Model>>>, told: Told) -> Node {
    let (log, writer) = Log::open(disk.engine(), small_options()).expect("the log opens");
    let dice = Dice::new(disk.counts().writes);
    let (state, carrier) =
        State::open(disk.engine(), &log, small_layers(&dice)).expect("the state opens");
    Node {
        log,
        writer,
        state,
        carrier,
        models: Rc::clone(models),
        told: Arc::new(Mutex::new(told)),
        versions: BTreeMap::new(),
    }
}

fn check(node: &mut Node) {
    let floor = floor_of(&node.log);
    let records: Versions = node
        .log
        .read(0, u64::MAX - 1, usize::MAX)
        .expect("reads succeed")
        .into_iter()
        .map(|record| (record.index, record.bytes.to_vec()))
        .collect();
    let told = node.told.lock().expect("not poisoned");
    for (index, bytes) in told.acknowledged.range(floor + 1..) {
        let versions = node
            .versions
            .get(index)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let found = records
            .get(index)
            .unwrap_or_else(|| panic!("record {index} is lost"));
        let age = |wanted: &Vec<u8>| versions.iter().rposition(|version| version == wanted);
        assert!(
            age(found) >= age(bytes),
            "record {index} is older than the acknowledged one"
        );
        assert!(age(found).is_some(), "record {index} was never appended so");
    }
    let vote = node
        .log
        .get_meta("vote")
        .expect("facts can be read")
        .map_or(0, |vote| vote[0]);
    assert!(vote >= told.vote, "the vote went back");
    let index = node.state.applied().index;
    let last = records.keys().next_back().copied().unwrap_or(floor);
    assert!(
        floor <= index && index <= last,
        "state at {index}, log {floor}..={last}"
    );
    if index > 0 {
        let model = node
            .models
            .borrow()
            .get(&index)
            .cloned()
            .expect("the state is one that was");
        state_model::check(&node.state, &model, index);
    }
}

/// Lives, power cuts and lives again.
fn run(disk: &MemoryDisk, seed: u64, cuts: u64) {
    let dice = Dice::new(seed);
    let models = Rc::default();
    let mut node = open(disk, &models, Told::default());
    for _ in 0..cuts {
        for _ in 0..dice.below(60) {
            match dice.below(13) {
                0 => node.truncate(&dice),
                1 => node.vote(),
                2 => node.purge(&dice),
                3..6 => node.apply(&dice),
                6..9 => {
                    node.writer.step();
                }
                9 => {
                    for _ in 0..dice.below(12) {
                        node.carrier.step();
                    }
                }
                _ => node.append(&dice),
            }
        }
        // Now and then the power fails in the middle of a group, or before its flush.
        match dice.below(3) {
            0 => disk.fail_write_after(dice.below(12)),
            1 => disk.fail_next_flush(),
            _ => {}
        }
        node.append(&dice);
        node.writer.step();
        for _ in 0..dice.below(4) {
            node.carrier.step();
        }
        disk.power_cut(dice.roll());
        let told = std::mem::take(&mut *node.told.lock().expect("not poisoned"));
        let versions = std::mem::take(&mut node.versions);
        node = open(disk, &models, told);
        node.versions = versions;
        check(&mut node);
        models
            .borrow_mut()
            .retain(|index, _| *index <= node.state.applied().index);
    }
    settle(&mut node.writer);
}

#[test]
fn nothing_acknowledged_is_lost() {
    let mut lost = 0;
    for seed in 0..400 {
        let disk = MemoryDisk::new();
        run(&disk, seed, 4);
        lost += disk.counts().lost_writes;
    }
    assert!(lost > 1_000, "the cuts took only {lost} writes");
}

#[test]
fn a_lying_disk_is_found_out() {
    let caught = (0..40)
        .filter(|seed| {
            catch_unwind(AssertUnwindSafe(|| {
                let disk = MemoryDisk::new();
                disk.lie_about_flushes(true);
                run(&disk, *seed, 4);
            }))
            .is_err()
        })
        .count();
    assert!(caught > 20, "only {caught} of 40 runs noticed");
}

/// The same calls and seeds leave the same bytes.
#[test]
fn a_run_repeats_exactly() {
    let dump = |seed| {
        let disk = MemoryDisk::new();
        run(&disk, seed, 5);
        let engine = disk.engine();
        mesto_storage::Tree::ALL.map(|tree| {
            engine
                .scan(tree, &[], &[], mesto_storage::Order::Ascending, usize::MAX)
                .expect("a scan")
        })
    };
    for seed in 0..5 {
        assert!(dump(seed) == dump(seed));
    }
}

/// Handles from before a crash are dead: a zombie cannot write into the next life.
#[test]
fn an_old_life_cannot_write_into_the_next() {
    let disk = MemoryDisk::new();
    let old = disk.engine();
    let old_files = disk.snapshots();
    let mut writer = old_files.create("snap").expect("a file is created");
    disk.power_cut(1);
    assert!(old.flush().is_err());
    assert!(old.get(mesto_storage::Tree::Meta, b"a").is_err());
    assert!(writer.write(b"x").is_err());
    assert!(writer.commit().is_err());
    assert!(old_files.list().is_err());
    assert!(disk.engine().flush().is_ok());
    assert_eq!(disk.counts().crashes, 1);
}
