//! What a node says of itself to Prometheus: its place in the cluster, its log, its store.

use std::fmt;
use std::sync::Arc;

use mesto_raft::Node;
use mesto_storage::Engine;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads everything at the moment it is asked.
pub(super) struct NodeMetrics {
    node: Node,
    engine: Arc<dyn Engine>,
}

impl NodeMetrics {
    pub(super) fn new(node: Node, engine: Arc<dyn Engine>) -> Self {
        Self { node, engine }
    }
}

impl fmt::Debug for NodeMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeMetrics")
    }
}

impl Collector for NodeMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.node.status();
        let log = self.node.log_stats();
        let state = self.node.state_stats();
        let store = self.engine.stats();
        let up = status
            .members
            .iter()
            .filter(|member| member.seen.is_some())
            .count();
        let mut gauge = |name: &str, help: &str, value: u64| {
            let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        gauge("mesto_raft_term", "Current term", status.term)?;
        gauge(
            "mesto_raft_is_leader",
            "1 where this node leads",
            u64::from(status.state == "leader"),
        )?;
        gauge(
            "mesto_raft_has_leader",
            "1 where this node knows a leader",
            u64::from(status.leader.is_some()),
        )?;
        gauge(
            "mesto_raft_last_log_index",
            "Last index of the log",
            status.last_log,
        )?;
        gauge(
            "mesto_raft_commit_index",
            "Last index known to be committed",
            status.commit,
        )?;
        gauge(
            "mesto_raft_applied_index",
            "Last index applied",
            status.applied,
        )?;
        gauge(
            "mesto_raft_snapshot_index",
            "Last index that the newest snapshot covers",
            status.snapshot.unwrap_or(0),
        )?;
        gauge(
            "mesto_raft_members",
            "Members of the cluster",
            status.members.len() as u64,
        )?;
        gauge(
            "mesto_raft_members_up",
            "Members that were heard of lately",
            up as u64,
        )?;
        gauge(
            "mesto_log_queued_bytes",
            "Bytes that wait to be written to the log",
            log.queued_bytes as u64,
        )?;
        gauge(
            "mesto_log_cached_bytes",
            "Bytes of recent log records in memory",
            log.cached_bytes as u64,
        )?;
        gauge(
            "mesto_state_layer_bytes",
            "Bytes of the state that are not carried to the store yet",
            state.layer_bytes as u64,
        )?;
        gauge(
            "mesto_state_persisted_index",
            "Index that a crash would come back with, before the log is applied again",
            state.persisted_index,
        )?;
        gauge(
            "mesto_store_disk_bytes",
            "Bytes of the store on disk",
            store.bytes_on_disk,
        )?;
        let mut counter = |name: &str, help: &str, value: u64| {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        counter(
            "mesto_log_records",
            "Records written to the log",
            log.records,
        )?;
        counter(
            "mesto_log_groups",
            "Groups of records that were synced together",
            log.groups,
        )?;
        counter(
            "mesto_state_carried_layers",
            "Layers of the state carried to the store",
            state.carried_layers,
        )?;
        counter(
            "mesto_state_carried_pairs",
            "Pairs of the state carried to the store",
            state.carried_pairs,
        )?;
        counter(
            "mesto_state_carry_us",
            "Microseconds that the writer of the state has worked",
            state.carry_us,
        )?;
        counter(
            "mesto_store_flushes",
            "Times that the store was made durable",
            store.flushes,
        )
    }
}
