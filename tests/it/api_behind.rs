//! A node that is behind: it proposes through a leader, and applies only when something makes it catch up.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use mesto::{
    booking::{
        Actor, Command, DedupKey, Envelope, Fingerprint, Store, decode_reply, layout::SpaceDetails,
        query,
    },
    clock::ManualClock,
    http,
    limits::Limits,
    replica::{ClusterView, Decided, LocalReplica, ProposeError, ReadError, Replica, Viewed},
    service::{Parts, Service, entropy::SeededEntropy, passwords::PasswordCost},
};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::api_world::{OPERATOR, START_MS, World, get};

struct Behind {
    leader: Arc<LocalReplica>,
    own: LocalReplica,
    waiting: Mutex<Vec<Bytes>>,
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
        let mut space = None;
        let read = self.leader.view(&mut |store, _| {
            space = query::space_by_id_or_slug(store, "nevsky");
        });
        read.expect("a replica in memory can be read");
        let space = space.expect("the space is there");
        let command = Command::PutSpace {
            space: Some(space.id),
            details: SpaceDetails {
                slot_minutes,
                ..space.details
            },
            expected_revision: None,
        };
        let envelope = Envelope {
            dedup: DedupKey::Node([slot_minutes.to_be_bytes()[1]; 16]),
            fingerprint: Fingerprint::of(&[]),
            actor: Actor::Operator,
            command,
        };
        let command = Bytes::from(envelope.encode());
        let decided = self.propose(command, Duration::ZERO, "unseen").await;
        let reply = decode_reply(&decided.expect("it has no fault").reply).expect("a reply");
        assert!(reply.result.is_ok(), "{reply:?}");
    }
}

impl Replica for Behind {
    fn propose<'a>(
        &'a self,
        command: Bytes,
        deadline: Duration,
        request_id: &'a str,
    ) -> BoxFuture<'a, Result<Decided, ProposeError>> {
        async move {
            self.waiting.lock().push(command.clone());
            self.leader.propose(command, deadline, request_id).await
        }
        .boxed()
    }

    fn read_barrier(&self, _deadline: Duration) -> BoxFuture<'_, Result<u64, ReadError>> {
        async move { Ok(self.catch_up().await) }.boxed()
    }

    fn wait_applied(
        &self,
        _index: u64,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<(), ReadError>> {
        async move {
            self.catch_up().await;
            Ok(())
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

fn world() -> (World, Arc<Behind>) {
    let clock = ManualClock::new(START_MS);
    let leader = Arc::new(LocalReplica::new(Arc::new(clock.clone())));
    let behind = Arc::new(Behind {
        leader: Arc::clone(&leader),
        own: LocalReplica::new(Arc::new(clock.clone())),
        waiting: Mutex::default(),
    });
    let service = Service::new(Parts {
        replica: Arc::clone(&behind) as _,
        clock: Arc::new(clock.clone()),
        entropy: Arc::new(SeededEntropy::new(2)),
        limits: Limits::default(),
        password_cost: PasswordCost::LEAST,
        operator_token: Some(OPERATOR.to_owned()),
    });
    let registry = prometheus_client::registry::Registry::default();
    let router = http::router(Arc::clone(&service), None, registry);
    let world = World {
        router,
        service,
        replica: leader,
        clock,
    };
    (world, behind)
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
