//! Processes that end, stop for a while, or have a wrong clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use super::{Chaos, Held};
use crate::api::issue_time;
use crate::nodes::OPERATOR;
use crate::stalls::Patience;

/// How many entries stay in a log after a snapshot, by the nodes' configuration.
const KEPT_ENTRIES: u64 = 200;

impl Chaos<'_> {
    pub(super) async fn kill(&mut self, leader: bool) -> anyhow::Result<Held> {
        let id = self.target(leader).await?;
        self.cluster.kill(id)?;
        self.pass(300, 3_000).await;
        self.cluster.spawn(id).await?;
        Ok(self.held(vec![id], ""))
    }

    pub(super) async fn kill_all(&mut self) -> anyhow::Result<Held> {
        let ids = self.cluster.ids();
        for id in &ids {
            self.cluster.kill(*id)?;
        }
        self.pass(0, 1_000).await;
        for id in &ids {
            self.cluster.spawn(*id).await?;
        }
        Ok(self.held(ids, ""))
    }

    pub(super) async fn stop_leader(&mut self) -> anyhow::Result<Held> {
        let id = self.target(true).await?;
        self.cluster.terminate(id).await?;
        self.pass(300, 2_000).await;
        self.cluster.spawn(id).await?;
        Ok(self.held(vec![id], ""))
    }

    pub(super) async fn rolling_restart(&mut self) -> anyhow::Result<Held> {
        let ids = self.cluster.ids();
        for id in &ids {
            self.cluster.terminate(*id).await?;
            self.cluster.spawn(*id).await?;
            self.cluster.ready().await?;
        }
        Ok(self.held(ids, ""))
    }

    pub(super) async fn pause(&mut self, leader: bool) -> anyhow::Result<Held> {
        let id = self.target(leader).await?;
        self.cluster.pause(id, true)?;
        self.pass(600, 4_000).await;
        self.cluster.pause(id, false)?;
        Ok(self.held(vec![id], ""))
    }

    pub(super) async fn clock(&mut self, leader: bool, seconds: i64) -> anyhow::Result<Held> {
        let id = self.target(leader).await?;
        self.cluster.set_clock(id, seconds)?;
        self.await_clock(id, seconds).await?;
        self.pass(500, 2_000).await;
        self.cluster.set_clock(id, 0)?;
        self.await_clock(id, 0).await?;
        Ok(self.held(vec![id], format!("{seconds:+} s")))
    }

    /// Waits until a node's clock is wrong by so many seconds, as the tokens say that it issues: it looks at its clock's
    /// file about once a second.
    async fn await_clock(&self, id: u64, seconds: i64) -> anyhow::Result<()> {
        let mut patience = Patience::of(Duration::from_secs(15));
        loop {
            let issued_s = issue_time(self.cluster, id, &self.probe.person).await;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            let now_s = i64::try_from(now.as_secs())?;
            if issued_s.is_some_and(|issued_s| (issued_s - now_s).abs_diff(seconds) < 60) {
                return Ok(());
            }
            anyhow::ensure!(
                !patience.is_over(),
                "the clock of node {id} is to be {seconds:+} s wrong, but issues tokens at {issued_s:?} when it is {now_s}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(super) async fn hand_over(&mut self) -> anyhow::Result<Held> {
        let to = self.target(false).await?;
        self.cluster
            .mesto(&["cluster", "transfer-leader", "--to", &to.to_string()])?;
        self.pass(300, 1_000).await;
        Ok(self.held(vec![to], ""))
    }

    pub(super) async fn snapshots(&mut self) -> anyhow::Result<Held> {
        let ids = self.cluster.ids();
        for id in &ids {
            self.snapshot_on(*id).await?;
        }
        Ok(self.held(ids, ""))
    }

    pub(super) async fn long_outage(&mut self) -> anyhow::Result<Held> {
        let id = self.target(false).await?;
        self.cluster.kill(id)?;
        let leader = self.cluster.leader().await?;
        let had = self.least(&[leader], "last_log").await?;
        // None of the others may have what it lacks, since any of them may lead when it comes back.
        let others: Vec<u64> = self
            .cluster
            .ids()
            .into_iter()
            .filter(|other| *other != id)
            .collect();
        let mut patience = Patience::of(Duration::from_secs(40));
        while self.least(&others, "purged").await? <= had {
            anyhow::ensure!(!patience.is_over(), "the log after {had} is not purged");
            tokio::time::sleep(Duration::from_millis(300)).await;
            if self.least(&others, "last_log").await? > had + KEPT_ENTRIES {
                for other in &others {
                    self.snapshot_on(*other).await?;
                }
            }
        }
        self.cluster.spawn(id).await?;
        let again = self.random.one_in(2);
        if again {
            self.pass(50, 700).await;
            self.cluster.kill(id)?;
            self.cluster.spawn(id).await?;
        }
        self.cluster.ready().await?;
        let view = self
            .cluster
            .view(id)
            .await
            .context("it has just been ready")?;
        let snapshot = view["snapshot"].as_u64().unwrap_or_default();
        anyhow::ensure!(
            snapshot > had,
            "node {id} was behind at {had} and has a snapshot of {snapshot} only"
        );
        let killed = if again {
            ", killed once more meanwhile"
        } else {
            ""
        };
        Ok(self.held(
            vec![id],
            format!("it was at {had} and got a snapshot of {snapshot}{killed}"),
        ))
    }

    pub(super) async fn storm(&mut self) -> anyhow::Result<Held> {
        self.lossy_and_slow();
        self.pass(500, 1_500).await;
        let leader = self.target(true).await?;
        self.cluster.kill(leader)?;
        let paused = self.target(false).await.ok().filter(|id| *id != leader);
        if let Some(id) = paused {
            self.cluster.pause(id, true)?;
        }
        self.pass(300, 1_500).await;
        self.cluster.spawn(leader).await?;
        self.pass(300, 1_500).await;
        if let Some(id) = paused {
            self.cluster.pause(id, false)?;
        }
        self.pass(300, 1_500).await;
        self.cluster.net.heal();
        Ok(self.held(std::iter::once(leader).chain(paused).collect(), ""))
    }

    async fn snapshot_on(&self, id: u64) -> anyhow::Result<()> {
        let path = self.cluster.url(id, "/api/v1/cluster/snapshot");
        let request = self.cluster.http.post(path).bearer_auth(OPERATOR);
        let answer = request.timeout(Duration::from_secs(20)).send().await?;
        let status = answer.status();
        anyhow::ensure!(
            status.is_success(),
            "no snapshot on node {id}: {}",
            answer.text().await?
        );
        Ok(())
    }

    /// The least of what these nodes say of themselves.
    async fn least(&self, nodes: &[u64], what: &str) -> anyhow::Result<u64> {
        let mut least = u64::MAX;
        for id in nodes {
            let view = self.cluster.view(*id).await;
            least = least.min(
                view.and_then(|view| view[what].as_u64())
                    .unwrap_or_default(),
            );
        }
        Ok(least)
    }
}
