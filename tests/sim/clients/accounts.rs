//! Registering, signing in and out, and what people do with their accounts.

use serde_json::json;

use super::{Client, PATIENCE_MS, SPACE, Session, email, password, space_document};
use crate::coverage::Event;
use crate::front::{Request, Response};
use crate::town::Told;

impl Client {
    /// Whether the token is to blame; then the next try comes with a new one.
    pub(super) fn must_sign_in(&mut self, user: Option<u64>, response: &Response) -> bool {
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
    pub(super) async fn session(&mut self, user: u64) -> Option<Session> {
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

    pub(super) async fn sign_in(&mut self, user: u64) {
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

    pub(super) fn keep_session(&mut self, user: u64, response: &Response) {
        let text = |name: &str| response.body[name].as_str().unwrap_or_default().to_owned();
        let session = Session {
            access: text("access_token"),
            refresh: text("refresh_token"),
        };
        self.sessions.insert(user, session);
    }

    pub(super) async fn register(&mut self, user: u64) {
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

    pub(super) async fn refresh(&mut self, user: u64, session: &Session) {
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
    pub(super) async fn account(&mut self) {
        match self.dice.below(8) {
            0 => self.guess_password().await,
            1 => self.sign_out().await,
            2 => self.renew().await,
            3 => self.change_password().await,
            4 => self.rename().await,
            5 => self.erase().await,
            6 => self.bring_in().await,
            _ => self.look_at_oneself().await,
        }
    }

    pub(super) async fn guess_password(&mut self) {
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
    pub(super) async fn sign_out(&mut self) {
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
    pub(super) async fn renew(&mut self) {
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
    pub(super) async fn change_password(&mut self) {
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

    /// Two renames of one version: at most one is done.
    pub(super) async fn rename(&mut self) {
        let user = self.user();
        let Some(session) = self.session(user).await else {
            return;
        };
        let me = Request::new("GET", "/api/v1/me").token(&session.access);
        let told = self.town.ask(self.node, me, PATIENCE_MS).await;
        let Told::Answer(me) = told else { return };
        let Some(version) = me.body["version"].as_u64() else {
            return;
        };
        let mut done = 0;
        for _ in 0..2 {
            // A name of its own each time: to give the name that is there already changes nothing.
            let name = format!("user {user}, renamed as {}", self.key());
            let mut rename = Request::new("PATCH", "/api/v1/me")
                .body(json!({"display_name": name}))
                .token(&session.access);
            rename.if_match = Some(version);
            done += u64::from(self.succeeds(rename).await);
            self.switch();
        }
        if done > 0 {
            self.town.count(Event::Renamed);
        }
        if done > 1 {
            self.town.shared.fail(
                "accounts",
                format!("version {version} of user {user} was changed twice"),
            );
        }
    }

    /// An account of its own, registered and signed in to; its token.
    pub(super) async fn own_account(&mut self, email: &str, password: &str) -> Option<String> {
        let account = json!({"email": email, "password": password});
        let register = Request::new("POST", "/api/v1/users").body(account.clone());
        if !self.succeeds(register).await {
            return None;
        }
        let sign_in = Request::new("POST", "/api/v1/sessions").body(account);
        match self.town.ask(self.node, sign_in, PATIENCE_MS).await {
            Told::Answer(session) => session.body["access_token"].as_str().map(str::to_owned),
            Told::Refused | Told::Nothing => None,
        }
    }

    /// Once it is acknowledged that an account is erased, nobody gets in with it.
    pub(super) async fn erase(&mut self) {
        self.keys += 1;
        let (email, password) = (
            format!("gone{}-{}@example.com", self.number, self.keys),
            "a password to forget",
        );
        let Some(token) = self.own_account(&email, password).await else {
            return;
        };
        self.switch();
        let erase = Request::new("DELETE", "/api/v1/me").token(&token);
        if !self.succeeds(erase).await {
            return;
        }
        self.town.count(Event::Erased);
        self.switch();
        let account = json!({"email": email, "password": password});
        let sign_in = Request::new("POST", "/api/v1/sessions").body(account);
        let me = Request::new("GET", "/api/v1/me").token(&token);
        if self.succeeds(sign_in).await || self.succeeds(me).await {
            self.town
                .shared
                .fail("accounts", "an erased account let somebody in");
        }
    }

    /// Brings in two bookings of a day that nobody else wants, twice under one key.
    pub(super) async fn bring_in(&mut self) {
        self.keys += 1;
        let email = format!("old{}-{}@example.com", self.number, self.keys);
        if self
            .own_account(&email, "a password of old")
            .await
            .is_none()
        {
            return;
        }
        let desk = self.dice.pick(&self.town.desks.lock()).clone();
        let day = self.dice.between(9, 13);
        let row = |hour: u64| json!({"user": email, "desk": &*desk, "starts_at": format!("2026-03-{day:02}T{hour:02}:00:00Z")});
        let rows = json!({"space": SPACE, "bookings": [row(9), row(11)]});
        let key = self.key();
        let request = Request::new("POST", "/api/v1/admin/bookings/import")
            .body(rows)
            .token(crate::machine::OPERATOR)
            .key(&key);
        let mut answers = Vec::new();
        for _ in 0..2 {
            let told = self.town.ask(self.node, request.clone(), PATIENCE_MS).await;
            if let Told::Answer(response) = told
                && response.is_success()
            {
                answers.push(response.body.clone());
            }
            self.switch();
        }
        if let [first, rest @ ..] = answers.as_slice() {
            self.town.count(Event::BroughtIn);
            if rest.iter().any(|answer| answer != first) {
                self.town.shared.fail(
                    "accounts",
                    format!("an import under one key was answered in two ways: {answers:?}"),
                );
            }
        }
    }

    pub(super) async fn succeeds(&self, request: Request) -> bool {
        match self.town.ask(self.node, request, PATIENCE_MS).await {
            Told::Answer(response) => response.is_success(),
            Told::Refused | Told::Nothing => false,
        }
    }

    pub(super) async fn look_at_oneself(&mut self) {
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

    pub(super) fn check_me(&self, user: u64, response: &Response) {
        if response.body["email"] != email(user).as_str() {
            self.town
                .shared
                .fail("accounts", format!("user {user} was shown another account"));
        }
    }

    /// Changes the schedule's revision, so that placements made before it are stale.
    pub(super) async fn administer(&mut self) {
        let days_ahead = self.dice.between(20, 60);
        let request = Request::new("PUT", format!("/api/v1/admin/spaces/{SPACE}"))
            .body(space_document(self.town.plan.load.desks, days_ahead))
            .token(crate::machine::OPERATOR);
        if self.succeeds(request).await {
            self.town.count(Event::ScheduleChanged);
        }
    }
}
