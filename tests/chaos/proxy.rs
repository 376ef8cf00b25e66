//! The network between the nodes: a proxy in front of each node's peer port, and a rule for each directed link.
//!
//! All nodes reach node *j* at one address, the proxy's, since that is what the cluster's membership says. Which node
//! a connection comes from is asked of the kernel ([`crate::who`]). So each link from one node to another has a rule of its
//! own, without any help of the nodes.
//!
//! A link carries what its first node asks and what the second answers. Either direction can be blocked, delayed or
//! narrowed by itself. What is blocked is held and goes on when the block ends, as TCP would send it again; a cut link
//! refuses connections and drops those it has. Loss makes connections break at random, in the middle of messages too.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::who::{Asker, Who};

/// What happens to what goes over a link in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Nothing passes.
    pub(crate) blocked: bool,
    /// Everything comes later by a time between these two, in milliseconds.
    pub(crate) delay_ms: (u64, u64),
    /// At most so many bytes pass in a second.
    pub(crate) bytes_per_s: Option<u64>,
}

/// What happens on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    /// On the way there.
    pub(crate) asks: Flow,
    /// On the way back.
    pub(crate) answers: Flow,
    /// No connection is taken, and none stays.
    pub(crate) cut: bool,
    /// One piece of data in so many breaks its connection; 0 for none.
    pub(crate) lossy: u64,
}

impl Rule {
    /// Nothing passes, and nobody is told.
    pub(crate) fn silent() -> Self {
        let blocked = Flow {
            blocked: true,
            ..Flow::default()
        };
        Self {
            asks: blocked,
            answers: blocked,
            ..Self::default()
        }
    }

    /// Nothing passes: connections are refused.
    pub(crate) fn refusing() -> Self {
        Self {
            cut: true,
            ..Self::default()
        }
    }
}

/// From which node to which.
pub(crate) type Direction = (u64, u64);

/// All links.
#[derive(Clone)]
pub(crate) struct Net {
    inner: Arc<Inner>,
}

struct Inner {
    links: Mutex<BTreeMap<Direction, watch::Sender<Rule>>>,
    who: Who,
    /// What takes connections to each node.
    open: Mutex<BTreeMap<u64, JoinHandle<()>>>,
    pieces: AtomicU64,
    strangers: AtomicU64,
}

/// How much is read at a time.
const PIECE_BYTES: usize = 16 << 10;
/// How much may wait on a connection that is not made yet.
const EARLY_BYTES: usize = 1 << 20;
/// How many pieces may be under way in one direction of a connection.
const PIECES: usize = 64;

impl Net {
    pub(crate) fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                links: Mutex::default(),
                who: Who::new(),
                open: Mutex::default(),
                pieces: AtomicU64::new(0),
                strangers: AtomicU64::new(0),
            }),
        }
    }

    /// Node `id` is this process from now on.
    pub(crate) fn register(&self, id: u64, pid: u32) {
        self.inner.who.register(id, pid);
    }

    /// How many pieces of data were carried.
    pub(crate) fn pieces(&self) -> u64 {
        self.inner.pieces.load(Ordering::Relaxed)
    }

    /// How many connections came from no node; each was closed.
    pub(crate) fn strangers(&self) -> u64 {
        self.inner.strangers.load(Ordering::Relaxed)
    }

    /// Puts a rule on a link.
    pub(crate) fn rule(&self, link: Direction, rule: Rule) {
        self.link(link).send_replace(rule);
    }

    /// All links are as they should be.
    pub(crate) fn heal(&self) {
        for link in self.inner.links.lock().values() {
            link.send_replace(Rule::default());
        }
    }

    fn link(&self, link: Direction) -> watch::Sender<Rule> {
        let mut links = self.inner.links.lock();
        links
            .entry(link)
            .or_insert_with(|| watch::Sender::new(Rule::default()))
            .clone()
    }

    /// Carries what comes to `port` to node `to`, which listens at `target`. A node that has no process has no open port
    /// either, so this is for as long as it runs: see [`Net::close`].
    pub(crate) async fn open(&self, to: u64, port: u16, target: SocketAddr) -> std::io::Result<()> {
        let before = self.inner.open.lock().remove(&to);
        if let Some(before) = before {
            // Its port is free when it has ended.
            before.abort();
            let _ = before.await;
        }
        let listener = listen(port).await?;
        let net = self.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                let net = net.clone();
                tokio::spawn(async move { net.carry(to, stream, from, target).await });
            }
        });
        self.inner.open.lock().insert(to, serving);
        Ok(())
    }

    /// Connections to node `to` are refused from now on.
    pub(crate) fn close(&self, to: u64) {
        if let Some(serving) = self.inner.open.lock().get(&to) {
            serving.abort();
        }
    }

    async fn carry(&self, to: u64, mut stream: TcpStream, from: SocketAddr, target: SocketAddr) {
        let Ok(proxy) = stream.local_addr() else {
            return;
        };
        let asker = match self.inner.who.asks(from, proxy).await {
            Asker::Node(asker) => asker,
            Asker::Gone => return,
            Asker::Stranger => {
                self.inner.strangers.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let link = self.link((asker, to));
        let mut rule = link.subscribe();
        let Some(early) = wait_for_way(&mut stream, &mut rule).await else {
            return;
        };
        let Ok(mut onward) = TcpStream::connect(target).await else {
            return;
        };
        if onward.write_all(&early).await.is_err() {
            return;
        }
        // Small messages go at once, as they do between the nodes.
        let _ = stream.set_nodelay(true);
        let _ = onward.set_nodelay(true);
        let (asks, answers) = (stream.into_split(), onward.into_split());
        let there = self.pass(asks.0, answers.1, link.subscribe(), |rule| rule.asks);
        let back = self.pass(answers.0, asks.1, link.subscribe(), |rule| rule.answers);
        let cut = async {
            while !rule.borrow_and_update().cut {
                if rule.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = async { tokio::join!(there, back); } => {}
            () = cut => {}
        }
    }

    /// Carries one direction of a connection to its end.
    async fn pass(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        mut rule: watch::Receiver<Rule>,
        flow: fn(&Rule) -> Flow,
    ) {
        let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
        let reader_rule = rule.clone();
        let read = async move {
            let mut piece = vec![0; PIECE_BYTES];
            while let Ok(count @ 1..) = from.read(&mut piece).await {
                let number = self.inner.pieces.fetch_add(1, Ordering::Relaxed);
                let now = *reader_rule.borrow();
                if now.lossy > 0 && mixed(number).is_multiple_of(now.lossy) {
                    break;
                }
                let (least, most) = flow(&now).delay_ms;
                let delay = least + mixed(number ^ 0x5555) % (most - least + 1);
                let due = Instant::now() + Duration::from_millis(delay);
                if sender.send((due, piece[..count].to_vec())).await.is_err() {
                    break;
                }
            }
        };
        let write = async move {
            while let Some((due, piece)) = pieces.recv().await {
                tokio::time::sleep_until(due).await;
                // A cut link is about to be dropped; nothing slips through meanwhile.
                if rule
                    .wait_for(|rule| !flow(rule).blocked && !rule.cut)
                    .await
                    .is_err()
                {
                    return;
                }
                let narrow = flow(&rule.borrow()).bytes_per_s;
                if let Some(bytes_per_s) = narrow.map(|rate| rate.max(1)) {
                    let micros = piece.len() as u64 * 1_000_000 / bytes_per_s;
                    tokio::time::sleep(Duration::from_micros(micros)).await;
                }
                if to.write_all(&piece).await.is_err() {
                    return;
                }
            }
            // The end of a stream cannot pass where nothing passes.
            let _ = rule.wait_for(|rule| !flow(rule).blocked).await;
            let _ = to.shutdown().await;
        };
        tokio::join!(read, write);
    }
}

/// Listens on a port that was listened on until just now: the kernel may need a moment to let go of it.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            listener => return listener,
        }
    }
}

/// A connection that is begun while nothing passes is not made until something does, as the system would ask for it
/// again and again; if its maker gives up, nothing of it ever arrives. Gives what was said meanwhile, or nothing if there
/// is to be no connection.
async fn wait_for_way(stream: &mut TcpStream, rule: &mut watch::Receiver<Rule>) -> Option<Vec<u8>> {
    let mut early = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let now = *rule.borrow_and_update();
        if now.cut {
            return None;
        }
        if !now.asks.blocked {
            return Some(early);
        }
        tokio::select! {
            changed = rule.changed() => changed.ok()?,
            read = stream.read(&mut piece), if early.len() < EARLY_BYTES => match read {
                Ok(count @ 1..) => early.extend_from_slice(&piece[..count]),
                Ok(_) | Err(_) => return None,
            },
        }
    }
}

fn mixed(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (z ^ (z >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}
