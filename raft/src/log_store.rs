//! openraft's log over `mesto_storage`'s: entries become records, the vote becomes durable metadata.
//!
//! What must be durable before it is answered is: the vote, and every append whose callback is called. What was
//! appended is readable at once. Entries are purged only as far as the state on the disk has come, since whatever it
//! lacks is in them alone. This module adds no state of its own; everything is in [`Log`], so its clones all see the
//! same.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use mesto_storage::{Log, Record, State, StorageError};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::codec::{self, CodecError};
use crate::types::{Entry, LogId, NodeId, StoredLogId, Types, Vote, decode_entry, encode_entry};

const VOTE_META: &str = "vote";

/// The log as openraft sees it.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Log,
    /// What the entries are applied to.
    state: State,
    /// The most that one AppendEntries message carries, in bytes of encoded entries.
    max_append_bytes: usize,
}

/// Why durable metadata could not be read or written.
#[derive(Debug, Error)]
pub(crate) enum MetaError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("stored metadata: {0}")]
    Codec(#[from] CodecError),
    #[error("the store's writer has stopped")]
    Stopped,
}

impl From<MetaError> for io::Error {
    fn from(error: MetaError) -> Self {
        io::Error::other(error)
    }
}

/// Reads metadata that [`put_meta`] wrote.
pub(crate) fn get_meta<T: DeserializeOwned>(
    log: &Log,
    key: &'static str,
) -> Result<Option<T>, MetaError> {
    log.get_meta(key)?
        .map(|bytes| codec::decode(&bytes).map_err(MetaError::from))
        .transpose()
}

/// Writes metadata; it is on the disk when this returns.
pub(crate) async fn put_meta<T: Serialize>(
    log: &Log,
    key: &'static str,
    value: &T,
) -> Result<(), MetaError> {
    let bytes = codec::encode(value);
    completed(|done| log.put_meta(key, bytes, true, done)).await
}

/// Waits for an operation of the store that reports through a callback.
pub(crate) async fn completed(start: impl FnOnce(mesto_storage::Done)) -> Result<(), MetaError> {
    let (sender, receiver) = oneshot::channel();
    start(Box::new(move |result| {
        // Nobody waits any more when the receiver is gone.
        let _ = sender.send(result);
    }));
    receiver
        .await
        .map_err(|_| MetaError::Stopped)?
        .map_err(MetaError::from)
}

/// The vote in its stored form.
#[derive(Serialize, Deserialize)]
struct StoredVote {
    term: u64,
    voted_for: NodeId,
    committed: bool,
}

impl LogStore {
    pub(crate) fn new(log: Log, state: State, max_append_bytes: usize) -> Self {
        Self {
            log,
            state,
            max_append_bytes,
        }
    }

    fn decode(records: Vec<Record>) -> Result<Vec<Entry>, io::Error> {
        records
            .into_iter()
            .map(|record| decode_entry(record.index, &record.bytes).map_err(io::Error::other))
            .collect()
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Entry>, io::Error> {
        let from = from.max(self.log.first_index().unwrap_or(u64::MAX));
        if from >= to {
            return Ok(Vec::new());
        }
        Self::decode(
            self.log
                .read(from, to, max_bytes)
                .map_err(io::Error::other)?,
        )
    }

    fn purged(&self) -> Result<Option<LogId>, io::Error> {
        let mark = self.log.purge_mark();
        mark.map(|bytes| {
            codec::decode::<StoredLogId>(&bytes)
                .map(LogId::from)
                .map_err(io::Error::other)
        })
        .transpose()
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&end) => end + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let stored: Option<StoredVote> = get_meta(&self.log, VOTE_META)?;
        Ok(stored.map(|vote| {
            if vote.committed {
                Vote::new_committed(vote.term, vote.voted_for)
            } else {
                Vote::new(vote.term, vote.voted_for)
            }
        }))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        if self.log.first_index().is_none_or(|first| first > start) {
            return Err(io::Error::other(format!(
                "the log no longer has entry {start}"
            )));
        }
        self.read(start, end, self.max_append_bytes)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let last_purged_log_id = self.purged()?;
        let last_log_id = match self.log.last() {
            Some(record) => Some(
                decode_entry(record.index, &record.bytes)
                    .map_err(io::Error::other)?
                    .log_id,
            ),
            None => last_purged_log_id,
        };
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let stored = StoredVote {
            term: vote.leader_id.term,
            voted_for: vote.leader_id.voted_for,
            committed: vote.committed,
        };
        Ok(put_meta(&self.log, VOTE_META, &stored).await?)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries
            .into_iter()
            .map(|entry| Record {
                index: entry.index(),
                bytes: encode_entry(&entry),
            })
            .collect();
        self.log.append(
            records,
            Box::new(move |result| callback.io_completed(result.map_err(io::Error::other))),
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let first_removed = last_log_id.map_or(0, |id| id.index + 1);
        Ok(completed(|done| self.log.truncate_from(first_removed, done)).await?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        // Consensus does nothing else meanwhile. A snapshot is announced only once the state is persisted and flushed up
        // to it, so this finds the one done, and of the other what has come since.
        completed(|done| self.state.persist_to(log_id.index, done)).await?;
        let mark = codec::encode(&StoredLogId::from(log_id));
        Ok(completed(|done| self.log.purge_to(log_id.index, mark, done)).await?)
    }
}
