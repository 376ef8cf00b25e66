//! A node that is behind: it proposes through a leader, and applies only when something makes it catch up. It can stall,
//! so that it never gets as far as it waits for, and lose its leader after some writes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use mesto::{
    booking::{
        Actor, Command, DedupKey, Envelope, Fingerprint, Store,
        account::{Role, User},
        decode_reply,
        layout::{DeskDraft, HallDraft, Plan, Point, SpaceDetails},
        query,
        secret::PasswordHash,
    },
    clock::ManualClock,
    http,
    limits::Limits,
    replica::{ClusterView, Decided, LocalReplica, ProposeError, ReadError, Replica, Viewed},
    service::{Parts, Service, entropy::SeededEntropy, passwords::PasswordCost},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api_world::{
    OPERATOR, PASSWORD, START_MS, World, at, booking, delete, get, nevsky, patch, post, put,
};

struct Behind {
    leader: Arc<LocalReplica>,
    own: LocalReplica,
    waiting: Mutex<Vec<Bytes>>,
    /// It does not get as far as it waits for. A barrier still brings it up to date.
    stalled: AtomicBool,
    /// How many more proposals find a leader.
    proposals_left: AtomicUsize,
    /// What gets into the log just ahead of the next proposal.
    overtaking: Mutex<Vec<Command>>,
    unseen: AtomicUsize,
}

impl Behind {
    async fn catch_up(&self) -> u64 {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for command in waiting {
            let decided = self.own.propose(command, Duration::ZERO, "behind").await;
            decided.expect("it has no fault");
        }
        *self.own.applied().borrow()
    }

    /// Changes the space's slots so that the leader knows and this node does not.
    async fn change_slots_unseen(&self, slot_minutes: u16) {
        let space = self.leader_sees(|store| query::space_by_id_or_slug(store, "nevsky"));
        let space = space.expect("the space is there");
        let command = Command::PutSpace {
            space: Some(space.id),
            details: SpaceDetails {
                slot_minutes,
                ..space.details
            },
            expected_revision: None,
        };
        self.unseen(command).await;
    }

    /// Has the operator do something that the leader knows of and this node does not.
    async fn unseen(&self, command: Command) {
        let number = self.unseen.fetch_add(1, Ordering::Relaxed);
        let mut dedup = [0xee; 16];
        dedup[..8].copy_from_slice(&number.to_be_bytes());
        let envelope = Envelope {
            dedup: DedupKey::Node(dedup),
            fingerprint: Fingerprint::of(&[]),
            actor: Actor::Operator,
            command,
        };
        let decided = self.decide(Bytes::from(envelope.encode())).await;
        let reply = decode_reply(&decided.expect("it has no fault").reply).expect("a reply");
        assert!(reply.result.is_ok(), "{reply:?}");
    }

    async fn decide(&self, command: Bytes) -> Result<Decided, ProposeError> {
        self.waiting.lock().push(command.clone());
        self.leader.propose(command, Duration::ZERO, "behind").await
    }

    fn stall(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    fn lose_leader_after(&self, proposals: usize) {
        self.proposals_left.store(proposals, Ordering::Relaxed);
    }

    /// What the leader knows.
    fn leader_sees<T>(&self, look: impl FnOnce(&dyn Store) -> T) -> T {
        let (mut look, mut seen) = (Some(look), None);
        let read = self.leader.view(&mut |store, _| {
            if let Some(look) = look.take() {
                seen = Some(look(store));
            }
        });
        read.expect("a replica in memory can be read");
        seen.expect("the view was run")
    }

    fn user(&self, email: &str) -> User {
        let email = email.parse().expect("an address");
        self.leader_sees(|store| query::user_by_email(store, &email))
            .expect("there is such a user")
    }
}

impl Replica for Behind {
    fn propose<'a>(
        &'a self,
        command: Bytes,
        _deadline: Duration,
        _request_id: &'a str,
    ) -> BoxFuture<'a, Result<Decided, ProposeError>> {
        async move {
            let left = self.proposals_left.load(Ordering::Relaxed);
            let left = left.checked_sub(1).ok_or(ProposeError::NoLeader)?;
            self.proposals_left.store(left, Ordering::Relaxed);
            let overtaking = std::mem::take(&mut *self.overtaking.lock());
            for command in overtaking {
                self.unseen(command).await;
            }
            self.decide(command).await
        }
        .boxed()
    }

    fn read_barrier(&self, _deadline: Duration) -> BoxFuture<'_, Result<u64, ReadError>> {
        async move { Ok(self.catch_up().await) }.boxed()
    }

    fn wait_applied(
        &self,
        index: u64,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<(), ReadError>> {
        async move {
            if !self.stalled.load(Ordering::Relaxed) {
                self.catch_up().await;
            }
            let applied = *self.own.applied().borrow();
            (applied >= index).then_some(()).ok_or(ReadError::Timeout)
        }
        .boxed()
    }

    fn view(&self, f: &mut dyn FnMut(&dyn Store, Viewed)) -> Result<(), ReadError> {
        self.own.view(f)
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.own.applied()
    }

    fn staleness(&self) -> Option<Duration> {
        None
    }

    fn cluster(&self) -> ClusterView {
        self.own.cluster()
    }
}

/// A world that is seen from the node behind.
fn world() -> (World, Arc<Behind>) {
    let clock = ManualClock::new(START_MS);
    let leader = Arc::new(LocalReplica::new(Arc::new(clock.clone())));
    let behind = Arc::new(Behind {
        leader: Arc::clone(&leader),
        own: LocalReplica::new(Arc::new(clock.clone())),
        waiting: Mutex::default(),
        stalled: AtomicBool::new(false),
        proposals_left: AtomicUsize::new(usize::MAX),
        overtaking: Mutex::default(),
        unseen: AtomicUsize::new(0),
    });
    (
        seen_from(Arc::clone(&behind) as _, leader, clock, 2),
        behind,
    )
}

/// The same world, seen from the leader. The node behind never gets to know what is done here.
fn ahead(world: &World) -> World {
    let leader = Arc::clone(&world.replica);
    seen_from(Arc::clone(&leader) as _, leader, world.clock.clone(), 3)
}

fn seen_from(
    node: Arc<dyn Replica>,
    leader: Arc<LocalReplica>,
    clock: ManualClock,
    seed: u64,
) -> World {
    let service = Service::new(Parts {
        replica: node,
        clock: Arc::new(clock.clone()),
        entropy: Arc::new(SeededEntropy::new(seed)),
        limits: Limits::default(),
        password_cost: PasswordCost::LEAST,
        operator_token: Some(OPERATOR.to_owned()),
    });
    let registry = prometheus_client::registry::Registry::default();
    let router = http::router(Arc::clone(&service), None, registry);
    World {
        router,
        service,
        replica: leader,
        clock,
    }
}

#[tokio::test]
async fn a_session_that_this_node_has_not_heard_of_yet_is_good() {
    let (world, _) = world();
    let token = world.member("anna@example.com").await;
    // Its own state is still without the session; a local read must not make it less signed in.
    let me = world
        .send(get("/api/v1/me?consistency=local").token(&token))
        .await;
    assert_eq!(me.status, StatusCode::OK, "{me:?}");
    let stale = "/api/v1/spaces?consistency=local&max_staleness_ms=60000";
    world.send(get(stale)).await.is_problem(503, "too_stale");
}

#[tokio::test]
async fn a_booking_by_a_schedule_that_has_changed_is_placed_again() {
    let (world, behind) = world();
    world.furnish().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    behind.change_slots_unseen(120).await;
    let booked = world.book(&token, &desks[0], "10:00", "12:00").await;
    assert_eq!(booked.status, StatusCode::CREATED, "{booked:?}");
    assert_eq!(booked.body["slots"], 1, "one slot of the newest schedule");
    behind.change_slots_unseen(180).await;
    let refused = world.book(&token, &desks[0], "12:00", "14:00").await;
    refused.is_problem(422, "off_grid");
}

#[tokio::test]
async fn a_cancelled_booking_that_cannot_be_shown_is_not_said_to_be_uncancelled() {
    let (world, behind) = world();
    let token = world.member("anna@example.com").await;
    let me = world.send(get("/api/v1/me").token(&token)).await;
    assert_eq!(me.status, StatusCode::OK, "{me:?}");
    behind.stall();
    let ahead = ahead(&world);
    ahead.furnish().await;
    let desks = ahead.desks().await;
    let booked = ahead.book(&token, &desks[0], "10:00", "11:00").await;
    let uri = format!(
        "/api/v1/bookings/{}",
        booked.body["id"].as_str().expect("an id")
    );
    let cancel = || post(&format!("{uri}/cancel")).token(&token).key("k");
    let lost = world.send(cancel()).await;
    lost.is_problem(503, "outcome_unknown");
    assert_eq!(lost.body["outcome"], "unknown");
    let found = ahead.send(get(&uri).token(&token)).await;
    assert_eq!(found.body["status"], "cancelled", "it took effect");
    let again = ahead.send(cancel()).await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &found.body));
}

#[tokio::test]
async fn a_booking_is_shown_by_a_node_that_has_not_applied_it() {
    let (world, behind) = world();
    world.furnish().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    behind.stall();
    let booked = world.book(&token, &desks[0], "10:00", "11:00").await;
    assert_eq!(booked.status, StatusCode::CREATED, "{booked:?}");
    assert_eq!(booked.body["desk_label"], "A-1");
    assert!(booked.index() > *behind.own.applied().borrow());
}

#[tokio::test]
async fn a_space_that_was_put_in_part_is_not_said_to_be_untouched() {
    let (world, behind) = world();
    let put_it = || {
        put("/api/v1/admin/spaces/nevsky")
            .token(OPERATOR)
            .json(&nevsky())
    };
    behind.lose_leader_after(0);
    let nothing = world.send(put_it()).await;
    nothing.is_problem(503, "no_leader");
    assert_eq!(nothing.body["outcome"], "not_applied");
    for steps in 1..=2 {
        behind.lose_leader_after(steps);
        let part = world.send(put_it()).await;
        part.is_problem(503, "outcome_unknown");
        assert_eq!(part.body["outcome"], "unknown");
    }
    behind.lose_leader_after(usize::MAX);
    behind.stall();
    let unseen = world.send(put_it()).await;
    unseen.is_problem(503, "outcome_unknown");
    assert_eq!(unseen.body["outcome"], "unknown");
    let index = *world.replica.applied().borrow();
    let whole = world.send(put_it()).await;
    assert_eq!(whole.status, StatusCode::OK, "{whole:?}");
    assert_eq!(
        *world.replica.applied().borrow(),
        index,
        "nothing was left to do"
    );
}

#[tokio::test]
async fn a_session_is_opened_and_continued_only_by_who_can_sign_for_it() {
    let (world, behind) = world();
    world.register("anna@example.com").await;
    behind.stall();
    let body = json!({"email": "anna@example.com", "password": PASSWORD});
    let failed = world.send(post("/api/v1/sessions").json(&body)).await;
    failed.is_problem(503, "outcome_unknown");
    let anna = behind.user("anna@example.com").id;
    let sessions = behind.leader_sees(|store| query::sessions_of_user(store, anna));
    assert_eq!(sessions, [], "the key was missing, so none was opened");
    world.sign_in("anna@example.com").await;

    let ahead = ahead(&world);
    ahead.register("boris@example.com").await;
    let signed_in = ahead.sign_in("boris@example.com").await;
    let refresh = || {
        let body = json!({"refresh_token": signed_in["refresh_token"]});
        post("/api/v1/sessions/refresh").key("k").json(&body)
    };
    let lost = world.send(refresh()).await;
    lost.is_problem(503, "outcome_unknown");
    assert_eq!(lost.body["outcome"], "unknown", "the old token is used up");
    let found = ahead.send(refresh()).await;
    assert_eq!(found.status, StatusCode::CREATED, "{found:?}");
}

#[tokio::test]
async fn an_account_that_was_erased_in_part_is_not_said_to_be_untouched() {
    let (world, behind) = world();
    let mut space = nevsky();
    space["slot_minutes"] = json!(15);
    space["closures"] = json!([]);
    for day in ["sat", "sun"] {
        space["opening_hours"][day] = json!([["08:00", "22:00"]]);
    }
    let furnished = put("/api/v1/admin/spaces/nevsky")
        .token(OPERATOR)
        .json(&space);
    assert_eq!(world.send(furnished).await.status, StatusCode::CREATED);
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let rows: Vec<Value> = (0..501)
        .map(|slot| {
            let (day, minute) = (3 + slot / 56, 8 * 60 + slot % 56 * 15);
            let starts_at = format!(
                "2026-03-{day:02}T{:02}:{:02}:00+03:00",
                minute / 60,
                minute % 60
            );
            json!({"user": "anna@example.com", "desk": desks[0], "starts_at": starts_at})
        })
        .collect();
    for rows in rows.chunks(500) {
        let import = json!({"space": "nevsky", "bookings": rows});
        let import = post("/api/v1/admin/bookings/import")
            .token(OPERATOR)
            .json(&import);
        let imported = world.send(import).await;
        assert_eq!(imported.body["accepted"], rows.len(), "{imported:?}");
    }
    behind.lose_leader_after(1);
    let part = world.send(delete("/api/v1/me").token(&token)).await;
    part.is_problem(503, "outcome_unknown");
    assert_eq!(part.body["outcome"], "unknown");
    let me = world.send(get("/api/v1/me").token(&token)).await;
    me.is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_role_that_was_taken_away_reads_nothing_and_one_that_was_given_counts_at_once() {
    let (world, behind) = world();
    world.furnish().await;
    let anna = world.member("anna@example.com").await;
    let boss = world.admin("boss@example.com").await;
    let desks = world.desks().await;
    let booked = world.book(&anna, &desks[0], "10:00", "11:00").await;
    let uri = format!(
        "/api/v1/bookings/{}",
        booked.body["id"].as_str().expect("an id")
    );
    let seen = world.send(get(&uri).token(&boss)).await;
    assert_eq!(seen.status, StatusCode::OK, "{seen:?}");
    let role = |role| Command::SetRoleOf {
        user: behind.user("boss@example.com").id,
        role,
    };

    behind.unseen(role(Role::Member)).await;
    world
        .send(get(&uri).token(&boss))
        .await
        .is_problem(404, "not_found");
    behind.unseen(role(Role::Admin)).await;
    let mut body = booking(&desks[1], "10:00", "11:00");
    body["user"] = json!(behind.user("anna@example.com").id.to_string());
    // Nothing has told this node of the role; the state machine knows it, and gets as far as a later rule.
    let refused = world
        .send(post("/api/v1/bookings").token(&boss).json(&body))
        .await;
    refused.is_problem(409, "user_already_booked");
    behind.unseen(role(Role::Member)).await;
    let move_it = json!({"starts_at": at("12:00")});
    let moved = patch(&uri).token(&boss).json(&move_it);
    world.send(moved).await.is_problem(404, "not_found");
    behind.unseen(role(Role::Admin)).await;
    let put_it = put("/api/v1/admin/spaces/nevsky")
        .token(&boss)
        .json(&nevsky());
    assert_eq!(world.send(put_it.clone()).await.status, StatusCode::OK);
    behind.unseen(role(Role::Member)).await;
    world.send(put_it).await.is_problem(403, "forbidden");
}

#[tokio::test]
async fn a_role_is_not_given_to_who_gets_the_address_in_between() {
    let (world, behind) = world();
    world.register("anna@example.com").await;
    let id = behind.user("anna@example.com").id;
    let hash = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g";
    *behind.overtaking.lock() = vec![
        Command::DeleteUser { user: id },
        Command::RegisterUser {
            email: "anna@example.com".parse().expect("an address"),
            display_name: None,
            password_hash: PasswordHash::new(hash.to_owned()).expect("a hash"),
        },
    ];
    let role = put(&format!("/api/v1/admin/users/{id}/role"))
        .token(OPERATOR)
        .json(&json!({"role": "admin"}));
    world.send(role).await.is_problem(404, "not_found");
    let other = behind.user("anna@example.com");
    assert_ne!(other.id, id);
    assert_eq!(other.role, Role::Member);
}

#[tokio::test]
async fn a_hall_and_a_desk_that_someone_makes_in_between_are_not_made_twice() {
    let (world, behind) = world();
    let mut document = nevsky();
    let halls = document["halls"].take();
    document["halls"] = json!([]);
    let put_it = |body: &Value| {
        put("/api/v1/admin/spaces/nevsky")
            .token(OPERATOR)
            .json(body)
    };
    assert_eq!(
        world.send(put_it(&document)).await.status,
        StatusCode::CREATED
    );
    let space = behind
        .leader_sees(|store| query::space_by_id_or_slug(store, "nevsky"))
        .expect("the space is there");
    let draft = HallDraft {
        name: "Main".parse().expect("a name"),
        plan: Plan {
            width: 400,
            height: 200,
            walls: Vec::new(),
            labels: Vec::new(),
        },
        zones: Vec::new(),
    };
    *behind.overtaking.lock() = vec![Command::PutHall {
        space: space.id,
        hall: None,
        draft,
        expected_version: None,
    }];
    document["halls"] = halls;
    let answer = world.send(put_it(&document)).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    let main = &answer.body["halls"][0];
    assert_eq!(answer.body["halls"].as_array().map(Vec::len), Some(2));
    assert_eq!(main["zones"].as_array().map(Vec::len), Some(2), "{main}");

    let halls = behind.leader_sees(|store| query::halls(store, space.id));
    let main = halls.first().expect("the hall is there");
    let desk = DeskDraft {
        id: None,
        zone: None,
        label: "A-5".parse().expect("a label"),
        at: Point { x: 5, y: 5 },
        rotation_degrees: 0,
        features: std::collections::BTreeSet::new(),
        active: true,
    };
    *behind.overtaking.lock() = vec![Command::PutDesks {
        hall: main.id,
        desks: vec![desk],
    }];
    let desks = document["halls"][0]["desks"].as_array_mut();
    desks
        .expect("desks")
        .push(json!({"label": "A-5", "x": 7, "y": 7}));
    let answer = world.send(put_it(&document)).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    let desks = &answer.body["halls"][0]["desks"];
    assert_eq!(desks.as_array().map(Vec::len), Some(5), "{desks}");
    assert_eq!(
        (&desks[4]["label"], &desks[4]["x"]),
        (&json!("A-5"), &json!(7))
    );
}

#[tokio::test]
async fn a_space_that_someone_makes_in_between_is_changed_by_a_put_and_refuses_a_post() {
    for is_put in [true, false] {
        let (world, behind) = world();
        world.furnish().await;
        let details = behind
            .leader_sees(|store| query::space_by_id_or_slug(store, "nevsky"))
            .expect("the space is there")
            .details;
        *behind.overtaking.lock() = vec![Command::PutSpace {
            space: None,
            details: SpaceDetails {
                slug: "arbat".parse().expect("a slug"),
                ..details
            },
            expected_revision: None,
        }];
        let mut document = nevsky();
        document["slug"] = "arbat".into();
        let call = if is_put {
            put("/api/v1/admin/spaces/arbat")
        } else {
            post("/api/v1/admin/spaces")
        };
        let call = call.token(OPERATOR).key("lay-out").json(&document);
        let answer = world.send(call.clone()).await;
        let again = world.send(call).await;
        assert_eq!(
            (again.status, &again.body["code"]),
            (answer.status, &answer.body["code"])
        );
        if is_put {
            assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
            assert_eq!(again.body, answer.body);
            assert_eq!(answer.body["halls"].as_array().map(Vec::len), Some(2));
        } else {
            answer.is_problem(409, "slug_taken");
        }
    }
}

#[tokio::test]
async fn a_layout_that_broke_off_is_finished_under_its_key_and_answered_as_new() {
    for is_put in [true, false] {
        let (world, behind) = world();
        let call = |body: &Value| {
            let call = if is_put {
                put("/api/v1/admin/spaces/nevsky")
            } else {
                post("/api/v1/admin/spaces")
            };
            call.token(OPERATOR).key("lay-out").json(body)
        };
        behind.lose_leader_after(2);
        let broken = world.send(call(&nevsky())).await;
        broken.is_problem(503, "outcome_unknown");
        behind.lose_leader_after(usize::MAX);
        let made = world.send(call(&nevsky())).await;
        assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
        let mut changed = nevsky();
        changed["halls"][0]["desks"][0]["active"] = false.into();
        let reused = world.send(call(&changed)).await;
        reused.is_problem(422, "idempotency_key_reused");
        // What someone changed since is not undone by a late retry.
        let other = put("/api/v1/admin/spaces/nevsky").token(OPERATOR);
        let other = world.send(other.json(&changed)).await;
        assert_eq!(other.status, StatusCode::OK);
        let again = world.send(call(&nevsky())).await;
        assert_eq!(
            (again.status, &again.body),
            (StatusCode::CREATED, &other.body)
        );
    }
}
