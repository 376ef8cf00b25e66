//! Snapshot files: built beside commits, restored, and every damage noticed.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesto_storage::snapshot::{DirSnapshots, SnapshotBuild, SnapshotRestore, check, read_header};
use mesto_storage::{MemoryDisk, SnapshotFiles, State, StorageError};

use crate::disks::{Dice, Disk, Kept};
use crate::state_model::{self, random_commit};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn grown_state(disk: &Disk, seed: u64) -> (crate::disks::Opened, Kept, Model) {
    let opened = disk.open();
    let state = Kept::open(Arc::clone(&opened.engine));
    let mut model = Model::new();
    let dice = Dice::new(seed);
    for index in 1..=40 {
        random_commit(&state, &mut model, &dice, index);
    }
    (opened, state, model)
}

fn build(files: &dyn SnapshotFiles, state: &State, name: &str) {
    let image = state.image().expect("no other image is alive");
    let writer = files.create(name).expect("a file is created");
    let mut build =
        SnapshotBuild::new(image, writer, b"the caller's".to_vec()).expect("a build begins");
    while !build.step().expect("a page is written") {}
    assert!(build.step().expect("a complete build stays complete"));
    let reader = files.open(name).expect("the file is there");
    assert_eq!(reader.len(), build.bytes());
    assert!(!reader.is_empty());
}

#[test]
fn a_snapshot_restores_the_state_on_both_disks() {
    for disk in [Disk::memory(), Disk::sled()] {
        let (opened, state, model) = grown_state(&disk, 1);
        build(opened.snapshots.as_ref(), &state, "snap-1");
        assert_eq!(
            opened.snapshots.list().expect("names are listed"),
            ["snap-1"]
        );

        let target_disk = Disk::memory();
        let (_target_opened, target, _) = grown_state(&target_disk, 2);
        let reader = opened.snapshots.open("snap-1").expect("the file is there");
        let header = read_header(reader.as_ref()).expect("the header is sound");
        assert_eq!(header.caller, b"the caller's");
        assert_eq!(header.applied.index, 40);
        let mut restore = SnapshotRestore::new(reader, &target).expect("a restore begins");
        assert_eq!(restore.header(), &header);
        while !restore.step().expect("a page is read") {}
        state_model::check(&target, &model, 40);

        opened
            .snapshots
            .remove("snap-1")
            .expect("the file is removed");
        opened
            .snapshots
            .remove("snap-1")
            .expect("removing twice is fine");
        assert!(opened.snapshots.open("snap-1").is_err());
    }
}

#[test]
fn an_empty_state_has_a_snapshot_too() {
    let opened = Disk::memory().open();
    let state = Kept::open(Arc::clone(&opened.engine));
    build(opened.snapshots.as_ref(), &state, "empty");
    let reader = opened.snapshots.open("empty").expect("the file is there");
    assert_eq!(
        check(reader.as_ref()).map(|summary| summary.pairs).ok(),
        Some(0)
    );
}

/// Every single flipped bit and every truncation is noticed, by the check and by a restore,
/// and a restore that fails leaves the state as it was.
#[test]
fn every_damage_is_noticed() {
    let disk = MemoryDisk::new();
    let state = Kept::open(disk.engine());
    let mut model = Model::new();
    random_commit(&state, &mut model, &Dice::new(9), 1);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files = DirSnapshots::open(directory.path()).expect("the directory opens");
    build(&files, &state, "snap");
    let path = directory.path().join("snap");
    let sound = std::fs::read(&path).expect("the file can be read");
    let damaged = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("the file can be written");
        let reader = files.open("snap").expect("the file is there");
        assert!(check(reader.as_ref()).is_err());
        let restored = SnapshotRestore::new(reader, &state).and_then(|mut restore| {
            while !restore.step()? {}
            Ok(())
        });
        assert!(matches!(restored, Err(StorageError::Corruption { .. })));
        state_model::check(&state, &model, 1);
        while state.remove_leftovers().expect("leftovers are removed") {}
    };
    for bit in (0..sound.len() * 8).step_by(7) {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        damaged(&bytes);
    }
    for length in 0..sound.len() {
        damaged(&sound[..length]);
    }
    damaged(&[sound.as_slice(), &[0]].concat());
    std::fs::write(&path, &sound).expect("the file can be written");
    assert!(check(files.open("snap").expect("the file is there").as_ref()).is_ok());
}

/// A build that is dropped, or that a crash ends, leaves no file.
#[test]
fn an_unfinished_file_never_appears() {
    let (_opened, state, _) = grown_state(&Disk::memory(), 4);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files = DirSnapshots::open(directory.path()).expect("the directory opens");
    let image = state.image().expect("no other image is alive");
    let writer = files.create("half").expect("a file is created");
    let mut build = SnapshotBuild::new(image, writer, vec![]).expect("a build begins");
    build.step().expect("a page is written");
    assert!(files.list().expect("names are listed").is_empty());
    drop(build);
    assert_eq!(
        std::fs::read_dir(directory.path())
            .map(Iterator::count)
            .ok(),
        Some(0)
    );

    std::fs::write(directory.path().join("crashed.aside"), b"half").expect("a file is written");
    let files = DirSnapshots::open(directory.path()).expect("the directory opens");
    assert!(files.list().expect("names are listed").is_empty());
    assert_eq!(
        std::fs::read_dir(directory.path())
            .map(Iterator::count)
            .ok(),
        Some(0)
    );
}

#[test]
fn names_cannot_leave_the_directory() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files = DirSnapshots::open(directory.path()).expect("the directory opens");
    for name in ["", "..", "../x", "a/b", ".hidden", "x.aside", "a b", "a\0b"] {
        assert!(files.create(name).is_err(), "{name:?}");
        assert!(files.open(name).is_err(), "{name:?}");
        assert!(files.remove(name).is_err(), "{name:?}");
    }
    assert!(files.create(&"x".repeat(129)).is_err());
}
