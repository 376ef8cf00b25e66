//! Damaged values: noticed, named, and never taken for an empty store.

use std::sync::Arc;

use mesto_storage::{
    Batch, Engine, Log, LogOptions, MemoryDisk, Order, State, StateOptions, StorageError, Tree,
    Value,
};
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest,
};

use crate::disks::{Kept, answer, ignore, record, settle};
use crate::state_model::applied;

fn filled() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (log, mut writer) = Log::open(disk.engine(), LogOptions::default()).expect("the log opens");
    for index in 1..=30 {
        let size = if index % 10 == 0 { 20_000 } else { 200 };
        log.append(vec![record(index, vec![7; size])], ignore());
        settle(&mut writer);
    }
    log.purge_to(3, b"mark".to_vec(), ignore());
    log.put_meta("vote", b"me".to_vec(), true, ignore());
    settle(&mut writer);
    let mut state = Kept::open(disk.engine());
    let mut transaction = state.transaction();
    transaction.put(b"a", vec![1; 50]);
    state
        .commit(transaction, applied(3))
        .expect("a commit succeeds");
    state.carry().expect("the layer is carried");
    disk.engine().flush().expect("a flush succeeds");
    disk
}

fn open_state(disk: &MemoryDisk) -> Result<Kept, StorageError> {
    Kept::try_open(disk.engine(), StateOptions::default())
}

fn open_log(disk: &MemoryDisk) -> Result<Log, StorageError> {
    Log::open(disk.engine(), LogOptions::default()).map(|(log, _writer)| log)
}

#[test]
fn every_flipped_bit_in_the_log_is_noticed() {
    for seed in 0..400 {
        let disk = filled();
        disk.corrupt_value(Tree::Log, seed)
            .expect("there is a value");
        match open_log(&disk) {
            Err(error @ StorageError::Corruption { .. }) => {
                assert!(
                    error.to_string().contains("record"),
                    "it names the record: {error}"
                );
            }
            Err(other) => panic!("seed {seed}: {other}"),
            Ok(_) => panic!("seed {seed}: the damage went unnoticed"),
        }
    }
}

#[test]
fn every_flipped_bit_in_a_fact_is_noticed() {
    for seed in 0..200 {
        let disk = filled();
        let key = disk
            .corrupt_value(Tree::Meta, seed)
            .expect("there is a value");
        let outcome = open_log(&disk).and_then(|log| log.get_meta("vote"));
        assert!(
            matches!(outcome, Err(StorageError::Corruption { .. })),
            "seed {seed}, key {}",
            String::from_utf8_lossy(&key)
        );
    }
}

#[test]
fn every_missing_chunk_in_the_middle_is_noticed() {
    let keys: Vec<_> = pairs(&filled(), Tree::Log)
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    // What is cut off at the end looks like a shorter log; the layer above knows its commits.
    let last = keys.len() - 1;
    for key in &keys[..last] {
        let disk = filled();
        let mut batch = Batch::default();
        batch.delete(key.clone());
        disk.engine()
            .write(Tree::Log, batch)
            .expect("a batch is written");
        let outcome = open_log(&disk).map(|log| log.last().map(|record| record.index));
        let torn_tail = matches!(outcome, Ok(Some(29)));
        let noticed = matches!(outcome, Err(StorageError::Corruption { .. }));
        let in_last_record = key[..8] == 30_u64.to_be_bytes();
        assert!(
            noticed || (in_last_record && torn_tail),
            "{key:?}: {outcome:?}"
        );
    }
}

/// A chunk under another's key is not taken for it.
#[test]
fn a_moved_chunk_is_noticed() {
    let disk = filled();
    let stored = pairs(&disk, Tree::Log);
    let value = Value::try_from(stored[1].1.clone()).expect("it was a value");
    disk.engine()
        .insert(Tree::Log, &stored[2].0, value)
        .expect("an insert succeeds");
    assert!(matches!(
        open_log(&disk),
        Err(StorageError::Corruption { .. })
    ));
}

#[test]
fn a_chunk_that_is_cut_off_anywhere_is_noticed() {
    let disk = filled();
    let (key, whole) = pairs(&disk, Tree::Log)[0].clone();
    for length in 0..whole.len() {
        let value = Value::try_from(whole[..length].to_vec()).expect("shorter than before");
        disk.engine()
            .insert(Tree::Log, &key, value)
            .expect("an insert succeeds");
        let opened = open_log(&disk);
        assert!(
            matches!(opened, Err(StorageError::Corruption { .. })),
            "{length} bytes"
        );
    }
}

/// The checksum is right, and the chunk is still none that is ever written.
#[test]
fn whole_records_under_the_key_of_a_fragment_are_noticed() {
    let disk = filled();
    let (key, mut value) = pairs(&disk, Tree::Log)[0].clone();
    let mut fragment = key.clone();
    fragment[9] = 1;
    seal(&fragment, &mut value);
    let mut batch = Batch::default();
    batch.delete(key);
    batch.put(fragment, Value::try_from(value).expect("as long as before"));
    disk.engine()
        .write(Tree::Log, batch)
        .expect("a batch is written");
    let Err(error) = open_log(&disk) else {
        panic!("it went unnoticed")
    };
    assert!(error.to_string().contains("unknown kind"), "{error}");
}

/// Gives a chunk of the log the checksum that it should have.
fn seal(key: &[u8], value: &mut [u8]) {
    let sum = crc32c::crc32c_append(crc32c::crc32c(key), &value[..2]);
    let sum = crc32c::crc32c_append(sum, &value[6..]);
    value[2..6].copy_from_slice(&sum.to_le_bytes());
}

/// A log that begins at record 1 with these fragments: index, number, length of the whole record,
/// length of the part.
fn fragments(parts: &[(u64, u16, u32, usize)]) -> Result<Vec<usize>, StorageError> {
    let disk = MemoryDisk::new();
    let (log, mut writer) = Log::open(disk.engine(), LogOptions::default())?;
    log.append(vec![record(1, vec![])], ignore());
    settle(&mut writer);
    drop((log, writer));
    let mut batch = Batch::default();
    batch.delete(pairs(&disk, Tree::Log)[0].0.clone());
    for (index, number, total, part) in parts {
        let key = [&index.to_be_bytes()[..], &number.to_be_bytes()].concat();
        let mut value = [
            &[1, 2, 0, 0, 0, 0],
            &total.to_le_bytes()[..],
            &vec![7; *part],
        ]
        .concat();
        seal(&key, &mut value);
        batch.put(key, Value::try_from(value)?);
    }
    disk.engine().write(Tree::Log, batch)?;
    let records = open_log(&disk)?.read(0, 9, usize::MAX)?;
    Ok(records.iter().map(|record| record.bytes.len()).collect())
}

#[test]
fn fragments_that_do_not_make_one_record_are_noticed() {
    assert_eq!(
        fragments(&[(1, 0, 10, 5), (1, 1, 10, 5)]).ok(),
        Some(vec![10])
    );
    let longest = u32::try_from(mesto_storage::MAX_RECORD_BYTES).expect("a mebibyte");
    assert_eq!(
        fragments(&[(1, 0, longest, 5)]).ok(),
        Some(vec![]),
        "it is torn"
    );
    for (what, parts) in [
        ("one is left out", vec![(1, 0, 10, 5), (1, 2, 10, 5)]),
        (
            "another length",
            vec![(1, 0, 10, 5), (1, 1, 11, 5), (1, 2, 10, 5)],
        ),
        ("another record", vec![(1, 0, 10, 5), (2, 1, 10, 5)]),
        ("no first one", vec![(1, 1, 10, 5), (1, 2, 10, 5)]),
        ("longer than it says", vec![(1, 0, 10, 5), (1, 1, 10, 6)]),
        ("longer than any", vec![(1, 0, longest + 1, 5)]),
    ] {
        let found = fragments(&parts);
        assert!(
            matches!(found, Err(StorageError::Corruption { .. })),
            "{what}: {found:?}"
        );
    }
}

#[test]
fn a_lost_beginning_is_noticed() {
    let disk = MemoryDisk::new();
    let (log, mut writer) = Log::open(disk.engine(), LogOptions::default()).expect("the log opens");
    for index in 5..=9 {
        log.append(vec![record(index, vec![])], ignore());
        settle(&mut writer);
    }
    let mut batch = Batch::default();
    batch.delete(pairs(&disk, Tree::Log)[0].0.clone());
    disk.engine()
        .write(Tree::Log, batch)
        .expect("a batch is written");
    assert!(matches!(
        open_log(&disk),
        Err(StorageError::Corruption { .. })
    ));
}

#[test]
fn a_damaged_or_lost_head_of_the_state_is_noticed() {
    let disk = filled();
    let head = pairs(&disk, Tree::State)[0].clone();
    for bit in 0..head.1.len() * 8 {
        let mut value = head.1.clone();
        value[bit / 8] ^= 1 << (bit % 8);
        let value = Value::try_from(value).expect("as long as before");
        disk.engine()
            .insert(Tree::State, &head.0, value)
            .expect("an insert succeeds");
        let opened = open_state(&disk);
        assert!(
            matches!(opened, Err(StorageError::Corruption { .. })),
            "bit {bit}"
        );
    }
    let mut batch = Batch::default();
    batch.delete(head.0);
    disk.engine()
        .write(Tree::State, batch)
        .expect("a batch is written");
    assert!(matches!(
        open_state(&disk),
        Err(StorageError::Corruption { .. })
    ));
}

/// A record that was cut off by a crash at the very end was never acknowledged: it goes.
#[test]
fn a_torn_last_record_is_removed() {
    let disk = MemoryDisk::new();
    let (log, mut writer) = Log::open(disk.engine(), LogOptions::default()).expect("the log opens");
    log.append(
        vec![record(1, vec![1; 100]), record(2, vec![2; 40_000])],
        ignore(),
    );
    settle(&mut writer);
    let stored = pairs(&disk, Tree::Log);
    let mut batch = Batch::default();
    batch.delete(stored[stored.len() - 1].0.clone());
    disk.engine()
        .write(Tree::Log, batch)
        .expect("a batch is written");
    let (log, mut writer) = Log::open(disk.engine(), LogOptions::default()).expect("the log opens");
    assert_eq!(log.last().map(|record| record.index), Some(1));
    log.append(vec![record(2, vec![3; 10])], ignore());
    settle(&mut writer);
    drop((log, writer));
    let log = open_log(&disk).expect("the log opens");
    assert_eq!(
        log.last().map(|record| record.bytes.to_vec()),
        Some(vec![3; 10])
    );
}

#[test]
fn values_and_keys_above_their_limits_are_refused() {
    assert!(Value::try_from(vec![0; mesto_storage::MAX_VALUE_BYTES]).is_ok());
    let too_large = Value::try_from(vec![0; mesto_storage::MAX_VALUE_BYTES + 1]);
    assert!(matches!(
        too_large,
        Err(StorageError::TooLarge {
            limit_bytes: 7168,
            ..
        })
    ));
    for disk in [crate::disks::Disk::memory(), crate::disks::Disk::sled()] {
        let engine = disk.open().engine;
        let long = vec![0; mesto_storage::MAX_KEY_BYTES + 1];
        let value = || Value::try_from(vec![1]).expect("a short value");
        assert!(engine.insert(Tree::Meta, &long, value()).is_err());
        let mut batch = Batch::default();
        batch.put(long, value());
        assert!(engine.write(Tree::Meta, batch).is_err());
        assert!(
            engine.insert(Tree::Meta, b"short", value()).is_ok(),
            "that was not final"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever stands in the trees, opening them answers and never panics.
    #[test]
    fn rubbish_never_panics(
        stored in prop::collection::vec(
            (0..3_usize, rubbish_key(), prop::collection::vec(any::<u8>(), 0..80)),
            1..6,
        ),
    ) {
        let disk = MemoryDisk::new();
        for (tree, key, value) in stored {
            let value = Value::try_from(value).expect("a short value");
            disk.engine().insert(Tree::ALL[tree], &key, value).expect("an insert succeeds");
        }
        if let Ok(log) = open_log(&disk) {
            prop_assert_eq!(log.first_index().is_some(), log.last().is_some());
        }
        if let Ok(state) = open_state(&disk) {
            prop_assert_eq!(state.applied().index, 0);
        }
    }
}

fn rubbish_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![0]),
        Just(b"log.purge".to_vec()),
        Just(b"log.base".to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
        prop::collection::vec(any::<u8>(), 10),
    ]
}

/// A disk that refuses a layer ends the state: whoever waits is told, and nothing is committed
/// any more. What was there before is there after the next open.
#[test]
fn a_layer_that_cannot_be_written_ends_the_state() {
    for writes in 0..4 {
        let disk = filled();
        let mut state = Kept::open(disk.engine());
        let digest = state.digest();
        let mut transaction = state.transaction();
        transaction.put(b"b", vec![2]);
        transaction.put(b"c", vec![2]);
        state
            .commit(transaction, applied(4))
            .expect("a commit is memory only");
        disk.fail_write_after(writes);
        let persisted = state.carry();
        let expected = writes >= 2;
        assert_eq!(persisted.is_ok(), expected, "{writes}: {persisted:?}");
        assert!(state.stats().failed);
        let again = state.commit(state.transaction(), applied(5));
        assert!(matches!(again, Err(StorageError::Poisoned { .. })));
        for wait in [State::when_room, State::persist] {
            let (done, receiver) = answer();
            wait(&state, done);
            let told = receiver.try_recv().expect("an answer at once");
            assert!(matches!(told, Err(StorageError::Poisoned { .. })));
        }
        assert!(!state.writer.step(), "nothing is tried again");
        drop(state);
        disk.process_crash();
        let state = Kept::open(disk.engine());
        if persisted.is_ok() {
            assert_eq!(state.applied(), applied(4));
        } else {
            assert_eq!((state.applied(), state.digest()), (applied(3), digest));
        }
    }
}

/// Whatever of a layer's pieces is damaged while the head names them, the open is refused.
#[test]
fn every_flipped_bit_in_a_piece_is_noticed() {
    let disk = filled();
    let mut state = Kept::open(disk.engine());
    let mut transaction = state.transaction();
    for number in 0..3_u8 {
        transaction.put(&[b'b', number], vec![number; 5_000]);
    }
    transaction.delete(b"a");
    state
        .commit(transaction, applied(4))
        .expect("a commit succeeds");
    let (done, receiver) = answer();
    state.persist(done);
    while receiver.try_recv().is_err() {
        assert!(state.writer.step());
    }
    drop(state);
    let sound = pairs(&disk, Tree::State);
    let pieces: Vec<_> = sound
        .iter()
        .filter(|(key, _)| key.len() == 5 && key[0] == 0)
        .collect();
    assert_eq!(pieces.len(), 3);
    assert_eq!(
        open_state(&disk).expect("it is sound").applied(),
        applied(4)
    );
    let put = |key: &[u8], bytes: Vec<u8>| {
        let value = Value::try_from(bytes).expect("as long as before");
        disk.engine()
            .insert(Tree::State, key, value)
            .expect("an insert succeeds");
    };
    for (key, value) in pieces {
        for bit in (0..value.len() * 8).step_by(97) {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            put(key, damaged);
            let opened = open_state(&disk).map(drop);
            assert!(
                matches!(opened, Err(StorageError::Corruption { .. })),
                "bit {bit}"
            );
        }
        disk.engine()
            .remove(Tree::State, key)
            .expect("a removal succeeds");
        let opened = open_state(&disk).map(drop);
        assert!(
            matches!(opened, Err(StorageError::Corruption { .. })),
            "a piece is missing"
        );
        put(key, value.clone());
    }
    assert!(open_state(&disk).is_ok());
}

pub(crate) fn pairs(disk: &MemoryDisk, tree: Tree) -> Vec<(Vec<u8>, Vec<u8>)> {
    let engine: Arc<dyn Engine> = disk.engine();
    engine
        .scan(tree, &[], &[], Order::Ascending, usize::MAX)
        .expect("a scan succeeds")
}
