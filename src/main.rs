//! The `mesto` command.

use std::process::ExitCode;

/// Tasks on many threads allocate and free small blocks all day, and each password hash takes 19 MiB for a moment. The
/// system's allocator kept most of that; this one gives it back, and takes half the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mesto::cli::run()
}
