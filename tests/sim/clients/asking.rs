//! How a client asks: with retries, giving up, switching nodes; and what it writes down.

use std::sync::Arc;
use std::time::Duration;

use super::{Client, Ended, PATIENCE_MS, TRIES};
use crate::checker::history::{Action, Answer, Outcome, Record, Refusal};
use crate::coverage::Event;
use crate::front::{Request, Response};
use crate::town::Told;

impl Client {
    /// A read, with what it may be answered checked by the clock too. Whether it got an answer that says something.
    pub(super) async fn read(
        &mut self,
        user: Option<u64>,
        action: Action,
        mut request: Request,
        min_index: Option<u64>,
    ) -> bool {
        let mut bound_ms = None;
        if action.is_local() {
            self.town.count(Event::LocalRead);
            let join = if request.uri.contains('?') { '&' } else { '?' };
            request.uri = format!("{}{join}consistency=local", request.uri);
            if self.dice.chance(0.7) {
                let bound = *self.dice.pick(&[200, 600, 3_000]);
                request.uri = format!("{}&max_staleness_ms={bound}", request.uri);
                bound_ms = Some(bound);
            }
        }
        if min_index.is_some() {
            self.town.count(Event::MinIndexRead);
        }
        request.min_index = min_index;
        for _ in 0..3 {
            if let Some(user) = user {
                let Some(session) = self.session(user).await else {
                    return false;
                };
                request.token = Some(session.access);
            }
            let patience_ms = self.patience_ms();
            let called_ms = self.town.shared.now_ms();
            let number = self.call(&action, min_index);
            let told = self.town.ask(self.node, request.clone(), patience_ms).await;
            let Told::Answer(response) = told else {
                self.note_silence(&told);
                self.switch();
                continue;
            };
            if self.must_sign_in(user, &response) {
                self.withdraw(number);
                continue;
            }
            if response.code() == "too_stale" {
                self.town.count(Event::LocalReadRefused);
            }
            if let (Some(bound_ms), true) = (bound_ms, response.is_success()) {
                self.check_staleness(&response, called_ms, bound_ms);
            }
            let Some(outcome) = self.outcome(&action, &response) else {
                return false;
            };
            self.settle(number, &action, &response, outcome);
            return true;
        }
        false
    }

    pub(super) fn check_staleness(&self, response: &Response, called_ms: u64, bound_ms: u64) {
        // A tenth more, since clocks that run apart measure the bound differently.
        let by_ms = called_ms.saturating_sub(bound_ms + bound_ms / 10 + 5);
        let (owed, got) = (
            self.town.acknowledged_by(by_ms),
            response.index.unwrap_or(0),
        );
        if got < owed {
            self.town.shared.fail(
                "bounded staleness",
                format!(
                    "node {} showed index {got} within {bound_ms} ms, when {owed} was acknowledged {} ms before",
                    self.node,
                    called_ms - by_ms
                ),
            );
        }
    }

    /// Writes down that it asks now.
    pub(super) fn call(&self, action: &Action, min_index: Option<u64>) -> usize {
        self.town.record(Record {
            client: self.number,
            call: self.town.shared.tick(),
            min_index,
            action: action.clone(),
            answer: None,
        })
    }

    pub(super) fn settle(
        &mut self,
        number: usize,
        action: &Action,
        response: &Response,
        outcome: Outcome,
    ) {
        self.seen_index = self.seen_index.max(response.index.unwrap_or(0));
        if action.is_write()
            && response.is_success()
            && let Some(index) = response.index
        {
            self.town.acknowledge(index);
            if self.town.leader() != self.node {
                self.town.count(Event::Forwarded);
            }
        }
        self.write_answer(number, response.index, outcome);
    }

    pub(super) fn write_answer(&self, number: usize, index: Option<u64>, outcome: Outcome) {
        let at = self.town.shared.tick();
        self.town.answer(number, Answer { at, index, outcome });
    }

    /// Certainly nothing came of it: as if it had never been asked.
    pub(super) fn withdraw(&self, number: usize) {
        self.write_answer(number, None, Outcome::Refused(Refusal::NotApplied));
    }

    /// A write, tried until it is answered or the client has had enough.
    pub(super) async fn write(&mut self, user: u64, action: Action, mut request: Request) -> Ended {
        request.key = action.key().map(ToString::to_string);
        let tries = self.dice.between(1, TRIES);
        let mut tried = 0;
        while tried < tries {
            let Some(session) = self.session(user).await else {
                return Ended::Open;
            };
            request.token = Some(session.access);
            let patience_ms = self.patience_ms();
            let number = self.call(&action, None);
            let told = self.town.ask(self.node, request.clone(), patience_ms).await;
            tried += 1;
            match &told {
                Told::Answer(response) => {
                    if self.must_sign_in(Some(user), response) {
                        self.withdraw(number);
                        continue;
                    }
                    if response.is_unknown() {
                        self.town.count(Event::UnknownOutcome);
                    } else if let Some(outcome) = self.outcome(&action, response) {
                        let again = outcome == Outcome::Refused(Refusal::NotApplied);
                        self.settle(number, &action, response, outcome);
                        if !again {
                            self.repeat(user, &action, &request, response).await;
                            return Ended::Answered(Arc::clone(response));
                        }
                        self.town.count(Event::NotApplied);
                    }
                }
                Told::Refused => {
                    self.note_silence(&told);
                    self.withdraw(number);
                }
                Told::Nothing => self.note_silence(&told),
            }
            if request.key.is_none() {
                // Without a key a second try would be a second request.
                return Ended::Open;
            }
            if tried < tries {
                self.town.count(Event::Retried);
                let before = self.node;
                if self.dice.chance(0.7) {
                    self.switch();
                }
                if self.node != before {
                    self.town.count(Event::SwitchedNode);
                }
                let pause_ms = self.dice.between(0, 300);
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            }
        }
        Ended::Open
    }

    /// Some clients ask again though they were answered, and must get the same answer. Another one is written down, too:
    /// two answers to one key are what a forgotten key looks like.
    pub(super) async fn repeat(
        &mut self,
        user: u64,
        action: &Action,
        request: &Request,
        first: &Response,
    ) {
        if request.key.is_none()
            || !first.is_success()
            || !self.dice.chance(self.town.plan.load.repeats)
        {
            return;
        }
        self.switch();
        let number = self.call(action, None);
        let told = self.town.ask(self.node, request.clone(), PATIENCE_MS).await;
        let Told::Answer(response) = told else { return };
        if self.must_sign_in(Some(user), &response) {
            self.withdraw(number);
        } else if let Some(outcome) = self.outcome(action, &response) {
            self.settle(number, action, &response, outcome);
        }
    }

    pub(super) fn note_silence(&self, told: &Told) {
        self.town.count(match told {
            Told::Refused => Event::ConnectionRefused,
            Told::Nothing | Told::Answer(_) => Event::GaveUp,
        });
    }
}
