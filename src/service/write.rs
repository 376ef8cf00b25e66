//! Proposing a command so that it is safe to send twice.
//!
//! Every envelope carries a dedup key: the client's `Idempotency-Key` where there is one, bound to who uses it, else
//! one that this node draws for its own retries. The fingerprint covers method, path and body as the client meant it:
//! the same key with another fingerprint is refused by the state machine. A password never goes into a fingerprint as
//! it is, since a fast hash of it in the replicated state would be worth stealing; its Argon2 hash stands in for it.
//!
//! A retry must get the first answer even where the command can no longer be made: the booking has moved on, say. So a
//! use case that computes its command from the state asks [`Service::original`] before it says no by itself.

use std::{fmt, time::Duration};

use bytes::Bytes;

use super::{Consistency, Context, Failure, Service, entropy::random};
use crate::{
    booking::{
        Actor, Command, DedupKey, Envelope, Fingerprint, Outcome, Refusal, Reply, decode_reply,
        query,
    },
    limits::IDEMPOTENCY_KEY_BYTES,
    replica::ProposeError,
};

/// A client's `Idempotency-Key`: 1 to 255 visible ASCII characters.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Parses the header's value.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let good = (1..=IDEMPOTENCY_KEY_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        good.then(|| Self(text.to_owned()))
    }

    /// The key itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What makes one write safe to send twice.
#[derive(Debug, Clone)]
pub struct Write {
    /// The client's key, if it sent one.
    pub key: Option<IdempotencyKey>,
    /// What was asked, as the client meant it.
    pub fingerprint: Fingerprint,
}

/// What a command came to.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// The log index at which it was decided first.
    pub index: u64,
    /// What was done.
    pub outcome: Outcome,
}

impl Write {
    /// A write without a client's key.
    #[must_use]
    pub fn unkeyed() -> Self {
        Self {
            key: None,
            fingerprint: Fingerprint::of(&[]),
        }
    }

    /// The dedup key for an actor.
    pub(super) fn dedup(&self, service: &Service, actor: Actor) -> DedupKey {
        match (&self.key, actor) {
            (None, _) => service.node_key(),
            (Some(key), Actor::Member(user)) => DedupKey::for_user(user, key.as_str()),
            (Some(key), Actor::Operator) => DedupKey::for_stranger("operator", key.as_str()),
            (Some(key), Actor::System) => DedupKey::for_stranger("system", key.as_str()),
        }
    }
}

impl Service {
    /// A dedup key for this node's own retries.
    pub(super) fn node_key(&self) -> DedupKey {
        DedupKey::Node(random(self.entropy()))
    }

    /// Proposes a command for an actor; a refusal becomes a [`Failure`].
    pub(super) async fn propose(
        &self,
        context: &Context,
        actor: Actor,
        write: &Write,
        command: Command,
    ) -> Result<Proposed, Failure> {
        let dedup = write.dedup(self, actor);
        self.propose_as(context, actor, dedup, write.fingerprint, command)
            .await
    }

    /// As [`Self::propose`], under a dedup key of the caller's making.
    pub(super) async fn propose_as(
        &self,
        context: &Context,
        actor: Actor,
        dedup: DedupKey,
        fingerprint: Fingerprint,
        command: Command,
    ) -> Result<Proposed, Failure> {
        let bytes = Envelope {
            dedup,
            fingerprint,
            actor,
            command,
        }
        .encode();
        if bytes.len() > crate::booking::command::MAX_COMMAND_BYTES {
            return Err(ProposeError::TooLarge.into());
        }
        let deadline = Duration::from_millis(self.limits.write_ms);
        let decided = self
            .replica
            .propose(Bytes::from(bytes), deadline, &context.request_id)
            .await?;
        let reply = decode_reply(&decided.reply).map_err(|_| {
            Failure::Internal("the reply of the state machine does not decode").after()
        })?;
        match reply.result {
            Err(refusal @ Refusal::StaleSchedule { .. }) => {
                Err(Failure::refused(refusal, decided.index))
            }
            _ => concluded(reply),
        }
    }

    /// What a write that fails before it is proposed comes to: the answer that its key has already got, if it has got
    /// one, else `failure`.
    pub(super) async fn original(
        &self,
        actor: Actor,
        write: &Write,
        failure: Failure,
    ) -> Result<Proposed, Failure> {
        if write.key.is_none() || !failure.is_local() {
            return Err(failure);
        }
        let dedup = write.dedup(self, actor);
        let given = self.read(None, Consistency::Linearizable, |sight| {
            query::answer(sight.store, dedup, write.fingerprint, sight.stamp())
        });
        match given.await?.value {
            Some(reply) => concluded(reply),
            None => Err(failure),
        }
    }
}

fn concluded(reply: Reply) -> Result<Proposed, Failure> {
    let index = reply.index;
    match reply.result {
        Ok(outcome) => Ok(Proposed { index, outcome }),
        Err(refusal) => Err(Failure::refused(refusal, index)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_and_bounded() {
        assert!(IdempotencyKey::parse("a").is_some());
        assert!(IdempotencyKey::parse(&"~".repeat(255)).is_some());
        for bad in ["", " ", "a b", "ключ", "a\u{7f}", &"a".repeat(256)] {
            assert_eq!(IdempotencyKey::parse(bad), None, "{bad:?}");
        }
    }
}
