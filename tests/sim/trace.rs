//! What happened in a run, line by line: hashed as it comes, the end kept, all of it written out on demand.
//!
//! Two runs of a seed must give the same bytes. Every message, answer, fault and observation is a line, so whatever is
//! not determined by the seed shows up in the hash sooner or later.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// How many lines are kept to be shown with a failure.
const TAIL_LINES: usize = 60;

/// The trace of one run.
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    bytes: u64,
    line: String,
    tail: VecDeque<String>,
    file: Option<BufWriter<File>>,
}

/// What identifies a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceId {
    /// Its hash.
    pub(crate) hash: [u8; 8],
    /// Its length in bytes.
    pub(crate) bytes: u64,
}

impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:016x}, {} bytes",
            u64::from_be_bytes(self.hash),
            self.bytes
        )
    }
}

impl Trace {
    /// An empty trace, written to `path` too if one is given.
    pub(crate) fn new(path: Option<&Path>) -> std::io::Result<Self> {
        let file = path.map(File::create).transpose()?;
        Ok(Self {
            hasher: blake3::Hasher::new(),
            bytes: 0,
            line: String::new(),
            tail: VecDeque::new(),
            file: file.map(BufWriter::new),
        })
    }

    /// Adds a line. What only matters to who reads the end of a failed run is kept there; messages are not.
    pub(crate) fn line(&mut self, now_us: u64, keep: bool, text: std::fmt::Arguments<'_>) {
        self.line.clear();
        let (seconds, micros) = (now_us / 1_000_000, now_us % 1_000_000);
        writeln!(self.line, "{seconds:>3}.{micros:06} {text}")
            .expect("writing into a string does not fail");
        self.hasher.update(self.line.as_bytes());
        self.bytes += u64::try_from(self.line.len()).expect("a length fits 64 bits");
        if let Some(file) = &mut self.file {
            // A full disk is noticed when the trace is looked at, and must not change the run.
            let _ = file.write_all(self.line.as_bytes());
        }
        if keep {
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(self.line.clone());
        }
    }

    /// A line that is no part of the trace itself, only of its file: what the nodes log.
    pub(crate) fn aside(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file {
            let _ = file.write_all(bytes);
        }
    }

    /// Whether all of it is written out.
    pub(crate) fn is_written(&self) -> bool {
        self.file.is_some()
    }

    /// What identifies it so far.
    pub(crate) fn id(&self) -> TraceId {
        let mut hash = [0; 8];
        hash.copy_from_slice(&self.hasher.finalize().as_bytes()[..8]);
        TraceId {
            hash,
            bytes: self.bytes,
        }
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        self.tail.iter().map(String::as_str).collect()
    }

    /// Writes out what is buffered.
    pub(crate) fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            let _ = file.flush();
        }
    }
}
