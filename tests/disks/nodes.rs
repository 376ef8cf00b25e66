//! The processes of a cluster, each with a directory of its own, and what operators do with them.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

const SECRET: &str = "the-cluster-secret-of-a-test-0123456789";
pub(crate) const OPERATOR: &str = "the-operator-token-of-a-test-0123456789";
const POLL: Duration = Duration::from_millis(20);
const READY_PATIENCE: Duration = Duration::from_secs(30);
const CONVERGE_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// The settings of every node: snapshots and purges all the time, and tokens that outlive a run.
const SETTINGS: &str = "[raft]\nsnapshot_every_entries = 300\nkeep_log_entries = 40\n\
                        [sign_in]\naccess_token_ttl_s = 86_400\n[log]\nlevel = \"info\"\n";

/// The nodes of one cluster, running or not.
pub(crate) struct Nodes {
    folder: PathBuf,
    nodes: Vec<NodeProcess>,
    http: reqwest::Client,
    /// A library that is loaded into each node before all others, for planted faults.
    preload: Option<PathBuf>,
}

struct NodeProcess {
    id: u64,
    http_port: u16,
    peer_port: u16,
    data: PathBuf,
    child: Option<Child>,
}

impl Nodes {
    /// Nobody yet. Configuration and logs go to `folder`.
    pub(crate) fn new(folder: &Path, preload: Option<PathBuf>) -> anyhow::Result<Nodes> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(8))
            .build()?;
        Ok(Nodes {
            folder: folder.to_owned(),
            nodes: Vec::new(),
            http,
            preload,
        })
    }

    /// Adds node `id`, with its data in `data`, to the configuration of all.
    pub(crate) fn add(&mut self, id: u64, data: PathBuf) -> anyhow::Result<()> {
        let [http_port, peer_port] = free_ports();
        self.nodes.push(NodeProcess {
            id,
            http_port,
            peer_port,
            data,
            child: None,
        });
        self.write_configuration()
    }

    fn write_configuration(&self) -> anyhow::Result<()> {
        let mut text = SETTINGS.to_owned();
        for node in &self.nodes {
            let NodeProcess {
                id,
                http_port,
                peer_port,
                data,
                ..
            } = node;
            text += &format!(
                "[[nodes]]\nid = {id}\nhttp = \"127.0.0.1:{http_port}\"\n\
                 peer = \"127.0.0.1:{peer_port}\"\ndata = {:?}\n",
                data.display().to_string()
            );
        }
        fs::write(self.configuration(), text).context("cannot write the configuration")
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("cluster.toml")
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(crate) fn running(&self) -> Vec<u64> {
        let running = self.nodes.iter().filter(|node| node.child.is_some());
        running.map(|node| node.id).collect()
    }

    fn node(&self, id: u64) -> &NodeProcess {
        let mut nodes = self.nodes.iter();
        nodes
            .find(|node| node.id == id)
            .expect("a node of this cluster")
    }

    fn node_mut(&mut self, id: u64) -> &mut NodeProcess {
        let mut nodes = self.nodes.iter_mut();
        nodes
            .find(|node| node.id == id)
            .expect("a node of this cluster")
    }

    pub(crate) fn data(&self, id: u64) -> &Path {
        &self.node(id).data
    }

    pub(crate) fn url(&self, id: u64) -> String {
        format!("http://127.0.0.1:{}", self.node(id).http_port)
    }

    pub(crate) fn log_path(&self, id: u64) -> PathBuf {
        self.folder.join(format!("node-{id}.log"))
    }

    /// What a node has said since it was first started.
    pub(crate) fn logged(&self, id: u64) -> String {
        let bytes = fs::read(self.log_path(id)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn mesto(&self) -> Command {
        let program =
            std::env::var_os("MESTO_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_mesto").into());
        let mut command = Command::new(program);
        command
            .env("MESTO_CONFIG", self.configuration())
            .env("MESTO_CLUSTER_SECRET", SECRET)
            .env("MESTO_OPERATOR_TOKEN", OPERATOR);
        command
    }

    /// Runs a command of an operator's to its end.
    pub(crate) fn operate(&self, words: &[&str]) -> anyhow::Result<Output> {
        let output = self.mesto().args(words).stdin(Stdio::null()).output();
        output.context("cannot run mesto")
    }

    /// Runs a command of an operator's that must succeed.
    pub(crate) fn succeed(&self, words: &[&str]) -> anyhow::Result<()> {
        let output = self.operate(words)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mesto {words:?}: {}", said.trim());
        Ok(())
    }

    /// `mesto verify` of a stopped node: whether it is sound, and what was said.
    pub(crate) fn verify(&self, id: u64) -> anyhow::Result<(bool, String)> {
        let data = self.data(id).to_string_lossy().into_owned();
        let output = self.operate(&["verify", &data])?;
        let said = [output.stdout, output.stderr].concat();
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        ))
    }

    pub(crate) fn start(&mut self, id: u64) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path(id))?;
        let mut command = self.mesto();
        command
            .args(["serve", "--node", &id.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some(library) = &self.preload {
            command.env("LD_PRELOAD", library);
        }
        let child = command.spawn().context("cannot start mesto")?;
        let node = self.node_mut(id);
        assert!(node.child.is_none(), "node {id} runs already");
        node.child = Some(child);
        Ok(())
    }

    /// Starts the nodes given and makes them a new cluster.
    pub(crate) async fn found(&mut self, ids: &[u64]) -> anyhow::Result<()> {
        for id in ids {
            self.start(*id)?;
        }
        for id in ids {
            self.answering(*id, "/livez").await?;
        }
        self.succeed(&["cluster", "init"])?;
        self.ready().await
    }

    /// The status with which a node has ended, if it has.
    pub(crate) fn ended(&mut self, id: u64) -> anyhow::Result<Option<ExitStatus>> {
        let node = self.node_mut(id);
        let Some(child) = node.child.as_mut() else {
            bail!("node {id} was not running");
        };
        let ended = child.try_wait()?;
        if ended.is_some() {
            node.child = None;
        }
        Ok(ended)
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self, id: u64) -> anyhow::Result<()> {
        if let Some(mut child) = self.node_mut(id).child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end, which must be a good one.
    pub(crate) fn stop(&mut self, id: u64) -> anyhow::Result<()> {
        self.signal(id, "TERM")?;
        let deadline = Instant::now() + STOP_PATIENCE;
        loop {
            if let Some(status) = self.ended(id)? {
                ensure!(status.success(), "node {id} ended with {status}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "node {id} does not stop");
            std::thread::sleep(POLL);
        }
    }

    /// SIGSTOP, and waits until every thread has stopped: what has not been answered by then will not be.
    pub(crate) fn freeze(&self, id: u64) -> anyhow::Result<()> {
        self.signal(id, "STOP")?;
        let tasks = format!("/proc/{}/task", self.pid(id)?);
        let deadline = Instant::now() + STOP_PATIENCE;
        loop {
            let mut states = Vec::new();
            for task in fs::read_dir(&tasks)? {
                let stat = fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
                // The name of the thread is in parentheses and may hold anything; the state follows it.
                let state = stat
                    .rsplit(") ")
                    .next()
                    .and_then(|rest| rest.chars().next());
                states.push(state.unwrap_or('?'));
            }
            if states.iter().all(|state| *state == 'T') {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "node {id} does not freeze: {states:?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn pid(&self, id: u64) -> anyhow::Result<u32> {
        let child = self.node(id).child.as_ref();
        Ok(child
            .with_context(|| format!("node {id} does not run"))?
            .id())
    }

    fn signal(&self, id: u64, name: &str) -> anyhow::Result<()> {
        let pid = self.pid(id)?.to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()?;
        ensure!(sent.success(), "cannot send SIG{name} to node {id}");
        Ok(())
    }

    /// Whether a node answers 200 to a request without credentials.
    pub(crate) async fn answers(&self, id: u64, path: &str) -> bool {
        let request = self.http.get(format!("{}{path}", self.url(id)));
        let answer = request.timeout(Duration::from_secs(2)).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    /// Waits until a node answers 200, or has ended.
    pub(crate) async fn answering(&mut self, id: u64, path: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_PATIENCE;
        while !self.answers(id, path).await {
            if let Some(status) = self.ended(id)? {
                bail!("node {id} ended with {status}:\n{}", self.log_tail(id));
            }
            ensure!(
                Instant::now() < deadline,
                "node {id} does not answer 200 at {path}:\n{}",
                self.log_tail(id)
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until every running node can serve.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        for id in self.running() {
            self.answering(id, "/readyz").await?;
        }
        Ok(())
    }

    /// The cluster as node `id` sees it.
    pub(crate) async fn view(&self, id: u64) -> anyhow::Result<Value> {
        let request = self
            .http
            .get(format!("{}/api/v1/cluster", self.url(id)))
            .bearer_auth(OPERATOR);
        let answer = request.timeout(Duration::from_secs(2)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Waits until all running nodes are at one index; their digests must be equal there. Gives that index.
    pub(crate) async fn converge(&self) -> anyhow::Result<u64> {
        let deadline = Instant::now() + CONVERGE_PATIENCE;
        loop {
            let mut seen = Vec::new();
            for id in self.running() {
                let view = self.view(id).await.unwrap_or_default();
                let digest = view["digest"].as_str().unwrap_or_default().to_owned();
                seen.push((view["applied"].as_u64(), view["last_log"].as_u64(), digest));
            }
            if let Some((Some(applied), _, digest)) = seen.first()
                && seen
                    .iter()
                    .all(|(other, last, _)| *other == Some(*applied) && last == other)
            {
                let equal = seen.iter().all(|(_, _, other)| other == digest);
                ensure!(equal, "replicas differ at one index: {seen:?}");
                return Ok(*applied);
            }
            ensure!(
                Instant::now() < deadline,
                "the nodes do not converge: {seen:?}\n{}",
                self.log_tails()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) fn log_tail(&self, id: u64) -> String {
        let text = self.logged(id);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    pub(crate) fn log_tails(&self) -> String {
        let tails = self
            .nodes
            .iter()
            .map(|node| format!("--- node {}\n{}", node.id, self.log_tail(node.id)));
        tails.collect::<Vec<_>>().join("\n")
    }

    /// Addresses of a node, for `mesto cluster add-node`: for clients and for peers.
    pub(crate) fn addresses(&self, id: u64) -> (String, String) {
        let node = self.node(id);
        (
            format!("127.0.0.1:{}", node.http_port),
            format!("127.0.0.1:{}", node.peer_port),
        )
    }

    /// Takes a node that does not run out of the configuration.
    pub(crate) fn forget(&mut self, id: u64) -> anyhow::Result<()> {
        assert!(self.node(id).child.is_none(), "node {id} still runs");
        self.nodes.retain(|node| node.id != id);
        self.write_configuration()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// Two ports that nobody uses just now, below those that the system gives to outgoing connections.
fn free_ports() -> [u16; 2] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    // Within a namespace of its own this process may have the same number as others do outside, so the clock helps.
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let salt = std::process::id().wrapping_add(since.subsec_micros());
    let start = u16::try_from(salt % u32::from(COUNT)).expect("it is below the count");
    let mut candidates = std::iter::repeat_with(|| {
        FIRST + (start + NEXT.fetch_add(1, Ordering::SeqCst) % COUNT) % COUNT
    })
    .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    std::array::from_fn(|_| candidates.next().expect("it is endless"))
}
