//! Where clients live: what they all know, how they ask, and what they write down.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mesto_raft::NodeId;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use crate::checker::history::{Answer, History, Id, Record};
use crate::coverage::Event;
use crate::front::{Request, Response};
use crate::net::{CLIENTS, Net, Parcel, Payload};
use crate::plan::Plan;
use crate::shared::Shared;

/// What all clients share.
pub(crate) struct Town {
    pub(crate) shared: Arc<Shared>,
    pub(crate) plan: Plan,
    net: Arc<Net>,
    calls: Mutex<BTreeMap<u64, oneshot::Sender<Told>>>,
    /// The nodes that clients know of.
    pub(crate) nodes: Mutex<Vec<NodeId>>,
    /// The bookable desks, once the space is laid out.
    pub(crate) desks: Mutex<Vec<Id>>,
    /// Bookings that clients have met, to be cancelled and moved by anyone: whose, and which.
    pub(crate) bookings: Mutex<Vec<(u64, Id)>>,
    pub(crate) history: Mutex<History>,
    /// Writes that were acknowledged, by index and moment.
    acknowledged: Mutex<VecDeque<(u64, u64)>>,
    pub(crate) jobs: Mutex<Jobs>,
    /// The index at which the space was laid out.
    laid_out: AtomicU64,
    /// Who led when somebody last looked.
    leader: AtomicU64,
    /// Clients are to make no more requests of their own.
    pub(crate) closing: AtomicBool,
    /// Clients that have ended.
    pub(crate) left: Mutex<u64>,
    /// Somebody has got an answer to every question about what is left at the end.
    pub(crate) looked_back: AtomicBool,
    /// Nodes that were seen to serve, since the liveness of a quorum was asked for.
    pub(crate) proven: Mutex<BTreeSet<NodeId>>,
}

/// What came of asking.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    /// An answer.
    Answer(Arc<Response>),
    /// Nobody listens there.
    Refused,
    /// Nothing in time.
    Nothing,
}

/// What an operator has to do, and the cluster as far as operators know it.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    pub(crate) waiting: VecDeque<Job>,
    pub(crate) working: Option<Job>,
    /// Whether the cluster is founded and the space laid out.
    pub(crate) open: bool,
    /// Every node that may be a member, or may be becoming one.
    pub(crate) members: BTreeSet<NodeId>,
    /// The node that is being taken in, and the one that is being removed.
    pub(crate) joining: Option<NodeId>,
    pub(crate) leaving: Option<NodeId>,
    /// Nodes that were removed for certain.
    pub(crate) gone: BTreeSet<NodeId>,
}

/// Something for an operator to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Bootstrap the cluster, and lay the space out.
    Open,
    /// Take a node in.
    Add(NodeId),
    /// Remove one for good.
    Remove(NodeId),
    /// Hand leadership over.
    Transfer,
    /// Take a snapshot on a node.
    Snapshot(NodeId),
}

impl Town {
    /// A town in which nothing has happened yet.
    pub(crate) fn new(shared: Arc<Shared>, net: Arc<Net>, plan: Plan) -> Self {
        Self {
            shared,
            plan,
            net,
            calls: Mutex::default(),
            nodes: Mutex::default(),
            desks: Mutex::default(),
            bookings: Mutex::default(),
            history: Mutex::default(),
            acknowledged: Mutex::default(),
            jobs: Mutex::default(),
            laid_out: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            left: Mutex::default(),
            looked_back: AtomicBool::new(false),
            proven: Mutex::default(),
        }
    }

    /// Asks a node, and waits so long.
    pub(crate) async fn ask(&self, node: NodeId, request: Request, patience_ms: u64) -> Told {
        let call = self.net.number();
        let (sender, told) = oneshot::channel();
        self.calls.lock().insert(call, sender);
        let request = Arc::new(request);
        self.net
            .send(CLIENTS, node, Payload::Request { call, request });
        let told = tokio::time::timeout(Duration::from_millis(patience_ms), told).await;
        self.calls.lock().remove(&call);
        match told {
            Ok(Ok(told)) => told,
            Ok(Err(_)) | Err(_) => Told::Nothing,
        }
    }

    /// Gives arriving answers to those who wait for them.
    async fn receive(self: Arc<Self>, mut arriving: UnboundedReceiver<Parcel>) {
        while let Some(parcel) = arriving.recv().await {
            let (call, told) = match parcel.payload {
                Payload::Response { call, response } => {
                    self.look_at(parcel.from, &response);
                    (call, Told::Answer(response))
                }
                Payload::Refused { call } => (call, Told::Refused),
                Payload::Call { .. } | Payload::Answer { .. } | Payload::Request { .. } => continue,
            };
            if let Some(waiting) = self.calls.lock().remove(&call) {
                // It may just have given up.
                let _ = waiting.send(told);
            }
        }
    }

    /// What no answer may ever be.
    fn look_at(&self, node: NodeId, response: &Response) {
        if response.code() == "internal" {
            self.shared.fail(
                "no panic",
                format!("node {node} answered with an internal error"),
            );
        }
    }

    /// Writes down that a client asks; gives the number of the record. Until it is answered its outcome is unknown,
    /// whatever becomes of the client.
    pub(crate) fn record(&self, record: Record) -> usize {
        let records = &mut self.history.lock().records;
        records.push(record);
        records.len() - 1
    }

    /// Writes down what it was told.
    pub(crate) fn answer(&self, number: usize, answer: Answer) {
        self.history.lock().records[number].answer = Some(answer);
    }

    /// Notes that a write was acknowledged at an index.
    pub(crate) fn acknowledge(&self, index: u64) {
        let mut acknowledged = self.acknowledged.lock();
        let highest = acknowledged.back().map_or(0, |(highest, _)| *highest);
        if index > highest {
            acknowledged.push_back((index, self.shared.now_ms()));
        }
    }

    /// The highest index that was acknowledged up to then.
    pub(crate) fn acknowledged_by(&self, at_ms: u64) -> u64 {
        let acknowledged = self.acknowledged.lock();
        let by = acknowledged.iter().rev().find(|(_, when)| *when <= at_ms);
        by.map_or(0, |(index, _)| *index)
    }

    /// The index from which on there are desks.
    pub(crate) fn laid_out(&self) -> u64 {
        self.laid_out.load(Ordering::Relaxed)
    }

    /// The desks are there from this index on.
    pub(crate) fn lay_out(&self, desks: Vec<Id>, index: u64) {
        *self.desks.lock() = desks;
        self.laid_out.store(index, Ordering::Relaxed);
    }

    /// Who led when somebody last looked; 0 for nobody.
    pub(crate) fn leader(&self) -> NodeId {
        self.leader.load(Ordering::Relaxed)
    }

    /// Notes who leads.
    pub(crate) fn note_leader(&self, leader: Option<NodeId>) {
        self.leader.store(leader.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether clients are to end.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Counts an event.
    pub(crate) fn count(&self, event: Event) {
        self.shared.count(event);
    }
}

/// The runtime of all clients.
pub(crate) struct Crowd {
    runtime: Runtime,
    began: tokio::time::Instant,
    run_us: u64,
    shared: Arc<Shared>,
}

impl Crowd {
    /// A crowd that receives what is sent to it, and does nothing else yet.
    pub(crate) fn new(town: &Arc<Town>, net: &Net, seed: u64) -> Self {
        let runtime = crate::machine::runtime(seed);
        let began = {
            let _entered = runtime.enter();
            tokio::time::Instant::now()
        };
        runtime.spawn(Arc::clone(town).receive(net.listen(CLIENTS)));
        Self {
            runtime,
            began,
            run_us: 0,
            shared: Arc::clone(&town.shared),
        }
    }

    /// Lets somebody live.
    pub(crate) fn spawn(&self, life: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(life);
    }

    /// Lets everybody go on for so long.
    pub(crate) fn step(&mut self, tick_us: u64) {
        self.run_us += tick_us;
        let until = self.began + Duration::from_micros(self.run_us);
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            self.runtime
                .block_on(async { tokio::time::sleep_until(until).await });
        }));
        if stepped.is_err() {
            let panic = crate::panics::last();
            self.shared
                .fail("no panic", format!("a client panicked: {panic}"));
        }
    }
}
