//! openraft's suite for log stores and state machines, on both engines.

use std::ops::Bound;
use std::sync::Arc;

use futures_util::stream;
use mesto_storage::{
    DataDir, DataDirOptions, Engine, Log, LogOptions, MemoryDisk, SnapshotFiles, State,
    StateOptions,
};
use openraft::storage::{RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader, StorageError};
use tempfile::TempDir;

use super::harness::Register;
use crate::log_store::LogStore;
use crate::machine::{Blocking, Machine};
use crate::types::{Entry, StoredLogId, Types};

fn open(engine: Arc<dyn Engine>, snapshots: Arc<dyn SnapshotFiles>) -> (LogStore, Machine) {
    open_with(engine, snapshots, Blocking::Threads)
}

fn open_with(
    engine: Arc<dyn Engine>,
    snapshots: Arc<dyn SnapshotFiles>,
    blocking: Blocking,
) -> (LogStore, Machine) {
    let (log, writer) =
        Log::open(Arc::clone(&engine), LogOptions::default()).expect("an empty log opens");
    std::thread::spawn(move || writer.run());
    let (state, carrier) =
        State::open(engine, &log, StateOptions::default()).expect("an empty state opens");
    std::thread::spawn(move || carrier.run());
    let (machine, _) = Machine::open(state.clone(), Arc::new(Register), snapshots, blocking)
        .expect("an empty machine opens");
    (LogStore::new(log, state, 1 << 20), machine)
}

struct OnSled;

impl StoreBuilder<Types, LogStore, Machine, (TempDir, DataDir)> for OnSled {
    async fn build(&self) -> Result<((TempDir, DataDir), LogStore, Machine), StorageError<Types>> {
        let folder = TempDir::new().expect("a temporary folder");
        let data =
            DataDir::open(folder.path(), &DataDirOptions::default()).expect("a fresh folder opens");
        let (log, machine) = open(data.engine(), data.snapshots());
        Ok(((folder, data), log, machine))
    }
}

struct InMemory;

impl StoreBuilder<Types, LogStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<Types>> {
        let disk = MemoryDisk::new();
        let (log, machine) = open(disk.engine(), disk.snapshots());
        Ok(((), log, machine))
    }
}

fn blanks(count: u64) -> impl Iterator<Item = Entry> {
    (1..=count).map(|index| Entry {
        log_id: StoredLogId { term: 1, index }.into(),
        payload: EntryPayload::Blank,
    })
}

/// A damaged snapshot is built again at the index where it was, under the name that it had.
#[tokio::test]
async fn a_snapshot_that_is_built_again_takes_its_own_place() {
    let disk = MemoryDisk::new();
    let files = disk.snapshots();
    let (mut log, mut machine) = open_with(disk.engine(), Arc::clone(&files), Blocking::Inline);
    log.blocking_append(blanks(3))
        .await
        .expect("it is appended");
    let committed = stream::iter(blanks(3).map(|entry| Ok((entry, None))));
    machine.apply(committed).await.expect("it is applied");
    for _ in 0..2 {
        let mut builder = machine.get_snapshot_builder().await;
        builder.build_snapshot().await.expect("it is built");
    }
    let current = machine.get_current_snapshot().await.expect("it is found");
    let name = current.expect("there is one").snapshot.name;
    assert_eq!(files.list().ok(), Some(vec![name.clone()]));
    // Nothing was applied after it, and it is found again.
    drop((log, machine));
    let (_log, mut machine) = open_with(disk.engine(), files, Blocking::Inline);
    let (applied, _) = machine.applied_state().await.expect("it is read");
    assert_eq!(applied.map(|id| id.index), Some(3));
    let current = machine.get_current_snapshot().await.expect("it is found");
    assert_eq!(current.map(|found| found.snapshot.name), Some(name));
}

#[tokio::test]
async fn a_range_of_entries_has_the_ends_that_it_names() {
    let disk = MemoryDisk::new();
    let (mut log, _machine) = open(disk.engine(), disk.snapshots());
    log.blocking_append(blanks(5))
        .await
        .expect("it is appended");
    for (range, expected) in [
        ((Bound::Excluded(2), Bound::Excluded(5)), 3..=4),
        ((Bound::Included(2), Bound::Included(4)), 2..=4),
        ((Bound::Unbounded, Bound::Unbounded), 1..=5),
        ((Bound::Included(4), Bound::Included(9)), 4..=5),
    ] {
        let found = log.try_get_log_entries(range).await.expect("it is read");
        assert!(found.iter().map(|entry| entry.log_id.index).eq(expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_on_sled_conforms() {
    Suite::test_all(OnSled).await.expect("the suite passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_in_memory_conforms() {
    Suite::test_all(InMemory).await.expect("the suite passes");
}
