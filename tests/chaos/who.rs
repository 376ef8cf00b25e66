//! Which node a connection comes from.
//!
//! Its two addresses lead to its socket in `/proc/net/tcp`, and the socket to the process that has it open, in
//! `/proc/PID/fd`. (Linux only.) Both are read by one thread, once for all connections that wait to be known: a storm of
//! connections costs no more than a calm, and so does not become a storm of its own.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// This node.
    Node(u64),
    /// Nobody: it has been closed already.
    Gone,
    /// A process that is no node.
    Stranger,
}

/// Knows the processes of the nodes.
pub(crate) struct Who {
    processes: Arc<Mutex<BTreeMap<u64, u32>>>,
    questions: mpsc::Sender<Question>,
}

struct Question {
    /// The two addresses as the kernel writes them: the other end's, ours.
    ends: (String, String),
    answer: oneshot::Sender<Asker>,
}

impl Who {
    pub(crate) fn new() -> Self {
        let processes: Arc<Mutex<BTreeMap<u64, u32>>> = Arc::default();
        let (questions, asked) = mpsc::channel::<Question>();
        let known = Arc::clone(&processes);
        // Ends when the sender is gone.
        std::thread::spawn(move || {
            while let Ok(first) = asked.recv() {
                let questions: Vec<Question> =
                    std::iter::once(first).chain(asked.try_iter()).collect();
                let processes = known.lock().clone();
                answer(questions, &processes);
            }
        });
        Self {
            processes,
            questions,
        }
    }

    /// Node `id` is this process from now on.
    pub(crate) fn register(&self, id: u64, pid: u32) {
        self.processes.lock().insert(id, pid);
    }

    /// Who made the connection from `from` to `to`.
    pub(crate) async fn asks(&self, from: SocketAddr, to: SocketAddr) -> Asker {
        let (answer, answered) = oneshot::channel();
        let Some(ends) = hexadecimal(from).zip(hexadecimal(to)) else {
            return Asker::Stranger;
        };
        if self.questions.send(Question { ends, answer }).is_err() {
            return Asker::Gone;
        }
        answered.await.unwrap_or(Asker::Gone)
    }
}

fn answer(questions: Vec<Question>, processes: &BTreeMap<u64, u32>) {
    let owners = owners(processes);
    // Read after the owners: a socket that has none now but is still there had none before.
    let sockets = sockets();
    for question in questions {
        let socket = sockets.get(&question.ends);
        let asker = match socket.map(|socket| owners.get(socket)) {
            None => Asker::Gone,
            Some(Some(node)) => Asker::Node(*node),
            Some(None) => Asker::Stranger,
        };
        // Whoever asked may be gone as well.
        let _ = question.answer.send(asker);
    }
}

/// The kernel's number of each connection's socket, by the two ends.
fn sockets() -> HashMap<(String, String), String> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let lines = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let open = lines.filter(|words| words.len() > 9 && words[9] != "0");
    open.map(|words| {
        (
            (words[1].to_owned(), words[2].to_owned()),
            words[9].to_owned(),
        )
    })
    .collect()
}

/// The node that has each socket.
fn owners(processes: &BTreeMap<u64, u32>) -> HashMap<String, u64> {
    let mut owners = HashMap::new();
    for (node, pid) in processes {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for target in files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok())
        {
            let target = target.to_string_lossy();
            let number = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            if let Some(number) = number {
                owners.insert(number.to_owned(), *node);
            }
        }
    }
    owners
}

/// An address as `/proc/net/tcp` writes it.
fn hexadecimal(address: SocketAddr) -> Option<String> {
    match address {
        SocketAddr::V4(address) => {
            let ip = u32::from_ne_bytes(address.ip().octets());
            Some(format!("{ip:08X}:{:04X}", address.port()))
        }
        SocketAddr::V6(_) => None,
    }
}
