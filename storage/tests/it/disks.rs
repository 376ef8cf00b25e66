//! The two kinds of disk behind one face, so that each test runs on both.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use std::ops::Deref;

use mesto_storage::{
    DataDir, DataDirOptions, Done, Engine, Log, LogOptions, LogWriter, MemoryDisk, Record,
    SnapshotFiles, State, StateOptions, StateWriter, StorageError,
};

/// A disk that can be opened again and again.
pub(crate) enum Disk {
    Memory(MemoryDisk),
    Sled(tempfile::TempDir),
}

/// An open disk; everything from it must be dropped before the next open.
pub(crate) struct Opened {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) snapshots: Arc<dyn SnapshotFiles>,
    _directory: Option<DataDir>,
}

impl Disk {
    pub(crate) fn memory() -> Disk {
        Disk::Memory(MemoryDisk::new())
    }

    pub(crate) fn sled() -> Disk {
        Disk::Sled(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn open(&self) -> Opened {
        match self {
            Disk::Memory(disk) => Opened {
                engine: disk.engine(),
                snapshots: disk.snapshots(),
                _directory: None,
            },
            Disk::Sled(path) => {
                let directory = DataDir::open(path.path(), &DataDirOptions::default())
                    .expect("the directory opens");
                Opened {
                    engine: directory.engine(),
                    snapshots: directory.snapshots(),
                    _directory: Some(directory),
                }
            }
        }
    }
}

/// A log and its writer, stepped by hand.
pub(crate) fn open_log(opened: &Opened) -> (Log, LogWriter) {
    Log::open(Arc::clone(&opened.engine), small_options()).expect("the log opens")
}

/// A state and its writer, stepped by hand, beside a log that never holds it up.
pub(crate) struct Kept {
    pub(crate) state: State,
    pub(crate) writer: StateWriter,
    _log: (Log, LogWriter),
}

impl Deref for Kept {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl Kept {
    pub(crate) fn open(engine: Arc<dyn Engine>) -> Kept {
        Kept::try_open(engine, StateOptions::default()).expect("the state opens")
    }

    pub(crate) fn try_open(
        engine: Arc<dyn Engine>,
        options: StateOptions,
    ) -> Result<Kept, StorageError> {
        let log = Log::open(Arc::clone(&engine), LogOptions::default())?;
        let (state, writer) = State::open(engine, &log.0, options)?;
        Ok(Kept {
            state,
            writer,
            _log: log,
        })
    }

    /// Runs the writer on a thread of its own, which ends with the last handle.
    pub(crate) fn spawn(self) -> (State, std::thread::JoinHandle<()>) {
        let Kept {
            state,
            writer,
            _log: log,
        } = self;
        let thread = std::thread::spawn(move || {
            writer.run();
            drop(log);
        });
        (state, thread)
    }

    /// Carries everything into the engine.
    pub(crate) fn carry(&mut self) -> Result<(), StorageError> {
        let (done, receiver) = answer();
        self.state.persist(done);
        while self.writer.step() {}
        receiver.try_recv().expect("a settled writer has answered")
    }
}

/// Waits for room, as whoever commits must.
pub(crate) fn wait_for_room(state: &State) {
    let (done, room) = answer();
    state.when_room(done);
    room.recv()
        .expect("an answer comes")
        .expect("the writer is sound");
}

/// Options so small that every layer is soon full and every step small.
pub(crate) fn small_layers(dice: &Dice) -> StateOptions {
    StateOptions {
        max_layer_bytes: 500 + dice.size(6_000),
        portion_pairs: 1 + dice.size(9),
        ..StateOptions::default()
    }
}

/// Options so small that every limit is met.
pub(crate) fn small_options() -> LogOptions {
    LogOptions {
        cache_bytes: 4096,
        max_group_bytes: 64 * 1024,
        ..LogOptions::default()
    }
}

pub(crate) fn settle(writer: &mut LogWriter) {
    while writer.step() {}
}

/// A `Done` and the place where its answer arrives.
pub(crate) fn answer() -> (Done, Receiver<Result<(), StorageError>>) {
    let (sender, receiver) = channel();
    let done: Done = Box::new(move |result| {
        // The receiver may be gone when a test looks no further.
        let _ = sender.send(result);
    });
    (done, receiver)
}

pub(crate) fn ignore() -> Done {
    Box::new(drop)
}

/// Runs the writer until `receiver` has its answer.
pub(crate) fn wait(
    writer: &mut LogWriter,
    receiver: &Receiver<Result<(), StorageError>>,
) -> Result<(), StorageError> {
    settle(writer);
    receiver.try_recv().expect("a settled writer has answered")
}

pub(crate) fn record(index: u64, bytes: Vec<u8>) -> Record {
    Record {
        index,
        bytes: Bytes::from(bytes),
    }
}

/// A random number generator that needs no crate and replays from its seed.
#[derive(Clone)]
pub(crate) struct Dice(Rc<Cell<u64>>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(Rc::new(Cell::new(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        )))
    }

    pub(crate) fn roll(&self) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub(crate) fn below(&self, limit: u64) -> u64 {
        self.roll() % limit
    }

    pub(crate) fn size(&self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).expect("below a size")
    }

    pub(crate) fn bytes(&self, limit: usize) -> Vec<u8> {
        let length = self.size(limit);
        let first = self.roll().to_le_bytes();
        (0..length)
            .map(|place| first[place % 8] ^ (place / 8).to_le_bytes()[0])
            .collect()
    }
}
