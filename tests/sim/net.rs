//! The simulated network: turmoil's links between machines, and a card in each machine.
//!
//! turmoil carries datagrams of eight bytes, the numbers of parcels; the parcels themselves wait in a table here, since
//! everything is in one process. Latency, and with it reordering, partitions (one-way ones too), held and slow links are
//! turmoil's. Loss, duplicates and long delays are decided here, message by message: turmoil's own loss breaks a whole
//! link and would mend partitions that were made on purpose.
//!
//! ```text
//!  node's runtime ── send ──► outbox ──► card (turmoil host) ── link ──► card ──► inbox ──► other node's runtime
//! ```
//!
//! A machine whose process is down refuses connections at once; one without power is silent. Real connections never
//! deliver a message twice, but Raft may not count on that, so in some runs its messages do arrive twice.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mesto_raft::Lane;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use turmoil::net::UdpSocket;

use crate::coverage::Event;
use crate::dice::Dice;
use crate::front::{Request, Response};
use crate::plan::NetworkPlan;
use crate::shared::Shared;

/// A machine on the network: a node by its id, or [`CLIENTS`].
pub(crate) type Host = u64;
/// Where all clients are.
pub(crate) const CLIENTS: Host = 0;

const PORT: u16 = 9;

/// The name of a machine.
pub(crate) fn name(host: Host) -> String {
    match host {
        CLIENTS => "clients".to_owned(),
        node => format!("node-{node}"),
    }
}

/// What travels.
#[derive(Clone)]
pub(crate) enum Payload {
    /// A frame from one node to another.
    Call { call: u64, lane: Lane, frame: Bytes },
    /// Its answer; nothing where the frame was not authentic.
    Answer { call: u64, frame: Option<Bytes> },
    /// A client's request.
    Request { call: u64, request: Arc<Request> },
    /// Its answer.
    Response { call: u64, response: Arc<Response> },
    /// Nobody listens there: certainly not delivered.
    Refused { call: u64 },
}

/// Something on its way.
#[derive(Clone)]
pub(crate) struct Parcel {
    pub(crate) from: Host,
    pub(crate) payload: Payload,
    to: Host,
    number: u64,
}

/// What a machine's card has to send: to whom, which parcel, after how many milliseconds.
type Outgoing = (Host, u64, u64);

struct Port {
    outbox: UnboundedSender<Outgoing>,
    /// Where arriving parcels go; nothing while no process runs.
    inbox: Option<UnboundedSender<Parcel>>,
    powered: bool,
}

/// The network.
pub(crate) struct Net {
    shared: Arc<Shared>,
    next: AtomicU64,
    table: Mutex<Table>,
}

struct Table {
    dice: Dice,
    plan: NetworkPlan,
    ports: BTreeMap<Host, Port>,
    addresses: BTreeMap<Host, IpAddr>,
    parcels: BTreeMap<u64, (Parcel, u8)>,
    /// The newest parcel that arrived, by direction: an older one after it was overtaken.
    newest: BTreeMap<(Host, Host), u64>,
}

impl Net {
    /// A network without machines.
    pub(crate) fn new(shared: Arc<Shared>, seed: u64, plan: NetworkPlan) -> Self {
        Self {
            shared,
            next: AtomicU64::new(1),
            table: Mutex::new(Table {
                dice: Dice::new(seed, "network"),
                plan,
                ports: BTreeMap::new(),
                addresses: BTreeMap::new(),
                parcels: BTreeMap::new(),
                newest: BTreeMap::new(),
            }),
        }
    }

    /// Puts a machine with a network card on the network.
    pub(crate) fn plug(self: &Arc<Self>, sim: &mut turmoil::Sim<'_>, host: Host) {
        let (outbox, outgoing) = unbounded_channel();
        let outgoing = Arc::new(tokio::sync::Mutex::new(outgoing));
        let net = Arc::clone(self);
        self.table.lock().ports.insert(
            host,
            Port {
                outbox,
                inbox: None,
                powered: true,
            },
        );
        sim.host(name(host), move || {
            let (net, outgoing) = (Arc::clone(&net), Arc::clone(&outgoing));
            async move {
                let mut outgoing = outgoing.lock().await;
                net.run_card(host, &mut outgoing).await
            }
        });
        let address = sim.lookup(name(host));
        self.table.lock().addresses.insert(host, address);
    }

    /// Gives what arrives at a machine to the process that runs there from now on.
    pub(crate) fn listen(&self, host: Host) -> UnboundedReceiver<Parcel> {
        let (inbox, arriving) = unbounded_channel();
        if let Some(port) = self.table.lock().ports.get_mut(&host) {
            port.inbox = Some(inbox);
        }
        arriving
    }

    /// The process there has ended; without power, nothing answers for it either.
    pub(crate) fn close(&self, host: Host, powered: bool) {
        if let Some(port) = self.table.lock().ports.get_mut(&host) {
            port.inbox = None;
            port.powered = powered;
        }
    }

    /// The machine has power again.
    pub(crate) fn power_on(&self, host: Host) {
        if let Some(port) = self.table.lock().ports.get_mut(&host) {
            port.powered = true;
        }
    }

    /// From now on no message is lost, doubled or delayed beyond its latency.
    pub(crate) fn calm(&self) {
        let mut table = self.table.lock();
        table.plan.loss = 0.0;
        table.plan.duplicates = 0.0;
        table.plan.delayed.0 = 0.0;
    }

    /// A number for a call.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends; whether and when it arrives is another matter.
    pub(crate) fn send(&self, from: Host, to: Host, payload: Payload) {
        let number = self.number();
        let mut table = self.table.lock();
        let plan = table.plan;
        if plan.loss > 0.0 && table.dice.chance(plan.loss) {
            self.shared.count(Event::MessageLost);
            return;
        }
        let mut copies = 1;
        if payload.may_double() && plan.duplicates > 0.0 && table.dice.chance(plan.duplicates) {
            self.shared.count(Event::MessageDuplicated);
            copies = 2;
        }
        let parcel = Parcel {
            from,
            to,
            payload,
            number,
        };
        table.parcels.insert(number, (parcel, copies));
        for copy in 0..copies {
            let mut delay_ms = 0;
            let (part, most_ms) = plan.delayed;
            if part > 0.0 && table.dice.chance(part) {
                self.shared.count(Event::MessageDelayed);
                delay_ms = table.dice.between(1, most_ms);
            } else if copy > 0 {
                delay_ms = table.dice.between(0, 50);
            }
            if let Some(port) = table.ports.get(&from) {
                // A card that is gone sends nothing, as it should.
                let _ = port.outbox.send((to, number, delay_ms));
            }
        }
    }

    /// The work of a machine's card, for as long as the run lasts.
    async fn run_card(
        &self,
        host: Host,
        outgoing: &mut UnboundedReceiver<Outgoing>,
    ) -> turmoil::Result {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?);
        let mut buffer = [0; 8];
        loop {
            tokio::select! {
                biased;
                received = socket.recv_from(&mut buffer) => {
                    received?;
                    self.arrived(host, u64::from_be_bytes(buffer));
                }
                sending = outgoing.recv() => {
                    let Some((to, number, delay_ms)) = sending else { return Ok(()) };
                    let Some(address) = self.table.lock().addresses.get(&to).copied() else { continue };
                    let to = (address, PORT);
                    if delay_ms == 0 {
                        socket.send_to(&number.to_be_bytes(), to).await?;
                    } else {
                        let socket = Arc::clone(&socket);
                        tokio::spawn(async move {
                            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                            socket.send_to(&number.to_be_bytes(), to).await
                        });
                    }
                }
            }
        }
    }

    fn arrived(&self, host: Host, number: u64) {
        let mut table = self.table.lock();
        let Some((parcel, copies)) = table.parcels.get_mut(&number) else {
            return;
        };
        *copies -= 1;
        let (parcel, last) = (parcel.clone(), *copies == 0);
        if last {
            table.parcels.remove(&number);
        }
        let direction = (parcel.from, host);
        let newest = table.newest.entry(direction).or_default();
        if *newest > number {
            self.shared.count(Event::MessageReordered);
        }
        *newest = number.max(*newest);
        self.shared.line(
            false,
            format_args!(
                "{}>{} #{} {}",
                parcel.from, parcel.to, parcel.number, parcel.payload
            ),
        );
        let Some(port) = table.ports.get(&host) else {
            return;
        };
        let refused = match (&port.inbox, &parcel.payload) {
            (Some(inbox), _) => inbox.send(parcel.clone()).is_err(),
            (None, _) => true,
        };
        let powered = port.powered;
        drop(table);
        if let (true, true, Payload::Call { call, .. } | Payload::Request { call, .. }) =
            (refused, powered, &parcel.payload)
        {
            self.send(host, parcel.from, Payload::Refused { call: *call });
        }
    }
}

impl Payload {
    /// Whether it may arrive twice. What may not be done twice (a request, a forwarded command) travels over connections
    /// that deliver once at most, and both ends may count on that; the messages of Raft itself must bear it.
    fn may_double(&self) -> bool {
        match self {
            Self::Call { lane, .. } => *lane != Lane::Forward,
            Self::Answer { .. } | Self::Refused { .. } => true,
            Self::Request { .. } | Self::Response { .. } => false,
        }
    }
}

impl std::fmt::Display for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hash = |bytes: &[u8]| {
            let hash = blake3::hash(bytes);
            u32::from_be_bytes(
                hash.as_bytes()[..4]
                    .try_into()
                    .expect("a hash has four bytes"),
            )
        };
        match self {
            Self::Call { call, lane, frame } => {
                write!(
                    f,
                    "call {call} {lane:?} {} {:08x}",
                    frame.len(),
                    hash(frame)
                )
            }
            Self::Answer { call, frame } => {
                let frame = frame.as_deref().unwrap_or_default();
                write!(f, "answer {call} {} {:08x}", frame.len(), hash(frame))
            }
            Self::Request { call, request } => write!(f, "request {call} {request}"),
            Self::Response { call, response } => write!(f, "response {call} {response}"),
            Self::Refused { call } => write!(f, "refused {call}"),
        }
    }
}
