//! Disks that are slow, fail, or are full.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;

use super::{Chaos, Held};

/// How long a node whose disk fails may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(15);

impl Chaos<'_> {
    pub(super) async fn slow_sync(&mut self, leader: bool) -> anyhow::Result<Held> {
        let id = self.target(leader).await?;
        let delay_ms = 20 + self.random.below(200);
        self.cluster
            .trace(id, &format!("delay_enter={}", delay_ms * 1_000))
            .await?;
        self.pass(2_000, 4_000).await;
        let delayed = self.cluster.untrace(id);
        anyhow::ensure!(delayed > 0, "not one sync of node {id} was delayed");
        Ok(self.held(vec![id], format!("{delay_ms} ms a sync, {delayed} of them")))
    }

    pub(super) async fn sync_error(&mut self, leader: bool) -> anyhow::Result<Held> {
        let id = self.target(leader).await?;
        self.cluster.trace(id, "error=EIO").await?;
        // What is not durable must not be acknowledged, and what failed once cannot be trusted to work next time.
        let status = self.cluster.ended(id, STOP_LIMIT).await?;
        anyhow::ensure!(
            !status.success(),
            "node {id} lost its disk and ended as if all were well"
        );
        self.pass(200, 1_500).await;
        self.cluster.spawn(id).await?;
        Ok(self.held(vec![id], format!("it stopped with {status}")))
    }

    pub(super) async fn full_disk(&mut self) -> anyhow::Result<Held> {
        let id = self
            .cluster
            .small_disk()
            .context("no node has a small disk")?;
        let ballast = self
            .cluster
            .data(id)
            .parent()
            .expect("a folder")
            .join("ballast");
        let mut file = fs::File::create(&ballast)?;
        let piece = vec![0x5a; 64 << 10];
        while file.write_all(&piece).is_ok() {}
        while file.write_all(&piece[..512]).is_ok() {}
        drop(file);
        // A node may live on while what it has reserved lasts; then it must stop rather than pretend.
        let ended = self.cluster.ended(id, Duration::from_secs(8)).await;
        fs::remove_file(&ballast)?;
        let note = match ended {
            Ok(status) => {
                anyhow::ensure!(
                    !status.success(),
                    "node {id} ran out of disk and ended as if all were well"
                );
                self.cluster.spawn(id).await?;
                format!("it stopped with {status}")
            }
            Err(_) => "it lived on what it had reserved".to_owned(),
        };
        Ok(self.held(vec![id], note))
    }
}
