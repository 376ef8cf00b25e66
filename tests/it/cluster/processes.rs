//! Starting, killing and looking at the processes of a cluster.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const SECRET: &str = "the-cluster-secret-of-a-test-0123456789";
pub(crate) const OPERATOR: &str = "the-operator-token-of-a-test-0123456789";

/// A cluster whose nodes are processes.
pub(crate) struct Cluster {
    folder: TempDir,
    nodes: Vec<NodeProcess>,
    pub(crate) http: reqwest::Client,
}

struct NodeProcess {
    id: u64,
    http: u16,
    child: Option<Child>,
}

impl Cluster {
    /// Three nodes, bootstrapped, serving. `raft` is put into the configuration's `[raft]` table.
    pub(crate) async fn start(raft: &str) -> Self {
        let cluster = Self::prepare(3, raft);
        cluster.begin().await
    }

    fn prepare(size: u64, raft: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let ports = free_ports(usize::try_from(size * 2).expect("a few"));
        let mut config = format!("[raft]\n{raft}\n");
        let mut nodes = Vec::new();
        for (id, ports) in (1..=size).zip(ports.chunks_exact(2)) {
            let (http, peer) = (ports[0], ports[1]);
            config += &format!(
                "[[nodes]]\nid = {id}\nhttp = \"127.0.0.1:{http}\"\npeer = \"127.0.0.1:{peer}\"\ndata = \"node-{id}\"\n"
            );
            nodes.push(NodeProcess {
                id,
                http,
                child: None,
            });
        }
        fs::write(folder.path().join("cluster.toml"), config).expect("the folder is writable");
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(15))
            .build()
            .expect("an HTTP client");
        Self {
            folder,
            nodes,
            http,
        }
    }

    async fn begin(mut self) -> Self {
        for id in self.ids() {
            self.spawn(id);
        }
        for id in self.ids() {
            self.until(&format!("node {id} lives"), || {
                self.answers(id, "/livez", 200)
            })
            .await;
        }
        let init = self
            .mesto(&["cluster", "init"])
            .output()
            .expect("mesto runs");
        assert!(
            init.status.success(),
            "{}",
            String::from_utf8_lossy(&init.stderr)
        );
        self.ready().await;
        self
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// The nodes that run.
    pub(crate) fn running(&self) -> Vec<u64> {
        self.nodes
            .iter()
            .filter(|node| node.child.is_some())
            .map(|node| node.id)
            .collect()
    }

    fn node(&self, id: u64) -> &NodeProcess {
        self.nodes
            .iter()
            .find(|node| node.id == id)
            .expect("a node of this cluster")
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("cluster.toml")
    }

    /// The folder of a node.
    pub(crate) fn data(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("node-{id}"))
    }

    /// The `mesto` command with this cluster's configuration and secrets.
    pub(crate) fn mesto(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesto"));
        command
            .args(words)
            .env("MESTO_CONFIG", self.config())
            .env("MESTO_CLUSTER_SECRET", SECRET)
            .env("MESTO_OPERATOR_TOKEN", OPERATOR);
        command
    }

    /// Starts node `id` on its folder.
    pub(crate) fn spawn(&mut self, id: u64) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log(id))
            .expect("the folder is writable");
        let errors = log.try_clone().expect("a second handle");
        let mut command = self.mesto(&["serve", "--node", &id.to_string()]);
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("mesto starts");
        let node = self
            .nodes
            .iter_mut()
            .find(|node| node.id == id)
            .expect("a node of this cluster");
        assert!(node.child.is_none(), "node {id} runs already");
        node.child = Some(child);
    }

    fn log(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("node-{id}.log"))
    }

    /// What a node has logged so far.
    pub(crate) fn logged(&self, id: u64) -> String {
        fs::read_to_string(self.log(id)).expect("the node has a log")
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, id: u64) {
        let mut child = self.take(id);
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }

    /// SIGTERM; waits until the process has ended, and demands that it ended well.
    pub(crate) fn terminate(&mut self, id: u64) {
        let mut child = self.take(id);
        Self::signal_pid(child.id(), "TERM");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = child.try_wait().expect("our own child") {
                assert!(status.success(), "node {id} ended with {status}");
                return;
            }
            assert!(
                Instant::now() < deadline,
                "node {id} did not stop:\n{}",
                self.logged(id)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGSTOP or SIGCONT.
    pub(crate) fn pause(&self, id: u64, paused: bool) {
        Self::signal_pid(self.pid(id), if paused { "STOP" } else { "CONT" });
    }

    /// The process of node `id`.
    pub(crate) fn pid(&self, id: u64) -> u32 {
        self.node(id).child.as_ref().expect("it runs").id()
    }

    /// SIGKILL, while the cluster is borrowed; [`Cluster::reap`] must follow.
    pub(crate) fn kill_pid(pid: u32) {
        Self::signal_pid(pid, "KILL");
    }

    /// A signal to one of our own processes.
    pub(crate) fn signal_pid(pid: u32, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), pid.to_string()])
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "cannot send SIG{name}"
        );
    }

    /// Waits for the end of node `id`, which was signalled before.
    pub(crate) fn reap(&mut self, id: u64) -> ExitStatus {
        self.take(id).wait().expect("our own child")
    }

    fn take(&mut self, id: u64) -> Child {
        let node = self
            .nodes
            .iter_mut()
            .find(|node| node.id == id)
            .expect("a node of this cluster");
        node.child.take().expect("it runs")
    }

    /// `http://127.0.0.1:PORT` of node `id` and `path`.
    pub(crate) fn url(&self, id: u64, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.node(id).http)
    }

    async fn answers(&self, id: u64, path: &str, status: u16) -> bool {
        let answer = self
            .http
            .get(self.url(id, path))
            .timeout(Duration::from_secs(2))
            .send()
            .await;
        answer.is_ok_and(|answer| answer.status() == status)
    }

    /// Waits until every running node can serve.
    pub(crate) async fn ready(&self) {
        for node in self.nodes.iter().filter(|node| node.child.is_some()) {
            let what = format!("node {} serves", node.id);
            self.until(&what, || self.answers(node.id, "/readyz", 200))
                .await;
        }
    }

    /// Polls `condition` until it holds; fails after half a minute, with every node's log.
    pub(crate) async fn until<F: Future<Output = bool>>(
        &self,
        what: &str,
        condition: impl Fn() -> F,
    ) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition().await {
            if Instant::now() > deadline {
                let logs = self
                    .ids()
                    .into_iter()
                    .map(|id| format!("--- node {id}\n{}", tail(&self.log(id))));
                panic!(
                    "waited in vain: {what}\n{}",
                    logs.collect::<Vec<_>>().join("\n")
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The cluster as node `id` sees it.
    pub(crate) async fn view(&self, id: u64) -> Option<Value> {
        let request = self
            .http
            .get(self.url(id, "/api/v1/cluster"))
            .bearer_auth(OPERATOR);
        let answer = request.timeout(Duration::from_secs(2)).send().await.ok()?;
        answer.json().await.ok()
    }

    /// The leader by the word of any running node but `except`.
    pub(crate) async fn leader_but(&self, except: Option<u64>) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            for node in self.nodes.iter().filter(|node| node.child.is_some()) {
                let view = self.view(node.id).await;
                let leader = view.as_ref().and_then(|view| view["leader"].as_u64());
                if let Some(leader) = leader.filter(|leader| Some(*leader) != except) {
                    return leader;
                }
            }
            assert!(Instant::now() < deadline, "no leader was found");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The leader.
    pub(crate) async fn leader(&self) -> u64 {
        self.leader_but(None).await
    }

    /// Waits until all running nodes are at one index, and demands that their digests are equal there.
    pub(crate) async fn converge(&self) {
        let running: Vec<u64> = self
            .nodes
            .iter()
            .filter(|node| node.child.is_some())
            .map(|node| node.id)
            .collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut seen = Vec::new();
            for id in &running {
                let Some(view) = self.view(*id).await else {
                    continue;
                };
                seen.push((
                    view["applied"].as_u64(),
                    view["last_log"].as_u64(),
                    view["digest"].clone(),
                ));
            }
            let (applied, _, digest) = seen.first().cloned().unwrap_or_default();
            let level = seen
                .iter()
                .all(|(other, last, _)| *other == applied && *last == applied);
            if seen.len() == running.len() && level {
                assert!(
                    seen.iter().all(|(_, _, other)| *other == digest),
                    "replicas differ: {seen:?}"
                );
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the nodes do not converge: {seen:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if std::thread::panicking() {
            for id in self.ids() {
                eprintln!("--- node {id}\n{}", tail(&self.log(id)));
            }
        }
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Ports that nobody uses just now, below those that the system gives to outgoing connections: one of these could be
/// taken by a client between this look and the node's start.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    // Two runs at once begin at different places; within a run no port is given twice.
    let start =
        u16::try_from(std::process::id() % u32::from(COUNT)).expect("it is below the count");
    let candidates = std::iter::repeat_with(|| {
        FIRST + (start + NEXT.fetch_add(1, Ordering::SeqCst) % COUNT) % COUNT
    });
    let free = candidates.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.take(count).collect()
}
