//! What an operator decides: `cluster.toml`, read strictly.
//!
//! One file describes the whole cluster and is the same on every machine; a node is told only its
//! number (`mesto serve --node N`). Everything but the list of nodes has a default, and every key
//! is explained by a comment in the `cluster.toml` at the root of the repository.
//!
//! Invariants:
//! - An unknown key, a wrong type or an unsound value is refused before anything starts, with the
//!   path of the key (`raft.election_min_ms`); values are checked all at once, so that one run
//!   shows every mistake.
//! - Units are part of the key (`_ms`, `_s`, `_kb`, `_mb`, `_entries`), so a bare number is never
//!   ambiguous.
//! - Relative paths are relative to the file that names them, not to the working directory.
//! - Secrets are never part of the file: it names files that hold them ([`SecuritySettings`]), and
//!   what is read from those prints as `[redacted]`.
//!
//! The environment overrides secrets and the data directory and nothing else:
//! `MESTO_CLUSTER_SECRET`, `MESTO_OPERATOR_TOKEN`, `MESTO_DATA_DIR`.
//!
//! Deliberately not here: the limits of the product itself (lengths of names, slots of a day, sizes
//! of pages). They must be equal on all nodes, so they are constants; see `limits.rs`. Membership
//! changes at run time are kept by the replicated log; the list of nodes here only says where each
//! node listens and stores.

mod address;
mod check;
mod secret;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

pub use address::{Address, AddressError};
pub use secret::{MIN_SECRET_CHARS, Secret, SecretError, create_secret_file};

use crate::limits::Limits;

/// Overrides the data directory of the node that is started.
pub const DATA_DIR_VARIABLE: &str = "MESTO_DATA_DIR";
/// Overrides the secret that nodes authenticate each other with.
pub const CLUSTER_SECRET_VARIABLE: &str = "MESTO_CLUSTER_SECRET";
/// Overrides the token that operators' commands are authenticated with.
pub const OPERATOR_TOKEN_VARIABLE: &str = "MESTO_OPERATOR_TOKEN";

/// The most nodes that one cluster may have: each write waits for a majority of them.
pub const MAX_NODES: usize = 9;

/// A whole `cluster.toml`, checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the cluster is called.
    #[serde(default)]
    pub cluster: ClusterSettings,
    /// Every node of the cluster, at least one, ids unique.
    pub nodes: Vec<NodeSettings>,
    /// Where the secrets are.
    #[serde(default)]
    pub security: SecuritySettings,
    /// Timing of elections and replication, snapshots.
    #[serde(default)]
    pub raft: RaftSettings,
    /// The store of a node.
    #[serde(default)]
    pub storage: StorageSettings,
    /// Limits of the HTTP server of a node.
    #[serde(default)]
    pub http: HttpSettings,
    /// Password hashing, tokens, and the limits on failed sign-ins.
    #[serde(default)]
    pub sign_in: SignInSettings,
    /// What is logged, and how.
    #[serde(default)]
    pub log: LogSettings,
}

/// `[cluster]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// A name for people, 1 to 64 characters; shown by `mesto cluster status`.
    pub name: String,
}

/// One `[[nodes]]` entry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// The number of the node, from 1; never reused for another machine.
    pub id: u64,
    /// Where clients reach the node.
    pub http: Address,
    /// Where the other nodes reach the node.
    pub peer: Address,
    /// Where the node keeps its data; a directory of its own.
    pub data: PathBuf,
    /// Where the HTTP server listens, if not at `http`.
    #[serde(default)]
    pub http_listen: Option<Address>,
    /// Where the peer server listens, if not at `peer`.
    #[serde(default)]
    pub peer_listen: Option<Address>,
}

impl NodeSettings {
    /// Where the HTTP server of the node listens.
    pub fn http_listen(&self) -> &Address {
        self.http_listen.as_ref().unwrap_or(&self.http)
    }

    /// Where the peer server of the node listens.
    pub fn peer_listen(&self) -> &Address {
        self.peer_listen.as_ref().unwrap_or(&self.peer)
    }
}

/// `[security]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecuritySettings {
    /// The file with the secret that nodes authenticate each other with; mode 0600.
    pub secret_file: PathBuf,
    /// The file with the token that operators' commands are authenticated with; mode 0600.
    pub operator_token_file: PathBuf,
}

/// `[raft]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftSettings {
    /// How often a leader shows that it lives.
    pub heartbeat_ms: u64,
    /// The least time without a heartbeat after which a follower stands for election.
    pub election_min_ms: u64,
    /// The most; each wait is drawn between the two.
    pub election_max_ms: u64,
    /// After how long without a majority a leader stops serving.
    pub quorum_loss_probe_ms: u64,
    /// How long one append to a peer may take, before it is tried again.
    pub append_timeout_ms: u64,
    /// How long the transfer of a whole snapshot may take.
    pub install_snapshot_timeout_ms: u64,
    /// The most entries in one append to a peer.
    pub max_append_entries: u64,
    /// The most bytes of entries in one append to a peer.
    pub max_append_kb: u64,
    /// A snapshot is built whenever so many entries were applied since the last.
    pub snapshot_every_entries: u64,
    /// So many entries before a snapshot stay in the log, for followers that are a little behind.
    pub keep_log_entries: u64,
    /// The most proposals that wait in the leader at one time; more are refused as overload.
    pub max_inflight_proposals: usize,
}

/// `[storage]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageSettings {
    /// Memory for the store's page cache.
    pub cache_mb: u64,
    /// Memory for recent log records, kept for followers and for apply.
    pub log_cache_mb: u64,
}

/// `[http]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// The longest that a request may take as a whole; event streams are excepted.
    pub request_ms: u64,
    /// The time a connection may take to send the header of a request, or stay idle between two.
    pub header_read_ms: u64,
    /// How long a write waits for a leader and its decision.
    pub write_ms: u64,
    /// How long a linearizable read waits for its barrier.
    pub read_ms: u64,
    /// How long a read waits for `Mesto-Min-Index`.
    pub min_index_wait_ms: u64,
    /// The longest body of a request.
    pub max_body_kb: u64,
    /// The longest body of an administrative request that carries a whole space or an import.
    pub max_page_body_kb: u64,
    /// The most requests in work at one time; more are answered 503 at once.
    pub max_inflight_requests: usize,
    /// The most open connections of clients.
    pub max_connections: usize,
    /// The most open event streams.
    pub max_event_streams: usize,
    /// After how long a silence an event stream gets a comment.
    pub event_keep_alive_ms: u64,
    /// How long requests in flight may take to end when the node is stopped.
    pub shutdown_grace_ms: u64,
}

/// `[sign_in]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignInSettings {
    /// Failed sign-ins that one account may have within the window, before it must wait.
    pub max_failures_per_account: u32,
    /// Failed sign-ins that one client address may have within the window, before it must wait.
    pub max_failures_per_address: u32,
    /// The window in which failures are counted.
    pub failure_window_s: u64,
    /// How many passwords are hashed at one time; 0 for as many as there are cores.
    pub hash_workers: usize,
    /// How many more may wait for their turn; more are answered 503 at once.
    pub hash_queue: usize,
    /// How long they may wait for it.
    pub hash_wait_ms: u64,
    /// How long an access token is valid.
    pub access_token_ttl_s: u64,
    /// How long a session can be refreshed.
    pub refresh_token_ttl_s: u64,
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged: a level (`info`), or directives by module (`info,mesto::http=debug`).
    pub level: String,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            name: "mesto".to_owned(),
        }
    }
}

impl Default for SecuritySettings {
    fn default() -> Self {
        Self {
            secret_file: "data/cluster.secret".into(),
            operator_token_file: "data/operator.token".into(),
        }
    }
}

impl Default for RaftSettings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 50,
            election_min_ms: 200,
            election_max_ms: 400,
            quorum_loss_probe_ms: 800,
            append_timeout_ms: 1_000,
            install_snapshot_timeout_ms: 60_000,
            max_append_entries: 300,
            max_append_kb: 1_024,
            snapshot_every_entries: 100_000,
            keep_log_entries: 20_000,
            max_inflight_proposals: 4_096,
        }
    }
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            cache_mb: 64,
            log_cache_mb: 16,
        }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            request_ms: 30_000,
            header_read_ms: 30_000,
            write_ms: 5_000,
            read_ms: 3_000,
            min_index_wait_ms: 5_000,
            max_body_kb: 64,
            max_page_body_kb: 1_024,
            max_inflight_requests: 1_024,
            max_connections: 4_096,
            max_event_streams: 1_024,
            event_keep_alive_ms: 15_000,
            shutdown_grace_ms: 5_000,
        }
    }
}

impl Default for SignInSettings {
    fn default() -> Self {
        Self {
            max_failures_per_account: 10,
            max_failures_per_address: 300,
            failure_window_s: 900,
            hash_workers: 0,
            hash_queue: 512,
            hash_wait_ms: 20_000,
            access_token_ttl_s: 900,
            refresh_token_ttl_s: 30 * 24 * 3_600,
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file that was asked for.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or has an unknown key or a wrong type.
    #[error("the configuration {path} is not valid at `{key}`: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// The path of the key, or `.` for the file as a whole.
        key: String,
        /// What is wrong, with line and column.
        message: String,
    },
    /// The file reads well, but its values cannot work.
    #[error("the configuration {path} cannot work:{}", list(.problems))]
    Unsound {
        /// The file.
        path: String,
        /// Each unsound value.
        problems: Vec<Problem>,
    },
}

/// One unsound value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path of the key, such as `raft.election_min_ms`.
    pub key: String,
    /// What is wrong with its value.
    pub message: String,
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("\n  {}: {}", problem.key, problem.message))
        .collect()
}

impl Config {
    /// Reads and checks a file. Relative paths in it are resolved against its directory.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: name.clone(),
            source,
        })?;
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        Self::parse(&text, &name, directory.unwrap_or_else(|| Path::new(".")))
    }

    /// Checks a text; `name` is what errors call it, `directory` what relative paths start from.
    pub fn parse(text: &str, name: &str, directory: &Path) -> Result<Self, ConfigError> {
        let syntax = |key: String, message: String| ConfigError::Syntax {
            path: name.to_owned(),
            key,
            message: message.trim_end().to_owned(),
        };
        let reader = toml::Deserializer::parse(text)
            .map_err(|error| syntax(".".to_owned(), error.to_string()))?;
        let mut config: Self = serde_path_to_error::deserialize(reader)
            .map_err(|error| syntax(error.path().to_string(), error.inner().to_string()))?;
        config.resolve_paths(directory);
        let problems = check::problems(&config);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Unsound {
                path: name.to_owned(),
                problems,
            })
        }
    }

    /// The node with this id, if the file names it. Where the environment sets `MESTO_DATA_DIR`,
    /// use [`Config::data_dir`] for its directory.
    pub fn node(&self, id: u64) -> Option<&NodeSettings> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Where a node keeps its data: `MESTO_DATA_DIR`, or else what the file says.
    pub fn data_dir(&self, node: &NodeSettings) -> PathBuf {
        env::var_os(DATA_DIR_VARIABLE)
            .filter(|value| !value.is_empty())
            .map_or_else(|| node.data.clone(), PathBuf::from)
    }

    /// The secret that nodes authenticate each other with: from the environment, or its file.
    pub fn cluster_secret(&self) -> Result<Secret, SecretError> {
        Secret::load(CLUSTER_SECRET_VARIABLE, &self.security.secret_file)
    }

    /// The token that operators' commands present: from the environment, or its file.
    pub fn operator_token(&self) -> Result<Secret, SecretError> {
        Secret::load(OPERATOR_TOKEN_VARIABLE, &self.security.operator_token_file)
    }

    /// What of it the HTTP server and the service layer keep to.
    pub fn limits(&self) -> Limits {
        let bytes = |kb: u64| usize::try_from(kb.saturating_mul(1_024)).unwrap_or(usize::MAX);
        let (http, sign_in) = (&self.http, &self.sign_in);
        Limits {
            requests_in_flight: http.max_inflight_requests,
            connections: http.max_connections,
            request_ms: http.request_ms,
            header_read_ms: http.header_read_ms,
            write_ms: http.write_ms,
            read_ms: http.read_ms,
            min_index_wait_ms: http.min_index_wait_ms,
            access_token_s: sign_in.access_token_ttl_s,
            refresh_token_s: sign_in.refresh_token_ttl_s,
            body_bytes: bytes(http.max_body_kb),
            page_body_bytes: bytes(http.max_page_body_kb),
            password_hashes: sign_in.hash_workers,
            password_queue: sign_in.hash_queue,
            password_wait_ms: sign_in.hash_wait_ms,
            failed_sign_ins_per_account: sign_in.max_failures_per_account,
            failed_sign_ins_per_address: sign_in.max_failures_per_address,
            failed_sign_ins_window_ms: sign_in.failure_window_s.saturating_mul(1_000),
            event_streams: http.max_event_streams,
            event_keep_alive_ms: http.event_keep_alive_ms,
        }
    }

    /// What is allowed but deserves a line in the log at start.
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self)
    }

    fn resolve_paths(&mut self, directory: &Path) {
        let resolve = |path: &mut PathBuf| *path = directory.join(&*path);
        resolve(&mut self.security.secret_file);
        resolve(&mut self.security.operator_token_file);
        for node in &mut self.nodes {
            resolve(&mut node.data);
        }
    }
}

#[cfg(test)]
mod tests;
