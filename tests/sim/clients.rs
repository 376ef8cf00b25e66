//! What clients do: book, move, cancel, look, sign in and out; on any node, with retries, giving up and switching.
//!
//! All clients share a few users, desks and slots, so that nearly every write competes with another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mesto_raft::NodeId;
use serde_json::{Value, json};

use crate::checker::history::{Action, Answer, Id, Outcome, Record, Refusal, Sight};
use crate::coverage::Event;
use crate::dice::Dice;
use crate::front::{Request, Response};
use crate::town::{Told, Town};

/// The slug of the one space.
pub(crate) const SPACE: &str = "nevsky";
/// The day that clients fight for, and its first slot, in hours since the epoch.
pub(crate) const DAY: &str = "2026-03-05";
pub(crate) const FIRST_SLOT: u64 = 492_416;
/// How long a patient client waits for an answer, in milliseconds.
const PATIENCE_MS: u64 = 7_000;
/// How often a client tries again at the most.
const TRIES: u64 = 6;

/// The password of a user, at first.
fn password(user: u64) -> String {
    format!("password of user {user}")
}

/// A user's e-mail address.
pub(crate) fn email(user: u64) -> String {
    format!("u{user}@example.com")
}

/// A user's name in histories.
pub(crate) fn user_name(user: u64) -> Id {
    Id::from(format!("u{user}"))
}

/// A client.
pub(crate) struct Client {
    number: u64,
    town: Arc<Town>,
    dice: Dice,
    keys: u64,
    node: NodeId,
    sessions: BTreeMap<u64, Session>,
    /// The highest index of any answer that it got.
    seen_index: u64,
}

#[derive(Clone)]
struct Session {
    access: String,
    refresh: String,
}

/// How a request ended for who made it.
enum Ended {
    /// It was answered, and that settles it.
    Answered(Arc<Response>),
    /// Nobody knows, or nothing was done and the client has had enough.
    Open,
}

impl Client {
    /// Client number so-and-so.
    pub(crate) fn new(town: &Arc<Town>, number: u64) -> Self {
        let mut dice = Dice::new(town.plan.seed, &format!("client {number}"));
        let node = *dice.pick(&town.nodes.lock());
        Self {
            number,
            town: Arc::clone(town),
            dice,
            keys: 0,
            node,
            sessions: BTreeMap::new(),
            seen_index: 0,
        }
    }

    /// Lives until the town closes.
    pub(crate) async fn live(mut self) {
        while !self.town.is_closing() {
            let think_ms = self.dice.between(0, 2 * self.town.plan.load.think_ms);
            tokio::time::sleep(Duration::from_millis(think_ms)).await;
            if self.dice.chance(0.1) {
                self.switch();
            }
            match self.dice.below(100) {
                0..30 => self.create().await,
                30..42 => self.cancel().await,
                42..52 => self.relocate().await,
                52..68 => self.look_around().await,
                68..78 => self.list().await,
                78..86 => self.look_at_one().await,
                86..95 => self.account().await,
                _ => self.administer().await,
            }
        }
        *self.town.left.lock() += 1;
    }

    /// After the trouble is over: asks everything once more, so that what was lost shows.
    pub(crate) async fn look_back(mut self) {
        for _ in 0..3 {
            self.availability(false, None).await;
        }
        for user in 0..self.town.plan.load.users {
            self.bookings_of(user, false, None).await;
        }
        let known = self.town.bookings.lock().clone();
        for (user, booking) in known {
            self.booking_of(user, booking, false).await;
        }
        *self.town.left.lock() += 1;
    }

    fn switch(&mut self) {
        self.node = *self.dice.pick(&self.town.nodes.lock());
    }

    fn key(&mut self) -> Id {
        self.keys += 1;
        Id::from(format!("c{}-{}", self.number, self.keys))
    }

    fn user(&mut self) -> u64 {
        self.dice.below(self.town.plan.load.users)
    }

    fn patience_ms(&mut self) -> u64 {
        if self.dice.chance(self.town.plan.load.impatience) {
            self.dice.between(5, 400)
        } else {
            self.town.plan.load.patience_ms
        }
    }

    fn wanted(&mut self) -> (Id, Vec<u64>) {
        let desk = self.dice.pick(&self.town.desks.lock()).clone();
        let all = self.town.plan.load.slots;
        let first = self.dice.below(all);
        let length = self.dice.between(1, 3).min(all - first);
        let slots = (0..length)
            .map(|number| FIRST_SLOT + first + number)
            .collect();
        (desk, slots)
    }

    async fn create(&mut self) {
        let user = self.user();
        let (desk, slots) = self.wanted();
        let body = json!({"desk": &*desk, "starts_at": instant(slots[0]), "ends_at": instant(slots[slots.len() - 1] + 1)});
        let key = self.dice.chance(0.9).then(|| self.key());
        let action = Action::Create {
            user: user_name(user),
            desk,
            slots,
            key,
        };
        let request = Request::new("POST", "/api/v1/bookings").body(body);
        if let Ended::Answered(response) = self.write(user, action, request).await
            && let Some(sight) = sight(&response.body)
        {
            self.town.count(Event::Booked);
            self.town.bookings.lock().push((user, sight.booking));
        }
    }

    fn some_booking(&mut self) -> Option<(u64, Id)> {
        let bookings = self.town.bookings.lock();
        if bookings.is_empty() {
            return None;
        }
        // The newest are the most likely to be active.
        let recent = bookings.len().min(12);
        Some(bookings[bookings.len() - 1 - self.dice.index(recent)].clone())
    }

    async fn cancel(&mut self) {
        let Some((user, booking)) = self.some_booking() else {
            return;
        };
        let key = self.dice.chance(0.8).then(|| self.key());
        let request = Request::new("POST", format!("/api/v1/bookings/{booking}/cancel"));
        let action = Action::Cancel {
            user: user_name(user),
            booking,
            key,
        };
        if let Ended::Answered(response) = self.write(user, action, request).await
            && response.is_success()
        {
            self.town.count(Event::Cancelled);
        }
    }

    async fn relocate(&mut self) {
        let Some((user, booking)) = self.some_booking() else {
            return;
        };
        let (desk, slots) = self.wanted();
        let body = json!({"desk": &*desk, "starts_at": instant(slots[0]), "ends_at": instant(slots[slots.len() - 1] + 1)});
        let key = self.dice.chance(0.9).then(|| self.key());
        let mut request = Request::new("PATCH", format!("/api/v1/bookings/{booking}")).body(body);
        if self.dice.chance(0.2) {
            request.if_match = Some(self.dice.between(1, 3));
        }
        let action = Action::Move {
            user: user_name(user),
            booking,
            desk,
            slots,
            key,
        };
        if let Ended::Answered(response) = self.write(user, action, request).await
            && response.is_success()
        {
            self.town.count(Event::Moved);
        }
    }

    async fn look_around(&mut self) {
        let local = self.dice.chance(0.3);
        let min_index = self.min_index();
        self.availability(local, min_index).await;
    }

    /// Read your writes: an index that was seen, on whatever node.
    fn min_index(&mut self) -> Option<u64> {
        (self.dice.chance(0.3) && self.seen_index > 0).then_some(self.seen_index)
    }

    async fn availability(&mut self, local: bool, min_index: Option<u64>) {
        let plan = &self.town.plan.load;
        let slots: Vec<u64> = (FIRST_SLOT..FIRST_SLOT + plan.slots).collect();
        let action = Action::Availability {
            local,
            desks: self.town.desks.lock().clone(),
            slots,
        };
        let request = Request::new(
            "GET",
            format!("/api/v1/spaces/{SPACE}/availability?date={DAY}"),
        );
        self.read(None, action, request, min_index).await;
    }

    async fn list(&mut self) {
        let (user, local) = (self.user(), self.dice.chance(0.3));
        let min_index = self.min_index();
        self.bookings_of(user, local, min_index).await;
    }

    async fn bookings_of(&mut self, user: u64, local: bool, min_index: Option<u64>) {
        let action = Action::List {
            local,
            user: user_name(user),
        };
        let request = Request::new("GET", "/api/v1/bookings?status=active&limit=100");
        self.read(Some(user), action, request, min_index).await;
    }

    async fn look_at_one(&mut self) {
        if let Some((user, booking)) = self.some_booking() {
            let local = self.dice.chance(0.3);
            self.booking_of(user, booking, local).await;
        }
    }

    async fn booking_of(&mut self, user: u64, booking: Id, local: bool) {
        let request = Request::new("GET", format!("/api/v1/bookings/{booking}"));
        let action = Action::Get {
            local,
            user: user_name(user),
            booking,
        };
        self.read(Some(user), action, request, None).await;
    }

    /// A read, with what it may be answered checked by the clock too.
    async fn read(
        &mut self,
        user: Option<u64>,
        action: Action,
        mut request: Request,
        min_index: Option<u64>,
    ) {
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
                    return;
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
            if let Some(outcome) = self.outcome(&action, &response) {
                self.settle(number, &action, &response, outcome);
            }
            return;
        }
    }

    fn check_staleness(&self, response: &Response, called_ms: u64, bound_ms: u64) {
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
    fn call(&self, action: &Action, min_index: Option<u64>) -> usize {
        self.town.record(Record {
            client: self.number,
            call: self.town.shared.tick(),
            min_index,
            action: action.clone(),
            answer: None,
        })
    }

    fn settle(&mut self, number: usize, action: &Action, response: &Response, outcome: Outcome) {
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

    fn write_answer(&self, number: usize, index: Option<u64>, outcome: Outcome) {
        let at = self.town.shared.tick();
        self.town.answer(number, Answer { at, index, outcome });
    }

    /// Certainly nothing came of it: as if it had never been asked.
    fn withdraw(&self, number: usize) {
        self.write_answer(number, None, Outcome::Refused(Refusal::NotApplied));
    }

    /// A write, tried until it is answered or the client has had enough.
    async fn write(&mut self, user: u64, action: Action, mut request: Request) -> Ended {
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
                            self.repeat(&action, &request, response).await;
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

    /// Some clients ask again though they were answered, and must get the same answer.
    async fn repeat(&mut self, action: &Action, request: &Request, first: &Response) {
        if request.key.is_none()
            || !first.is_success()
            || !self.dice.chance(self.town.plan.load.repeats)
        {
            return;
        }
        self.switch();
        let number = self.call(action, None);
        let told = self.town.ask(self.node, request.clone(), PATIENCE_MS).await;
        if let Told::Answer(response) = told
            && response.is_success()
            && let Some(outcome) = self.outcome(action, &response)
        {
            self.settle(number, action, &response, outcome);
        }
    }

    fn note_silence(&self, told: &Told) {
        self.town.count(match told {
            Told::Refused => Event::ConnectionRefused,
            Told::Nothing | Told::Answer(_) => Event::GaveUp,
        });
    }

    /// Whether the token is to blame; then the next try comes with a new one.
    fn must_sign_in(&mut self, user: Option<u64>, response: &Response) -> bool {
        let Some(user) = user else { return false };
        match response.code() {
            "token_expired" => {
                self.town.count(Event::TokenExpired);
                if let Some(session) = self.sessions.get_mut(&user) {
                    session.access = String::new();
                }
                true
            }
            "unauthenticated" => {
                self.sessions.remove(&user);
                true
            }
            _ => false,
        }
    }

    /// An open session of the user's, if it can be had.
    async fn session(&mut self, user: u64) -> Option<Session> {
        match self.sessions.get(&user).cloned() {
            Some(session) if !session.access.is_empty() => return Some(session),
            Some(session) => self.refresh(user, &session).await,
            None => {}
        }
        for _ in 0..4 {
            if let Some(session) = self.sessions.get(&user)
                && !session.access.is_empty()
            {
                return Some(session.clone());
            }
            self.sign_in(user).await;
        }
        self.sessions.get(&user).cloned()
    }

    async fn sign_in(&mut self, user: u64) {
        let body = json!({"email": email(user), "password": password(user)});
        let request = Request::new("POST", "/api/v1/sessions").body(body);
        let patience_ms = self.patience_ms();
        match self.town.ask(self.node, request, patience_ms).await {
            Told::Answer(response) if response.is_success() => {
                self.town.count(Event::SignedIn);
                self.keep_session(user, &response);
            }
            Told::Answer(response) if response.code() == "bad_credentials" => {
                self.register(user).await;
            }
            told => {
                if !matches!(told, Told::Answer(_)) {
                    self.note_silence(&told);
                }
                self.switch();
            }
        }
    }

    fn keep_session(&mut self, user: u64, response: &Response) {
        let text = |name: &str| response.body[name].as_str().unwrap_or_default().to_owned();
        let session = Session {
            access: text("access_token"),
            refresh: text("refresh_token"),
        };
        self.sessions.insert(user, session);
    }

    async fn register(&mut self, user: u64) {
        let body = json!({"email": email(user), "password": password(user)});
        let key = self.key();
        let request = Request::new("POST", "/api/v1/users").body(body).key(&key);
        for _ in 0..3 {
            let patience_ms = self.patience_ms();
            let told = self.town.ask(self.node, request.clone(), patience_ms).await;
            if let Told::Answer(response) = told {
                if response.status == 201 {
                    self.town.count(Event::Registered);
                }
                if matches!(response.status, 201 | 409) {
                    return;
                }
            }
            self.switch();
        }
    }

    async fn refresh(&mut self, user: u64, session: &Session) {
        let key = self.key();
        let body = json!({"refresh_token": session.refresh});
        let request = Request::new("POST", "/api/v1/sessions/refresh")
            .body(body)
            .key(&key);
        for _ in 0..3 {
            let patience_ms = self.patience_ms();
            if let Told::Answer(response) =
                self.town.ask(self.node, request.clone(), patience_ms).await
            {
                if response.is_success() {
                    self.town.count(Event::Refreshed);
                    self.keep_session(user, &response);
                    return;
                }
                if response.status == 401 {
                    break;
                }
            }
            self.switch();
        }
        self.sessions.remove(&user);
    }

    /// What people do with their accounts. Each client has one that nobody else uses.
    async fn account(&mut self) {
        match self.dice.below(5) {
            0 => self.guess_password().await,
            1 => self.sign_out().await,
            2 => self.renew().await,
            3 => self.change_password().await,
            _ => self.look_at_oneself().await,
        }
    }

    async fn guess_password(&mut self) {
        let user = self.user();
        let body = json!({"email": email(user), "password": "a wrong password"});
        let request = Request::new("POST", "/api/v1/sessions").body(body);
        if let Told::Answer(response) = self.town.ask(self.node, request, PATIENCE_MS).await {
            if response.is_success() {
                self.town
                    .shared
                    .fail("accounts", "a wrong password opened a session");
            }
            if response.code() == "bad_credentials" {
                self.town.count(Event::WrongPassword);
            }
        }
    }

    /// Once it is acknowledged that a session is closed, its token is worth nothing on any node.
    async fn sign_out(&mut self) {
        let user = self.user();
        let Some(session) = self.session(user).await else {
            return;
        };
        self.sessions.remove(&user);
        let request = Request::new("DELETE", "/api/v1/sessions/current").token(&session.access);
        let told = self.town.ask(self.node, request, PATIENCE_MS).await;
        let Told::Answer(response) = told else { return };
        if !response.is_success() {
            return;
        }
        self.town.count(Event::SignedOut);
        self.switch();
        let request = Request::new("GET", "/api/v1/me").token(&session.access);
        let told = self.town.ask(self.node, request, PATIENCE_MS).await;
        if let Told::Answer(response) = told
            && response.is_success()
        {
            self.town.shared.fail(
                "accounts",
                format!("node {} let a closed session in", self.node),
            );
        }
    }

    /// A refresh token is good once.
    async fn renew(&mut self) {
        let user = self.user();
        let Some(old) = self.session(user).await else {
            return;
        };
        self.refresh(user, &old).await;
        let renewed = self.sessions.contains_key(&user);
        if !renewed || !self.dice.chance(0.3) {
            return;
        }
        let body = json!({"refresh_token": old.refresh});
        let request = Request::new("POST", "/api/v1/sessions/refresh").body(body);
        if let Told::Answer(response) = self.town.ask(self.node, request, PATIENCE_MS).await
            && response.is_success()
        {
            self.town
                .shared
                .fail("accounts", "a refresh token was good twice");
        }
        self.sessions.remove(&user);
    }

    /// On an account of the client's own, since nobody else could know the new password.
    async fn change_password(&mut self) {
        let own = format!("own{}-{}@example.com", self.number, self.keys);
        let old = "an old password";
        let register = json!({"email": own, "password": old});
        let request = Request::new("POST", "/api/v1/users").body(register);
        if !self.succeeds(request).await {
            return;
        }
        let sign_in = |password: &str| {
            Request::new("POST", "/api/v1/sessions")
                .body(json!({"email": own, "password": password}))
        };
        let Told::Answer(session) = self.town.ask(self.node, sign_in(old), PATIENCE_MS).await
        else {
            return;
        };
        let Some(token) = session.body["access_token"].as_str().map(str::to_owned) else {
            return;
        };
        let new = "a new password";
        let change = Request::new("POST", "/api/v1/me/password")
            .body(json!({"current_password": old, "new_password": new}))
            .token(&token);
        if !self.succeeds(change).await {
            return;
        }
        self.town.count(Event::PasswordChanged);
        self.switch();
        if self.succeeds(sign_in(old)).await {
            self.town
                .shared
                .fail("accounts", "an old password opened a session");
        }
        let told = self.town.ask(self.node, sign_in(new), PATIENCE_MS).await;
        if let Told::Answer(response) = told
            && response.code() == "bad_credentials"
        {
            self.town
                .shared
                .fail("accounts", "a new password did not open a session");
        }
    }

    async fn succeeds(&self, request: Request) -> bool {
        match self.town.ask(self.node, request, PATIENCE_MS).await {
            Told::Answer(response) => response.is_success(),
            Told::Refused | Told::Nothing => false,
        }
    }

    async fn look_at_oneself(&mut self) {
        let user = self.user();
        if let Some(session) = self.session(user).await {
            let path = *self.dice.pick(&["/api/v1/me", "/api/v1/me/export"]);
            let request = Request::new("GET", path).token(&session.access);
            let told = self.town.ask(self.node, request, PATIENCE_MS).await;
            if let Told::Answer(response) = told {
                self.must_sign_in(Some(user), &response);
                if response.is_success() && path == "/api/v1/me" {
                    self.check_me(user, &response);
                }
            }
        }
    }

    fn check_me(&self, user: u64, response: &Response) {
        if response.body["email"] != email(user).as_str() {
            self.town
                .shared
                .fail("accounts", format!("user {user} was shown another account"));
        }
    }

    /// Changes the schedule's revision, so that placements made before it are stale.
    async fn administer(&mut self) {
        let days_ahead = self.dice.between(20, 60);
        let request = Request::new("PUT", format!("/api/v1/admin/spaces/{SPACE}"))
            .body(space_document(self.town.plan.load.desks, days_ahead))
            .token(crate::machine::OPERATOR);
        if self.succeeds(request).await {
            self.town.count(Event::ScheduleChanged);
        }
    }

    /// What an answer says about an action; nothing where it says nothing.
    fn outcome(&self, action: &Action, response: &Response) -> Option<Outcome> {
        if !response.is_success() {
            return refusal(action, response, &self.town).map(Outcome::Refused);
        }
        // Before the space was laid out there were no desks to be free.
        if action.is_local() && response.index < Some(self.town.laid_out()) {
            return None;
        }
        match action {
            Action::Availability { desks, slots, .. } => {
                Some(Outcome::Free(free(response, desks, slots)))
            }
            Action::List { .. } => {
                let items = response.body["items"].as_array()?;
                Some(Outcome::Bookings {
                    items: items.iter().filter_map(sight).collect(),
                    whole: response.body["next_cursor"].is_null(),
                })
            }
            Action::Create { .. }
            | Action::Cancel { .. }
            | Action::Move { .. }
            | Action::Get { .. } => sight(&response.body).map(Outcome::Booking),
        }
    }
}

fn refusal(action: &Action, response: &Response, town: &Town) -> Option<Refusal> {
    let refusal = match response.code() {
        "slot_taken" => {
            town.count(Event::SlotTaken);
            Refusal::SlotTaken(taken(action, response))
        }
        "user_already_booked" => {
            town.count(Event::UserBooked);
            Refusal::UserBooked
        }
        "booking_cancelled" => Refusal::BookingCancelled,
        "version_mismatch" => Refusal::Version(response.body["current_version"].as_u64()?),
        "not_found" => Refusal::NotFound,
        // A schedule that kept changing is not remembered.
        "stale_schedule" => Refusal::NotApplied,
        _ if response.status < 500 && response.status != 429 => Refusal::Other,
        _ if action.is_write() && response.is_not_applied() => Refusal::NotApplied,
        _ => return None,
    };
    Some(refusal)
}

/// Of the wanted slots, those that the answer says are taken.
fn taken(action: &Action, response: &Response) -> Vec<u64> {
    let (Action::Create { slots, .. } | Action::Move { slots, .. }) = action else {
        return Vec::new();
    };
    let taken = &response.body["taken"];
    let (from, to) = (hour(&taken["starts_at"]), hour(&taken["ends_at"]));
    let is_taken =
        |slot: &&u64| from.is_some_and(|from| from <= **slot) && to.is_some_and(|to| **slot < to);
    slots.iter().filter(is_taken).copied().collect()
}

fn free(response: &Response, desks: &[Id], slots: &[u64]) -> Vec<(Id, u64)> {
    let all: Vec<Option<u64>> = response.body["slots"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|slot| hour(&slot["starts_at"]))
        .collect();
    let mut found = Vec::new();
    for row in response.body["desks"].as_array().into_iter().flatten() {
        let Some(desk) = desks.iter().find(|desk| row["desk"] == ***desk) else {
            continue;
        };
        let numbers = row["free"].as_array().into_iter().flatten();
        let hours = numbers.filter_map(|number| {
            let number = usize::try_from(number.as_u64()?).ok()?;
            all.get(number).copied().flatten()
        });
        found.extend(
            hours
                .filter(|hour| slots.contains(hour))
                .map(|hour| (desk.clone(), hour)),
        );
    }
    found
}

/// A booking as an answer shows it.
pub(crate) fn sight(body: &Value) -> Option<Sight> {
    let (from, to) = (hour(&body["starts_at"])?, hour(&body["ends_at"])?);
    Some(Sight {
        booking: Id::from(body["id"].as_str()?),
        desk: Id::from(body["desk"].as_str()?),
        slots: (from..to).collect(),
        active: body["status"] == "active",
        version: body["version"].as_u64()?,
    })
}

/// An instant on the wire, in hours since the epoch.
fn hour(text: &Value) -> Option<u64> {
    let at: Timestamp = text.as_str()?.parse().ok()?;
    u64::try_from(at.as_second() / 3_600).ok()
}

/// The same the other way round.
fn instant(hour: u64) -> String {
    let seconds = i64::try_from(hour * 3_600).expect("hours of this century");
    Timestamp::from_second(seconds)
        .expect("hours of this century")
        .to_string()
}

/// The one space: a hall with so many desks.
pub(crate) fn space_document(desks: u64, days_ahead: u64) -> Value {
    let day = json!([["08:00", "22:00"]]);
    let desks: Vec<Value> = (0..desks)
        .map(|number| json!({"label": format!("A-{number}"), "x": 10 + number, "y": 10}))
        .collect();
    json!({
        "slug": SPACE, "name": "Nevsky", "time_zone": "UTC", "slot_minutes": 60,
        "opening_hours": {"mon": day, "tue": day, "wed": day, "thu": day, "fri": day},
        "rules": {"days_ahead": days_ahead, "open_bookings_per_user": null},
        "halls": [{"name": "Main", "plan": {"width": 400, "height": 200}, "zones": [], "desks": desks}]
    })
}
