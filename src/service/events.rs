//! Live changes of a space, without gaps.
//!
//! Apply stores the events of a space with the log index that brought them about. A stream first reads what is stored
//! after the index where its client was, then follows what comes. For the second part there is one feeder a space,
//! however many look at it: it wakes when the applied index moves, reads the new events once, and passes them on. A
//! reader that falls behind the feeder's bounded buffer goes back to the state and misses nothing.
//!
//! All events of one index travel as one change, so that a client that was cut off resumes after a whole index. Where
//! the wanted index is older than what is kept, or newer than anything that this cluster has decided, the stream begins
//! with a reset: look at everything again, then go on from here.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};

use super::{Consistency, Failure, Service};
use crate::{
    booking::{
        Instant,
        ids::SpaceId,
        query,
        reservation::{Event, EventKind},
        text::TimeZoneName,
    },
    limits::{EVENT_BACKLOG_ITEMS, EVENT_PAGE_ITEMS},
};

/// How often a feeder looks whether anyone still listens.
const FEEDER_LOOK: Duration = Duration::from_secs(5);

/// What a stream brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The stream has begun; the client has seen everything up to this index.
    Ready {
        /// The index.
        index: u64,
    },
    /// The client has missed something that is not kept: it must look at everything again.
    Reset {
        /// The index from which on nothing will be missed.
        index: u64,
    },
    /// What one log entry changed.
    Change(Arc<Change>),
}

/// What one log entry changed in a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The log index.
    pub index: u64,
    /// When.
    pub at: Instant,
    /// What, in order.
    pub kinds: Vec<EventKind>,
}

/// The feeders, and the bound on streams.
#[derive(Debug)]
pub struct Events {
    places: Arc<Semaphore>,
    feeders: Mutex<BTreeMap<SpaceId, broadcast::Sender<Arc<Change>>>>,
    stopping: watch::Sender<bool>,
}

/// A stream of a space's changes.
pub struct Subscription {
    service: Arc<Service>,
    space: SpaceId,
    /// In whose local time the space lives.
    pub time_zone: TimeZoneName,
    live: broadcast::Receiver<Arc<Change>>,
    stopping: watch::Receiver<bool>,
    first: Option<Item>,
    backlog: VecDeque<Arc<Change>>,
    behind: bool,
    seen: u64,
    _place: OwnedSemaphorePermit,
}

impl Events {
    /// No feeder yet, and up to `streams` streams.
    pub(super) fn new(streams: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(streams)),
            feeders: Mutex::default(),
            stopping: watch::Sender::new(false),
        }
    }

    /// Ends every stream, so that a node can stop.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// How many spaces are fed.
    #[must_use]
    pub fn feeders(&self) -> usize {
        self.feeders.lock().len()
    }

    fn retire_if_idle(&self, space: SpaceId) -> bool {
        let mut feeders = self.feeders.lock();
        let idle = feeders
            .get(&space)
            .is_none_or(|sender| sender.receiver_count() == 0);
        if idle {
            feeders.remove(&space);
        }
        idle
    }
}

impl Service {
    /// Follows a space, named by id or slug, from `after` on, or from now.
    ///
    /// # Errors
    /// Where there is no such space, too many streams are open, or the state cannot be read.
    pub async fn follow(
        self: &Arc<Self>,
        space: &str,
        after: Option<u64>,
    ) -> Result<Subscription, Failure> {
        let place = Arc::clone(&self.events.places)
            .try_acquire_owned()
            .map_err(|_| Failure::Busy)?;
        // Only what is linearizable can tell an index from the future from one that this node has not reached.
        let seen = self.read(None, Consistency::Linearizable, |sight| {
            let space = query::space_by_id_or_slug(sight.store, space)?;
            Some((
                query::event_floor(sight.store, space.id),
                space.id,
                space.details.time_zone,
            ))
        });
        let seen = seen.await?;
        let (floor, space, time_zone) = seen.value.ok_or(Failure::NotFound("space"))?;
        let (first, from) = match after {
            None => (Item::Ready { index: seen.index }, seen.index),
            Some(after) if after < floor || after > seen.index => {
                (Item::Reset { index: seen.index }, seen.index)
            }
            Some(after) => (Item::Ready { index: after }, after),
        };
        Ok(Subscription {
            live: self.feeder(space, seen.index),
            stopping: self.events.stopping.subscribe(),
            service: Arc::clone(self),
            space,
            time_zone,
            first: Some(first),
            backlog: VecDeque::new(),
            behind: true,
            seen: from,
            _place: place,
        })
    }

    fn feeder(self: &Arc<Self>, space: SpaceId, from: u64) -> broadcast::Receiver<Arc<Change>> {
        let mut feeders = self.events.feeders.lock();
        if let Some(sender) = feeders.get(&space) {
            return sender.subscribe();
        }
        let (sender, receiver) = broadcast::channel(EVENT_BACKLOG_ITEMS);
        feeders.insert(space, sender.clone());
        tokio::spawn(feed(Arc::clone(self), space, from, sender));
        receiver
    }

    /// A page of changes after an index, the index up to which everything has been seen then, and whether more may
    /// follow at once.
    fn changes_after(
        &self,
        space: SpaceId,
        index: u64,
    ) -> Result<(Vec<Arc<Change>>, u64, bool), Failure> {
        let seen =
            self.look(|sight| query::events_since(sight.store, space, index, EVENT_PAGE_ITEMS))?;
        let full = seen.value.len() >= EVENT_PAGE_ITEMS;
        let changes = group(seen.value);
        let upto = if full {
            changes.last().map_or(index, |change| change.index)
        } else {
            seen.index.max(index)
        };
        Ok((changes, upto, full))
    }
}

impl Subscription {
    /// The items in order, until the node stops or fails.
    pub fn items(self) -> impl Stream<Item = Item> + Send {
        stream::unfold(self, |mut subscription| async move {
            let item = subscription.next().await?;
            Some((item, subscription))
        })
    }

    /// The next item; `None` where the stream ends.
    pub async fn next(&mut self) -> Option<Item> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            if *self.stopping.borrow() {
                return None;
            }
            if let Some(change) = self.backlog.pop_front() {
                return Some(Item::Change(change));
            }
            if self.behind {
                let (changes, upto, more) =
                    self.service.changes_after(self.space, self.seen).ok()?;
                self.behind = more;
                self.seen = upto;
                self.backlog.extend(changes);
                continue;
            }
            let received = tokio::select! {
                received = self.live.recv() => received,
                _ = self.stopping.changed() => return None,
            };
            match received {
                Ok(change) if change.index > self.seen => {
                    self.seen = change.index;
                    return Some(Item::Change(change));
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Passes on the changes of one space until nobody listens any more.
async fn feed(
    service: Arc<Service>,
    space: SpaceId,
    from: u64,
    sender: broadcast::Sender<Arc<Change>>,
) {
    let mut applied = service.replica.applied();
    let mut stopping = service.events.stopping.subscribe();
    let mut seen = from;
    loop {
        while let Ok((changes, upto, more)) = service.changes_after(space, seen) {
            seen = upto;
            for change in changes {
                // An error means that nobody listens at this moment, which is looked at below.
                let _ = sender.send(change);
            }
            if !more {
                break;
            }
        }
        if service.events.retire_if_idle(space) {
            return;
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { break },
            _ = stopping.changed() => break,
            () = tokio::time::sleep(FEEDER_LOOK) => {}
        }
    }
    service.events.feeders.lock().remove(&space);
}

fn group(events: Vec<Event>) -> Vec<Arc<Change>> {
    let mut changes: Vec<Change> = Vec::new();
    for event in events {
        match changes.last_mut() {
            Some(change) if change.index == event.index => change.kinds.push(event.kind),
            _ => changes.push(Change {
                index: event.index,
                at: event.at,
                kinds: vec![event.kind],
            }),
        }
    }
    changes.into_iter().map(Arc::new).collect()
}
