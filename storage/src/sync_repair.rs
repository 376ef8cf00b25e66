//! The repair of sled's durability on Linux, and the only `unsafe` code of the project.
//!
//! After writing a buffer sled 0.34 calls `sync_file_range`, which asks the kernel to start
//! writing pages out, but neither flushes the disk's own cache nor the file's size and extents:
//! after a power cut "flushed" data is gone (sled issue 1452). An `fdatasync` of our own after
//! `Db::flush` is not enough, since sled reuses segments as soon as it believes that what
//! replaced them is safe. So the symbol itself is defined here, and does `fdatasync`: every
//! belief of sled's becomes true.
//!
//! Whether the linker really took this definition is proved at each open: a flush of a probe
//! must move the count of syncs, or the store refuses to start (`sled_engine.rs`).
//!
//! Elsewhere than on Linux sled calls `File::sync_all`, and nothing is to be repaired.
//!
//! The hooks at the end exist so that tests can watch each sync, and switch the repair off to
//! show that the power-cut test fails without it.

#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "defines a C symbol")
)]

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::RwLock;

static SYNCS: AtomicU64 = AtomicU64::new(0);
static MODE: AtomicU8 = AtomicU8::new(0);
static OBSERVER: RwLock<Option<Observer>> = RwLock::new(None);

/// How many times a sync has reached this file in this process.
pub(crate) fn syncs() -> u64 {
    SYNCS.load(Ordering::SeqCst)
}

/// Whether this platform needs the repair.
pub(crate) const NEEDED: bool = cfg!(target_os = "linux");

/// Syncs a file of our own, in the same mode and with the same count as sled's.
pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    let mode = MODE.load(Ordering::SeqCst);
    if mode != 2 {
        SYNCS.fetch_add(1, Ordering::SeqCst);
    }
    if mode != 0 {
        return Ok(());
    }
    #[cfg(target_os = "linux")]
    observed(std::os::fd::AsRawFd::as_raw_fd(file));
    file.sync_data()
}

/// Called with the file descriptor just before each sync that will really happen.
#[doc(hidden)]
pub type Observer = Arc<dyn Fn(i32) + Send + Sync>;

/// What the repaired symbol does; anything but `On` is for tests.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Sync for good.
    On,
    /// Count the call, but do what the kernel's `sync_file_range` does: nothing durable.
    Off,
    /// Do not even count the call, as if the linker had taken the C library's symbol.
    Absent,
}

/// Chooses what the symbol does, for the whole process.
#[doc(hidden)]
pub fn set_repair_for_tests(repair: Repair) {
    let mode = match repair {
        Repair::On => 0,
        Repair::Off => 1,
        Repair::Absent => 2,
    };
    MODE.store(mode, Ordering::SeqCst);
}

/// Sets who is told of each sync that really happens.
#[doc(hidden)]
pub fn observe_syncs_for_tests(observer: Option<Observer>) {
    *OBSERVER.write() = observer;
}

#[cfg(target_os = "linux")]
fn observed(fd: i32) {
    let observer = OBSERVER.read().clone();
    if let Some(observer) = observer {
        observer(fd);
    }
}

/// Replaces the C library's function of this name: syncs the whole file, for good.
///
/// Returns 0, or -1 with `errno` set by `fdatasync`.
#[cfg(target_os = "linux")]
// SAFETY: the name and the signature are those of the C library's function, whose contract (0,
// or -1 and errno; durable at least as far as asked) this definition keeps.
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(
    fd: libc::c_int,
    offset: libc::off64_t,
    bytes: libc::off64_t,
    flags: libc::c_uint,
) -> libc::c_int {
    let mode = MODE.load(Ordering::SeqCst);
    if mode != 2 {
        SYNCS.fetch_add(1, Ordering::SeqCst);
    }
    if mode != 0 {
        // SAFETY: a plain system call on plain integers; a bad descriptor gives an error.
        let result = unsafe { libc::syscall(libc::SYS_sync_file_range, fd, offset, bytes, flags) };
        return if result < 0 { -1 } else { 0 };
    }
    observed(fd);
    // SAFETY: a plain system call on a plain integer; a bad descriptor gives an error.
    unsafe { libc::fdatasync(fd) }
}
