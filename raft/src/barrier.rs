//! Linearizable reads: one confirmation of leadership for all the reads that wait for it.
//!
//! A read may be answered from the local state once this node has applied the leader's read index: the commit index at
//! a moment after the read began, from a leader that a quorum confirmed after that moment (the ReadIndex method of
//! Ongaro's thesis, section 6.4). Reads that arrive while a round is on its way wait for the next round, since the one
//! on its way began before them. At most two rounds overlap.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

/// The most reads that may wait for a round.
const MAX_WAITING: usize = 16 * 1024;
const MAX_ROUNDS: usize = 2;

/// Why there is no read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum NoIndex {
    /// The node that was asked does not lead.
    NotLeader,
    /// It could not reach a quorum.
    NoQuorum,
    /// It could not be reached, or did not answer in time.
    Lost,
}

pub(crate) type ReadIndex = Result<u64, NoIndex>;

/// Where reads wait for a round. Clones share it.
#[derive(Clone)]
pub(crate) struct Barrier {
    waiting: mpsc::Sender<oneshot::Sender<ReadIndex>>,
}

impl Barrier {
    /// The read index of a round that begins after this call; `None` where too many reads wait, or the node stops.
    pub(crate) async fn index(&self) -> Option<ReadIndex> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.try_send(sender).ok()?;
        receiver.await.ok()
    }
}

/// Makes a barrier whose rounds are run by `round`, and the task that runs them until every [`Barrier`] is gone.
pub(crate) fn barrier<F, Fut>(round: F) -> (Barrier, impl Future<Output = ()>)
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = ReadIndex> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel::<oneshot::Sender<ReadIndex>>(MAX_WAITING);
    let run = async move {
        let permits = Arc::new(Semaphore::new(MAX_ROUNDS));
        while let Some(first) = receiver.recv().await {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            let mut readers = vec![first];
            while let Ok(reader) = receiver.try_recv() {
                readers.push(reader);
            }
            // Everyone in `readers` is here before the round begins.
            let running = round();
            tokio::spawn(async move {
                let index = running.await;
                drop(permit);
                for reader in readers {
                    let _ = reader.send(index);
                }
            });
        }
    };
    (Barrier { waiting: sender }, run)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn reads_share_rounds_and_never_join_one_that_began_before_them() {
        let rounds = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&rounds);
        let (barrier, run) = barrier(move || {
            let number = counter.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(number)
            }
        });
        tokio::spawn(run);
        let ask = |barrier: &Barrier| {
            let barrier = barrier.clone();
            tokio::spawn(async move { barrier.index().await })
        };
        let first = ask(&barrier);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let second = ask(&barrier);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let rest: Vec<_> = (0..100).map(|_| ask(&barrier)).collect();
        assert_eq!(first.await.expect("no panic"), Some(Ok(0)));
        assert_eq!(second.await.expect("no panic"), Some(Ok(1)));
        for reader in rest {
            assert_eq!(reader.await.expect("no panic"), Some(Ok(2)));
        }
        assert_eq!(rounds.load(Ordering::SeqCst), 3);
    }
}
