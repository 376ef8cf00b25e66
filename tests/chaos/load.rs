//! Many clients, through all nodes: they book hot desks, cancel, move, look, retry with the same key on another node, and
//! sometimes give up.
//!
//! A client does one thing after another. What fails is tried again elsewhere; an operation counts as failed for
//! availability if it is not settled within two seconds, but a client goes on for longer, since knowing how it ended makes
//! a sharper history. One in ten clients gives up after the first failure; these operations stay unknown for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::api::{Grid, Person, Request, Try};
use crate::checker::history::{Action, Answer, Id, Outcome, Refusal};
use crate::plant::Plant;
use crate::random::Random;
use crate::recorder::{End, Kind, Recorder, Sample};

/// How long one try may take. Longer than a node waits for a leader.
const TRY_TIMEOUT: Duration = Duration::from_millis(2_500);
/// How long a client waits for an answer before it asks another node: shorter, since it wants its answer soon.
const PATIENCE: Duration = Duration::from_millis(450);
/// How long a client goes on with one operation.
const OPERATION_LIMIT: Duration = Duration::from_secs(12);

/// What all clients share.
pub(crate) struct Shared {
    pub(crate) http: reqwest::Client,
    pub(crate) recorder: Recorder,
    /// Where the nodes are that clients may ask.
    pub(crate) nodes: Mutex<Vec<(u64, String)>>,
    pub(crate) plant: Option<Plant>,
    keys: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        http: reqwest::Client,
        nodes: Vec<(u64, String)>,
        plant: Option<Plant>,
    ) -> Self {
        Self {
            http,
            recorder: Recorder::new(),
            nodes: Mutex::new(nodes),
            plant,
            keys: AtomicU64::new(0),
        }
    }
}

/// A user's bookings, as far as the clients who act for them know.
type Known = Arc<Mutex<BTreeMap<Id, (Id, Vec<u64>)>>>;

/// One client.
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) person: Person,
    pub(crate) grid: Grid,
    pub(crate) known: Known,
    pub(crate) random: Random,
    /// The last index that it was answered with.
    pub(crate) seen: u64,
    /// Which node it asks first.
    pub(crate) node: usize,
}

impl Client {
    /// Does one thing after another until told to stop. A pause between two of about `think`.
    pub(crate) async fn run(mut self, stop: Arc<AtomicBool>, think: Duration) {
        let gives_up = self.number.is_multiple_of(10);
        while !stop.load(Ordering::Relaxed) {
            let action = self.choose();
            self.carry_out(&action, gives_up).await;
            let most = u64::try_from(think.as_millis()).expect("short") * 2;
            let pause = self.random.between_ms(0, most);
            tokio::time::sleep(pause).await;
        }
    }

    fn key(&self) -> Option<Id> {
        Some(format!("k{}", self.shared.keys.fetch_add(1, Ordering::Relaxed)).into())
    }

    fn choose(&mut self) -> Action {
        let user = self.person.name.clone();
        let known: Vec<Id> = self.known.lock().keys().cloned().collect();
        let local = self.random.one_in(4);
        match self.random.below(100) {
            0..14 => Action::Availability {
                local,
                desks: self.grid.desks.clone(),
                slots: self.grid.slots.clone(),
            },
            14..26 => Action::List { local, user },
            26..36 if !known.is_empty() => Action::Get {
                local,
                user,
                booking: self.random.of(&known).clone(),
            },
            36..62 if !known.is_empty() => Action::Cancel {
                user,
                booking: self.random.of(&known).clone(),
                key: self.key(),
            },
            62..72 if !known.is_empty() => {
                let booking = self.random.of(&known).clone();
                let (desk, slots) = self.place();
                Action::Move {
                    user,
                    booking,
                    desk,
                    slots,
                    key: self.key(),
                }
            }
            _ => {
                let (desk, slots) = self.place();
                Action::Create {
                    user,
                    desk,
                    slots,
                    key: self.key(),
                }
            }
        }
    }

    /// A desk and slots. Half of all want the same few.
    fn place(&mut self) -> (Id, Vec<u64>) {
        let hot = self.random.one_in(2);
        let (desks, hours) = if hot {
            (2, 3)
        } else {
            (self.grid.desks.len() as u64, 24)
        };
        let desk = usize::try_from(self.random.below(desks)).expect("small");
        let from = usize::try_from(self.random.below(hours)).expect("small");
        let count = 1 + usize::from(self.random.one_in(3)) + usize::from(self.random.one_in(6));
        let slots = self
            .grid
            .slots
            .iter()
            .skip(from)
            .take(count)
            .copied()
            .collect();
        (self.grid.desks[desk].clone(), slots)
    }

    /// Tries an action until it is settled, or the client has had enough of it.
    pub(crate) async fn carry_out(&mut self, action: &Action, gives_up: bool) -> Option<Outcome> {
        let (shared, kind) = (Arc::clone(&self.shared), Kind::of(action));
        let recorder = &shared.recorder;
        let from = recorder.now();
        let limit = from + u64::try_from(OPERATION_LIMIT.as_nanos()).expect("short");
        let min_index = (action.is_local() && self.random.one_in(2)).then_some(self.seen);
        let mut tries = 0;
        let mut done = None;
        let mut end = End::Unanswered;
        while recorder.now() < limit {
            tries += 1;
            let call = recorder.now();
            let (tried, answer) = self.try_once(action, min_index, tries).await;
            // What became of a read that was not answered says nothing.
            let note = match tried {
                Try::Settled(..) => true,
                Try::NotApplied | Try::Unknown => action.is_write(),
                Try::Strange(_) => false,
            };
            if note {
                recorder.record(self.number, call, min_index, action.clone(), answer);
            }
            match tried {
                Try::Settled(index, outcome) => {
                    self.learn(action, index, &outcome);
                    end = if matches!(outcome, Outcome::Refused(_)) {
                        End::Refused
                    } else {
                        End::Done
                    };
                    done = Some(outcome);
                    break;
                }
                Try::Strange(what) => {
                    recorder.strange(what);
                    break;
                }
                Try::Unknown | Try::NotApplied if gives_up => {
                    end = End::GivenUp;
                    break;
                }
                Try::Unknown | Try::NotApplied => {
                    let pause = self.random.between_ms(5, 10 + 20 * u64::from(tries.min(5)));
                    tokio::time::sleep(pause).await;
                    self.node = self.node.wrapping_add(1);
                }
            }
        }
        recorder.sample(Sample {
            kind,
            from,
            until: recorder.now(),
            tries,
            end,
        });
        done
    }

    async fn try_once(
        &mut self,
        action: &Action,
        min_index: Option<u64>,
        number: u32,
    ) -> (Try, Option<Answer>) {
        let node = {
            let nodes = self.shared.nodes.lock();
            nodes[self.node % nodes.len()].1.clone()
        };
        // A planted bug: another key with each try, while the history says that it was the same.
        let other_key = self.shared.plant == Some(Plant::ForgottenKeys) && number > 1;
        let key = action.key().map(|key| {
            if other_key {
                format!("{key}-{number}")
            } else {
                key.to_string()
            }
        });
        let stale = self.shared.plant == Some(Plant::StaleReads) && !action.is_write();
        let request = Request {
            http: &self.shared.http,
            node: &node,
            person: &self.person,
            grid: &self.grid,
            action,
            key: key.as_deref(),
            min_index,
            local: action.is_local() || stale,
            timeout: if number.is_multiple_of(4) {
                TRY_TIMEOUT
            } else {
                PATIENCE
            },
        };
        let mut tried = request.send().await;
        if stale && let Try::Settled(index, _) = &mut tried {
            *index = None;
        }
        let at = self.shared.recorder.now();
        let answer = match &tried {
            Try::Settled(index, outcome) => Some(Answer {
                at,
                index: *index,
                outcome: outcome.clone(),
            }),
            Try::NotApplied => Some(Answer {
                at,
                index: None,
                outcome: Outcome::Refused(Refusal::NotApplied),
            }),
            Try::Unknown | Try::Strange(_) => None,
        };
        (tried, answer)
    }

    fn learn(&mut self, action: &Action, index: Option<u64>, outcome: &Outcome) {
        self.seen = self.seen.max(index.unwrap_or_default());
        let mut known = self.known.lock();
        for sight in outcome.sights() {
            if sight.active {
                known.insert(
                    sight.booking.clone(),
                    (sight.desk.clone(), sight.slots.clone()),
                );
            } else if !self.random.one_in(8) {
                // Some go on asking for what they have cancelled.
                known.remove(&sight.booking);
            }
        }
        let gone = matches!(
            outcome,
            Outcome::Refused(Refusal::BookingCancelled | Refusal::NotFound)
        );
        if gone && let Some(booking) = action.booking() {
            known.remove(booking);
        }
    }
}
