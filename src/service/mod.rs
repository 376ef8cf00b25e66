//! The one layer under the API and the pages: it authenticates, parses, places, proposes and reads.
//!
//! What it never does is decide about a booking: that is `apply`'s alone. Each use case is a method of [`Service`] that
//! takes parsed values and gives a typed outcome or a [`Failure`]; neither HTTP nor wire shapes are known here.
//!
//! Reads are linearizable unless asked otherwise: a barrier first, then one look at the local state, in which the
//! caller's session, account and role are read anew, so that neither a closed session nor a role that was taken away
//! can read. A write by a session that was closed on another node less than a replication delay ago may still be taken;
//! nothing but that delay is between the two. A role that was taken away is no such case, since the state machine looks
//! roles up itself, but for what administrators ask of the cluster, which does not go through the state machine.
//!
//! Time, for what is shown, is the later of the replicated time and this node's clock: a slot that has started by
//! either is not offered. What is decided goes by the replicated time only.

pub mod accounts;
pub mod attempts;
pub mod availability;
pub mod bookings;
pub mod entropy;
pub mod events;
pub mod layout;
pub mod passwords;
pub mod schedule;
pub mod tokens;

mod failure;
mod write;

use std::{fmt, sync::Arc, time::Duration};

use subtle::ConstantTimeEq;

pub use failure::{Failure, FieldError, Refused};
pub use write::{IdempotencyKey, Proposed, Write};

use self::{
    attempts::Attempts,
    entropy::{Entropy, random},
    events::Events,
    passwords::{PasswordCost, Passwords},
};
use crate::{
    booking::{
        Instant, Stamp, Store,
        account::{Role, User},
        ids::{SessionId, UserId},
        query,
    },
    clock::Clock,
    limits::{ATTEMPT_ENTRIES, Limits},
    replica::{ReadError, Replica, Viewed},
};

/// What the service is made of.
pub struct Parts {
    /// The node.
    pub replica: Arc<dyn Replica>,
    /// What tells the time.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub entropy: Arc<dyn Entropy>,
    /// What may be set.
    pub limits: Limits,
    /// How much work a password's hash is.
    pub password_cost: PasswordCost,
    /// The token of operators; without one nobody is an operator.
    pub operator_token: Option<String>,
}

/// The service layer of one node.
pub struct Service {
    replica: Arc<dyn Replica>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    limits: Limits,
    passwords: Passwords,
    by_account: Attempts,
    by_address: Attempts,
    operator_token: Option<[u8; 32]>,
    events: Events,
}

/// What belongs to one request, whatever it asks.
#[derive(Debug, Clone)]
pub struct Context {
    /// The id that follows it through logs and forwards.
    pub request_id: Arc<str>,
}

impl Context {
    /// The context of a request with this id.
    #[must_use]
    pub fn new(request_id: &str) -> Self {
        Self {
            request_id: Arc::from(request_id),
        }
    }
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Everything that was acknowledged anywhere before the read is in it.
    #[default]
    Linearizable,
    /// This node's state at once.
    Local {
        /// How old it may be at most.
        max_staleness_ms: Option<u64>,
    },
}

/// A signed-in user, as one state had it: this node's when the request came in, or the one that a read sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub user: UserId,
    /// In which session.
    pub session: SessionId,
    /// With which role.
    pub role: Role,
}

/// Someone who may do what administrators may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    /// A signed-in administrator.
    User(Caller),
    /// Whoever holds the operator's token.
    Operator,
}

/// What was read, and the index that it reflects.
#[derive(Debug, Clone)]
pub struct Seen<T> {
    /// What was read.
    pub value: T,
    /// The log index that it reflects.
    pub index: u64,
}

/// What a read sees: one consistent state and the time.
pub struct Sight<'a> {
    /// The state.
    pub store: &'a dyn Store,
    /// The later of replicated and local time.
    pub now: Instant,
    /// The log index of the state.
    pub index: u64,
    /// Who looks, as this very state has it; none where nobody has to be signed in.
    pub caller: Option<Caller>,
}

impl Sight<'_> {
    /// The stamp of the last entry, but for the time.
    fn stamp(&self) -> Stamp {
        Stamp {
            index: self.index,
            now: self.now,
        }
    }

    /// Who has this session, if it is open and its user may act.
    fn signed_in(&self, session: SessionId) -> Option<Caller> {
        let session = query::session(self.store, session)?;
        let user = query::user(self.store, session.user).filter(User::is_active)?;
        (session.expires_at > self.now).then_some(Caller {
            user: user.id,
            session: session.id,
            role: user.role,
        })
    }
}

impl Service {
    /// A service over a node.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            replica,
            clock,
            entropy,
            limits,
            password_cost,
            operator_token,
        } = parts;
        let window_ms = limits.failed_sign_ins_window_ms;
        let passwords = Passwords::new(password_cost, &limits, random(entropy.as_ref()));
        Arc::new(Self {
            by_account: Attempts::new(
                limits.failed_sign_ins_per_account,
                window_ms,
                ATTEMPT_ENTRIES,
            ),
            by_address: Attempts::new(
                limits.failed_sign_ins_per_address,
                window_ms,
                ATTEMPT_ENTRIES,
            ),
            operator_token: operator_token.map(|token| token_digest(&token)),
            events: Events::new(limits.event_streams),
            replica,
            clock,
            entropy,
            limits,
            passwords,
        })
    }

    /// The node under it.
    #[must_use]
    pub fn replica(&self) -> &Arc<dyn Replica> {
        &self.replica
    }

    /// What may be set.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Where randomness comes from.
    #[must_use]
    pub fn entropy(&self) -> &dyn Entropy {
        self.entropy.as_ref()
    }

    /// The pool that hashes passwords.
    #[must_use]
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// The live changes of spaces.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Whether this is the operator's token. Takes the same time whatever is wrong with it.
    #[must_use]
    pub fn is_operator_token(&self, token: &str) -> bool {
        self.operator_token
            .is_some_and(|ours| bool::from(ours.ct_eq(&token_digest(token))))
    }

    /// Looks at the state as fresh as asked, once, in the same view in which the caller is read anew.
    ///
    /// # Errors
    /// Where the state cannot be had that fresh, or the session is closed, or its user barred, by now.
    pub async fn read<T>(
        &self,
        caller: Option<&Caller>,
        consistency: Consistency,
        look: impl FnOnce(&Sight<'_>) -> T,
    ) -> Result<Seen<T>, Failure> {
        match consistency {
            Consistency::Linearizable => {
                self.replica.read_barrier(self.read_deadline()).await?;
            }
            Consistency::Local {
                max_staleness_ms: Some(bound_ms),
            } => {
                let bound = Duration::from_millis(bound_ms);
                if self.replica.staleness().is_none_or(|age| age > bound) {
                    return Err(ReadError::TooStale.into());
                }
            }
            Consistency::Local {
                max_staleness_ms: None,
            } => {}
        }
        let seen = self.look(|sight| match caller {
            None => Some(look(sight)),
            Some(caller) => {
                let caller = sight.signed_in(caller.session)?;
                Some(look(&Sight {
                    caller: Some(caller),
                    ..*sight
                }))
            }
        })?;
        let value = seen.value.ok_or(Failure::Unauthenticated)?;
        Ok(Seen {
            value,
            index: seen.index,
        })
    }

    /// A linearizable read for who must be an administrator in the very state that is read.
    pub(crate) async fn read_as_admin<T>(
        &self,
        admin: &Admin,
        look: impl FnOnce(&Sight<'_>) -> T,
    ) -> Result<Seen<T>, Failure> {
        let seen = self.read(admin.caller(), Consistency::Linearizable, |sight| {
            let may = sight.caller.is_none_or(|caller| caller.role == Role::Admin);
            may.then(|| look(sight))
        });
        let Seen { value, index } = seen.await?;
        let value = value.ok_or(Failure::Forbidden)?;
        Ok(Seen { value, index })
    }

    /// Looks at the local state as it is.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Sight<'_>) -> T) -> Result<Seen<T>, Failure> {
        let clock_ms = self.clock.now_ms();
        let mut look = Some(look);
        let mut seen = None;
        self.replica.view(&mut |store, Viewed { index, now_ms }| {
            if let Some(look) = look.take() {
                let now = Instant::from_ms(now_ms.max(clock_ms));
                seen = Some(Seen {
                    value: look(&Sight {
                        store,
                        now,
                        index,
                        caller: None,
                    }),
                    index,
                });
            }
        })?;
        seen.ok_or(Failure::Internal("the view was not run"))
    }

    fn read_deadline(&self) -> Duration {
        Duration::from_millis(self.limits.read_ms)
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

fn token_digest(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}
