//! What the log does when the disk, or its caller, does wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesto_storage::{
    Batch, Engine, EngineStats, Log, LogOptions, MemoryDisk, Order, Pair, StorageError, Tree, Value,
};

use crate::disks::{answer, ignore, record, settle, wait};

fn value(bytes: &[u8]) -> Value {
    Value::try_from(bytes.to_vec()).expect("a short value")
}

fn open(disk: &MemoryDisk) -> (Log, mesto_storage::LogWriter) {
    Log::open(disk.engine(), LogOptions::default()).expect("the log opens")
}

#[test]
fn a_failed_flush_is_final_for_everyone() {
    let disk = MemoryDisk::new();
    let (log, mut writer) = open(&disk);
    let (first, first_answer) = answer();
    let (second, second_answer) = answer();
    log.append(vec![record(1, vec![1])], first);
    log.put_meta("vote", vec![1], true, second);
    disk.fail_next_flush();
    assert!(matches!(
        wait(&mut writer, &first_answer),
        Err(StorageError::Io { .. })
    ));
    assert!(matches!(
        second_answer.try_recv(),
        Ok(Err(StorageError::Io { .. }))
    ));

    let (later, later_answer) = answer();
    log.append(vec![record(2, vec![2])], later);
    assert!(matches!(
        later_answer.try_recv(),
        Ok(Err(StorageError::Poisoned { .. }))
    ));
    assert!(log.stats().failed);
    assert!(!writer.step(), "nothing is retried");
}

/// A node that has nothing to write would not hear of it otherwise, and live on without its disk.
#[test]
fn a_flush_that_somebody_else_asked_for_fails_the_log_too() {
    let disk = MemoryDisk::new();
    let (log, _writer) = open(&disk);
    let engine = disk.engine();
    engine
        .insert(Tree::Meta, b"seal", value(b"1"))
        .expect("an insert succeeds");
    assert!(!log.stats().failed);
    disk.fail_next_flush();
    assert!(engine.flush().is_err());
    assert!(log.stats().failed);
}

#[test]
fn a_full_disk_fails_the_write_and_all_after_it() {
    let disk = MemoryDisk::new();
    let (log, mut writer) = open(&disk);
    disk.fail_writes(true);
    let (done, result) = answer();
    log.append(vec![record(1, vec![1])], done);
    assert!(wait(&mut writer, &result).is_err());
    disk.fail_writes(false);
    let (done, result) = answer();
    log.append(vec![record(2, vec![1])], done);
    assert!(matches!(
        result.try_recv(),
        Ok(Err(StorageError::Poisoned { .. }))
    ));
}

#[test]
fn a_gap_is_refused() {
    let disk = MemoryDisk::new();
    let (log, _writer) = open(&disk);
    log.append(vec![record(1, vec![]), record(2, vec![])], ignore());
    let (done, result) = answer();
    log.append(vec![record(4, vec![])], done);
    assert!(matches!(
        result.try_recv(),
        Ok(Err(StorageError::Misuse { .. }))
    ));
}

#[test]
fn a_record_above_the_limit_is_refused() {
    let disk = MemoryDisk::new();
    let (log, mut writer) = open(&disk);
    let (done, result) = answer();
    log.append(
        vec![record(1, vec![0; mesto_storage::MAX_RECORD_BYTES])],
        done,
    );
    assert!(matches!(wait(&mut writer, &result), Ok(())));
    let (done, result) = answer();
    log.append(
        vec![record(2, vec![0; mesto_storage::MAX_RECORD_BYTES + 1])],
        done,
    );
    assert!(matches!(
        result.try_recv(),
        Ok(Err(StorageError::TooLarge { .. }))
    ));
}

#[test]
fn a_record_shows_its_length_and_not_its_bytes() {
    let shown = format!("{:?}", record(7, b"secret".to_vec()));
    assert_eq!(shown, "Record(7, 6 bytes)");
}

#[test]
fn a_queue_above_its_limit_is_refused() {
    let disk = MemoryDisk::new();
    let options = LogOptions {
        max_queued_bytes: 100,
        ..LogOptions::default()
    };
    let (log, _writer) = Log::open(disk.engine(), options).expect("the log opens");
    log.append(vec![record(1, vec![0; 90])], ignore());
    log.append(vec![record(2, vec![0; 10])], ignore());
    assert_eq!(log.stats().queued_bytes, 100, "just as much");
    let (done, result) = answer();
    log.append(vec![record(3, vec![0; 1])], done);
    assert!(matches!(
        result.try_recv(),
        Ok(Err(StorageError::TooLarge { .. }))
    ));
}

#[test]
fn purged_records_cannot_be_truncated() {
    let disk = MemoryDisk::new();
    let (log, mut writer) = open(&disk);
    log.append(
        (1..=5).map(|index| record(index, vec![])).collect(),
        ignore(),
    );
    log.purge_to(3, vec![], ignore());
    let (done, result) = answer();
    log.truncate_from(3, done);
    assert!(matches!(
        result.try_recv(),
        Ok(Err(StorageError::Misuse { .. }))
    ));
    settle(&mut writer);
    assert_eq!(log.first_index(), Some(4));
}

#[test]
fn a_dropped_writer_answers_whoever_waits() {
    let disk = MemoryDisk::new();
    let (log, writer) = open(&disk);
    let (done, result) = answer();
    let (written, written_result) = answer();
    log.append(vec![record(1, vec![])], done);
    log.when_durable(1, written);
    drop(writer);
    assert!(matches!(result.try_recv(), Ok(Err(StorageError::Closed))));
    assert!(matches!(
        written_result.try_recv(),
        Ok(Err(StorageError::Closed))
    ));
    let (done, result) = answer();
    log.truncate_from(1, done);
    assert!(matches!(result.try_recv(), Ok(Err(StorageError::Closed))));
}

/// An engine that does something right after the next page of the log was read from it.
struct Interrupted {
    engine: Arc<dyn Engine>,
    after_page: parking_lot::Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Engine for Interrupted {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.engine.get(tree, key)
    }

    fn scan(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StorageError> {
        let page = self.engine.scan(tree, from, to, order, limit);
        if order == Order::Ascending {
            let interruption = self.after_page.lock().take();
            if let Some(interruption) = interruption {
                interruption();
            }
        }
        page
    }

    fn insert(&self, tree: Tree, key: &[u8], value: Value) -> Result<(), StorageError> {
        self.engine.insert(tree, key, value)
    }

    fn write(&self, tree: Tree, batch: Batch) -> Result<(), StorageError> {
        self.engine.write(tree, batch)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.engine.flush()
    }

    fn is_failed(&self) -> bool {
        self.engine.is_failed()
    }

    fn stats(&self) -> EngineStats {
        self.engine.stats()
    }
}

/// What went away, or was replaced, while it was read is not answered.
#[test]
fn a_read_that_was_overtaken_reads_again() {
    for replaced in [true, false] {
        let engine = Arc::new(Interrupted {
            engine: MemoryDisk::new().engine(),
            after_page: parking_lot::Mutex::new(None),
        });
        let options = LogOptions {
            cache_bytes: 0,
            ..LogOptions::default()
        };
        let (log, mut writer) =
            Log::open(Arc::clone(&engine) as Arc<dyn Engine>, options).expect("the log opens");
        for index in 1..=5 {
            log.append(vec![record(index, vec![1])], ignore());
        }
        settle(&mut writer);
        let overtaking = log.clone();
        *engine.after_page.lock() = Some(Box::new(move || {
            if replaced {
                overtaking.truncate_from(3, ignore());
                overtaking.append(vec![record(3, vec![2])], ignore());
            } else {
                overtaking.purge_to(2, vec![], ignore());
            }
            settle(&mut writer);
        }));
        let read = log.read(1, 6, usize::MAX).expect("it is read");
        let read: Vec<_> = read
            .iter()
            .map(|record| (record.index, record.bytes[0]))
            .collect();
        let expected = if replaced {
            vec![(1, 1), (2, 1), (3, 2)]
        } else {
            vec![(3, 1), (4, 1), (5, 1)]
        };
        assert_eq!(read, expected);
    }
}

/// "Durable" is about what was appended last at an index, not what stood there before.
#[test]
fn when_durable_waits_for_the_record_that_counts() {
    let disk = MemoryDisk::new();
    let (log, mut writer) = open(&disk);
    log.append(
        (1..=3).map(|index| record(index, vec![1])).collect(),
        ignore(),
    );
    settle(&mut writer);
    log.truncate_from(2, ignore());
    log.append(
        (2..=3).map(|index| record(index, vec![2])).collect(),
        ignore(),
    );

    let (done, below) = answer();
    log.when_durable(1, done);
    assert!(
        matches!(below.try_recv(), Ok(Ok(()))),
        "record 1 is durable"
    );
    let (done, above) = answer();
    log.when_durable(2, done);
    assert!(above.try_recv().is_err(), "the new record 2 is not");

    writer.step();
    assert!(matches!(above.try_recv(), Ok(Ok(()))));

    // Written is not enough: the flush may fail afterwards.
    log.append(vec![record(4, vec![3])], ignore());
    let (done, last) = answer();
    log.when_durable(4, done);
    disk.fail_next_flush();
    writer.step();
    assert!(matches!(last.try_recv(), Ok(Err(_))));
}

#[test]
fn one_flush_serves_all_that_wait() {
    let disk = MemoryDisk::new();
    let (log, mut writer) = open(&disk);
    let before = disk.counts().flushes;
    let answers: Vec<_> = (1..=50)
        .map(|index| {
            let (done, result) = answer();
            log.append(vec![record(index, vec![7; 300])], done);
            result
        })
        .collect();
    settle(&mut writer);
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer.try_recv(), Ok(Ok(()))))
    );
    assert_eq!(disk.counts().flushes - before, 1);
    assert_eq!(log.stats().groups, 1);
    assert_eq!(log.stats().records, 50);
}

#[test]
fn the_cache_is_bounded_once_records_are_written() {
    let disk = MemoryDisk::new();
    let options = LogOptions {
        cache_bytes: 10_000,
        ..LogOptions::default()
    };
    let (log, mut writer) = Log::open(disk.engine(), options).expect("the log opens");
    for index in 1..=100 {
        log.append(vec![record(index, vec![7; 1000])], ignore());
    }
    assert!(
        log.stats().cached_bytes > 100_000,
        "what is not written stays"
    );
    settle(&mut writer);
    assert!(log.stats().cached_bytes <= 10_000);
    assert_eq!(log.stats().queued_bytes, 0);
    assert_eq!(
        log.read(1, 101, usize::MAX)
            .map(|records| records.len())
            .ok(),
        Some(100)
    );
}

/// The thread works while others append, read and wait, and ends with the last handle.
#[test]
fn a_writer_thread_serves_many_callers() {
    let disk = MemoryDisk::new();
    let (log, writer) = open(&disk);
    let thread = std::thread::spawn(move || writer.run());
    let next = Arc::new(parking_lot::Mutex::new(1_u64));
    let durable = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (log, next, durable) = (log.clone(), Arc::clone(&next), Arc::clone(&durable));
            scope.spawn(move || {
                for _ in 0..200 {
                    let (done, result) = answer();
                    {
                        let mut next = next.lock();
                        log.append(vec![record(*next, next.to_le_bytes().to_vec())], done);
                        *next += 1;
                    }
                    let answered = result.recv_timeout(Duration::from_secs(10));
                    assert!(matches!(answered, Ok(Ok(()))));
                    durable.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(durable.load(Ordering::SeqCst), 800);
    let records = log.read(1, 801, usize::MAX).expect("reads succeed");
    assert_eq!(records.len(), 800);
    assert!(
        records
            .iter()
            .all(|record| record.bytes.as_ref() == record.index.to_le_bytes())
    );
    drop(log);
    thread.join().expect("the writer ends with the last handle");
}

#[test]
fn work_is_announced() {
    let disk = MemoryDisk::new();
    let (log, mut writer) = open(&disk);
    let calls = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&calls);
    writer.on_work(Box::new(move || {
        seen.fetch_add(1, Ordering::SeqCst);
    }));
    log.append(vec![record(1, vec![])], ignore());
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}
