//! The state against a `BTreeMap`, on both engines: transactions that read their own writes,
//! the digest, layers carried at any moment, reopenings, room and back pressure.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesto_storage::{Applied, Digest, Order, State, StateOptions, StorageError};

use crate::disks::{Dice, Disk, Kept, Opened, answer, small_layers};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) fn digest_of(model: &Model) -> Digest {
    let mut digest = Digest::EMPTY;
    for (key, value) in model {
        digest.add(key, value);
    }
    digest
}

pub(crate) fn applied(index: u64) -> Applied {
    Applied {
        index,
        now_ms: index * 10,
        record: format!("log id {index}").into_bytes(),
    }
}

fn random_key(dice: &Dice) -> Vec<u8> {
    format!("key/{:03}", dice.below(150)).into_bytes()
}

/// Puts and deletes some keys, in the state and in the model, and reads in between.
pub(crate) fn random_commit(state: &State, model: &mut Model, dice: &Dice, index: u64) {
    let mut transaction = state.transaction();
    for _ in 0..=dice.below(20) {
        let key = random_key(dice);
        match dice.below(6) {
            0 => {
                transaction.delete(&key);
                model.remove(&key);
            }
            1 => assert_eq!(transaction.get(&key), model.get(&key).cloned()),
            2 => {
                let to = if dice.below(3) == 0 {
                    Vec::new()
                } else {
                    random_key(dice)
                };
                let limit = dice.size(12);
                for order in [Order::Ascending, Order::Descending] {
                    let got = transaction.scan(&key, &to, order, limit);
                    assert_eq!(got, scan_model(model, &key, &to, order, limit));
                }
            }
            _ => {
                let value = dice.bytes(60);
                transaction.put(&key, value.clone());
                model.insert(key, value);
            }
        }
    }
    state
        .commit(transaction, applied(index))
        .expect("a commit succeeds");
}

fn scan_model(
    model: &Model,
    from: &[u8],
    to: &[u8],
    order: Order,
    limit: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs: Vec<_> = model
        .iter()
        .filter(|(key, _)| key.as_slice() >= from && (to.is_empty() || key.as_slice() < to))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if order == Order::Descending {
        pairs.reverse();
    }
    pairs.truncate(limit);
    pairs
}

pub(crate) fn content(state: &State) -> Model {
    state.read(|view| {
        let pairs = view
            .scan(&[], &[], Order::Ascending, usize::MAX)
            .expect("scans succeed");
        pairs.into_iter().collect()
    })
}

pub(crate) fn check(state: &State, model: &Model, index: u64) {
    assert!(content(state) == *model, "every pair as put");
    assert_eq!(state.digest(), digest_of(model));
    let expected = match index {
        0 => Applied::default(),
        _ => applied(index),
    };
    assert_eq!(state.applied(), expected);
    state.read(|view| {
        assert_eq!(view.applied().index, index);
        assert_eq!(view.digest(), digest_of(model));
    });
}

fn open(opened: &Opened, options: StateOptions) -> Kept {
    Kept::try_open(Arc::clone(&opened.engine), options).expect("the state opens")
}

fn random_scan(state: &State, model: &Model, dice: &Dice) {
    let from = random_key(dice);
    let to = if dice.below(3) == 0 {
        Vec::new()
    } else {
        random_key(dice)
    };
    let limit = dice.size(30);
    for order in [Order::Ascending, Order::Descending] {
        let got = state.read(|view| view.scan(&from, &to, order, limit));
        let expected = scan_model(model, &from, &to, order, limit);
        assert_eq!(got.expect("scans succeed"), expected);
    }
    let got = state.read(|view| view.get(&from)).expect("reads succeed");
    assert_eq!(got, model.get(&from).cloned());
}

/// Commits, carries some of it, ends and opens again, over and over. `reopen` ends the life of
/// the disk; what comes back must be a commit that was, and the last one if all was carried.
fn run(disk: &Disk, seed: u64, commits: u64, reopen: impl Fn(&Dice)) {
    let dice = Dice::new(seed);
    let mut models = vec![Model::new()];
    let mut opened = disk.open();
    let mut state = open(&opened, small_layers(&dice));
    let mut carried = 0;
    for _ in 0..commits {
        let index = models.len() as u64;
        let mut model = models.last().cloned().unwrap_or_default();
        random_commit(&state, &mut model, &dice, index);
        for _ in 0..dice.below(12) {
            random_scan(&state, &model, &dice);
            state.writer.step();
        }
        check(&state, &model, index);
        models.push(model);
        if dice.below(8) == 0 {
            let all = dice.below(2) == 0;
            if all {
                state.carry().expect("all is carried");
                assert_eq!(state.stats().layers, 1);
                assert_eq!(state.stats().layer_bytes, 0);
            }
            carried += state.stats().carried_layers;
            drop(state);
            drop(opened);
            if !all {
                reopen(&dice);
            }
            opened = disk.open();
            state = open(&opened, small_layers(&dice));
            let found = state.applied().index;
            assert!(
                found <= index && (!all || found == index),
                "{found} after {index}"
            );
            assert_eq!(state.stats().persisted_index, found);
            models.truncate(usize::try_from(found).expect("a small number") + 1);
            check(&state, models.last().expect("never empty"), found);
        }
    }
    assert!(carried > 0, "seed {seed} carried nothing");
}

#[test]
fn on_the_memory_disk() {
    for seed in 0..100 {
        let memory = mesto_storage::MemoryDisk::new();
        let disk = Disk::Memory(memory.clone());
        run(&disk, seed, 60, |dice| match dice.below(3) {
            0 => memory.process_crash(),
            1 => {
                memory.power_cut(dice.roll());
            }
            _ => {}
        });
    }
}

#[test]
fn on_sled() {
    for seed in 0..4 {
        run(&Disk::sled(), seed, 60, |_| {});
    }
}

/// A layer that is full is carried by itself, and whoever commits waits while two are.
#[test]
fn memory_is_bounded_by_waiting_for_the_writer() {
    let options = StateOptions {
        max_layer_bytes: 20_000,
        portion_pairs: 4,
        ..StateOptions::default()
    };
    let bound = 2 * options.max_layer_bytes + 5_000;
    let opened = Disk::memory().open();
    let mut state = open(&opened, options);
    let (mut waits, mut most, mut model) = (0, 0, Model::new());
    for index in 1..=400_u64 {
        let (done, room) = answer();
        state.when_room(done);
        if room.try_recv().is_err() {
            waits += 1;
            while room.try_recv().is_err() {
                assert!(state.writer.step(), "there is work for the writer");
            }
        }
        let mut transaction = state.transaction();
        for part in 0..4_u64 {
            let key = format!("{:04}/{part}", index % 150).into_bytes();
            transaction.put(&key, vec![7; 200]);
            model.insert(key, vec![7; 200]);
        }
        state
            .commit(transaction, applied(index))
            .expect("a commit succeeds");
        most = most.max(state.stats().layer_bytes);
    }
    assert!(waits > 3, "it never had to wait: {waits}");
    assert!(most <= bound, "{most} bytes in memory");
    assert!(most > bound / 3, "only {most} bytes in memory");
    let stats = state.stats();
    assert!(
        stats.carried_layers > 3 && stats.carried_pairs > 100,
        "{stats:?}"
    );
    state.carry().expect("all is carried");
    check(&state, &model, 400);
}

/// Whoever waits for an index is told when the engine has it, not earlier, and not when more was
/// asked for than was applied.
#[test]
fn persisting_waits_for_the_engine() {
    let opened = Disk::memory().open();
    let mut state = open(&opened, StateOptions::default());
    let (done, nothing) = answer();
    state.persist_to(7, done);
    assert!(nothing.try_recv().is_ok(), "nothing was applied yet");
    let mut model = Model::new();
    let dice = Dice::new(1);
    random_commit(&state, &mut model, &dice, 1);
    let (done, first) = answer();
    state.persist_to(1, done);
    random_commit(&state, &mut model, &dice, 2);
    let (done, second) = answer();
    state.persist_to(9, done);
    assert!(first.try_recv().is_err() && second.try_recv().is_err());
    while first.try_recv().is_err() {
        assert!(state.writer.step());
    }
    assert!(second.try_recv().is_err(), "that is another layer");
    assert_eq!(state.stats().persisted_index, 1);
    while state.writer.step() {}
    assert!(second.try_recv().is_ok_and(|told| told.is_ok()));
    let (done, again) = answer();
    state.persist_to(2, done);
    assert!(again.try_recv().is_ok(), "it is there already");
    check(&state, &model, 2);
}

/// The same pairs give the same digest whatever way led there; other pairs another.
#[test]
fn the_digest_depends_on_the_pairs_only() {
    let mut one = Digest::EMPTY;
    one.add(b"a", b"1");
    one.add(b"b", b"2");
    one.subtract(b"a", b"1");
    let mut other = Digest::EMPTY;
    other.add(b"b", b"2");
    assert_eq!(one, other);
    let mut shifted = Digest::EMPTY;
    shifted.add(b"b2", b"");
    assert_ne!(other, shifted, "the border between key and value counts");
    assert_eq!(Digest::from_bytes(one.to_bytes()), one);
}

#[test]
fn a_stale_transaction_cannot_be_committed() {
    let opened = Disk::memory().open();
    let state = open(&opened, StateOptions::default());
    let mut stale = state.transaction();
    stale.put(b"a", vec![1]);
    state
        .commit(state.transaction(), applied(1))
        .expect("an empty group is fine");
    assert!(matches!(
        state.commit(stale, applied(2)),
        Err(StorageError::Misuse { .. })
    ));
    assert!(content(&state).is_empty());
}

#[test]
fn the_applied_index_always_advances() {
    let opened = Disk::memory().open();
    let state = open(&opened, StateOptions::default());
    state
        .commit(state.transaction(), applied(5))
        .expect("a commit succeeds");
    for index in [4, 5] {
        let back = state.commit(state.transaction(), applied(index));
        assert!(matches!(back, Err(StorageError::Misuse { .. })));
    }
}

#[test]
fn what_is_too_large_is_latched_and_refused() {
    let opened = Disk::memory().open();
    let state = open(&opened, StateOptions::default());
    let mut transaction = state.transaction();
    transaction.put(b"a", vec![0; mesto_storage::MAX_VALUE_BYTES]);
    assert!(transaction.error().is_none(), "the limit itself is allowed");
    transaction.put(b"b", vec![0; mesto_storage::MAX_VALUE_BYTES + 1]);
    assert!(matches!(
        transaction.error(),
        Some(StorageError::TooLarge { .. })
    ));
    assert!(state.commit(transaction, applied(1)).is_err());
    assert!(content(&state).is_empty());

    let mut transaction = state.transaction();
    transaction.put(&[7; mesto_storage::MAX_KEY_BYTES], vec![]);
    assert!(state.commit(transaction, applied(1)).is_err());
    let huge = Applied {
        record: vec![0; 4097],
        ..applied(1)
    };
    assert!(matches!(
        state.commit(state.transaction(), huge),
        Err(StorageError::TooLarge { .. })
    ));
}

/// After a failed read nothing is decided any more: reads answer nothing, the commit refuses.
#[test]
fn a_storage_error_is_latched() {
    let disk = mesto_storage::MemoryDisk::new();
    let state = Kept::open(disk.engine());
    let mut transaction = state.transaction();
    transaction.put(b"a", vec![1]);
    disk.process_crash();
    assert_eq!(transaction.get(b"b"), None);
    assert!(transaction.error().is_some());
    assert!(transaction.scan(&[], &[], Order::Ascending, 10).is_empty());
    assert!(state.commit(transaction, applied(1)).is_err());
}
