//! What this machine offers for faults that a process cannot make by itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which of them there are. What is missing makes faults that need it be skipped, and the report says so.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// libfaketime, which sets clocks.
    pub(crate) faketime: Option<PathBuf>,
    /// Whether `strace` may interfere with processes.
    pub(crate) strace: bool,
    /// Whether a small file system can be mounted.
    pub(crate) tmpfs: bool,
}

impl Tools {
    /// Looks; `scratch` is a folder to try mounts in.
    pub(crate) fn found(scratch: &Path) -> Self {
        Self {
            faketime: faketime(),
            strace: strace(),
            tmpfs: mount(&scratch.join("mount-test"), 1)
                .is_ok_and(|()| unmount(&scratch.join("mount-test"))),
        }
    }
}

fn faketime() -> Option<PathBuf> {
    let folders = ["x86_64-linux-gnu", "aarch64-linux-gnu", "."];
    let candidates = folders.map(|folder| {
        Path::new("/usr/lib")
            .join(folder)
            .join("faketime/libfaketimeMT.so.1")
    });
    let library = candidates.into_iter().find(|path| path.is_file())?;
    // Trust it only if it does what it is for, and leaves the monotonic clock alone.
    let date = Command::new("date")
        .arg("+%s")
        .env("LD_PRELOAD", &library)
        .env("FAKETIME", "+3600s")
        .output()
        .ok()?;
    let then: u64 = String::from_utf8(date.stdout).ok()?.trim().parse().ok()?;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()?
        .as_secs();
    (now + 3_500..now + 3_700)
        .contains(&then)
        .then_some(library)
}

fn strace() -> bool {
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-e",
        "trace=fsync",
        "-e",
        "inject=fsync:error=EIO",
        "true",
    ]);
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Mounts a file system of `megabytes` in memory.
pub(crate) fn mount(at: &Path, megabytes: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(at)?;
    let size = format!("size={megabytes}m");
    let output = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
        .arg(at)
        .output()?;
    anyhow::ensure!(
        output.status.success(),
        "cannot mount: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Unmounts it.
pub(crate) fn unmount(at: &Path) -> bool {
    let output = Command::new("umount").arg(at).output();
    output.is_ok_and(|output| output.status.success())
}
