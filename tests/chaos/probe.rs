//! What a minority may not do, tried: while nodes are without a quorum, each is asked to book and to answer linearizable
//! reads, without end. Not one of these requests, all of which begin after the links are dead, may succeed. Most are given
//! up soon, so that there are many; some wait for as long as a node may take, since it could answer wrongly only then.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::api::{Person, SPACE};
use crate::nodes::{Cluster, WRITE_MS};

/// How many ask one node at a time.
const AT_ONCE: usize = 4;
/// How long most of them wait.
const SHORT: Duration = Duration::from_millis(300);
/// Longer than a node tries to have a write decided or a read confirmed.
const LONG: Duration = Duration::from_millis(WRITE_MS + 300);

/// A person of its own, who books on days that nobody else books on.
pub(crate) struct Probe {
    pub(crate) person: Person,
    pub(crate) desk: String,
    pub(crate) starts_at: String,
}

impl Probe {
    /// Asks `nodes` for `time`, or a little longer than they may take to answer. Gives how many requests were made.
    pub(crate) async fn minority(
        &self,
        cluster: &Cluster,
        nodes: &[u64],
        time: Duration,
    ) -> anyhow::Result<u64> {
        let deadline = Instant::now() + time;
        let brief = async {
            let mut made = 0;
            while Instant::now() < deadline {
                made += self.ask_all(cluster, nodes, SHORT).await?;
            }
            anyhow::Ok(made)
        };
        let (brief, patient) = tokio::join!(brief, self.ask_all(cluster, nodes, LONG));
        let made = brief? + patient?;
        for node in nodes {
            let local = format!("/api/v1/spaces/{SPACE}?consistency=local");
            anyhow::ensure!(
                cluster.answers(*node, "/livez", 200).await,
                "node {node} without a quorum is not alive"
            );
            anyhow::ensure!(
                cluster.answers(*node, &local, 200).await,
                "node {node} refuses a local read"
            );
        }
        Ok(made)
    }

    async fn ask_all(
        &self,
        cluster: &Cluster,
        nodes: &[u64],
        patience: Duration,
    ) -> anyhow::Result<u64> {
        let all = nodes
            .iter()
            .flat_map(|node| std::iter::repeat_n(*node, AT_ONCE));
        let asked = all.map(|node| async move {
            let (wrote, read) = tokio::join!(
                self.write(cluster, node, patience),
                self.read(cluster, node, patience)
            );
            (node, wrote, read)
        });
        let mut made = 0;
        for (node, wrote, read) in join_all(asked).await {
            anyhow::ensure!(
                !wrote,
                "node {node} has no quorum and acknowledged a booking"
            );
            anyhow::ensure!(
                !read,
                "node {node} has no quorum and answered a linearizable read"
            );
            made += 2;
        }
        Ok(made)
    }

    async fn write(&self, cluster: &Cluster, node: u64, patience: Duration) -> bool {
        let body = json!({ "desk": self.desk, "starts_at": self.starts_at });
        let request = cluster
            .http
            .post(cluster.url(node, "/api/v1/bookings"))
            .bearer_auth(&self.person.token);
        let answer = request.json(&body).timeout(patience).send().await;
        // A conflict is an acknowledgement too: it tells what the state is.
        answer.is_ok_and(|answer| answer.status().is_success() || answer.status() == 409)
    }

    async fn read(&self, cluster: &Cluster, node: u64, patience: Duration) -> bool {
        let request = cluster
            .http
            .get(cluster.url(node, &format!("/api/v1/spaces/{SPACE}")));
        let answer = request.timeout(patience).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}
