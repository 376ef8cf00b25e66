//! The state against a `BTreeMap`, on both engines: transactions that read their own writes,
//! the digest, reopenings, imports.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesto_storage::{Applied, Digest, Order, State, StorageError};

use crate::disks::{Dice, Disk, Opened};

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
    assert_eq!(state.applied(), applied(index));
    state.read(|view| {
        assert_eq!(view.applied().index, index);
        assert_eq!(view.digest(), digest_of(model));
    });
}

fn open(opened: &Opened) -> State {
    State::open(Arc::clone(&opened.engine)).expect("the state opens")
}

fn run(disk: &Disk, seed: u64, commits: u64) {
    let dice = Dice::new(seed);
    let mut model = Model::new();
    let mut opened = disk.open();
    let mut state = open(&opened);
    for index in 1..=commits {
        random_commit(&state, &mut model, &dice, index);
        check(&state, &model, index);
        if dice.below(12) == 0 {
            drop(state);
            drop(opened);
            opened = disk.open();
            state = open(&opened);
            check(&state, &model, index);
        }
    }
}

#[test]
fn on_the_memory_disk() {
    for seed in 0..100 {
        run(&Disk::memory(), seed, 40);
    }
}

#[test]
fn on_sled() {
    for seed in 0..4 {
        run(&Disk::sled(), seed, 40);
    }
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
    let state = open(&opened);
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
fn the_applied_index_never_goes_back() {
    let opened = Disk::memory().open();
    let state = open(&opened);
    state
        .commit(state.transaction(), applied(5))
        .expect("a commit succeeds");
    let back = state.commit(state.transaction(), applied(4));
    assert!(matches!(back, Err(StorageError::Misuse { .. })));
}

#[test]
fn what_is_too_large_is_latched_and_refused() {
    let opened = Disk::memory().open();
    let state = open(&opened);
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
    let state = State::open(disk.engine()).expect("the state opens");
    let mut transaction = state.transaction();
    transaction.put(b"a", vec![1]);
    disk.process_crash();
    assert_eq!(transaction.get(b"b"), None);
    assert!(transaction.error().is_some());
    assert!(transaction.scan(&[], &[], Order::Ascending, 10).is_empty());
    assert!(state.commit(transaction, applied(1)).is_err());
}
