//! Real processes: starting, stopping and watching the nodes of a cluster, configured as the launch scripts configure
//! them, but for this: peers reach each other through the harness's proxies, and snapshots come often.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::proxy::Net;
use crate::stalls::Patience;
use crate::tools::{self, Tools};

/// The token of the operator of these clusters, which live on loopback for minutes.
pub(crate) const OPERATOR: &str = "the-operator-token-of-a-chaos-run-0123456789";
const SECRET: &str = "the-cluster-secret-of-a-chaos-run-0123456789";

/// A disk that can be filled: whose it is at first, and how much it holds.
#[derive(Clone, Copy)]
pub(crate) struct SmallDisk {
    pub(crate) node: u64,
    pub(crate) megabytes: u64,
}

/// How long a cluster that is healed may take until every node serves again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(45);

/// Settings that differ from the defaults: snapshots and purges come within minutes, sessions outlive the run even when
/// a clock is an hour ahead, and reads and writes that find no leader are told so while the fault lasts.
fn settings() -> String {
    format!(
        "[raft]\nsnapshot_every_entries = 1000\nkeep_log_entries = 200\n\
         [sign_in]\naccess_token_ttl_s = 86400\n\
         [http]\nwrite_ms = {WRITE_MS}\nread_ms = {READ_MS}\n\
         [log]\nlevel = \"info\"\n"
    )
}

/// How long a node tries to have a write decided, in milliseconds.
pub(crate) const WRITE_MS: u64 = 1_500;
/// How long it tries to have a read confirmed, in milliseconds.
const READ_MS: u64 = 1_000;

/// A cluster whose nodes are processes.
pub(crate) struct Cluster {
    folder: PathBuf,
    nodes: BTreeMap<u64, Node>,
    pub(crate) net: Net,
    pub(crate) http: reqwest::Client,
    tools: Tools,
    /// The nodes whose data is on a small file system: one, or two while another takes its place.
    small_disks: Vec<u64>,
    small_disk_mb: u64,
}

struct Node {
    http: u16,
    peer: u16,
    proxy: u16,
    child: Option<Child>,
    paused: bool,
    /// What `strace` does to it.
    tracer: Option<Child>,
    member: bool,
    gone: bool,
}

impl Cluster {
    /// `size` nodes, started, made a cluster, serving. Their data and logs are in `folder`; one has a small
    /// file system, where one can be mounted.
    pub(crate) async fn start(
        folder: &Path,
        size: u64,
        small_disk: SmallDisk,
        tools: Tools,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(64)
            .build()?;
        let mut cluster = Self {
            folder: folder.to_owned(),
            nodes: BTreeMap::new(),
            net: Net::new(),
            http,
            tools,
            small_disks: Vec::new(),
            small_disk_mb: small_disk.megabytes,
        };
        for id in 1..=size {
            cluster.prepare(id)?;
        }
        cluster.mount_small_disk(small_disk.node)?;
        for id in 1..=size {
            cluster.node_mut(id).member = true;
            cluster.spawn(id).await?;
        }
        for id in 1..=size {
            cluster
                .until(&format!("node {id} lives"), || {
                    cluster.answers(id, "/livez", 200)
                })
                .await?;
        }
        cluster.mesto(&["cluster", "init"])?;
        cluster.ready().await?;
        Ok(cluster)
    }

    /// Gives node `id` its ports and writes the configuration that names it.
    pub(crate) fn prepare(&mut self, id: u64) -> anyhow::Result<()> {
        let (http, peer, proxy) = (free_port()?, free_port()?, free_port()?);
        let node = Node {
            http,
            peer,
            proxy,
            child: None,
            paused: false,
            tracer: None,
            member: false,
            gone: false,
        };
        self.nodes.insert(id, node);
        fs::write(self.clock_file(id), "+0")?;
        self.write_config()
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let mut text = settings();
        for (id, node) in self.nodes.iter().filter(|(_, node)| !node.gone) {
            let Node {
                http, peer, proxy, ..
            } = node;
            text += &format!(
                "[[nodes]]\nid = {id}\nhttp = \"127.0.0.1:{http}\"\npeer = \"127.0.0.1:{proxy}\"\n\
                 peer_listen = \"127.0.0.1:{peer}\"\ndata = \"node-{id}/data\"\n"
            );
        }
        Ok(fs::write(self.config(), text)?)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("cluster.toml")
    }

    /// Where node `id` keeps its data.
    pub(crate) fn data(&self, id: u64) -> PathBuf {
        self.folder.join(format!("node-{id}")).join("data")
    }

    fn log(&self, id: u64) -> PathBuf {
        self.folder.join(format!("node-{id}.log"))
    }

    /// What libfaketime reads the node's clock from.
    fn clock_file(&self, id: u64) -> PathBuf {
        self.folder.join(format!("node-{id}.clock"))
    }

    /// The last lines that a node has logged.
    pub(crate) fn log_end(&self, id: u64, lines: usize) -> String {
        let text = fs::read_to_string(self.log(id)).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The members.
    pub(crate) fn ids(&self) -> Vec<u64> {
        let members = self.nodes.iter().filter(|(_, node)| node.member);
        members.map(|(id, _)| *id).collect()
    }

    /// A number that no node ever had.
    pub(crate) fn unused_id(&self) -> u64 {
        self.nodes.keys().max().map_or(1, |most| most + 1)
    }

    /// The node whose data is on a small file system, if there is one.
    pub(crate) fn small_disk(&self) -> Option<u64> {
        self.small_disks.last().copied()
    }

    /// Gives node `id`, which has no data yet, a small disk, where one can be mounted.
    pub(crate) fn mount_small_disk(&mut self, id: u64) -> anyhow::Result<()> {
        if self.tools.tmpfs {
            let folder = self.folder.join(format!("node-{id}"));
            tools::mount(&folder, self.small_disk_mb)?;
            self.small_disks.push(id);
        }
        Ok(())
    }

    fn unmount_small_disk(&mut self, id: u64) {
        if let Some(number) = self.small_disks.iter().position(|other| *other == id) {
            self.small_disks.remove(number);
            let folder = self.folder.join(format!("node-{id}"));
            if !tools::unmount(&folder) {
                eprintln!("chaos: {} is still mounted", folder.display());
            }
        }
    }

    /// A node has joined.
    pub(crate) fn joined(&mut self, id: u64) {
        self.node_mut(id).member = true;
    }

    /// A node has left for good; it is taken out of the configuration.
    pub(crate) fn left(&mut self, id: u64) -> anyhow::Result<()> {
        let node = self.node_mut(id);
        (node.member, node.gone) = (false, true);
        self.unmount_small_disk(id);
        self.write_config()
    }

    fn node(&self, id: u64) -> &Node {
        &self.nodes[&id]
    }

    fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of this cluster")
    }

    /// Where the members serve clients.
    pub(crate) fn addresses(&self) -> Vec<(u64, String)> {
        self.ids()
            .into_iter()
            .map(|id| (id, self.url(id, "")))
            .collect()
    }

    /// `http://127.0.0.1:PORT` of node `id` and `path`.
    pub(crate) fn url(&self, id: u64, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.node(id).http)
    }

    /// The address that peers reach node `id` at, and that of its HTTP server.
    pub(crate) fn peer_and_http(&self, id: u64) -> (String, String) {
        let node = self.node(id);
        (
            format!("127.0.0.1:{}", node.proxy),
            format!("127.0.0.1:{}", node.http),
        )
    }

    /// Runs `mesto` with this cluster's configuration and secrets; fails if it does.
    pub(crate) fn mesto(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = self.command(words).output().context("mesto does not run")?;
        if !output.status.success() {
            bail!(
                "mesto {} failed: {}",
                words.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(words)
            .stdin(Stdio::null())
            .env_remove("MESTO_DATA_DIR")
            .env_remove("MESTO_NODE")
            .env("MESTO_CONFIG", self.config())
            .env("MESTO_CLUSTER_SECRET", SECRET)
            .env("MESTO_OPERATOR_TOKEN", OPERATOR);
        command
    }

    /// Starts node `id` on its data.
    pub(crate) async fn spawn(&mut self, id: u64) -> anyhow::Result<()> {
        anyhow::ensure!(self.node(id).child.is_none(), "node {id} runs already");
        fs::create_dir_all(self.folder.join(format!("node-{id}")))?;
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log(id))?;
        let mut command = self.command(&["serve", "--node", &id.to_string()]);
        command.stdout(log.try_clone()?).stderr(log);
        if let Some(library) = &self.tools.faketime {
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", self.clock_file(id))
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("DONT_FAKE_MONOTONIC", "1")
                .env("FAKETIME_CACHE_DURATION", "1");
        }
        let child = command.spawn().context("mesto does not start")?;
        self.net.register(id, child.id());
        let Node { peer, proxy, .. } = *self.node(id);
        let target = SocketAddr::from(([127, 0, 0, 1], peer));
        let opened = self.net.open(id, proxy, target).await;
        let node = self.node_mut(id);
        (node.child, node.paused) = (Some(child), false);
        opened.with_context(|| format!("port {proxy} of node {id}'s proxy is taken"))
    }

    /// Sends a signal to node `id`.
    fn signal(&self, id: u64, name: &str) -> anyhow::Result<()> {
        let child = self
            .node(id)
            .child
            .as_ref()
            .with_context(|| format!("node {id} does not run"))?;
        signal(child.id(), name)
    }

    /// SIGKILL; waits for the end.
    pub(crate) fn kill(&mut self, id: u64) -> anyhow::Result<()> {
        self.untrace(id);
        let mut child = self
            .node_mut(id)
            .child
            .take()
            .with_context(|| format!("node {id} does not run"))?;
        child.kill()?;
        child.wait()?;
        self.net.close(id);
        Ok(())
    }

    /// SIGTERM; waits for a good end.
    pub(crate) async fn terminate(&mut self, id: u64) -> anyhow::Result<()> {
        self.signal(id, "TERM")?;
        let status = self.ended(id, Duration::from_secs(20)).await?;
        anyhow::ensure!(
            status.success(),
            "node {id} was asked to stop and ended with {status}"
        );
        Ok(())
    }

    /// Waits until node `id` has ended by itself.
    pub(crate) async fn ended(&mut self, id: u64, limit: Duration) -> anyhow::Result<ExitStatus> {
        let mut patience = Patience::of(limit);
        loop {
            if let Some(status) = self.exited(id) {
                return Ok(status);
            }
            anyhow::ensure!(
                !patience.is_over(),
                "node {id} did not end within {limit:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The exit status of node `id`, if its process has just been found to be gone.
    pub(crate) fn exited(&mut self, id: u64) -> Option<ExitStatus> {
        let node = self.node_mut(id);
        let status = node.child.as_mut()?.try_wait().ok()??;
        node.child = None;
        self.net.close(id);
        self.untrace(id);
        Some(status)
    }

    /// Whether node `id` has a process.
    pub(crate) fn runs(&self, id: u64) -> bool {
        self.node(id).child.is_some()
    }

    /// SIGSTOP or SIGCONT.
    pub(crate) fn pause(&mut self, id: u64, paused: bool) -> anyhow::Result<()> {
        self.signal(id, if paused { "STOP" } else { "CONT" })?;
        self.node_mut(id).paused = paused;
        Ok(())
    }

    /// Sets a node's wall clock ahead by so many seconds, or back.
    pub(crate) fn set_clock(&self, id: u64, seconds: i64) -> anyhow::Result<()> {
        Ok(fs::write(self.clock_file(id), format!("{seconds:+}"))?)
    }

    /// Lets `strace` interfere with the system calls of node `id` that make data durable.
    pub(crate) async fn trace(&mut self, id: u64, injection: &str) -> anyhow::Result<()> {
        let calls = "fsync,fdatasync,sync_file_range,msync";
        let pid = self
            .node(id)
            .child
            .as_ref()
            .context("it does not run")?
            .id();
        let log = fs::File::create(self.strace_log(id))?;
        let mut tracer = Command::new("strace");
        tracer.args(["-f", "-qq", "-p", &pid.to_string()]);
        tracer.args([
            "-e",
            &format!("trace={calls}"),
            "-e",
            &format!("inject={calls}:{injection}"),
        ]);
        let tracer = tracer
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.node_mut(id).tracer = Some(tracer);
        let mut patience = Patience::of(Duration::from_secs(5));
        while !is_traced(pid) {
            anyhow::ensure!(!patience.is_over(), "strace could not attach to node {id}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Ends what [`Cluster::trace`] began, if it did. Gives how many calls were delayed.
    pub(crate) fn untrace(&mut self, id: u64) -> usize {
        let Some(mut tracer) = self.node_mut(id).tracer.take() else {
            return 0;
        };
        // On this signal it lets go of the process before it ends.
        let _ = signal(tracer.id(), "INT");
        let _ = tracer.wait();
        let said = fs::read_to_string(self.strace_log(id)).unwrap_or_default();
        said.lines()
            .filter(|line| line.contains("(DELAYED)"))
            .count()
    }

    /// What `strace` says of what it did to a node.
    fn strace_log(&self, id: u64) -> PathBuf {
        self.folder.join(format!("node-{id}.strace"))
    }

    pub(crate) async fn answers(&self, id: u64, path: &str, status: u16) -> bool {
        let request = self
            .http
            .get(self.url(id, path))
            .timeout(Duration::from_secs(2));
        request
            .send()
            .await
            .is_ok_and(|answer| answer.status() == status)
    }

    /// Waits until every member can serve.
    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        for id in self.ids() {
            self.until(&format!("node {id} serves"), || {
                self.answers(id, "/readyz", 200)
            })
            .await?;
        }
        Ok(())
    }

    /// Polls `condition` until it holds.
    pub(crate) async fn until<F: Future<Output = bool>>(
        &self,
        what: &str,
        condition: impl Fn() -> F,
    ) -> anyhow::Result<()> {
        let mut patience = Patience::of(RECOVERY_LIMIT);
        while !condition().await {
            anyhow::ensure!(
                !patience.is_over(),
                "waited {RECOVERY_LIMIT:?} in vain: {what}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
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

    /// The leader, by the word of the members.
    pub(crate) async fn leader(&self) -> anyhow::Result<u64> {
        let mut patience = Patience::of(RECOVERY_LIMIT);
        loop {
            for id in self.ids() {
                if !self.runs(id) || self.node(id).paused {
                    continue;
                }
                let view = self.view(id).await;
                if let Some(leader) = view.as_ref().and_then(|view| view["leader"].as_u64()) {
                    return Ok(leader);
                }
            }
            anyhow::ensure!(
                !patience.is_over(),
                "no leader was found within {RECOVERY_LIMIT:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all members are at one index, and demands that their digests are equal there.
    pub(crate) async fn converge(&self) -> anyhow::Result<u64> {
        let mut patience = Patience::of(RECOVERY_LIMIT);
        loop {
            let mut seen = Vec::new();
            for id in self.ids() {
                if let Some(view) = self.view(id).await {
                    let (applied, last) = (view["applied"].as_u64(), view["last_log"].as_u64());
                    seen.push((
                        id,
                        applied,
                        last,
                        view["digest"].as_str().map(str::to_owned),
                    ));
                }
            }
            let (_, applied, _, digest) = seen.first().cloned().context("no node answers")?;
            let level = seen
                .iter()
                .all(|(_, other, last, _)| *other == applied && *last == applied);
            if seen.len() == self.ids().len() && level && digest.is_some() {
                let equal = seen.iter().all(|(.., other)| *other == digest);
                anyhow::ensure!(equal, "replicas differ at one index: {seen:?}");
                return applied.context("a node does not say what it has applied");
            }
            anyhow::ensure!(!patience.is_over(), "the nodes do not converge: {seen:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.untrace(id);
            if let Some(mut child) = self.node_mut(id).child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
            self.unmount_small_disk(id);
        }
    }
}

/// The binary under test: the one that was built with this harness, unless the environment names another.
fn binary() -> PathBuf {
    std::env::var_os("MESTO_BIN").map_or_else(|| env!("CARGO_BIN_EXE_mesto").into(), PathBuf::from)
}

/// A signal to a process that this harness started.
fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()?;
    anyhow::ensure!(status.success(), "cannot send SIG{name} to process {pid}");
    Ok(())
}

/// Whether every thread of a process is traced.
fn is_traced(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status
            .lines()
            .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    })
}

/// A port that nobody uses just now, below those that the system gives to outgoing connections: one of these could be
/// taken by a client between this look and the node's start.
fn free_port() -> anyhow::Result<u16> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    for _ in 0..COUNT {
        let number = std::process::id().wrapping_mul(37) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + number % COUNT)?;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("there is no free port")
}
