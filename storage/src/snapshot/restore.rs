//! Reading a snapshot file: into the state, or only to see whether it is sound.

use std::sync::Arc;

use super::SnapshotReader;
use super::format::{BlockReader, Footer, Kind, SnapshotHeader, decode_page};
use crate::{Digest, Import, Pair, State, StorageError};

/// A snapshot being read into the next generation of a state, one page a step. The live state
/// is untouched until the last step, and for good when this is dropped before.
pub struct SnapshotRestore {
    reader: Arc<dyn SnapshotReader>,
    pages: Pages,
    header: SnapshotHeader,
    import: Option<Import>,
}

impl SnapshotRestore {
    /// Checks the header and begins an import.
    ///
    /// # Errors
    /// `Corruption`; `Misuse` while another import is alive; `Io`.
    pub fn new(
        reader: Arc<dyn SnapshotReader>,
        state: &State,
    ) -> Result<SnapshotRestore, StorageError> {
        let (pages, header) = Pages::begin(reader.as_ref())?;
        let import = Some(state.import()?);
        Ok(SnapshotRestore {
            reader,
            pages,
            header,
            import,
        })
    }

    /// Reads one page. `true` once the state is, atomically and durably, what the file holds.
    ///
    /// # Errors
    /// `Corruption` that names the block; `Io` or `Poisoned`. The live state is unchanged then.
    pub fn step(&mut self) -> Result<bool, StorageError> {
        let Some(import) = self.import.as_mut() else {
            return Ok(true);
        };
        if let Some(pairs) = self.pages.next(self.reader.as_ref())? {
            import.put_page(pairs)?;
            return Ok(false);
        }
        let import = self.import.take().expect("it was there a moment ago");
        import.finish(self.header.applied.clone(), self.header.digest)?;
        Ok(true)
    }

    /// What the file begins with.
    #[must_use]
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }
}

/// A snapshot file that was found sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// What it begins with.
    pub header: SnapshotHeader,
    /// Its pairs.
    pub pairs: u64,
    /// Its length, in bytes.
    pub bytes: u64,
}

/// Reads a whole snapshot file: every checksum, the order of the keys, the counts, the digest.
///
/// # Errors
/// `Corruption` that names the block; `Io`.
pub fn check(reader: &dyn SnapshotReader) -> Result<SnapshotSummary, StorageError> {
    let (mut pages, header) = Pages::begin(reader)?;
    let mut digest = Digest::EMPTY;
    let mut last: Option<Vec<u8>> = None;
    while let Some(pairs) = pages.next(reader)? {
        for (key, value) in pairs {
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(StorageError::corruption(format!(
                    "the snapshot's key {} does not rise",
                    crate::hex(&key)
                )));
            }
            digest.add(&key, &value);
            last = Some(key);
        }
    }
    if digest != header.digest {
        return Err(StorageError::corruption(format!(
            "the snapshot's pairs have the digest {digest}, but its header says {}",
            header.digest
        )));
    }
    Ok(SnapshotSummary {
        header,
        pairs: pages.counted.pairs,
        bytes: reader.len(),
    })
}

/// Walks the pages and checks the footer.
struct Pages {
    blocks: BlockReader,
    counted: Footer,
    ended: bool,
}

impl Pages {
    fn begin(reader: &dyn SnapshotReader) -> Result<(Pages, SnapshotHeader), StorageError> {
        let mut blocks = BlockReader::begin(reader)?;
        let header = blocks.header(reader)?;
        Ok((
            Pages {
                blocks,
                counted: Footer::default(),
                ended: false,
            },
            header,
        ))
    }

    fn next(&mut self, reader: &dyn SnapshotReader) -> Result<Option<Vec<Pair>>, StorageError> {
        if self.ended {
            return Ok(None);
        }
        match self.blocks.next(reader)? {
            (Kind::Page, payload) => {
                let pairs = decode_page(&payload)
                    .ok_or_else(|| self.blocks.damaged("a malformed page before this block"))?;
                self.counted.pages += 1;
                self.counted.pairs += u64::try_from(pairs.len()).expect("a length fits 64 bits");
                Ok(Some(pairs))
            }
            (Kind::Footer, payload) => {
                if Footer::decode(&payload) != Some(self.counted) {
                    return Err(self.blocks.damaged("the footer counts otherwise"));
                }
                if !self.blocks.at_end(reader) {
                    return Err(self.blocks.damaged("bytes after the footer"));
                }
                self.ended = true;
                Ok(None)
            }
            (Kind::Header, _) => Err(self.blocks.damaged("a second header before this block")),
        }
    }
}
