//! The stored bytes, pinned: what is written today equals the golden files, and the golden
//! files still open. A new format gets a new version and new files beside these.
//!
//! `MESTO_GOLDEN=write cargo test -p mesto-storage --test it formats` writes files that are
//! missing; it never changes one that is there.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use mesto_storage::snapshot::{DirSnapshots, SnapshotBuild, SnapshotRestore};
use mesto_storage::{
    Log, LogOptions, MemoryDisk, SnapshotFiles, StateOptions, StorageError, Tree, Value,
};

use crate::corruption::pairs;
use crate::disks::{Kept, ignore, record, settle};
use crate::state_model::applied;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn compare(name: &str, actual: &[u8]) {
    let path = golden(name);
    if !path.exists() && std::env::var("MESTO_GOLDEN").is_ok_and(|mode| mode == "write") {
        fs::write(&path, actual).expect("a golden file is written");
    }
    let expected = fs::read(&path).expect("the golden file is there");
    assert!(expected == actual, "{name} is not what is written today");
}

fn fill(disk: &MemoryDisk, half_way: bool) {
    let (log, mut writer) = Log::open(disk.engine(), LogOptions::default()).expect("the log opens");
    log.append(
        (1..=4)
            .map(|index| record(index, vec![index.to_le_bytes()[0]; 5]))
            .collect(),
        ignore(),
    );
    settle(&mut writer);
    log.append(
        vec![
            record(5, vec![]),
            record(6, (0..=255).cycle().take(7_200).collect()),
        ],
        ignore(),
    );
    log.purge_to(2, b"a mark".to_vec(), ignore());
    log.put_meta("vote", b"term 7, node 2".to_vec(), true, ignore());
    settle(&mut writer);
    let mut state = Kept::open(disk.engine());
    let mut transaction = state.transaction();
    transaction.put(b"desk/1", b"free".to_vec());
    transaction.put(b"desk/2", vec![0; 3]);
    transaction.put(b"", b"an empty key".to_vec());
    state
        .commit(transaction, applied(4))
        .expect("a commit succeeds");
    if half_way {
        // As a crash leaves it between the head that names the pieces and the first pair.
        state.persist(ignore());
        while state.stats().persisted_index < 4 {
            assert!(state.writer.step());
        }
    } else {
        state.carry().expect("the layer is carried");
    }
}

/// One line a pair: tree, key and value in hexadecimal.
fn dump(disk: &MemoryDisk) -> String {
    let mut text = String::new();
    for tree in Tree::ALL {
        for (key, value) in pairs(disk, tree) {
            let (key, value) = (hex(&key), hex(&value));
            writeln!(text, "{} {key} {value}", tree.name()).expect("strings take everything");
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("x"), |text, byte| {
        text + &format!("{byte:02x}")
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = &text.as_bytes()[1..];
    digits
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("hexadecimal digits");
            u8::from_str_radix(pair, 16).expect("hexadecimal digits")
        })
        .collect()
}

#[test]
fn the_database_is_written_as_ever() {
    for (half_way, name) in [(false, "database-2.txt"), (true, "database-2-half-way.txt")] {
        let disk = MemoryDisk::new();
        fill(&disk, half_way);
        compare(name, dump(&disk).as_bytes());
    }
}

#[test]
fn an_old_database_opens() {
    for name in [
        "database-1.txt",
        "database-2.txt",
        "database-2-half-way.txt",
    ] {
        opens(name);
    }
}

fn opens(name: &str) {
    let text = fs::read_to_string(golden(name)).expect("the golden file is there");
    let disk = MemoryDisk::new();
    for line in text.lines() {
        let [tree, key, value] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("three columns")
        };
        let tree = Tree::ALL
            .into_iter()
            .find(|known| known.name() == tree)
            .expect("a tree");
        let value = Value::try_from(unhex(value)).expect("below the limit");
        disk.engine()
            .insert(tree, &unhex(key), value)
            .expect("an insert succeeds");
    }
    let (log, _writer) = Log::open(disk.engine(), LogOptions::default()).expect("the log opens");
    assert_eq!(
        (log.first_index(), log.last().map(|record| record.index)),
        (Some(3), Some(6))
    );
    assert_eq!(log.purge_mark().as_deref(), Some(b"a mark".as_slice()));
    assert_eq!(
        log.get_meta("vote").ok().flatten().as_deref(),
        Some(b"term 7, node 2".as_slice())
    );
    let records = log.read(3, 7, usize::MAX).expect("reads succeed");
    assert_eq!(records[0].bytes, vec![3; 5]);
    assert_eq!(records[3].bytes.len(), 7_200);
    let state = Kept::open(disk.engine());
    assert_eq!(state.applied(), applied(4));
    let desk = state
        .read(|view| view.get(b"desk/1"))
        .expect("reads succeed");
    assert_eq!(desk.as_deref(), Some(b"free".as_slice()));
}

#[test]
fn a_snapshot_is_written_as_ever_and_an_old_one_restores() {
    let disk = MemoryDisk::new();
    fill(&disk, false);
    let state = Kept::open(disk.engine());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files = DirSnapshots::open(directory.path()).expect("the directory opens");
    let image = state.image().expect("no other image is alive");
    let writer = files.create("snap").expect("a file is created");
    let mut build =
        SnapshotBuild::new(image, writer, b"membership".to_vec()).expect("a build begins");
    while !build.step().expect("a page is written") {}
    let bytes = fs::read(directory.path().join("snap")).expect("the file is there");
    compare("snapshot-1.bin", &bytes);

    fs::copy(golden("snapshot-1.bin"), directory.path().join("old")).expect("a copy is made");
    let other = Kept::open(MemoryDisk::new().engine());
    let reader = files.open("old").expect("the file is there");
    let mut restore = SnapshotRestore::new(reader, &other).expect("a restore begins");
    while !restore.step().expect("a page is read") {}
    assert_eq!(other.applied_and_digest(), state.applied_and_digest());
    assert_eq!(restore.header().caller, b"membership");
}

/// A version that this program does not know is refused, not guessed at.
#[test]
fn unknown_versions_are_refused() {
    for tree in Tree::ALL {
        let disk = MemoryDisk::new();
        fill(&disk, false);
        for (key, mut value) in pairs(&disk, tree).into_iter().take(1) {
            value[0] = 9;
            let value = Value::try_from(value).expect("as long as before");
            disk.engine()
                .insert(tree, &key, value)
                .expect("an insert succeeds");
        }
        let log = Log::open(disk.engine(), LogOptions::default()).map(drop);
        let outcome =
            log.and_then(|()| Kept::try_open(disk.engine(), StateOptions::default()).map(drop));
        assert!(
            matches!(outcome, Err(StorageError::Corruption { .. })),
            "{}",
            tree.name()
        );
    }
}
