//! Writing an image into a snapshot file, one page a step, so that the caller decides how fast.

use super::SnapshotWriter;
use super::format::{Footer, Kind, MAGIC, SnapshotHeader, block, encode_header, encode_page};
use crate::{Digest, Image, Pair, StorageError};

/// The size that a page aims at, in bytes.
const PAGE_BYTES: usize = 256 * 1024;

/// A snapshot file being built. Dropped before it is complete, the file disappears.
pub struct SnapshotBuild {
    image: Image,
    writer: Option<Box<dyn SnapshotWriter>>,
    header: SnapshotHeader,
    digest: Digest,
    next_block: u64,
    footer: Footer,
    bytes: u64,
}

impl SnapshotBuild {
    /// Begins the file with the header: how far `image` was applied, its digest, and `caller`.
    ///
    /// # Errors
    /// `Io`; `TooLarge` when `caller` exceeds some 4 MiB.
    pub fn new(
        image: Image,
        writer: Box<dyn SnapshotWriter>,
        caller: Vec<u8>,
    ) -> Result<SnapshotBuild, StorageError> {
        let header = SnapshotHeader {
            applied: image.applied().clone(),
            digest: image.digest(),
            caller,
        };
        let mut build = SnapshotBuild {
            image,
            writer: Some(writer),
            header,
            digest: Digest::EMPTY,
            next_block: 0,
            footer: Footer::default(),
            bytes: 0,
        };
        build.write(MAGIC)?;
        let payload = encode_header(&build.header);
        build.write_block(Kind::Header, &payload)?;
        Ok(build)
    }

    /// Writes one page. `true` once the file is complete, durable and visible.
    ///
    /// # Errors
    /// `ImageLost`: give this build up and begin another later. `Corruption` when the pairs do
    /// not have the digest that was kept with them; `Io`. After an error there is no file.
    pub fn step(&mut self) -> Result<bool, StorageError> {
        if self.writer.is_none() {
            return Ok(true);
        }
        let pairs = self.gather()?;
        if pairs.is_empty() {
            self.complete()?;
            return Ok(true);
        }
        for (key, value) in &pairs {
            self.digest.add(key, value);
        }
        self.footer.pages += 1;
        self.footer.pairs += u64::try_from(pairs.len()).expect("a length fits 64 bits");
        self.write_block(Kind::Page, &encode_page(&pairs))?;
        Ok(false)
    }

    /// What the file begins with.
    #[must_use]
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Bytes written so far; the file's length once it is complete.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Pairs written so far.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.footer.pairs
    }

    /// Pairs for one page of the file. Taken in small pages of the image, between which commits
    /// get their turn.
    fn gather(&mut self) -> Result<Vec<Pair>, StorageError> {
        let mut pairs = Vec::new();
        let mut bytes = 0;
        while bytes < PAGE_BYTES {
            let Some(page) = self.image.next_page(PAGE_BYTES - bytes)? else {
                break;
            };
            bytes += page
                .iter()
                .map(|(key, value)| 4 + key.len() + value.len())
                .sum::<usize>();
            pairs.extend(page);
        }
        Ok(pairs)
    }

    fn complete(&mut self) -> Result<(), StorageError> {
        if self.digest != self.header.digest {
            return Err(StorageError::corruption(format!(
                "the state's pairs have the digest {}, but {} was kept for index {}",
                self.digest, self.header.digest, self.header.applied.index
            )));
        }
        let footer = self.footer.encode();
        self.write_block(Kind::Footer, &footer)?;
        let writer = self.writer.take().expect("a build completes once");
        writer.commit()
    }

    fn write_block(&mut self, kind: Kind, payload: &[u8]) -> Result<(), StorageError> {
        let bytes = block(self.next_block, kind, payload)?;
        self.next_block += 1;
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let writer = self
            .writer
            .as_mut()
            .expect("nothing is written once the file is complete");
        writer.write(bytes)?;
        self.bytes += u64::try_from(bytes.len()).expect("a length fits 64 bits");
        Ok(())
    }
}
