//! Group commit: commands that arrive while others are on their way travel together.
//!
//! A batcher takes what waits in its queue, up to a bound in count and bytes, and sends it as one batch: on the leader
//! into the log, on any other node to the leader. At most a few batches are on their way at once; what arrives
//! meanwhile gathers. There is no timer, so a lone command is never delayed.
//!
//! A command that nobody waits for any more is dropped before it is sent, and its proposer may then conclude that it
//! was not applied; see [`Ticket::withdraw`].

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::messages::Outcome;

/// The most commands in one batch.
pub(crate) const MAX_BATCH_COMMANDS: usize = 512;
/// The most bytes in one batch, unless a single command is longer.
pub(crate) const MAX_BATCH_BYTES: usize = 1 << 20;

/// A command and the id of the request that it came with, which follows it into the leader's log lines.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Traced {
    pub(crate) request_id: Arc<str>,
    pub(crate) bytes: Bytes,
}

/// A command on its way into a batch.
pub(crate) struct Submission {
    pub(crate) command: Traced,
    /// Set by whoever comes first: the batcher that sends it, or the proposer that gives it up.
    claimed: Arc<AtomicBool>,
    answer: oneshot::Sender<Outcome>,
}

impl Submission {
    fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }

    /// Answers the proposer; one that gave up does not hear it.
    pub(crate) fn answer(self, outcome: Outcome) {
        let _ = self.answer.send(outcome);
    }
}

/// The proposer's side of a [`Submission`].
pub(crate) struct Ticket {
    claimed: Arc<AtomicBool>,
    pub(crate) answer: oneshot::Receiver<Outcome>,
}

impl Ticket {
    /// Gives the command up. `true`: it was not sent, and never will be.
    pub(crate) fn withdraw(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }
}

/// The entrance to a batcher. Clones share it.
#[derive(Clone)]
pub(crate) struct Queue {
    sender: mpsc::Sender<Submission>,
}

impl Queue {
    /// Puts a command in; `None` where the queue is full or closed.
    pub(crate) fn put(&self, command: Traced) -> Option<Ticket> {
        let (answer, receiver) = oneshot::channel();
        let claimed = Arc::new(AtomicBool::new(false));
        let submission = Submission {
            command,
            claimed: Arc::clone(&claimed),
            answer,
        };
        self.sender.try_send(submission).ok()?;
        Some(Ticket {
            claimed,
            answer: receiver,
        })
    }
}

/// Makes a queue of at most `capacity` commands whose batches go to `send`, at most `in_flight` of them at once. The
/// batcher ends when every [`Queue`] is gone.
pub(crate) fn batcher<F, Fut>(
    capacity: usize,
    in_flight: usize,
    send: F,
) -> (Queue, impl Future<Output = ()>)
where
    F: Fn(Vec<Submission>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel::<Submission>(capacity);
    let run = async move {
        let permits = Arc::new(Semaphore::new(in_flight));
        while let Some(first) = receiver.recv().await {
            // While the permit is waited for, more commands gather behind the first.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            let batch = gather(first, &mut receiver);
            if batch.is_empty() {
                continue;
            }
            let sending = send(batch);
            tokio::spawn(async move {
                sending.await;
                drop(permit);
            });
        }
    };
    (Queue { sender }, run)
}

fn gather(first: Submission, receiver: &mut mpsc::Receiver<Submission>) -> Vec<Submission> {
    let mut bytes = 0;
    let mut batch = Vec::new();
    let mut next = Some(first);
    while let Some(submission) = next.take() {
        bytes += submission.command.bytes.len();
        if submission.claim() {
            batch.push(submission);
        }
        if batch.len() < MAX_BATCH_COMMANDS && bytes < MAX_BATCH_BYTES {
            next = receiver.try_recv().ok();
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn traced(bytes: &'static [u8]) -> Traced {
        Traced {
            request_id: Arc::from("test"),
            bytes: Bytes::from_static(bytes),
        }
    }

    type Sizes = Arc<Mutex<Vec<usize>>>;

    fn recorder(capacity: usize, gate: &Arc<Semaphore>) -> (Queue, Sizes) {
        let sizes = Sizes::default();
        let (recorded, gate) = (Arc::clone(&sizes), Arc::clone(gate));
        let (queue, run) = batcher(capacity, 1, move |batch: Vec<Submission>| {
            let (recorded, gate) = (Arc::clone(&recorded), Arc::clone(&gate));
            async move {
                recorded
                    .lock()
                    .expect("no panic holds it")
                    .push(batch.len());
                gate.acquire().await.expect("the gate stays open").forget();
                for (index, submission) in batch.into_iter().enumerate() {
                    submission.answer(Outcome::Applied {
                        index: index as u64,
                        reply: Bytes::new(),
                    });
                }
            }
        });
        tokio::spawn(run);
        (queue, sizes)
    }

    #[tokio::test]
    async fn what_arrives_meanwhile_travels_together() {
        let gate = Arc::new(Semaphore::new(0));
        let (queue, sizes) = recorder(100, &gate);
        let first = queue.put(traced(b"a")).expect("room");
        while sizes.lock().expect("no panic holds it").is_empty() {
            tokio::task::yield_now().await;
        }
        let rest: Vec<_> = (0..10)
            .map(|_| queue.put(traced(b"b")).expect("room"))
            .collect();
        gate.add_permits(2);
        assert!(matches!(
            first.answer.await,
            Ok(Outcome::Applied { index: 0, .. })
        ));
        for (index, ticket) in rest.into_iter().enumerate() {
            let reply = Bytes::new();
            assert_eq!(
                ticket.answer.await,
                Ok(Outcome::Applied {
                    index: index as u64,
                    reply
                })
            );
        }
        assert_eq!(*sizes.lock().expect("no panic holds it"), [1, 10]);
    }

    #[tokio::test]
    async fn a_withdrawn_command_is_never_sent_and_a_full_queue_refuses() {
        let gate = Arc::new(Semaphore::new(0));
        let (queue, sizes) = recorder(2, &gate);
        let sent = queue.put(traced(b"a")).expect("room");
        while sizes.lock().expect("no panic holds it").is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(!sent.withdraw(), "it is on its way");
        // The batcher itself holds one more while it waits for the first batch to end.
        let mut waiting = Vec::new();
        while let Some(ticket) = queue.put(traced(b"b")) {
            waiting.push(ticket);
            tokio::task::yield_now().await;
        }
        assert_eq!(waiting.len(), 3);
        for ticket in &waiting {
            assert!(ticket.withdraw(), "it was not sent yet");
        }
        gate.add_permits(1);
        for ticket in waiting {
            assert!(ticket.answer.await.is_err(), "dropped, never answered");
        }
        assert_eq!(*sizes.lock().expect("no panic holds it"), [1]);
    }
}
