//! What a booking costs the state in the long run, carrying it to the disk included: bookings of
//! eight pairs over a million that are there already, and the processor's time for each.
//!
//! `cargo bench -p mesto-storage --bench sustained`; `MESTO_BENCH_EXISTING` and
//! `MESTO_BENCH_BOOKINGS` choose other numbers. Wall times depend on what else the machine does;
//! the processor's times hardly do.

#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use mesto_storage::{
    Applied, DataDir, DataDirOptions, Digest, Done, Log, LogOptions, Order, State, StateOptions,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USERS: u64 = 50_000;
const DESKS: u64 = 5_000;
const BOOKINGS_OF_A_SHEET: u64 = 5;
const EVENTS_KEPT: u64 = 10_000;

fn main() {
    // Run as a test it only shows that it runs.
    let whole = std::env::args().any(|argument| argument == "--bench");
    let number = |name: &str, otherwise: u64| {
        let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
        given.unwrap_or(if whole { otherwise } else { 500 })
    };
    let existing = number("MESTO_BENCH_EXISTING", 1_000_000);
    let bookings = number("MESTO_BENCH_BOOKINGS", 200_000);

    let path = tempfile::tempdir().expect("a temporary directory");
    let options = DataDirOptions::default();
    let directory = DataDir::open(path.path(), &options).expect("the directory opens");
    let (log, _log_writer) =
        Log::open(directory.engine(), LogOptions::default()).expect("the log opens");
    let mib = usize::try_from(number("MESTO_BENCH_LAYER_MIB", 8)).expect("a small number");
    let layers = StateOptions {
        max_layer_bytes: mib << 20,
        ..StateOptions::default()
    };
    let (state, writer) = State::open(directory.engine(), &log, layers).expect("the state opens");
    let carrier = std::thread::Builder::new()
        .name("state-writer".to_owned())
        .spawn(move || writer.run())
        .expect("a thread starts");
    let began = Instant::now();
    let pairs = fill(&state, existing);
    println!(
        "{existing} bookings are there, {pairs} pairs, filled in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let mut next = existing;
    for (group, count) in [(1, bookings / 4), (64, bookings)] {
        run(&state, group, count, &mut next);
    }
    readers(&state, bookings / 4, &mut next);
    drop(state);
    carrier.join().expect("the writer ends");
}

/// Books `count` in groups of `group` as fast as it goes, and tells what it cost.
fn run(state: &State, group: u64, count: u64, next: &mut u64) {
    let (before, began) = (processor_times(), Instant::now());
    let mut times = Vec::new();
    let end = *next + count;
    while *next < end {
        wait_for(|done| state.when_room(done));
        let at = Instant::now();
        book(state, group, next);
        times.push(at.elapsed());
    }
    wait_for(|done| state.persist(done));
    while state.stats().layers > 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = began.elapsed();
    let per_booking = |nanoseconds: u64| nanoseconds as f64 / 1000.0 / count as f64;
    times.sort_unstable();
    println!("groups of {group}: {count} bookings, all of it carried");
    println!(
        "  {:.0} bookings a second; a commit p50 {:?}, p99 {:?}, max {:?}",
        count as f64 / took.as_secs_f64(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1]
    );
    let mut total = 0;
    for (thread, time) in processor_times() {
        let spent = time - before.get(&thread).copied().unwrap_or(0);
        total += spent;
        if per_booking(spent) >= 0.1 {
            println!(
                "  {:8.1} us of {thread} for each booking",
                per_booking(spent)
            );
        }
    }
    println!("  {:8.1} us of all for each booking", per_booking(total));
    println!("  {:?}", state.stats());
}

/// How long one reader waits for 40 pairs while layers are carried.
fn readers(state: &State, count: u64, next: &mut u64) {
    let ended = std::sync::atomic::AtomicBool::new(false);
    let mut times = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut times = Vec::new();
            let mut desk = 0;
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                desk = (desk + 7) % DESKS;
                let at = Instant::now();
                let from = desk_sheet(0, desk);
                let found = state.read(|view| view.scan(&from, &[], Order::Ascending, 40));
                black_box(found.expect("scans succeed"));
                times.push(at.elapsed());
                std::thread::sleep(Duration::from_micros(500));
            }
            times
        });
        let end = *next + count;
        while *next < end {
            wait_for(|done| state.when_room(done));
            book(state, 8, next);
        }
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().expect("the reader ends")
    });
    times.sort_unstable();
    println!(
        "a scan of 40 beside it: p50 {:?}, p99 {:?}, max {:?} of {}",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1],
        times.len()
    );
}

fn wait_for(start: impl FnOnce(Done)) {
    let (sender, receiver) = channel();
    start(Box::new(move |result| {
        sender.send(result).expect("someone waits");
    }));
    receiver
        .recv()
        .expect("an answer comes")
        .expect("the state is sound");
}

/// Nanoseconds of processor time that each thread has used, by its name.
fn processor_times() -> BTreeMap<String, u64> {
    let mut times = BTreeMap::new();
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return times;
    };
    for thread in threads.flatten() {
        let text = |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let used = text("schedstat");
        let used = used.split(' ').next().and_then(|used| used.parse().ok());
        *times.entry(text("comm").trim().to_owned()).or_default() += used.unwrap_or(0_u64);
    }
    times
}

fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn key(kind: u8, parts: &[u64]) -> Vec<u8> {
    let mut key = vec![kind];
    for part in parts {
        key.extend_from_slice(&part.to_be_bytes());
    }
    key
}

// Kinds in the order of their keys.
fn answer(number: u64) -> Vec<u8> {
    key(1, &[scramble(number), number])
}
fn booking(number: u64) -> Vec<u8> {
    key(2, &[number, scramble(number)])
}
fn booking_of_user(number: u64) -> Vec<u8> {
    key(3, &[number % USERS, number])
}
fn desk_sheet(day: u64, desk: u64) -> Vec<u8> {
    key(4, &[day, desk])
}
fn event(number: u64) -> Vec<u8> {
    key(5, &[number])
}
fn totals() -> Vec<u8> {
    key(6, &[])
}
fn user_sheet(user: u64, day: u64) -> Vec<u8> {
    key(7, &[user, day])
}

fn desk_and_day(number: u64) -> (u64, u64) {
    (scramble(number) % DESKS, scramble(number) / DESKS % 60)
}

/// Puts `existing` bookings there at once, and gives the number of pairs.
fn fill(state: &State, existing: u64) -> u64 {
    let mut import = state.import().expect("no other import is alive");
    let mut digest = Digest::EMPTY;
    let mut page = Vec::new();
    let mut put = |key: Vec<u8>, bytes: usize| {
        let value = vec![7; bytes];
        digest.add(&key, &value);
        page.push((key, value));
        if page.len() == 1_000 {
            let full = std::mem::take(&mut page);
            import.put_page(full).expect("a page is written");
        }
    };
    let mut answers: Vec<u64> = (existing.saturating_sub(100_000)..existing).collect();
    answers.sort_unstable_by_key(|number| scramble(*number));
    for number in answers {
        put(answer(number), 120);
    }
    for number in 0..existing {
        put(booking(number), 120);
    }
    for user in 0..USERS.min(existing) {
        for number in (user..existing).step_by(50_000) {
            put(booking_of_user(number), 8);
        }
    }
    for day in 0..(existing / BOOKINGS_OF_A_SHEET).div_ceil(DESKS) {
        for desk in 0..DESKS {
            put(desk_sheet(day, desk), 200);
        }
    }
    for number in existing.saturating_sub(EVENTS_KEPT)..existing {
        put(event(number), 120);
    }
    put(totals(), 40);
    for user in 0..USERS.min(existing) {
        for day in 0..existing / USERS {
            put(user_sheet(user, day), 60);
        }
    }
    import.put_page(page).expect("a page is written");
    let pairs = import.pairs();
    let applied = Applied {
        index: existing,
        now_ms: 0,
        record: vec![0; 100],
    };
    import.finish(applied, digest).expect("the digest is right");
    pairs
}

/// Like a booking: five new pairs, three that change, one that goes.
fn book(state: &State, group: u64, next: &mut u64) {
    let mut transaction = state.transaction();
    for _ in 0..group {
        let number = *next;
        *next += 1;
        let (desk, day) = desk_and_day(number);
        let user = scramble(number + 1) % USERS;
        let fresh = number.to_le_bytes();
        let value = |bytes: usize| {
            fresh
                .iter()
                .copied()
                .cycle()
                .take(bytes)
                .collect::<Vec<u8>>()
        };
        black_box(transaction.get(&answer(number)));
        black_box(transaction.get(&desk_sheet(day, desk)));
        black_box(transaction.get(&user_sheet(user, day)));
        black_box(transaction.get(&totals()));
        transaction.put(&desk_sheet(day, desk), value(200));
        transaction.put(&user_sheet(user, day), value(60));
        transaction.put(&booking(number), value(120));
        transaction.put(&booking_of_user(user + number / USERS * USERS), value(8));
        transaction.put(&event(number), value(120));
        transaction.delete(&event(number.saturating_sub(EVENTS_KEPT)));
        transaction.put(&totals(), value(40));
        transaction.put(&answer(number), value(120));
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
