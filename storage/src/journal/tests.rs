use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;

use super::*;
use crate::engine::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

const SMALL_SEGMENT_BYTES: u32 = 4096;

fn value(bytes: &[u8]) -> Value {
    Value::try_from(bytes.to_vec()).expect("a short value")
}

fn open(path: &Path) -> Journal {
    Journal::open_with(path, SMALL_SEGMENT_BYTES).expect("the journal opens")
}

fn put(journal: &Journal, tree: Tree, key: &[u8], bytes: &[u8]) {
    journal
        .write(tree, &[(key.to_vec(), Some(value(bytes)))])
        .expect("a write succeeds");
}

fn remove(journal: &Journal, tree: Tree, key: &[u8]) {
    journal
        .write(tree, &[(key.to_vec(), None)])
        .expect("a removal succeeds");
}

fn all(journal: &Journal, tree: Tree) -> Vec<Pair> {
    journal
        .scan(tree, (&[], &[]), Order::Ascending, usize::MAX)
        .expect("a scan succeeds")
}

/// The last segment and its bytes.
fn last_segment(path: &Path) -> (PathBuf, Vec<u8>) {
    let segments = recovery::list(path).expect("a list");
    let (_, file) = segments.last_key_value().expect("a segment").to_owned();
    (file.clone(), fs::read(file).expect("it is read"))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("it is read");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("it is written");
}

fn damage(path: &Path) -> String {
    match Journal::open_with(path, SMALL_SEGMENT_BYTES) {
        Err(error @ StorageError::Corruption { .. }) => error.to_string(),
        Err(other) => panic!("not damage but {other}"),
        Ok(_) => panic!("the damage was not noticed"),
    }
}

#[derive(Debug, Clone)]
enum Act {
    Put(bool, u8, Vec<u8>),
    Remove(bool, u8),
    Batch(Vec<(u8, Option<u8>)>),
    Flush,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    prop_oneof![
        6 => (any::<bool>(), 0..40_u8, bytes).prop_map(|(log, key, value)| Act::Put(log, key, value)),
        4 => (any::<bool>(), 0..40_u8).prop_map(|(log, key)| Act::Remove(log, key)),
        1 => prop::collection::vec((0..40_u8, any::<Option<u8>>()), 0..6).prop_map(Act::Batch),
        3 => Just(Act::Flush),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// It answers as a map does, across segments, trims and opens.
    #[test]
    fn it_is_a_map(acts in prop::collection::vec(act(), 1..200)) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut journal = open(root.path());
        let mut models: [BTreeMap<Vec<u8>, Vec<u8>>; 2] = Default::default();
        let tree = |log: bool| if log { Tree::Log } else { Tree::Meta };
        for act in acts {
            match act {
                Act::Put(log, key, bytes) => {
                    put(&journal, tree(log), &[key], &bytes);
                    models[usize::from(log)].insert(vec![key], bytes);
                }
                Act::Remove(log, key) => {
                    remove(&journal, tree(log), &[key]);
                    models[usize::from(log)].remove(&[key][..]);
                }
                Act::Batch(writes) => {
                    let record: Vec<_> = writes
                        .iter()
                        .map(|(key, byte)| (vec![*key], byte.map(|byte| value(&[byte]))))
                        .collect();
                    journal.write(Tree::Log, &record).expect("a batch is written");
                    for (key, byte) in writes {
                        match byte {
                            Some(byte) => models[1].insert(vec![key], vec![byte]),
                            None => models[1].remove(&[key][..]),
                        };
                    }
                }
                Act::Flush => journal.flush().expect("a flush succeeds"),
                Act::Reopen => {
                    journal.flush().expect("a flush succeeds");
                    drop(journal);
                    journal = open(root.path());
                }
            }
            for log in [false, true] {
                let expected: Vec<Pair> = models[usize::from(log)].clone().into_iter().collect();
                prop_assert_eq!(all(&journal, tree(log)), expected);
            }
        }
        for (key, bytes) in &models[1] {
            prop_assert_eq!(journal.get(Tree::Log, key).expect("a read"), Some(bytes.clone()));
        }
        let descending = journal.scan(Tree::Log, (&[3], &[30]), Order::Descending, 4);
        let expected: Vec<Pair> = models[1]
            .range(vec![3]..vec![30])
            .rev()
            .take(4)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        prop_assert_eq!(descending.expect("a scan"), expected);
    }

    /// Wherever the end is torn, what was synced is there, and of the rest a prefix.
    #[test]
    fn a_torn_end_leaves_a_prefix(synced in 0..12_usize, unsynced in 1..12_usize, cut in any::<prop::sample::Index>(), zero in any::<bool>()) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let journal = Journal::open_with(root.path(), 1 << 20).expect("it opens");
        let record = |number: usize| vec![u8::try_from(number).expect("few"); 10 + number * 7];
        for number in 0..synced {
            put(&journal, Tree::Log, &[u8::try_from(number).expect("few")], &record(number));
        }
        journal.flush().expect("a flush succeeds");
        let safe = usize::try_from(journal.inner.lock().end()).expect("it is short");
        for number in synced..synced + unsynced {
            put(&journal, Tree::Log, &[u8::try_from(number).expect("few")], &record(number));
        }
        journal.inner.lock().write_out().expect("it is written");
        let end = usize::try_from(journal.inner.lock().end()).expect("it is short");
        drop(journal);
        let (path, mut bytes) = last_segment(root.path());
        let torn_at = safe + cut.index(end - safe);
        if zero {
            bytes[torn_at..].fill(0);
        } else {
            bytes.truncate(torn_at);
        }
        fs::write(&path, &bytes).expect("it is torn");
        let journal = Journal::open_with(root.path(), 1 << 20).expect("it opens");
        let found = all(&journal, Tree::Log);
        prop_assert!(found.len() >= synced && found.len() < synced + unsynced + 1);
        for (number, (key, bytes)) in found.iter().enumerate() {
            prop_assert_eq!(key, &vec![u8::try_from(number).expect("few")]);
            prop_assert_eq!(bytes, &record(number));
        }
        // It goes on from there, and nothing of the torn end comes back.
        put(&journal, Tree::Log, &[200], b"after");
        journal.flush().expect("a flush succeeds");
        drop(journal);
        let journal = Journal::open_with(root.path(), 1 << 20).expect("it opens");
        prop_assert_eq!(all(&journal, Tree::Log).len(), found.len() + 1);
    }
}

/// A later sync vouches for an earlier one.
#[test]
fn damage_to_what_was_synced_is_not_taken_for_a_torn_end() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let journal = open(root.path());
    for key in 0..3 {
        put(&journal, Tree::Log, &[key], b"value");
        journal.flush().expect("a flush succeeds");
    }
    drop(journal);
    let (path, bytes) = last_segment(root.path());
    let first = usize::try_from(HEADER_BYTES).expect("it is short") + 2;
    flip(&path, first);
    assert!(damage(root.path()).contains("at byte 32"));
    fs::write(&path, &bytes).expect("it is mended");
    assert_eq!(all(&open(root.path()), Tree::Log).len(), 3);
}

#[test]
fn a_segment_that_is_damaged_cut_off_or_missing_is_noticed() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let journal = open(root.path());
    for key in 0..200_u8 {
        put(&journal, Tree::Log, &[key], &[key; 100]);
    }
    journal.flush().expect("a flush succeeds");
    drop(journal);
    let segments = recovery::list(root.path()).expect("a list");
    assert!(segments.len() > 4, "{} segments", segments.len());
    for (number, path) in segments.values().enumerate().take(segments.len() - 1) {
        let bytes = fs::read(path).expect("it is read");
        for at in [4, 30, 40, 700] {
            // Only the last four bytes of a header say nothing.
            if at != 30 {
                flip(path, at);
                damage(root.path());
                fs::write(path, &bytes).expect("it is mended");
            }
        }
        fs::write(path, &bytes[..1000]).expect("it is cut off");
        damage(root.path());
        fs::remove_file(path).expect("it is removed");
        let said = damage(root.path());
        assert!(said.contains("lacks"), "segment {number}: {said}");
        fs::write(path, bytes).expect("it is mended");
    }
    assert_eq!(all(&open(root.path()), Tree::Log).len(), 200);
}

/// A log that is purged as it grows keeps few segments and loses no fact, whichever way it is
/// closed.
#[test]
fn space_is_bounded_and_facts_outlive_their_segments() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let mut journal = open(root.path());
    put(&journal, Tree::Meta, b"vote", b"term 7");
    put(&journal, Tree::Meta, b"taken back", b"x");
    remove(&journal, Tree::Meta, b"taken back");
    for round in 0..2_000_u32 {
        put(&journal, Tree::Log, &round.to_be_bytes(), &[7; 150]);
        if let Some(old) = round.checked_sub(20) {
            remove(&journal, Tree::Log, &old.to_be_bytes());
        }
        if round % 7 == 0 {
            journal.flush().expect("a flush succeeds");
        }
        if round % 333 == 0 {
            journal.flush().expect("a flush succeeds");
            drop(journal);
            journal = open(root.path());
        }
        let files = fs::read_dir(root.path()).expect("a list").count();
        assert!(files <= 7, "{files} files in round {round}");
    }
    assert!(journal.bytes_on_disk() <= 7 * u64::from(SMALL_SEGMENT_BYTES));
    assert_eq!(all(&journal, Tree::Log).len(), 20);
    assert_eq!(
        all(&journal, Tree::Meta),
        [(b"vote".to_vec(), b"term 7".to_vec())]
    );
    assert!(journal.inner.lock().active > 100, "segments took turns");
}

/// A sync need not write the file's length: it stays what it is for many writes.
#[test]
fn a_segment_is_longer_than_what_is_written_to_it() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let journal = Journal::open_with(root.path(), 4 << 20).expect("it opens");
    let mut lengths = Vec::new();
    for key in 0..20 {
        put(&journal, Tree::Log, &[key], &[key; 1000]);
        journal.flush().expect("a flush succeeds");
        lengths.push(journal.bytes_on_disk());
    }
    lengths.dedup();
    assert_eq!(lengths.len(), 1, "{lengths:?}");
    assert!(
        (400 << 10..800 << 10).contains(&lengths[0]),
        "some way ahead, not the whole segment: {lengths:?}"
    );
}

/// A whole segment is used again as it is; a shorter one would have to grow once more, and goes.
#[test]
fn a_trimmed_segment_is_used_again_if_it_is_whole() {
    let inode = |path: &Path| fs::metadata(path).map(|data| data.ino()).ok();
    let root = tempfile::tempdir().expect("a temporary directory");
    let retired = root.path().join(RETIRED);
    let journal = open(root.path());
    let (first, _) = last_segment(root.path());
    let first = inode(&first);
    let fill = |from: u8| {
        for key in from..from + 40 {
            put(&journal, Tree::Log, &[key], &[key; 150]);
        }
    };
    fill(0);
    (0..40).for_each(|key| remove(&journal, Tree::Log, &[key]));
    journal.flush().expect("a flush succeeds");
    assert!(first.is_some() && inode(&retired) == first, "it is kept");
    fill(40);
    assert_eq!(inode(&retired), None, "its next turn has come");
    let segments = recovery::list(root.path()).expect("a list");
    assert!(segments.values().any(|path| inode(path) == first));
    assert_eq!(all(&journal, Tree::Log).len(), 40);
    drop(journal);

    let root = tempfile::tempdir().expect("a temporary directory");
    let large = || Journal::open_with(root.path(), 1 << 20).expect("it opens");
    let journal = large();
    put(&journal, Tree::Log, b"short", b"value");
    journal.flush().expect("a flush succeeds");
    drop(journal);
    let journal = large();
    remove(&journal, Tree::Log, b"short");
    journal.flush().expect("a flush succeeds");
    let files = fs::read_dir(root.path()).expect("a list").count();
    assert_eq!(files, 1, "the short one is gone");
}

/// The disk may show a segment again whose removal or renaming a power cut took back.
#[test]
fn a_trimmed_segment_that_comes_back_changes_nothing() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let journal = open(root.path());
    put(&journal, Tree::Meta, b"vote", b"term 6");
    for key in 0..120_u8 {
        put(&journal, Tree::Log, &[key], &[key; 100]);
    }
    journal.flush().expect("a flush succeeds");
    let old: Vec<_> = recovery::list(root.path())
        .expect("a list")
        .into_values()
        .map(|path| (fs::read(&path).expect("it is read"), path))
        .collect();
    put(&journal, Tree::Meta, b"vote", b"term 7");
    for key in 0..119_u8 {
        remove(&journal, Tree::Log, &[key]);
    }
    journal.flush().expect("a flush succeeds");
    drop(journal);
    let trimmed: Vec<_> = old.into_iter().filter(|(_, path)| !path.exists()).collect();
    assert!(
        trimmed.len() >= 3,
        "{} segments were trimmed",
        trimmed.len()
    );
    for kept in 0..1_u32 << trimmed.len().min(5) {
        for (number, (bytes, path)) in trimmed.iter().enumerate() {
            if kept & (1 << number) != 0 {
                fs::write(path, bytes).expect("it is back");
            }
        }
        let journal = open(root.path());
        assert_eq!(all(&journal, Tree::Log), [(vec![119], vec![119; 100])]);
        assert_eq!(
            all(&journal, Tree::Meta),
            [(b"vote".to_vec(), b"term 7".to_vec())]
        );
    }
}

#[test]
fn the_longest_key_and_value_are_read_again() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let (key, bytes) = (vec![7; MAX_KEY_BYTES], vec![8; MAX_VALUE_BYTES]);
    let journal = Journal::open_with(root.path(), 1 << 20).expect("it opens");
    put(&journal, Tree::Log, &key, &bytes);
    put(&journal, Tree::Meta, &key, &bytes);
    put(&journal, Tree::Log, b"empty", b"");
    journal.flush().expect("a flush succeeds");
    drop(journal);
    let journal = Journal::open_with(root.path(), 1 << 20).expect("it opens");
    let longest = (key, bytes);
    assert_eq!(all(&journal, Tree::Meta), std::slice::from_ref(&longest));
    assert_eq!(
        all(&journal, Tree::Log),
        [longest, (b"empty".to_vec(), vec![])]
    );
}

#[test]
fn a_record_that_no_segment_holds_is_refused() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let journal = open(root.path());
    let outcome = journal.write(Tree::Log, &[(vec![1], Some(value(&[0; 5000])))]);
    assert!(matches!(outcome, Err(StorageError::TooLarge { .. })));
    put(&journal, Tree::Log, &[1], b"short");
    assert_eq!(all(&journal, Tree::Log).len(), 1);
}

/// What is written by others while a sync is on its way is not taken for synced.
#[test]
fn writers_readers_and_flushes_go_on_side_by_side() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let journal = open(root.path());
    std::thread::scope(|scope| {
        for thread in 0..3_u8 {
            let journal = &journal;
            scope.spawn(move || {
                for number in 0..100_u8 {
                    put(journal, Tree::Log, &[thread, number], &[thread; 90]);
                    assert_eq!(
                        journal.get(Tree::Log, &[thread, number]).expect("a read"),
                        Some(vec![thread; 90])
                    );
                    if number % 5 == 0 {
                        journal.flush().expect("a flush succeeds");
                    }
                }
            });
        }
    });
    journal.flush().expect("a flush succeeds");
    drop(journal);
    assert_eq!(all(&open(root.path()), Tree::Log).len(), 300);
}

/// The kernel reports a failed sync once. Whoever flushes after that has nothing left to write, and must hear of it all
/// the same: what it wrote before may be lost.
#[test]
fn after_a_failed_sync_nothing_counts_as_durable() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let journal = open(root.path());
    put(&journal, Tree::Log, b"a", b"1");
    // It takes what is written to it and cannot be synced.
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .expect("it is there");
    {
        let mut inner = journal.inner.lock();
        let active = inner.active;
        let segment = inner.segments.get_mut(&active).expect("the active one");
        segment.file = Arc::new(null);
    }
    assert!(matches!(journal.flush(), Err(StorageError::Io { .. })));
    assert!(matches!(
        journal.flush(),
        Err(StorageError::Poisoned { .. })
    ));
    let more = journal.write(Tree::Log, &[(b"b".to_vec(), Some(value(b"2")))]);
    assert!(matches!(more, Err(StorageError::Poisoned { .. })));
}

/// A trimmed segment whose removal never reached the disk is there again after a power cut, and what followed it, with
/// the removals of what is in it, may be gone.
#[test]
fn a_trimmed_segment_brings_nothing_back_without_its_successor() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let journal = open(root.path());
    put(&journal, Tree::Log, b"a", b"old");
    journal.flush().expect("a flush succeeds");
    drop(journal);
    let (first, bytes) = last_segment(root.path());
    let journal = open(root.path());
    remove(&journal, Tree::Log, b"a");
    journal.flush().expect("a flush succeeds");
    drop(journal);
    let journal = open(root.path());
    put(&journal, Tree::Log, b"b", b"new");
    journal.flush().expect("a flush succeeds");
    drop(journal);
    drop(open(root.path()));
    assert!(!first.exists(), "it was trimmed");
    fs::write(&first, bytes).expect("it is written");
    let journal = open(root.path());
    assert_eq!(all(&journal, Tree::Log), [(b"b".to_vec(), b"new".to_vec())]);
    drop(journal);
    assert!(!first.exists(), "it is removed again");
}
