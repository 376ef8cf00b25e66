//! Which values can work together.

use std::collections::BTreeSet;

use super::{Address, Config, MAX_NODES, NodeSettings, Problem};

/// A follower must miss this many heartbeats before it may stand for election; fewer, and one late
/// packet deposes a healthy leader.
const MIN_MISSED_HEARTBEATS: u64 = 3;
/// Elections that start together fail together: the draw needs at least this much room.
const MIN_ELECTION_SPREAD_MS: u64 = 50;
const MAX_NAME_CHARS: usize = 64;
const DAY_MS: u64 = 24 * 3_600 * 1_000;
const MONTHS_3_S: u64 = 90 * 24 * 3_600;

/// Every unsound value, in the order of the file.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Found::default();
    let name_chars = config.cluster.name.chars().count();
    found.unless(
        (1..=MAX_NAME_CHARS).contains(&name_chars),
        "cluster.name",
        format!("must have 1 to {MAX_NAME_CHARS} characters"),
    );
    nodes(config, &mut found);
    raft(config, &mut found);
    storage(config, &mut found);
    http(config, &mut found);
    sign_in(config, &mut found);
    found.unless(are_log_directives(&config.log.level), "log.level", "must be a level (error, warn, info, debug, trace) or directives such as `info,mesto::http=debug`");
    found.0
}

/// What is allowed but deserves to be said.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut said = Vec::new();
    if config.nodes.len().is_multiple_of(2) {
        said.push(format!(
            "{} nodes survive no more failures than {} would; an odd number is better",
            config.nodes.len(),
            config.nodes.len() - 1
        ));
    }
    if config.nodes.iter().any(|node| !node.peer.is_loopback()) {
        said.push("peers talk in the clear, authenticated by the cluster's secret; keep their ports in a private network".to_owned());
    }
    if config.nodes.iter().any(|node| !node.http.is_loopback()) {
        said.push(
            "clients talk HTTP in the clear; put a proxy that ends TLS in front of the nodes"
                .to_owned(),
        );
    }
    let loopback = config
        .nodes
        .iter()
        .filter(|node| node.peer.is_loopback())
        .count();
    if loopback != 0 && loopback != config.nodes.len() {
        said.push("some peers have loopback addresses and some have not: they cannot reach each other across machines".to_owned());
    }
    said
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn unless(&mut self, holds: bool, key: impl Into<String>, message: impl Into<String>) {
        if !holds {
            self.0.push(Problem {
                key: key.into(),
                message: message.into(),
            });
        }
    }

    fn range(&mut self, key: &str, value: u64, least: u64, most: u64) {
        self.unless(
            (least..=most).contains(&value),
            key,
            format!("must be from {least} to {most}, but is {value}"),
        );
    }

    fn count(&mut self, key: &str, value: usize, least: u64, most: u64) {
        self.range(key, u64::try_from(value).unwrap_or(u64::MAX), least, most);
    }
}

fn nodes(config: &Config, found: &mut Found) {
    found.count("nodes", config.nodes.len(), 1, MAX_NODES as u64);
    let mut ids = BTreeSet::new();
    let mut directories = BTreeSet::new();
    let mut reached = BTreeSet::<&Address>::new();
    for (position, node) in config.nodes.iter().enumerate() {
        let key = |name: &str| format!("nodes[{position}].{name}");
        found.unless(node.id >= 1, key("id"), "must be 1 or more");
        found.unless(
            ids.insert(node.id),
            key("id"),
            format!("node {} is listed twice", node.id),
        );
        found.unless(
            directories.insert(&node.data),
            key("data"),
            "another node has the same directory; each needs one of its own",
        );
        for (name, address) in [("http", &node.http), ("peer", &node.peer)] {
            found.unless(
                reached.insert(address),
                key(name),
                format!("{address} is used twice"),
            );
            found.unless(
                !address.is_unspecified(),
                key(name),
                format!("{address} cannot be connected to; name the host here and listen with `{name}_listen`"),
            );
        }
        found.unless(
            listens_apart(node),
            key("peer_listen"),
            "is where the HTTP server listens already",
        );
    }
}

/// The filter itself would take a misspelt level for the name of a module, and log nothing.
fn are_log_directives(text: &str) -> bool {
    text.split(',').all(|directive| {
        let level = directive
            .rsplit_once('=')
            .map_or(directive, |(_module, level)| level);
        level
            .parse::<tracing_subscriber::filter::LevelFilter>()
            .is_ok()
    })
}

fn listens_apart(node: &NodeSettings) -> bool {
    node.http_listen() != node.peer_listen() || node.http == node.peer
}

fn raft(config: &Config, found: &mut Found) {
    let raft = &config.raft;
    found.range("raft.heartbeat_ms", raft.heartbeat_ms, 10, 10_000);
    let least = raft.heartbeat_ms.saturating_mul(MIN_MISSED_HEARTBEATS);
    found.unless(
        raft.election_min_ms > least,
        "raft.election_min_ms",
        format!(
            "must be more than {MIN_MISSED_HEARTBEATS} heartbeats ({least} ms), but is {}",
            raft.election_min_ms
        ),
    );
    found.unless(
        raft.election_max_ms >= raft.election_min_ms.saturating_add(MIN_ELECTION_SPREAD_MS),
        "raft.election_max_ms",
        format!(
            "must be at least {MIN_ELECTION_SPREAD_MS} ms more than election_min_ms, but is {}",
            raft.election_max_ms
        ),
    );
    found.unless(
        raft.election_max_ms <= 120_000,
        "raft.election_max_ms",
        format!("must be at most 120000, but is {}", raft.election_max_ms),
    );
    found.unless(
        raft.quorum_loss_probe_ms >= raft.election_max_ms,
        "raft.quorum_loss_probe_ms",
        format!(
            "must be at least election_max_ms, but is {}",
            raft.quorum_loss_probe_ms
        ),
    );
    found.range(
        "raft.append_timeout_ms",
        raft.append_timeout_ms,
        100,
        60_000,
    );
    found.range(
        "raft.install_snapshot_timeout_ms",
        raft.install_snapshot_timeout_ms,
        1_000,
        DAY_MS,
    );
    found.range(
        "raft.max_append_entries",
        raft.max_append_entries,
        1,
        100_000,
    );
    found.range("raft.max_append_kb", raft.max_append_kb, 64, 65_536);
    found.range(
        "raft.snapshot_every_entries",
        raft.snapshot_every_entries,
        100,
        1_000_000_000,
    );
    found.range(
        "raft.keep_log_entries",
        raft.keep_log_entries,
        0,
        100_000_000,
    );
    found.count(
        "raft.max_inflight_proposals",
        raft.max_inflight_proposals,
        1,
        1_000_000,
    );
}

fn storage(config: &Config, found: &mut Found) {
    found.range("storage.cache_mb", config.storage.cache_mb, 8, 1_048_576);
    found.range(
        "storage.log_cache_mb",
        config.storage.log_cache_mb,
        1,
        65_536,
    );
}

fn http(config: &Config, found: &mut Found) {
    let http = &config.http;
    found.range("http.request_ms", http.request_ms, 100, 600_000);
    found.range("http.header_read_ms", http.header_read_ms, 100, 600_000);
    found.range("http.write_ms", http.write_ms, 100, http.request_ms);
    found.range("http.read_ms", http.read_ms, 100, http.request_ms);
    found.range(
        "http.min_index_wait_ms",
        http.min_index_wait_ms,
        0,
        http.request_ms,
    );
    found.range("http.max_body_kb", http.max_body_kb, 4, 1_024);
    found.range(
        "http.max_page_body_kb",
        http.max_page_body_kb,
        http.max_body_kb,
        65_536,
    );
    found.count(
        "http.max_inflight_requests",
        http.max_inflight_requests,
        8,
        1_000_000,
    );
    found.count("http.max_connections", http.max_connections, 8, 1_000_000);
    found.count(
        "http.max_event_streams",
        http.max_event_streams,
        0,
        1_000_000,
    );
    found.range(
        "http.event_keep_alive_ms",
        http.event_keep_alive_ms,
        1_000,
        600_000,
    );
    found.range("http.shutdown_grace_ms", http.shutdown_grace_ms, 0, 600_000);
}

fn sign_in(config: &Config, found: &mut Found) {
    let limits = &config.sign_in;
    found.range(
        "sign_in.max_failures_per_account",
        limits.max_failures_per_account.into(),
        1,
        1_000_000,
    );
    found.range(
        "sign_in.max_failures_per_address",
        limits.max_failures_per_address.into(),
        1,
        1_000_000,
    );
    found.range(
        "sign_in.failure_window_s",
        limits.failure_window_s,
        1,
        24 * 3_600,
    );
    found.count("sign_in.hash_workers", limits.hash_workers, 0, 256);
    found.count("sign_in.hash_queue", limits.hash_queue, 0, 100_000);
    found.range(
        "sign_in.hash_wait_ms",
        limits.hash_wait_ms,
        100,
        config.http.request_ms,
    );
    found.range(
        "sign_in.access_token_ttl_s",
        limits.access_token_ttl_s,
        60,
        24 * 3_600,
    );
    found.range(
        "sign_in.refresh_token_ttl_s",
        limits.refresh_token_ttl_s,
        limits.access_token_ttl_s,
        MONTHS_3_S * 4,
    );
}
