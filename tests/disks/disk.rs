//! A file system that can lose power: ext4 on a loop device, one for each node.
//!
//! The cut is the ioctl `FS_IOC_SHUTDOWN` with `NOLOGFLUSH`: from that moment nothing more reaches the device, neither
//! dirty pages nor the journal's open transaction. After unmounting, mounting replays the journal, as a machine does
//! that was switched on again.
//!
//! All of this needs root and loop devices. The ioctl itself is made by perl, which every Debian has, because a call of
//! our own would be unsafe code.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

const IMAGE_BYTES: u64 = 4 << 30;
/// Unmounting is refused while the kernel is not yet done with the files of a process that was just killed.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(10);
/// `FS_IOC_SHUTDOWN` and `FS_SHUTDOWN_FLAGS_NOLOGFLUSH`.
const CUT: &str = r#"open(my $root, "<", $ARGV[0]) or die "open: $!";
my $flags = pack("L", 2);
defined ioctl($root, 0x8004587d, $flags) or die "ioctl: $!";"#;

/// A file system of its own, mounted until it is dropped.
pub(crate) struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Makes and mounts a file system under `folder`.
    pub(crate) fn create(folder: &Path, name: &str) -> anyhow::Result<Disk> {
        let disk = Disk {
            image: folder.join(format!("{name}.image")),
            mount: folder.join(name),
        };
        File::create(&disk.image)?.set_len(IMAGE_BYTES)?;
        fs::create_dir_all(&disk.mount)?;
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F", "-E", "nodiscard"]).arg(&disk.image);
        run(&mut make)?;
        disk.mount()?;
        Ok(disk)
    }

    /// Whether power cuts can be made here; the reason why not, if not.
    pub(crate) fn available(folder: &Path) -> Result<(), String> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        if uid.and_then(|ids| ids.split_whitespace().nth(1)) != Some("0") {
            return Err("mounting file systems needs root".to_owned());
        }
        // The proof of the whole way: what is written after the last sync must be gone.
        let proof = || -> anyhow::Result<()> {
            let disk = Disk::create(folder, "proof")?;
            let kept = disk.path().join("kept");
            fs::write(&kept, b"kept")?;
            File::open(&kept)?.sync_all()?;
            File::open(disk.path())?.sync_all()?;
            fs::write(disk.path().join("lost"), b"lost")?;
            disk.cut()?;
            disk.repower()?;
            anyhow::ensure!(kept.exists(), "a cut took what was synced");
            anyhow::ensure!(
                !disk.path().join("lost").exists(),
                "a cut left what was not synced"
            );
            Ok(())
        };
        proof().map_err(|error| format!("{error:#}"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Cuts the power: nothing written from now on, and nothing that was not synced, is there afterwards.
    pub(crate) fn cut(&self) -> anyhow::Result<()> {
        run(Command::new("perl").args(["-e", CUT]).arg(&self.mount))
    }

    /// Switches the machine on again: the journal is replayed. No process may have a file open there.
    pub(crate) fn repower(&self) -> anyhow::Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&self) -> anyhow::Result<()> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "ext4", "-o", "loop"])
            .args([&self.image, &self.mount]);
        run(&mut mount)
    }

    fn unmount(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + UNMOUNT_PATIENCE;
        loop {
            match run(Command::new("umount").arg(&self.mount)) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg("--lazy").arg(&self.mount)) {
            eprintln!("could not unmount {}: {error:#}", self.mount.display());
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed: {}", said.trim());
    }
    Ok(())
}
