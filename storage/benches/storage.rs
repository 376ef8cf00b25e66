//! The store beside the physical limit: groups appended durably through the log, and the same
//! bytes into a bare file with one `fdatasync` a group, one that grows and one whose length and
//! blocks are there already; state commits (with the writer carrying them at the same time), gets
//! and scans.
//!
//! `cargo bench -p mesto-storage`

use std::hint::black_box;
use std::io::{Seek, Write};
use std::sync::mpsc::channel;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mesto_storage::{
    Applied, DataDir, DataDirOptions, Log, LogOptions, Order, Record, State, StateOptions,
};

const RECORD_BYTES: usize = 300;
/// The file whose blocks are there already; written round and round.
const WRITTEN_BYTES: usize = 16 << 20;
const GROUPS: [u64; 4] = [1, 8, 64, 256];
/// Records kept, as after purging behind a snapshot.
const KEPT: u64 = 20_000;

fn directory() -> (tempfile::TempDir, DataDir) {
    let path = tempfile::tempdir().expect("a temporary directory");
    let directory =
        DataDir::open(path.path(), &DataDirOptions::default()).expect("the directory opens");
    (path, directory)
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    group.sample_size(30);
    for size in GROUPS {
        group.throughput(Throughput::Elements(size));
        let bytes = vec![7; RECORD_BYTES * usize::try_from(size).expect("a small number")];
        group.bench_function(format!("growing file/{size}"), |bencher| {
            let mut file = tempfile::tempfile().expect("a file is created");
            bencher.iter(|| {
                file.write_all(&bytes).expect("a write succeeds");
                file.sync_data().expect("a sync succeeds");
            });
        });
        group.bench_function(format!("written file/{size}"), |bencher| {
            let mut file = tempfile::tempfile().expect("a file is created");
            file.write_all(&vec![1; WRITTEN_BYTES])
                .expect("a write succeeds");
            file.sync_all().expect("a sync succeeds");
            let mut at = WRITTEN_BYTES;
            bencher.iter(|| {
                if at + bytes.len() > WRITTEN_BYTES {
                    at = 0;
                    file.rewind().expect("a seek succeeds");
                }
                at += bytes.len();
                file.write_all(&bytes).expect("a write succeeds");
                file.sync_data().expect("a sync succeeds");
            });
        });
        group.bench_function(format!("log/{size}"), |bencher| {
            let (_path, directory) = directory();
            let (log, writer) =
                Log::open(directory.engine(), LogOptions::default()).expect("the log opens");
            let thread = std::thread::spawn(move || writer.run());
            let payload = Bytes::from(vec![7; RECORD_BYTES]);
            let mut next = 1;
            bencher.iter(|| {
                let records = (next..next + size)
                    .map(|index| Record {
                        index,
                        bytes: payload.clone(),
                    })
                    .collect();
                next += size;
                let (sender, receiver) = channel();
                log.append(
                    records,
                    Box::new(move |result| sender.send(result).expect("someone waits")),
                );
                receiver
                    .recv()
                    .expect("an answer comes")
                    .expect("the append is durable");
                if next.is_multiple_of(4096) && next > KEPT {
                    log.purge_to(next - KEPT, Vec::new(), Box::new(drop));
                }
            });
            drop(log);
            thread.join().expect("the writer ends");
        });
    }
    group.finish();
}

/// Many clients, each with one record in flight: what group commit makes of it.
fn group_commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("group commit");
    group.sample_size(20);
    for clients in [16_u64, 64] {
        group.throughput(Throughput::Elements(clients));
        group.bench_function(format!("{clients} in flight"), |bencher| {
            let (_path, directory) = directory();
            let (log, writer) =
                Log::open(directory.engine(), LogOptions::default()).expect("the log opens");
            let thread = std::thread::spawn(move || writer.run());
            let payload = Bytes::from(vec![7; RECORD_BYTES]);
            let mut next = 1;
            bencher.iter(|| {
                let (sender, receiver) = channel();
                for index in next..next + clients {
                    let sender = sender.clone();
                    log.append(
                        vec![Record {
                            index,
                            bytes: payload.clone(),
                        }],
                        Box::new(move |result| sender.send(result).expect("someone waits")),
                    );
                }
                next += clients;
                for _ in 0..clients {
                    receiver
                        .recv()
                        .expect("an answer comes")
                        .expect("the append is durable");
                }
            });
            drop(log);
            thread.join().expect("the writer ends");
        });
    }
    group.finish();
}

/// Like a booking: eight reads, six writes of some 100 bytes.
fn book(state: &State, bookings: u64, next: &mut u64) {
    let (sender, receiver) = channel();
    state.when_room(Box::new(move |result| {
        sender.send(result).expect("someone waits");
    }));
    receiver
        .recv()
        .expect("an answer comes")
        .expect("the writer is sound");
    let mut transaction = state.transaction();
    for _ in 0..bookings {
        *next += 1;
        let number = *next;
        let desk = number.wrapping_mul(0x9e37_79b9) % 5_000;
        for kind in ["user", "space", "desk"] {
            black_box(transaction.get(format!("{kind}/{desk:08}").as_bytes()));
        }
        for kind in ["day", "last", "count"] {
            let key = format!("{kind}/{desk:08}");
            black_box(transaction.get(key.as_bytes()));
            transaction.put(key.as_bytes(), vec![number.to_le_bytes()[0]; 100]);
        }
        for kind in ["booking", "slot"] {
            let key = format!("{kind}/{number:016}");
            black_box(transaction.get(key.as_bytes()));
            transaction.put(key.as_bytes(), vec![7; 150]);
        }
        transaction.put(format!("event/{number:016}").as_bytes(), vec![7; 120]);
    }
    let applied = Applied {
        index: *next,
        now_ms: *next,
        record: vec![0; 100],
    };
    state
        .commit(transaction, applied)
        .expect("a commit succeeds");
}

fn state(c: &mut Criterion) {
    let (_path, directory) = directory();
    let (log, _log_writer) =
        Log::open(directory.engine(), LogOptions::default()).expect("the log opens");
    let (state, writer) =
        State::open(directory.engine(), &log, StateOptions::default()).expect("the state opens");
    let thread = std::thread::spawn(move || writer.run());
    let mut next = 0;
    for _ in 0..300 {
        book(&state, 64, &mut next);
    }
    let mut group = c.benchmark_group("state");
    group.sample_size(30);
    for bookings in [1_u64, 64] {
        group.throughput(Throughput::Elements(bookings));
        group.bench_function(format!("commit {bookings} bookings"), |bencher| {
            bencher.iter(|| book(&state, bookings, &mut next));
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("get", |bencher| {
        let mut desk = 0;
        bencher.iter(|| {
            desk = (desk + 7) % 5_000;
            let key = format!("day/{desk:08}");
            state
                .read(|view| view.get(key.as_bytes()))
                .expect("a read succeeds")
        });
    });
    group.bench_function("scan 40", |bencher| {
        let mut desk = 0;
        bencher.iter(|| {
            desk = (desk + 7) % 4_000;
            let key = format!("day/{desk:08}");
            state
                .read(|view| view.scan(key.as_bytes(), b"day0", Order::Ascending, 40))
                .expect("a scan succeeds")
        });
    });
    group.bench_function("image of all", |bencher| {
        bencher.iter(|| {
            let mut image = state.image().expect("no other image is alive");
            while let Some(page) = image.next_page(256 * 1024).expect("a page is read") {
                black_box(page);
            }
        });
    });
    group.finish();
    drop(state);
    thread.join().expect("the writer ends");
}

criterion_group!(benches, append, group_commit, state);
criterion_main!(benches);
