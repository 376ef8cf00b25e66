//! The one writer: carries frozen layers into the engine, in the background.
//!
//! ```text
//!   oldest frozen layer ──► what it was decided from is durable in the log
//!                       ──► its pieces, then the head that names them    (persisted)
//!                       ──► its pairs, then the head without pieces      (carried, forgotten)
//! ```
//! It works in small portions and pauses between them, so that it takes no more than half of a
//! processor and of the engine's attention, unless commits are about to run out of room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::head::{self, stored_key};
use super::layer::Frozen;
use super::redo::RedoWriter;
use super::{Inner, StateStats};
use crate::{Done, Log, StorageError, Tree, Value};

/// The longest pause between two portions, whatever the last one took.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Who waits for the writer, and whether it has work.
#[derive(Default)]
pub(super) struct Waiting {
    /// Until the engine holds the state up to an index.
    persist: Vec<(u64, Done)>,
    /// Until commits may go on.
    room: Vec<Done>,
    work: bool,
    closed: bool,
}

impl Waiting {
    pub(super) fn for_index(&mut self, index: u64, done: Done) {
        self.persist.push((index, done));
    }

    pub(super) fn for_room(&mut self, done: Done) {
        self.room.push(done);
    }

    pub(super) fn take_all(&mut self) -> Vec<Done> {
        let persist = std::mem::take(&mut self.persist).into_iter();
        let room = std::mem::take(&mut self.room);
        persist.map(|(_, done)| done).chain(room).collect()
    }

    fn take_up_to(&mut self, index: u64) -> Vec<Done> {
        let all = std::mem::take(&mut self.persist);
        let (ready, waiting) = all.into_iter().partition(|(wanted, _)| *wanted <= index);
        self.persist = waiting;
        let ready: Vec<(u64, Done)> = ready;
        ready.into_iter().map(|(_, done)| done).collect()
    }
}

pub(super) fn answer(waiting: Vec<Done>, result: &Result<(), StorageError>) {
    for done in waiting {
        done(result.clone());
    }
}

/// What the writer has done so far.
#[derive(Default)]
pub(super) struct Counts {
    layers: AtomicU64,
    pairs: AtomicU64,
    busy_us: AtomicU64,
}

impl Inner {
    /// Tells the writer that there is work.
    pub(super) fn notify(&self) {
        self.waiting.lock().work = true;
        self.work.notify_one();
        let wake = self.wake.lock().clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Tells the writer that nobody holds the state any more.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.notify();
    }

    /// Ends the state for good and answers everyone who waits.
    fn fail(&self, error: &StorageError) {
        self.live
            .write()
            .failed
            .get_or_insert_with(|| error.poison());
        let waiting = self.waiting.lock().take_all();
        answer(waiting, &Err(error.clone()));
    }

    fn is_oldest(&self, layer: &Arc<Frozen>) -> bool {
        let live = self.live.read();
        let oldest = live.frozen.front();
        oldest.is_some_and(|oldest| Arc::ptr_eq(oldest, layer))
    }

    pub(super) fn stats(&self) -> StateStats {
        let live = self.live.read();
        StateStats {
            layers: live.frozen.len() + 1,
            layer_bytes: live.bytes(),
            persisted_index: live.persisted.unwrap_or(0),
            carried_layers: self.counts.layers.load(Ordering::Relaxed),
            carried_pairs: self.counts.pairs.load(Ordering::Relaxed),
            carry_us: self.counts.busy_us.load(Ordering::Relaxed),
            failed: live.failed.is_some(),
        }
    }
}

/// Where the log's answer to the writer arrives.
type Answer = Arc<Mutex<Option<Result<(), StorageError>>>>;

enum Task {
    Idle,
    /// The log has been asked to say when the layer's entries are durable.
    Wait(Arc<Frozen>, Answer),
    /// Pieces are being written; the key is the last that was added.
    Redo(Arc<Frozen>, RedoWriter, Option<Vec<u8>>),
    /// Pairs are being carried; the key is the last that was.
    Carry(Arc<Frozen>, Option<Vec<u8>>),
}

/// Carries what [`super::State`] commits into the engine. There is exactly one, and dropping it
/// ends the state for good.
pub struct StateWriter {
    inner: Arc<Inner>,
    log: Log,
    task: Task,
}

impl Drop for StateWriter {
    fn drop(&mut self) {
        self.inner.fail(&StorageError::Closed);
    }
}

impl StateWriter {
    /// `unfinished`: a layer that the engine's head names already, but that was not carried.
    pub(super) fn new(inner: Arc<Inner>, log: Log, unfinished: Option<Arc<Frozen>>) -> StateWriter {
        let task = match unfinished {
            Some(layer) => Task::Carry(layer, None),
            None => Task::Idle,
        };
        StateWriter { inner, log, task }
    }

    /// Works until every handle of the state is gone or a write failed; what is not carried then
    /// comes back from the log. Blocks: give it a thread of its own.
    pub fn run(mut self) {
        loop {
            let began = Instant::now();
            let worked = self.step();
            if self.inner.live.read().failed.is_some() {
                return;
            }
            if worked {
                self.pause(began.elapsed());
                if self.inner.waiting.lock().closed {
                    return;
                }
                continue;
            }
            let mut waiting = self.inner.waiting.lock();
            while !waiting.work {
                if waiting.closed {
                    return;
                }
                self.inner.work.wait(&mut waiting);
            }
            waiting.work = false;
        }
    }

    /// One portion of work. `false` when there was nothing to do, the log does not have yet
    /// what the next layer needs, or the writer has failed. For simulations, which have no threads.
    pub fn step(&mut self) -> bool {
        if self.inner.live.read().failed.is_some() {
            return false;
        }
        let began = Instant::now();
        let outcome = self.advance();
        let busy = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.inner.counts.busy_us.fetch_add(busy, Ordering::Relaxed);
        match outcome {
            Ok(worked) => worked,
            Err(error) => {
                tracing::error!(%error, "the state cannot be written any more");
                self.inner.fail(&error);
                true
            }
        }
    }

    /// Sets who is told, from the caller's thread, that there is work for
    /// [`StateWriter::step`].
    pub fn on_work(&mut self, wake: Box<dyn Fn() + Send + Sync>) {
        *self.inner.wake.lock() = Some(Arc::from(wake));
    }

    /// Lets others have their turn, unless commits are about to wait for this writer.
    fn pause(&self, worked: Duration) {
        let pressed = {
            let live = self.inner.live.read();
            2 * live.bytes() > 3 * self.inner.options.max_layer_bytes
        };
        if !pressed {
            std::thread::sleep(worked.min(LONGEST_PAUSE));
        }
    }

    fn advance(&mut self) -> Result<bool, StorageError> {
        match std::mem::replace(&mut self.task, Task::Idle) {
            Task::Idle => self.begin(),
            Task::Wait(layer, answer) => {
                let answered = answer.lock().take();
                match answered {
                    None => {
                        self.task = Task::Wait(layer, answer);
                        Ok(false)
                    }
                    Some(written) => {
                        written?;
                        let redo = RedoWriter::new(&layer.head);
                        self.task = Task::Redo(layer, redo, None);
                        Ok(true)
                    }
                }
            }
            Task::Redo(layer, redo, last) => self.redo(layer, redo, last),
            Task::Carry(layer, last) => self.carry(layer, last.as_deref()),
        }
    }

    /// Takes up the oldest frozen layer; without one, removes some of what imports left over.
    fn begin(&mut self) -> Result<bool, StorageError> {
        let oldest = self.inner.live.read().frozen.front().cloned();
        let Some(layer) = oldest else {
            return self.inner.remove_leftovers();
        };
        let answer = Answer::default();
        let (place, inner) = (Arc::clone(&answer), Arc::downgrade(&self.inner));
        self.log.when_durable(
            layer.head.applied.index,
            Box::new(move |result| {
                *place.lock() = Some(result);
                if let Some(inner) = inner.upgrade() {
                    inner.notify();
                }
            }),
        );
        self.task = Task::Wait(layer, answer);
        Ok(true)
    }

    /// Writes some of the pieces; after the last of them the head that names them.
    fn redo(
        &mut self,
        layer: Arc<Frozen>,
        mut redo: RedoWriter,
        mut last: Option<Vec<u8>>,
    ) -> Result<bool, StorageError> {
        let engine = self.inner.engine.as_ref();
        let portion = self.inner.options.portion_pairs;
        let mut count = 0;
        let changes = layer.layer.after(last.as_deref());
        let mut newest = None;
        for (key, value) in changes.take(portion) {
            redo.add(engine, key, value)?;
            newest = Some(key);
            count += 1;
        }
        if count == portion {
            last = newest.map(<[u8]>::to_vec);
            self.task = Task::Redo(layer, redo, last);
            return Ok(true);
        }
        let pieces = redo.finish(engine)?;
        let head = layer.head.with_pieces(pieces).encode()?;
        let index = layer.head.applied.index;
        {
            let _base = self.inner.image.lock();
            if !self.inner.is_oldest(&layer) {
                // An import took over meanwhile; nothing names the pieces.
                return Ok(true);
            }
            engine.insert(Tree::State, head::KEY, head)?;
            self.inner.live.write().persisted = Some(index);
        }
        let waiting = self.inner.waiting.lock().take_up_to(index);
        answer(waiting, &Ok(()));
        self.task = Task::Carry(layer, None);
        Ok(true)
    }

    /// Writes some of the pairs; after the last of them the head without pieces.
    fn carry(&mut self, layer: Arc<Frozen>, last: Option<&[u8]>) -> Result<bool, StorageError> {
        let inner = Arc::clone(&self.inner);
        let engine = inner.engine.as_ref();
        let portion = inner.options.portion_pairs;
        let mut image = inner.image.lock();
        if !inner.is_oldest(&layer) {
            return Ok(true);
        }
        let mut count = 0;
        let mut newest = None;
        for (key, value) in layer.layer.after(last).take(portion) {
            if let Some(image) = image.as_mut() {
                image.save(engine, key, inner.options.max_image_bytes)?;
            }
            let stored = stored_key(layer.head.generation, key);
            match value {
                Some(value) => {
                    engine.insert(Tree::State, &stored, Value::try_from(value.to_vec())?)?;
                }
                None => engine.remove(Tree::State, &stored)?,
            }
            newest = Some(key);
            count += 1;
        }
        self.inner.counts.pairs.fetch_add(
            u64::try_from(count).expect("a count fits 64 bits"),
            Ordering::Relaxed,
        );
        if count == portion {
            let last = newest.map(<[u8]>::to_vec);
            self.task = Task::Carry(layer, last);
            return Ok(true);
        }
        engine.insert(Tree::State, head::KEY, layer.head.encode()?)?;
        // Still under the image's lock, so that no import can have put another layer in its place.
        let waiting = self.carried();
        drop(image);
        answer(waiting, &Ok(()));
        Ok(true)
    }

    /// Forgets the oldest layer, and returns the commits that may go on.
    fn carried(&self) -> Vec<Done> {
        let waiting = {
            let mut live = self.inner.live.write();
            live.frozen.pop_front();
            live.freeze_if_full(self.inner.options.max_layer_bytes);
            if live.has_room(self.inner.options.max_layer_bytes) {
                std::mem::take(&mut self.inner.waiting.lock().room)
            } else {
                Vec::new()
            }
        };
        self.inner.counts.layers.fetch_add(1, Ordering::Relaxed);
        waiting
    }
}
