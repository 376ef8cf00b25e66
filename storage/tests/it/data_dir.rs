//! The directory as a whole: the lock, the marker, what is refused, and `verify`.

use std::fs;
use std::path::{Path, PathBuf};

use mesto_storage::snapshot::SnapshotBuild;
use mesto_storage::{DataDir, DataDirOptions, Log, LogOptions, StorageError, VerifyReport, verify};

use crate::disks::{Kept, ignore, record};
use crate::state_model::applied;

fn open(path: &Path) -> Result<DataDir, StorageError> {
    DataDir::open(path, &DataDirOptions::default())
}

/// A directory with some of everything, closed again.
fn fill(path: &Path) {
    let directory = open(path).expect("the directory opens");
    let (log, writer) =
        Log::open(directory.engine(), LogOptions::default()).expect("the log opens");
    let thread = std::thread::spawn(move || writer.run());
    for index in 1..=200 {
        log.append(vec![record(index, vec![7; 300])], ignore());
    }
    log.purge_to(10, b"mark".to_vec(), ignore());
    drop(log);
    thread.join().expect("the writer ends");
    let mut state = Kept::open(directory.engine());
    for index in 1..=100 {
        let mut transaction = state.transaction();
        transaction.put(format!("key/{index}").as_bytes(), vec![1; 100]);
        state
            .commit(transaction, applied(index))
            .expect("a commit succeeds");
    }
    let image = state.image().expect("no other image is alive");
    let writer = directory
        .snapshots()
        .create("snap-100")
        .expect("a file is created");
    let mut build = SnapshotBuild::new(image, writer, vec![]).expect("a build begins");
    while !build.step().expect("a page is written") {}
    state.carry().expect("all is carried");
}

fn report(path: &Path) -> VerifyReport {
    verify(path).expect("a stopped node can be checked")
}

#[test]
fn it_is_the_same_store_after_each_opening() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let path = root.path().join("deep/node-1");
    let first = open(&path).expect("the directory opens");
    assert!(first.created());
    let id = first.storage_id();
    drop(first);
    let second = open(&path).expect("the directory opens");
    assert!(!second.created());
    assert_eq!(second.storage_id(), id);
    let other = open(&root.path().join("other")).expect("the directory opens");
    assert_ne!(other.storage_id(), id);
}

#[test]
fn two_cannot_have_it_open() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let first = open(root.path()).expect("the directory opens");
    assert!(matches!(
        open(root.path()),
        Err(StorageError::Locked { .. })
    ));
    assert!(matches!(
        verify(root.path()),
        Err(StorageError::Locked { .. })
    ));
    drop(first);
    assert!(open(root.path()).is_ok());
}

#[test]
fn flushes_reach_the_disk_and_are_counted() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let directory = open(root.path()).expect("the directory opens");
    let engine = directory.engine();
    let before = engine.stats();
    let value = mesto_storage::Value::try_from(vec![1]).expect("a short value");
    engine
        .insert(mesto_storage::Tree::Meta, b"a", value)
        .expect("an insert succeeds");
    engine.flush().expect("a flush succeeds");
    let after = engine.stats();
    assert_eq!(after.flushes, before.flushes + 1);
    assert_eq!(after.writes, before.writes + 1);
    assert!(after.bytes_on_disk > 0);
    if cfg!(target_os = "linux") {
        assert!(after.syncs > before.syncs);
    }
}

#[test]
fn a_leftover_checkpoint_is_removed() {
    let root = tempfile::tempdir().expect("a temporary directory");
    fill(root.path());
    let leftover = root
        .path()
        .join("db/state/snap.00000000000000FF.generating");
    fs::write(&leftover, b"half").expect("a file is written");
    drop(open(root.path()).expect("the directory opens"));
    assert!(!leftover.exists());
}

#[test]
fn a_database_that_vanished_or_was_swapped_is_refused() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    fill(&one);
    fill(&two);

    let id = fs::read(one.join("mesto.marker")).expect("the marker is there");
    fs::copy(two.join("mesto.marker"), one.join("mesto.marker")).expect("a copy is made");
    assert!(
        matches!(open(&one), Err(StorageError::Refused { .. })),
        "another's marker"
    );

    fs::remove_file(one.join("mesto.marker")).expect("a file is removed");
    assert!(
        matches!(open(&one), Err(StorageError::Refused { .. })),
        "data without a marker"
    );

    fs::write(one.join("mesto.marker"), &id[..20]).expect("a file is written");
    assert!(
        matches!(open(&one), Err(StorageError::Corruption { .. })),
        "half a marker"
    );

    fs::write(one.join("mesto.marker"), &id).expect("a file is written");
    drop(open(&one).expect("all is well again"));
    for part in ["state", "journal"] {
        let (here, aside) = (one.join("db").join(part), root.path().join("aside"));
        fs::rename(&here, &aside).expect("a part is moved away");
        let Err(error @ StorageError::Refused { .. }) = open(&one) else {
            panic!("the {part} is gone")
        };
        let missing = format!("{} is missing", here.display());
        assert!(error.to_string().contains(&missing), "{error}");
        fs::rename(&aside, &here).expect("it is moved back");
    }
    drop(open(&one).expect("all is well again"));
    fs::remove_dir_all(one.join("db")).expect("the database is removed");
    assert!(
        matches!(open(&one), Err(StorageError::Refused { .. })),
        "the database is gone"
    );

    // One part is there and sound, the other opens as an empty one.
    let fresh = root.path().join("fresh");
    drop(open(&fresh).expect("another directory opens"));
    fs::create_dir(one.join("db")).expect("a directory is made");
    fs::rename(fresh.join("db/journal"), one.join("db/journal")).expect("a part is moved");
    fs::create_dir(one.join("db/state")).expect("a directory is made");
    fs::write(one.join("db/state/db"), b"").expect("a file is written");
    assert!(
        matches!(open(&one), Err(StorageError::Refused { .. })),
        "it opens as an empty one"
    );
}

/// A crash between stamp and marker: the next open finishes the job.
#[test]
fn an_interrupted_first_start_is_finished() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let id = open(root.path()).expect("the directory opens").storage_id();
    fs::remove_file(root.path().join("mesto.marker")).expect("a file is removed");
    let again = open(root.path()).expect("the directory opens");
    assert!(again.created());
    assert_eq!(again.storage_id(), id);
}

#[test]
fn a_sound_directory_verifies_and_is_left_alone() {
    let root = tempfile::tempdir().expect("a temporary directory");
    fill(root.path());
    let before = listing(root.path());
    let found = report(root.path());
    assert!(found.is_sound(), "{found}");
    assert_eq!(found.log, Some((11, 200)));
    assert_eq!(found.purged_index, Some(10));
    assert_eq!((found.applied_index, found.pairs), (100, 100));
    assert_eq!(found.snapshots.len(), 1);
    assert_eq!(found.snapshots[0].1.header.digest, found.digest);
    let text = found.to_string();
    assert!(
        text.contains("records 11 to 200") && text.ends_with("sound"),
        "{text}"
    );
    assert_eq!(listing(root.path()), before, "nothing was changed");
}

/// Every file's name, length and checksum.
fn listing(path: &Path) -> Vec<(String, usize, u32)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).expect("a directory is listed") {
        let path = entry.expect("an entry is read").path();
        if path.is_dir() {
            files.extend(listing(&path));
        } else {
            let bytes = fs::read(&path).expect("a file is read");
            files.push((
                path.display().to_string(),
                bytes.len(),
                crc32c::crc32c(&bytes),
            ));
        }
    }
    files.sort();
    files
}

#[test]
fn damage_is_reported_by_name() {
    let root = tempfile::tempdir().expect("a temporary directory");
    fill(root.path());
    let snapshot = root.path().join("snapshots/snap-100");
    let mut bytes = fs::read(&snapshot).expect("the file is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&snapshot, &bytes).expect("a file is written");
    let found = report(root.path());
    assert!(!found.is_sound());
    assert!(found.damages[0].contains("snap-100"), "{found}");
    assert!(found.to_string().ends_with("damaged"));

    fs::write(root.path().join("mesto.marker"), b"nonsense").expect("a file is written");
    assert!(
        report(root.path())
            .damages
            .iter()
            .any(|damage| damage.contains("mesto.marker"))
    );
    fs::remove_dir_all(root.path().join("db")).expect("the database is removed");
    assert!(
        report(root.path())
            .damages
            .iter()
            .any(|damage| damage.contains("is missing"))
    );
}

/// The files that the store keeps: the state's, and the segments of the journal.
fn store_files(root: &Path) -> Vec<PathBuf> {
    let segments = fs::read_dir(root.join("db/journal")).expect("a directory is listed");
    let mut files: Vec<PathBuf> = segments
        .map(|entry| entry.expect("an entry is read").path())
        .collect();
    files.sort();
    files.push(root.join("db/state/db"));
    files
}

/// How much of a file was ever written.
fn used(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.expect("it is not empty")
}

/// Wherever a closed database is overwritten: either the damage is reported, or it hit what is
/// needed no more, and everything is there. The original is never touched.
#[test]
fn a_scribbled_database_is_whole_or_reported() {
    let root = tempfile::tempdir().expect("a temporary directory");
    fill(root.path());
    let before = report(root.path());
    let files = store_files(root.path());
    assert!(files.len() >= 2, "a journal and a state");
    for path in files {
        let sound = fs::read(&path).expect("the file is there");
        let used = used(&sound);
        let mut damaged = 0;
        let places: Vec<usize> = (0..used).step_by((used / 24).max(8)).collect();
        for place in &places {
            let mut bytes = sound.clone();
            let end = (place + 64).min(bytes.len());
            bytes[*place..end].fill(0xa5);
            fs::write(&path, &bytes).expect("a file is written");
            let found = report(root.path());
            if found.is_sound() {
                let place = format!("at byte {place} of {}", path.display());
                assert_eq!(found.log, before.log, "{place}");
                assert_eq!(found.applied_index, before.applied_index, "{place}");
                assert_eq!(found.digest, before.digest, "{place}");
            } else {
                damaged += 1;
            }
        }
        fs::write(&path, &sound).expect("a file is mended");
        assert!(
            damaged > places.len() / 4,
            "{damaged} of {} noticed in {}",
            places.len(),
            path.display()
        );
    }
    assert!(report(root.path()).is_sound());
}

/// Both parts of the store take what they cannot read for the end of what was written, unless
/// something later vouches for it; the seal shows that it is not.
#[test]
fn a_database_that_lost_its_end_is_refused() {
    let root = tempfile::tempdir().expect("a temporary directory");
    fill(root.path());
    for path in store_files(root.path()) {
        let sound = fs::read(&path).expect("the file is there");
        let mut bytes = sound.clone();
        let used = used(&bytes);
        bytes[used / 2..].fill(0);
        fs::write(&path, &bytes).expect("a file is written");
        let outcome = open(root.path());
        assert!(
            matches!(
                outcome,
                Err(StorageError::Refused { .. } | StorageError::Corruption { .. })
            ),
            "{}: {:?}",
            path.display(),
            outcome.err()
        );
        fs::write(&path, &sound).expect("a file is mended");
    }
}

#[test]
fn what_is_no_data_directory_is_not_checked() {
    let root = tempfile::tempdir().expect("a temporary directory");
    assert!(matches!(
        verify(root.path()),
        Err(StorageError::Refused { .. })
    ));
    assert!(matches!(
        verify(&root.path().join("absent")),
        Err(StorageError::Refused { .. })
    ));
}
