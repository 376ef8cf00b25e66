//! Reading a journal back: what is valid, in order, and what must not be missing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::segment::{HEADER_BYTES, Header, Record, Step, proof_of_damage};
use super::{Fact, Place, RETIRED, Segment, sync};
use crate::{StorageError, Tree};

const SUFFIX: &str = ".seg";
/// The name of a segment that is being begun.
pub(super) const ASIDE: &str = "next.aside";

/// What a journal holds.
pub(super) struct Found {
    pub(super) log: BTreeMap<Box<[u8]>, Place>,
    pub(super) facts: BTreeMap<Box<[u8]>, Fact>,
    pub(super) segments: BTreeMap<u64, Segment>,
    /// The last segment; 0 where there is none.
    pub(super) last_sequence: u64,
    /// Where its records end.
    pub(super) last_end: u32,
}

pub(super) fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}{SUFFIX}")
}

/// The segments in `directory`, by sequence number.
pub(super) fn list(directory: &Path) -> Result<BTreeMap<u64, PathBuf>, StorageError> {
    let failed = |error| StorageError::file("list", directory, error);
    let mut segments = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let sequence = name
            .strip_suffix(SUFFIX)
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        if let Some(sequence) = sequence.filter(|sequence| file_name(*sequence) == name) {
            segments.insert(sequence, path);
        }
    }
    Ok(segments)
}

/// Reads the journal in `directory`; removes what a crash left aside, and what was trimmed.
///
/// # Errors
/// `Corruption` where something that was synced is missing or damaged; `Io`.
pub(super) fn read(directory: &Path) -> Result<Found, StorageError> {
    for leftover in [ASIDE, RETIRED] {
        let path = directory.join(leftover);
        if path.exists() {
            fs::remove_file(&path).map_err(|error| StorageError::file("remove", &path, error))?;
        }
    }
    let paths = list(directory)?;
    let mut headers = Vec::with_capacity(paths.len());
    for (sequence, path) in paths {
        headers.push(open(sequence, path)?);
    }
    let mut doomed = Vec::new();
    let (mut found, mut oldest) = replayed(&headers, 0)?;
    if headers
        .first()
        .is_some_and(|(header, _)| header.sequence < oldest)
    {
        // What came back after it was trimmed says nothing any more, and what followed it may be
        // gone: its values could seem to live.
        let needed = headers.partition_point(|(header, _)| header.sequence < oldest);
        doomed.extend(headers.drain(..needed).map(|(_, segment)| segment.path));
        (found, oldest) = replayed(&headers, oldest)?;
    }
    // What was read may be in the kernel only. The next segment will say that it is on the disk,
    // and what it makes dispensable goes only after that is true.
    if let Some((_, last)) = headers.last() {
        sync(&last.file, &last.path)?;
    }
    for path in doomed {
        fs::remove_file(&path).map_err(|error| StorageError::file("remove", &path, error))?;
    }
    found.keep(headers, oldest)?;
    Ok(found)
}

/// What the segments hold together, and the oldest of them that is still needed, `oldest` at
/// least.
fn replayed(headers: &[(Header, Segment)], mut oldest: u64) -> Result<(Found, u64), StorageError> {
    let mut found = Found {
        log: BTreeMap::new(),
        facts: BTreeMap::new(),
        segments: BTreeMap::new(),
        last_sequence: 0,
        last_end: 0,
    };
    for (number, (header, segment)) in headers.iter().enumerate() {
        let next = headers.get(number + 1).map(|(header, _)| header);
        let limit = next
            .filter(|next| next.sequence == header.sequence + 1)
            .map(|next| next.previous_end);
        let last = number + 1 == headers.len();
        found.last_sequence = header.sequence;
        found.last_end = found.replay(*header, segment, limit, last, &mut oldest)?;
    }
    Ok((found, oldest))
}

fn open(sequence: u64, path: PathBuf) -> Result<(Header, Segment), StorageError> {
    let failed = |error| StorageError::file("open", &path, error);
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    let mut start = [0; HEADER_BYTES as usize];
    let header = match std::os::unix::fs::FileExt::read_exact_at(&file, &mut start, 0) {
        Ok(()) => Header::decode(&start).filter(|header| header.sequence == sequence),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => None,
        Err(error) => return Err(failed(error)),
    };
    let header = header.ok_or_else(|| {
        StorageError::corruption(format!("the header of {} is not readable", path.display()))
    })?;
    let segment = Segment {
        file: Arc::new(file),
        path,
        live: 0,
    };
    Ok((header, segment))
}

impl Found {
    /// Takes in the records of one segment and returns where they end. `limit`: where the next
    /// segment says that they do.
    fn replay(
        &mut self,
        header: Header,
        segment: &Segment,
        limit: Option<u32>,
        last: bool,
        oldest: &mut u64,
    ) -> Result<u32, StorageError> {
        let bytes = fs::read(&segment.path)
            .map_err(|error| StorageError::file("read", &segment.path, error))?;
        let damaged = |at: u32| {
            StorageError::corruption(format!(
                "the journal {} at byte {at}",
                segment.path.display()
            ))
        };
        let sequence = header.sequence;
        let mut at = HEADER_BYTES;
        while limit.is_none_or(|limit| at < limit) {
            let Some(record) = Record::read(&bytes, sequence, at) else {
                break;
            };
            for step in record.steps().flatten() {
                self.take(sequence, &step, oldest);
            }
            at = record.end;
        }
        // A torn end is where the power went; a damaged one was synced, as something later proves.
        let whole = limit.map_or_else(
            || !last || proof_of_damage(&bytes, sequence, at).is_none(),
            |limit| limit == at,
        );
        if whole { Ok(at) } else { Err(damaged(at)) }
    }

    fn take(&mut self, sequence: u64, step: &Step<'_>, oldest: &mut u64) {
        match *step {
            Step::Trim(needed) => *oldest = (*oldest).max(needed),
            Step::Put {
                tree: Tree::Meta,
                key,
                value,
                ..
            } => {
                let value = value.to_vec();
                self.facts.insert(key.into(), Fact { sequence, value });
            }
            Step::Put {
                key,
                value,
                value_at: at,
                ..
            } => {
                let length = u32::try_from(value.len()).expect("values are short");
                let place = Place {
                    sequence,
                    at,
                    length,
                };
                self.log.insert(key.into(), place);
            }
            Step::Remove {
                tree: Tree::Meta,
                key,
            } => {
                self.facts.remove(key);
            }
            Step::Remove { key, .. } => {
                self.log.remove(key);
            }
        }
    }

    /// Keeps the segments, none of which may be missing from `oldest` on.
    fn keep(&mut self, headers: Vec<(Header, Segment)>, oldest: u64) -> Result<(), StorageError> {
        let mut expected = None;
        for (header, segment) in headers {
            let first = if oldest == 0 { 1 } else { oldest };
            if header.sequence != *expected.get_or_insert(first) {
                return Err(missing(&segment.path, expected.unwrap_or(first)));
            }
            expected = Some(header.sequence + 1);
            self.segments.insert(header.sequence, segment);
        }
        for place in self.log.values() {
            if let Some(segment) = self.segments.get_mut(&place.sequence) {
                segment.live += 1;
            } else {
                return Err(StorageError::corruption(
                    "the journal holds values that only a trimmed segment had",
                ));
            }
        }
        Ok(())
    }
}

fn missing(found: &Path, expected: u64) -> StorageError {
    StorageError::corruption(format!(
        "the journal lacks {}; the first after it is {}",
        file_name(expected),
        found.display()
    ))
}
