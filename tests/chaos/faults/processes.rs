//! Processes that end, stop for a while, or have a wrong clock.

use std::time::Duration;

use super::{Chaos, Held};

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
        // The node looks at its clock's file once a second.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        self.pass(500, 2_000).await;
        self.cluster.set_clock(id, 0)?;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        Ok(self.held(vec![id], format!("{seconds:+} s")))
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
            let path = self.cluster.url(*id, "/api/v1/cluster/snapshot");
            let request = self
                .cluster
                .http
                .post(path)
                .bearer_auth(crate::nodes::OPERATOR);
            let answer = request.timeout(Duration::from_secs(20)).send().await?;
            anyhow::ensure!(
                answer.status().is_success(),
                "no snapshot on node {id}: {}",
                answer.text().await?
            );
        }
        Ok(self.held(ids, ""))
    }
}
