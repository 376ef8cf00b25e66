//! openraft's suite for log stores and state machines, on both engines.

use std::sync::Arc;

use mesto_storage::{
    DataDir, DataDirOptions, Engine, Log, LogOptions, MemoryDisk, SnapshotFiles, State,
    StateOptions,
};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::harness::Register;
use crate::log_store::LogStore;
use crate::machine::{Blocking, Machine};
use crate::types::Types;

fn open(engine: Arc<dyn Engine>, snapshots: Arc<dyn SnapshotFiles>) -> (LogStore, Machine) {
    let (log, writer) =
        Log::open(Arc::clone(&engine), LogOptions::default()).expect("an empty log opens");
    std::thread::spawn(move || writer.run());
    let (state, carrier) =
        State::open(engine, &log, StateOptions::default()).expect("an empty state opens");
    std::thread::spawn(move || carrier.run());
    let (machine, _) = Machine::open(
        state.clone(),
        Arc::new(Register),
        snapshots,
        Blocking::Threads,
    )
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_on_sled_conforms() {
    Suite::test_all(OnSled).await.expect("the suite passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_in_memory_conforms() {
    Suite::test_all(InMemory).await.expect("the suite passes");
}
