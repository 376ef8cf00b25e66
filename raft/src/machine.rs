//! The replicated state machine: applies entries in groups, and keeps snapshots.
//!
//! A group is one transaction and one commit: data, digest, and the record of what was applied (log id, membership, the
//! nodes that were ever removed). It is a commit in memory, and clients are answered right after it; the state is carried
//! to the disk in the background, never ahead of the log that can rebuild it. So a restart finds an earlier commit, says
//! so by [`Machine::applied_state`], and is given the entries after it again. Applying waits only while the disk is so
//! far behind that memory would grow without bound.
//!
//! A snapshot is a consistent image of the state in a file of its own, built page by page while entries are applied.
//! Exactly one snapshot is current; it is found again at start by the greatest index in its header. Before it is
//! announced the state on the disk has reached it, because consensus may then purge the log up to there, and must not
//! have to wait.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use mesto_storage::snapshot::{self, SnapshotBuild, SnapshotRestore, read_header};
use mesto_storage::{
    Applied, MAX_APPLIED_RECORD_BYTES, SnapshotFiles, State, StorageError, Transaction,
};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::{App, Stamp};
use crate::codec;
use crate::log_store::completed;
use crate::types::{
    Entry, LogId, Members, NodeId, Reply, SnapshotMeta, StoredLogId, StoredMembership, Types,
};

/// How often an image is begun again, when more changed than may be kept aside for it.
const SNAPSHOT_TRIES: usize = 3;

/// A snapshot as openraft knows it.
pub(crate) type BuiltSnapshot = openraft::alias::SnapshotOf<Types, SnapshotFile>;

/// How many entries are applied in one commit at most.
const MAX_GROUP_ENTRIES: usize = 256;

/// What the state records about itself, beside the application's data. A part of every snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppliedRecord {
    log_id: Option<StoredLogId>,
    membership_log_id: Option<StoredLogId>,
    members: Members,
    /// Every node that was a member once and is none now. Node ids are never reused.
    removed: BTreeSet<NodeId>,
}

impl AppliedRecord {
    pub(crate) fn decode(applied: &Applied) -> Result<Self, io::Error> {
        if applied.record.is_empty() {
            return Ok(Self::default());
        }
        codec::decode(&applied.record).map_err(io::Error::other)
    }

    pub(crate) fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// Whether the record stays within what the store takes for it after `member` joined, twice over, since a change
    /// of the membership holds both sets for a while.
    pub(crate) fn has_room_for(&self, member: &crate::Member) -> bool {
        let one = codec::encode(member).len() + 32;
        codec::encode(self).len() + 2 * one <= MAX_APPLIED_RECORD_BYTES
    }

    fn change_members(&mut self, members: Members, log_id: StoredLogId) {
        self.removed.extend(
            self.members
                .nodes
                .keys()
                .filter(|id| !members.nodes.contains_key(id)),
        );
        self.members = members;
        self.membership_log_id = Some(log_id);
    }

    fn stored_membership(&self) -> Result<StoredMembership, io::Error> {
        let membership = self.members.to_membership().map_err(io::Error::other)?;
        Ok(StoredMembership::new(
            self.membership_log_id.map(LogId::from),
            membership,
        ))
    }

    fn snapshot_meta(&self) -> Result<SnapshotMeta, io::Error> {
        Ok(SnapshotMeta {
            last_log_id: self.log_id.map(LogId::from),
            last_membership: self.stored_membership()?,
        })
    }
}

/// A snapshot's file.
#[derive(Clone)]
pub(crate) struct SnapshotFile {
    pub(crate) name: String,
    pub(crate) files: Arc<dyn SnapshotFiles>,
    /// Raised when a receiver could not use it, so that this node looks at its own file.
    pub(crate) suspicion: Arc<Suspicion>,
}

/// Whether the file of the current snapshot may be damaged. A receiver that cannot use it may have a full disk as well,
/// and fail again and again; entries are applied in between, so looking must not hold them up.
#[derive(Default)]
pub(crate) struct Suspicion {
    raised: AtomicBool,
    /// The file that was looked at last, and when.
    looked: Mutex<Option<(String, Instant)>>,
    /// The file that was found damaged.
    damaged: Mutex<Option<String>>,
}

/// How long a file that was found sound is believed to be.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

impl Suspicion {
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Relaxed);
    }

    /// Looks at `file` in the background, if there is reason to.
    fn look(self: &Arc<Self>, file: &SnapshotFile, blocking: Blocking) {
        if !self.raised.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut looked = self.looked.lock();
        if matches!(&*looked, Some((name, at)) if *name == file.name && at.elapsed() < LOOK_INTERVAL)
        {
            return;
        }
        *looked = Some((file.name.clone(), Instant::now()));
        drop(looked);
        let (suspicion, file) = (Arc::clone(self), file.clone());
        tokio::spawn(async move {
            if is_damaged(&file, blocking).await {
                *suspicion.damaged.lock() = Some(file.name);
            }
        });
    }

    fn is_confirmed(&self, name: &str) -> bool {
        self.damaged.lock().as_deref() == Some(name)
    }
}

async fn is_damaged(file: &SnapshotFile, blocking: Blocking) -> bool {
    let Ok(reader) = file.files.open(&file.name) else {
        return true;
    };
    let check = move |(): &mut ()| snapshot::check(reader.as_ref()).map(|_| true);
    matches!(blocking.run((), check).await, Ok(Err(_)))
}

/// How steps that block on the disk are run: beside the runtime's workers, or, in a simulation, right here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// On tokio's threads for blocking work.
    Threads,
    /// In the calling task, yielding between steps: deterministic.
    Inline,
}

impl Blocking {
    /// Does `work`, which nobody waits for.
    fn detach(self, work: impl FnOnce() + Send + 'static) {
        match self {
            Self::Inline => work(),
            Self::Threads => drop(tokio::task::spawn_blocking(work)),
        }
    }

    /// Runs `step` until it says that it is done, or fails.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        mut job: T,
        step: impl Fn(&mut T) -> Result<bool, StorageError> + Send + 'static,
    ) -> Result<Result<T, StorageError>, io::Error> {
        match self {
            Self::Inline => loop {
                match step(&mut job) {
                    Ok(true) => return Ok(Ok(job)),
                    Ok(false) => tokio::task::yield_now().await,
                    Err(error) => return Ok(Err(error)),
                }
            },
            Self::Threads => tokio::task::spawn_blocking(move || {
                loop {
                    match step(&mut job) {
                        Ok(true) => return Ok(job),
                        Ok(false) => {}
                        Err(error) => return Err(error),
                    }
                }
            })
            .await
            .map_err(io::Error::other),
        }
    }
}

/// What this node applied last, shared with everyone who asks.
pub(crate) struct Progress {
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) record: Mutex<AppliedRecord>,
    pub(crate) snapshot_index: watch::Sender<Option<u64>>,
}

pub(crate) struct Machine {
    state: State,
    app: Arc<dyn App>,
    files: Arc<dyn SnapshotFiles>,
    blocking: Blocking,
    progress: Arc<Progress>,
    current: Arc<Mutex<Option<(SnapshotMeta, String)>>>,
    suspicion: Arc<Suspicion>,
    /// In a mutex only to make it `Sync`, which a transaction is not; it is never locked.
    group: Mutex<Group>,
}

/// Entries that were decided and wait to be committed together.
#[derive(Default)]
struct Group {
    transaction: Option<Transaction>,
    answers: Vec<(Option<ApplyResponder<Types>>, Reply)>,
    now_ms: u64,
    last: Option<LogId>,
    record: AppliedRecord,
}

impl Machine {
    pub(crate) fn open(
        state: State,
        app: Arc<dyn App>,
        files: Arc<dyn SnapshotFiles>,
        blocking: Blocking,
    ) -> Result<(Self, Arc<Progress>), io::Error> {
        let applied = state.applied();
        let record = AppliedRecord::decode(&applied)?;
        let current = newest_snapshot(&files, applied.index)?;
        let progress = Arc::new(Progress {
            applied: watch::Sender::new(applied.index),
            record: Mutex::new(record.clone()),
            snapshot_index: watch::Sender::new(
                current.as_ref().and_then(|(meta, _)| index_of(meta)),
            ),
        });
        let group = Group {
            now_ms: applied.now_ms,
            record,
            ..Group::default()
        };
        let group = Mutex::new(group);
        let current = Arc::new(Mutex::new(current));
        let machine = Self {
            state,
            app,
            files,
            blocking,
            progress: Arc::clone(&progress),
            current,
            suspicion: Arc::default(),
            group,
        };
        Ok((machine, progress))
    }

    fn decide(&mut self, entry: Entry, responder: Option<ApplyResponder<Types>>) {
        let group = self.group.get_mut();
        let log_id = entry.log_id;
        let before = group.last.map(StoredLogId::from).or(group.record.log_id);
        assert!(
            before.is_none_or(|before| before.index < log_id.index),
            "entries are applied in order, each once"
        );
        let reply = match entry.payload {
            EntryPayload::Blank => Reply::default(),
            EntryPayload::Normal(command) => {
                // Leaders' clocks differ; replicated time takes the later and never goes back.
                group.now_ms = group.now_ms.max(command.stamp_ms);
                let stamp = Stamp {
                    index: log_id.index,
                    now_ms: group.now_ms,
                };
                let transaction = group
                    .transaction
                    .get_or_insert_with(|| self.state.transaction());
                Reply(Bytes::from(self.app.apply(
                    transaction,
                    stamp,
                    &command.bytes,
                )))
            }
            EntryPayload::Membership(membership) => {
                group
                    .record
                    .change_members(Members::from_membership(&membership), log_id.into());
                Reply::default()
            }
        };
        group.last = Some(log_id);
        group.answers.push((responder, reply));
    }

    async fn commit_group(&mut self) -> Result<(), io::Error> {
        let group = self.group.get_mut();
        let Some(last) = group.last.take() else {
            return Ok(());
        };
        group.record.log_id = Some(last.into());
        completed(|done| self.state.when_room(done)).await?;
        let transaction = group
            .transaction
            .take()
            .unwrap_or_else(|| self.state.transaction());
        let record = codec::encode(&group.record);
        let applied = Applied {
            index: last.index,
            now_ms: group.now_ms,
            record,
        };
        self.state
            .commit(transaction, applied)
            .map_err(io::Error::other)?;
        self.progress.record.lock().clone_from(&group.record);
        self.progress.applied.send_replace(last.index);
        for (responder, reply) in group.answers.drain(..) {
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let record = self.group.get_mut().record.clone();
        Ok((record.log_id.map(LogId::from), record.stored_membership()?))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            // A panic must stop the node, and openraft does not look after the task that it would end.
            let decided = catch_unwind(AssertUnwindSafe(|| self.decide(entry, responder)));
            decided.map_err(|_| io::Error::other("applying an entry panicked"))?;
            if self.group.get_mut().answers.len() >= MAX_GROUP_ENTRIES {
                self.commit_group().await?;
            }
        }
        self.commit_group().await
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Self::SnapshotBuilder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        Builder {
            state: self.state.clone(),
            files: Arc::clone(&self.files),
            blocking: self.blocking,
            progress: Arc::clone(&self.progress),
            current: Arc::clone(&self.current),
            suspicion: Arc::clone(&self.suspicion),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let reader = snapshot
            .files
            .open(&snapshot.name)
            .map_err(io::Error::other)?;
        let restore = SnapshotRestore::new(reader, &self.state).map_err(io::Error::other)?;
        self.blocking
            .run(restore, SnapshotRestore::step)
            .await?
            .map_err(io::Error::other)?;
        let applied = self.state.applied();
        let record = AppliedRecord::decode(&applied)?;
        if record.log_id.map(LogId::from) != meta.last_log_id {
            return Err(io::Error::other(
                "the installed snapshot is not the one that was announced",
            ));
        }
        *self.group.get_mut() = Group {
            now_ms: applied.now_ms,
            record: record.clone(),
            ..Group::default()
        };
        *self.progress.record.lock() = record;
        self.progress.applied.send_replace(applied.index);
        let progress = &self.progress;
        let loser = make_current(&self.current, progress, meta.clone(), snapshot.name);
        remove_later(self.blocking, &self.files, loser);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<BuiltSnapshot>, io::Error> {
        let Some((meta, name)) = self.current.lock().clone() else {
            return Ok(None);
        };
        let snapshot = self.file(name);
        if self.suspicion.is_confirmed(&snapshot.name) {
            // Nobody could ever be brought up to date with it, and the log that could is purged.
            tracing::error!(file = %snapshot.name, "the current snapshot is damaged; another one is built in its place");
            match self.get_snapshot_builder().await.build_snapshot().await {
                Ok(built) if built.meta.last_log_id.is_some() => {
                    self.suspicion.damaged.lock().take();
                    return Ok(Some(built));
                }
                Ok(_) => {}
                // One is being built already, perhaps. This one is sent in vain once more.
                Err(error) => {
                    tracing::warn!(%error, "no snapshot could be built in the place of a damaged one");
                }
            }
        }
        self.suspicion.look(&snapshot, self.blocking);
        Ok(Some(BuiltSnapshot { meta, snapshot }))
    }
}

impl Machine {
    fn file(&self, name: String) -> SnapshotFile {
        SnapshotFile {
            name,
            files: Arc::clone(&self.files),
            suspicion: Arc::clone(&self.suspicion),
        }
    }
}

/// Builds one snapshot.
pub(crate) struct Builder {
    state: State,
    files: Arc<dyn SnapshotFiles>,
    blocking: Blocking,
    progress: Arc<Progress>,
    current: Arc<Mutex<Option<(SnapshotMeta, String)>>>,
    suspicion: Arc<Suspicion>,
}

impl Builder {
    /// One try. `None`: so much changed meanwhile that the image was given up.
    async fn try_build(&self) -> Result<Option<(SnapshotMeta, String)>, io::Error> {
        // The image is what the state is now; from here on it is read while entries are applied.
        let image = match self.state.image() {
            Ok(image) => image,
            Err(error) => return unless_lost(error),
        };
        let meta = AppliedRecord::decode(image.applied())?.snapshot_meta()?;
        let name = snapshot_name(&meta);
        let writer = self.files.create(&name).map_err(io::Error::other)?;
        let build = SnapshotBuild::new(image, writer, Vec::new()).map_err(io::Error::other)?;
        if let Err(error) = self.blocking.run(build, SnapshotBuild::step).await? {
            return unless_lost(error);
        }
        if let Some(index) = index_of(&meta) {
            completed(|done| self.state.persist_to(index, done)).await?;
            // The purge that follows flushes what has come since; consensus waits for that.
            let flush = |state: &mut State| state.flush().map(|()| true);
            let flushed = self.blocking.run(self.state.clone(), flush).await?;
            flushed.map_err(io::Error::other)?;
        }
        Ok(Some((meta, name)))
    }
}

/// A lost image is no failure of the node; everything else is.
fn unless_lost<T>(error: StorageError) -> Result<Option<T>, io::Error> {
    match error {
        StorageError::ImageLost { .. } => {
            tracing::warn!(%error, "a snapshot has to be begun again");
            Ok(None)
        }
        other => Err(io::Error::other(other)),
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<BuiltSnapshot, io::Error> {
        for _ in 0..SNAPSHOT_TRIES {
            if let Some((meta, name)) = self.try_build().await? {
                let progress = &self.progress;
                let loser = make_current(&self.current, progress, meta.clone(), name.clone());
                remove_later(self.blocking, &self.files, loser);
                return Ok(self.built(meta, name));
            }
        }
        // openraft takes an error for the end of the node. A snapshot of nothing is not newer than what it has, so it
        // is ignored, and the next entries ask for another one.
        tracing::error!("no snapshot was built; the log stays longer than it should until one is");
        Ok(self.built(SnapshotMeta::default(), String::new()))
    }
}

impl Builder {
    fn built(&self, meta: SnapshotMeta, name: String) -> BuiltSnapshot {
        let files = Arc::clone(&self.files);
        BuiltSnapshot {
            meta,
            snapshot: SnapshotFile {
                name,
                files,
                suspicion: Arc::clone(&self.suspicion),
            },
        }
    }
}

/// The name of a snapshot's file: unique a log id.
pub(crate) fn snapshot_name(meta: &SnapshotMeta) -> String {
    match meta.last_log_id {
        Some(id) => format!("{:020}-{:010}", id.index, *id.leader_id),
        None => "empty".to_owned(),
    }
}

fn index_of(meta: &SnapshotMeta) -> Option<u64> {
    meta.last_log_id.map(|id| id.index)
}

/// Makes a snapshot the current one, unless a newer one is, and returns the name of the one that is not needed.
fn make_current(
    current: &Mutex<Option<(SnapshotMeta, String)>>,
    progress: &Progress,
    meta: SnapshotMeta,
    name: String,
) -> Option<String> {
    let mut current = current.lock();
    match current.take() {
        Some((newer, kept)) if newer.last_log_id > meta.last_log_id => {
            *current = Some((newer, kept));
            Some(name)
        }
        older => {
            progress.snapshot_index.send_replace(index_of(&meta));
            *current = Some((meta, name.clone()));
            older.map(|(_, old)| old).filter(|old| *old != name)
        }
    }
}

/// Removes a file. Giving the space of a large one back takes the file system a while.
fn remove_later(blocking: Blocking, files: &Arc<dyn SnapshotFiles>, name: Option<String>) {
    let Some(name) = name else { return };
    let files = Arc::clone(files);
    blocking.detach(move || {
        if let Err(error) = files.remove(&name) {
            tracing::warn!(%error, file = %name, "cannot remove an old snapshot");
        }
    });
}

/// The newest complete snapshot among the files; others are removed. One beyond what was applied was received and never
/// installed: the state does not need it, and the leader sends it again.
fn newest_snapshot(
    files: &Arc<dyn SnapshotFiles>,
    applied: u64,
) -> Result<Option<(SnapshotMeta, String)>, io::Error> {
    let mut newest: Option<(SnapshotMeta, String)> = None;
    for name in files.list().map_err(io::Error::other)? {
        let reader = files.open(&name).map_err(io::Error::other)?;
        let header = match read_header(reader.as_ref()) {
            Ok(header) => header,
            Err(error) => {
                // The state itself does not depend on it, and the leader or the next build replaces it.
                tracing::error!(%error, file = %name, "a snapshot is damaged and is not used");
                continue;
            }
        };
        if header.applied.index > applied {
            files.remove(&name).map_err(io::Error::other)?;
            continue;
        }
        let meta = AppliedRecord::decode(&header.applied)?.snapshot_meta()?;
        let loser = match newest.take() {
            Some((newer, kept)) if newer.last_log_id > meta.last_log_id => {
                newest = Some((newer, kept));
                Some(name)
            }
            older => {
                newest = Some((meta, name));
                older.map(|(_, old)| old)
            }
        };
        if let Some(loser) = loser {
            files.remove(&loser).map_err(io::Error::other)?;
        }
    }
    Ok(newest)
}
