//! Power cuts on the real engine: un-synced writes are dropped or reordered by 4 KiB.
//!
//! The method needs no root. The store's own sync (`sync_repair.rs`) tells this test of each
//! file just before it is synced, and the test keeps a copy: the *shadow*, which is what a disk
//! surely holds. A power cut is the shadow plus a random choice of those 4 KiB blocks in which
//! the live file differs, each of which the kernel may or may not have written by itself. The
//! image is put into a directory of its own and opened there, as after a real cut, and the next
//! life goes on from it.
//!
//! A shadow belongs to a file and not to its name: the journal's segments are renamed when they begin and when their turn is
//! over, and are used again with what an earlier use left in them. Segments are so small here that this happens all the
//! time.
//!
//! Syncs that sled makes in other ways (every half second, and while it recovers) are not seen,
//! so they count as not made: the test is stricter than the disk. Its small files (`conf`,
//! `snap.*`) are synced before the marker is written or before they are renamed, so they are
//! taken as they are.
//!
//! With the repair switched off the same test must lose data: so it is shown that it can fail.
//!
//! `MESTO_POWER_CUTS=500 cargo test -p mesto-storage --test power` makes more cuts;
//! `MESTO_POWER_SEED` chooses others.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use mesto_storage::sync_repair::{Repair, observe_syncs_for_tests, set_repair_for_tests};
use mesto_storage::{
    Applied, DataDir, DataDirOptions, Digest, Log, LogOptions, Order, Record, State, StateOptions,
    StorageError,
};
use parking_lot::Mutex;

const BLOCK_BYTES: usize = 4096;
/// The size of the log's segments: a life fills several.
const SEGMENT_BYTES: u32 = 64 << 10;

/// The repair's switches are for the whole process, so these tests go one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % limit
    }
}

/// What the disk surely holds of each file under `root`.
#[derive(Default)]
struct Recorder {
    root: PathBuf,
    /// By inode.
    shadow: BTreeMap<u64, Vec<u8>>,
    syncs: u64,
    /// How often a segment whose turn was over began another, in all lives.
    reuses: u64,
}

type SharedRecorder = Arc<Mutex<Recorder>>;

fn record_syncs() -> SharedRecorder {
    let recorder = SharedRecorder::default();
    let seen = Arc::clone(&recorder);
    observe_syncs_for_tests(Some(Arc::new(move |fd| {
        let Ok(path) = fs::read_link(format!("/proc/self/fd/{fd}")) else {
            return;
        };
        let mut recorder = seen.lock();
        if path.starts_with(&recorder.root)
            && let Some((inode, bytes)) = read(&path)
        {
            recorder.shadow.insert(inode, bytes);
            recorder.syncs += 1;
            recorder.reuses += u64::from(path.ends_with("db/journal/retired"));
        }
    })));
    recorder
}

/// A file and what is in it, if there is one.
fn read(path: &Path) -> Option<(u64, Vec<u8>)> {
    let mut file = File::open(path).ok()?;
    let inode = file.metadata().ok()?.ino();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    Some((inode, bytes))
}

/// Whether the store syncs this file itself, each time that it matters. (The number of a file that is gone may be given to
/// another; of the others none is in the shadow.)
fn is_recorded(path: &Path) -> bool {
    path.ends_with("db/state/db")
        || path
            .parent()
            .is_some_and(|folder| folder.ends_with("db/journal"))
}

/// Everything in `root` as it is now counts as durable.
fn begin_life(recorder: &SharedRecorder, root: &Path) {
    let mut recorder = recorder.lock();
    recorder.root = root.to_owned();
    recorder.shadow.clear();
    recorder.syncs = 0;
    let segments = fs::read_dir(root.join("db/journal")).into_iter().flatten();
    let segments = segments.map(|entry| entry.expect("an entry is read").path());
    for path in segments.chain([root.join("db/state/db")]) {
        if let Some((inode, bytes)) = read(&path) {
            recorder.shadow.insert(inode, bytes);
        }
    }
}

/// Builds what a disk may hold if the power fails now. Syncs wait meanwhile.
fn cut(recorder: &SharedRecorder, told: &Mutex<Told>, image: &Path, dice: &mut Dice) -> Told {
    let recorder = recorder.lock();
    let promised = told.lock().clone();
    copy(&recorder, &recorder.root, image, dice);
    // What is promised was promised before the cut; what may have been asked for, until its end,
    // since writes that need no sync go on meanwhile.
    let purge_asked = told.lock().purge_asked;
    Told {
        purge_asked,
        ..promised
    }
}

fn copy(recorder: &Recorder, from: &Path, to: &Path, dice: &mut Dice) {
    fs::create_dir_all(to).expect("a directory is made");
    for entry in fs::read_dir(from).expect("a directory is listed") {
        let path = entry.expect("an entry is read").path();
        let target = to.join(path.file_name().expect("entries have names"));
        if path.is_dir() {
            assert!(
                !path.ends_with("db/state/blobs") || is_empty(&path),
                "no page became a blob"
            );
            copy(recorder, &path, &target, dice);
            continue;
        }
        // A marker being written aside may be renamed at this moment.
        let Some((inode, live)) = read(&path) else {
            continue;
        };
        let shadow = recorder.shadow.get(&inode);
        let durable = match shadow.filter(|_| is_recorded(&path)) {
            Some(shadow) => mix(shadow, &live, dice),
            None => live,
        };
        fs::write(&target, durable).expect("an image is written");
    }
}

fn is_empty(path: &Path) -> bool {
    fs::read_dir(path)
        .expect("a directory is listed")
        .next()
        .is_none()
}

/// The shadow with some of the live file's differing blocks.
fn mix(shadow: &[u8], live: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut mixed = shadow.to_vec();
    // Sometimes nothing got through, sometimes nearly all.
    let share = [0, 10, 50, 90, 99][usize::try_from(dice.below(5)).expect("below five")];
    for (number, block) in live.chunks(BLOCK_BYTES).enumerate() {
        let start = number * BLOCK_BYTES;
        let end = start + block.len();
        if mixed.get(start..end) == Some(block) || dice.below(100) >= share {
            continue;
        }
        if mixed.len() < end {
            mixed.resize(end, 0);
        }
        mixed[start..end].copy_from_slice(block);
    }
    mixed
}

/// What the store has promised, and what was asked of it.
#[derive(Clone, Default)]
struct Told {
    /// Index and epoch of each record that was acknowledged and not taken back since.
    acknowledged: BTreeMap<u64, u64>,
    vote: u64,
    purge_asked: u64,
    epoch: u64,
}

fn bytes_of(index: u64, epoch: u64) -> Vec<u8> {
    let length = match index % 50 {
        0 => 20_000,
        n if n % 9 == 0 => 2_500,
        n => n * 9,
    };
    let mut bytes = epoch.to_le_bytes().to_vec();
    bytes.extend((0..length).map(|place| (place ^ index ^ epoch).to_le_bytes()[0]));
    bytes
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// What entry `index` does to the state.
fn effect(index: u64) -> (Vec<u8>, Option<Vec<u8>>) {
    let key = format!("desk/{}", index.wrapping_mul(0x9e37_79b9) % 400).into_bytes();
    let value = (!index.is_multiple_of(7)).then(|| index.to_le_bytes().repeat(12));
    (key, value)
}

fn model_at(applied: u64) -> Model {
    let mut model = Model::new();
    for index in 1..=applied {
        match effect(index) {
            (key, Some(value)) => model.insert(key, value),
            (key, None) => model.remove(&key),
        };
    }
    model
}

/// One life of a node: appends, applies, votes, truncates and purges until told to stop.
fn live(directory: &DataDir, told: &Arc<Mutex<Told>>, stop: &AtomicBool, mut dice: Dice) {
    let options = LogOptions {
        cache_bytes: 64 * 1024,
        ..LogOptions::default()
    };
    let (log, writer) = Log::open(directory.engine(), options).expect("the log opens");
    let layers = StateOptions {
        max_layer_bytes: 4_000 + 30_000 * usize::try_from(dice.below(2)).expect("0 or 1"),
        portion_pairs: 8,
        ..StateOptions::default()
    };
    let (state, carrier) = State::open(directory.engine(), &log, layers).expect("the state opens");
    let thread = std::thread::spawn(move || writer.run());
    let carrying = std::thread::spawn(move || carrier.run());
    let in_flight = Arc::new(AtomicU64::new(0));
    let horizon = Mutex::new(state.applied().index);
    std::thread::scope(|scope| {
        let applier_dice = Dice::new(dice.below(u64::MAX));
        // Layers are carried and the log is flushed at once, so that a flush makes half a layer
        // durable.
        scope.spawn(|| apply_all(&log, &state, &horizon, stop, applier_dice));
        change_all(
            directory, &log, &state, &horizon, told, stop, &in_flight, &mut dice,
        );
    });
    drop((log, state));
    carrying.join().expect("the state's writer ends");
    thread.join().expect("the log's writer ends");
}

/// Appends, votes, truncates, purges and seals.
#[expect(
    clippy::too_many_arguments,
    reason = "they are what one life consists of"
)]
fn change_all(
    directory: &DataDir,
    log: &Log,
    state: &State,
    horizon: &Mutex<u64>,
    told: &Arc<Mutex<Told>>,
    stop: &AtomicBool,
    in_flight: &Arc<AtomicU64>,
    dice: &mut Dice,
) {
    while !stop.load(Ordering::SeqCst) {
        match dice.below(40) {
            0 => truncate(log, horizon, told, dice),
            1 => vote(log, told),
            2 => purge(log, state, told),
            3 => directory.seal().expect("a seal is made"),
            _ => append(log, told, in_flight, 1 + dice.below(12)),
        }
        while in_flight.load(Ordering::SeqCst) > 8 && !stop.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }
}

fn apply_all(log: &Log, state: &State, horizon: &Mutex<u64>, stop: &AtomicBool, mut dice: Dice) {
    while !stop.load(Ordering::SeqCst) {
        apply(log, state, horizon, 1 + dice.below(300));
        std::thread::yield_now();
    }
}

fn append(log: &Log, told: &Arc<Mutex<Told>>, in_flight: &Arc<AtomicU64>, count: u64) {
    let next = next_index(log);
    let epoch = told.lock().epoch;
    let records = (next..next + count)
        .map(|index| Record {
            index,
            bytes: Bytes::from(bytes_of(index, epoch)),
        })
        .collect();
    let (told, in_flight) = (Arc::clone(told), Arc::clone(in_flight));
    in_flight.fetch_add(1, Ordering::SeqCst);
    log.append(
        records,
        Box::new(move |result| {
            in_flight.fetch_sub(1, Ordering::SeqCst);
            let mut told = told.lock();
            // A truncation that was asked for since may have taken these back.
            if result.is_ok() && told.epoch == epoch {
                told.acknowledged
                    .extend((next..next + count).map(|index| (index, epoch)));
            }
        }),
    );
}

fn next_index(log: &Log) -> u64 {
    let purged = log.purge_mark().map_or(0, |mark| number(&mark));
    log.last().map_or(purged, |record| record.index) + 1
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

/// Takes back some records that are not applied yet, as a new leader would.
fn truncate(log: &Log, horizon: &Mutex<u64>, told: &Arc<Mutex<Told>>, dice: &mut Dice) {
    let horizon = horizon.lock();
    let from = (*horizon + 1).max(next_index(log).saturating_sub(dice.below(20)));
    {
        let mut told = told.lock();
        told.epoch += 1;
        told.acknowledged.split_off(&from);
    }
    log.truncate_from(from, Box::new(drop));
}

fn vote(log: &Log, told: &Arc<Mutex<Told>>) {
    let stored = log.get_meta("vote").expect("facts can be read");
    let next = stored.map_or(0, |bytes| number(&bytes)) + 1;
    let told = Arc::clone(told);
    log.put_meta(
        "vote",
        next.to_le_bytes().to_vec(),
        true,
        Box::new(move |result| {
            if result.is_ok() {
                told.lock().vote = next;
            }
        }),
    );
}

fn purge(log: &Log, state: &State, told: &Arc<Mutex<Told>>) {
    let upto = state.applied().index.saturating_sub(60);
    if upto > 0 {
        {
            // After a cut the state is applied again from an earlier index on.
            let mut told = told.lock();
            told.purge_asked = told.purge_asked.max(upto);
        }
        let log = log.clone();
        state.persist_to(
            upto,
            Box::new(move |result| {
                if result.is_ok() {
                    log.purge_to(upto, upto.to_le_bytes().to_vec(), Box::new(drop));
                }
            }),
        );
    }
}

/// Applies up to `count` records; below the horizon nothing is truncated any more.
fn apply(log: &Log, state: &State, horizon: &Mutex<u64>, count: u64) {
    let from = state.applied().index + 1;
    let to = {
        let mut horizon = horizon.lock();
        let to = (from + count).min(next_index(log));
        if from >= to {
            return;
        }
        *horizon = to - 1;
        to
    };
    let (sender, receiver) = channel();
    state.when_room(Box::new(move |result| {
        sender.send(result).expect("it waits");
    }));
    receiver
        .recv()
        .expect("an answer comes")
        .expect("the state is sound");
    let mut transaction = state.transaction();
    for index in from..to {
        match effect(index) {
            (key, Some(value)) => transaction.put(&key, value),
            (key, None) => transaction.delete(&key),
        }
    }
    let applied = Applied {
        index: to - 1,
        now_ms: to,
        record: to.to_le_bytes().to_vec(),
    };
    state
        .commit(transaction, applied)
        .expect("a commit succeeds");
}

/// Everything that was promised is there, and what is there fits together.
fn check(directory: &DataDir, told: &Told) -> Result<(), String> {
    let said = |error: StorageError| error.to_string();
    let (log, _writer) = Log::open(directory.engine(), LogOptions::default()).map_err(said)?;
    let (state, _carrier) =
        State::open(directory.engine(), &log, StateOptions::default()).map_err(said)?;
    let purged = log.purge_mark().map_or(0, |mark| number(&mark));
    if purged > told.purge_asked {
        return Err(format!(
            "purged up to {purged}, asked for {}",
            told.purge_asked
        ));
    }
    let records = log.read(0, u64::MAX - 1, usize::MAX).map_err(said)?;
    let found: BTreeMap<u64, &Record> = records
        .iter()
        .map(|record| (record.index, record))
        .collect();
    for (index, epoch) in told.acknowledged.range(purged + 1..) {
        match found.get(index) {
            None => return Err(format!("the acknowledged record {index} is lost")),
            Some(record) if number(&record.bytes) < *epoch => {
                return Err(format!("record {index} is an older one"));
            }
            Some(_) => {}
        }
    }
    for record in &records {
        if record.bytes != bytes_of(record.index, number(&record.bytes)) {
            return Err(format!("record {} has wrong bytes", record.index));
        }
    }
    let vote = log
        .get_meta("vote")
        .map_err(said)?
        .map_or(0, |bytes| number(&bytes));
    if vote < told.vote {
        return Err(format!("the vote went back from {} to {vote}", told.vote));
    }
    check_state(&state, purged, next_index(&log))
}

fn check_state(state: &State, purged: u64, next: u64) -> Result<(), String> {
    let applied = state.applied().index;
    if applied < purged || applied >= next {
        return Err(format!(
            "the state is at {applied}, the log has {purged}..{next}"
        ));
    }
    let pairs = state.read(|view| view.scan(&[], &[], Order::Ascending, usize::MAX));
    let pairs: Model = pairs
        .map_err(|error| error.to_string())?
        .into_iter()
        .collect();
    if pairs != model_at(applied) {
        return Err(format!("the state at {applied} has wrong pairs"));
    }
    let mut digest = Digest::EMPTY;
    for (key, value) in &pairs {
        digest.add(key, value);
    }
    if digest != state.digest() {
        return Err(format!("the state at {applied} has a wrong digest"));
    }
    Ok(())
}

fn open(path: &Path) -> Result<DataDir, StorageError> {
    let options = DataDirOptions {
        segment_bytes: SEGMENT_BYTES,
        ..DataDirOptions::default()
    };
    DataDir::open(path, &options)
}

/// Opens `path`, lives there for a while, cuts the power, and returns what was promised.
fn live_and_cut(
    recorder: &SharedRecorder,
    path: &Path,
    image: &Path,
    before: Told,
    repair: Repair,
    dice: &mut Dice,
) -> Result<Told, String> {
    begin_life(recorder, path);
    let directory = open(path).map_err(|error| error.to_string())?;
    check(&directory, &before)?;
    set_repair_for_tests(repair);
    let told = Arc::new(Mutex::new(before));
    let stop = Arc::new(AtomicBool::new(false));
    let worker = {
        let (told, stop) = (Arc::clone(&told), Arc::clone(&stop));
        let dice = Dice::new(dice.below(u64::MAX));
        std::thread::spawn(move || live(&directory, &told, &stop, dice))
    };
    std::thread::sleep(Duration::from_millis(5 + dice.below(120)));
    let promised = cut(recorder, &told, image, dice);
    stop.store(true, Ordering::SeqCst);
    worker.join().expect("the life ends well");
    set_repair_for_tests(Repair::On);
    Ok(promised)
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let _one = ONE_AT_A_TIME.lock();
    let cuts = from_environment("MESTO_POWER_CUTS", 40);
    let seed = from_environment("MESTO_POWER_SEED", 1);
    let recorder = record_syncs();
    let root = tempfile::tempdir().expect("a temporary directory");
    let mut dice = Dice::new(seed);
    let mut told = Told::default();
    let mut acknowledged = 0;
    for number in 0..cuts {
        let path = root.path().join(format!("life-{number}"));
        let image = root.path().join(format!("life-{}", number + 1));
        told = live_and_cut(&recorder, &path, &image, told, Repair::On, &mut dice)
            .unwrap_or_else(|what| panic!("cut {number} of MESTO_POWER_SEED={seed}: {what}"));
        acknowledged = acknowledged.max(told.acknowledged.keys().next_back().copied().unwrap_or(0));
        assert!(recorder.lock().syncs > 0, "syncs were seen");
        fs::remove_dir_all(&path).expect("an old life is removed");
    }
    let directory = open(&root.path().join(format!("life-{cuts}"))).expect("the last one opens");
    check(&directory, &told).expect("the last one is sound");
    observe_syncs_for_tests(None);
    assert!(
        acknowledged > 20 * cuts,
        "only {acknowledged} records in {cuts} lives"
    );
    let reuses = recorder.lock().reuses;
    assert!(reuses > 0, "no segment was used again in {cuts} lives");
    eprintln!(
        "{cuts} cuts, {acknowledged} records acknowledged, none lost; {reuses} segments used again"
    );
}

/// The test above can fail: without the repair it does.
#[test]
fn without_the_repair_power_cuts_lose_acknowledged_data() {
    let _one = ONE_AT_A_TIME.lock();
    let recorder = record_syncs();
    let mut dice = Dice::new(2);
    let mut losses = Vec::new();
    for _ in 0..6 {
        let root = tempfile::tempdir().expect("a temporary directory");
        let (path, image) = (root.path().join("life"), root.path().join("image"));
        let told = live_and_cut(
            &recorder,
            &path,
            &image,
            Told::default(),
            Repair::Off,
            &mut dice,
        )
        .expect("a new directory opens");
        // sled may even panic on what it finds.
        let outcome = std::panic::catch_unwind(|| match open(&image) {
            Ok(directory) => check(&directory, &told),
            Err(error) => Err(error.to_string()),
        });
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(what)) => losses.push(what),
            Err(_) => losses.push("the database could not even be opened".to_owned()),
        }
    }
    observe_syncs_for_tests(None);
    assert!(
        losses.len() >= 3,
        "lost data in {} of 6 cuts only: {losses:?}",
        losses.len()
    );
    eprintln!(
        "without the repair {} of 6 cuts lost data: {losses:?}",
        losses.len()
    );
}

/// If the linker took the C library's function, no node may start.
#[test]
fn a_store_whose_flushes_reach_no_disk_refuses_to_open() {
    let _one = ONE_AT_A_TIME.lock();
    let root = tempfile::tempdir().expect("a temporary directory");
    set_repair_for_tests(Repair::Absent);
    let outcome = open(root.path());
    set_repair_for_tests(Repair::On);
    match outcome {
        Err(error @ StorageError::Refused { .. }) => {
            assert!(error.to_string().contains("sync_file_range"), "{error}");
        }
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("it opened"),
    }
}
