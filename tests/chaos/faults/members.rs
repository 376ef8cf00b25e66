//! Nodes that are gone for good, and nodes that come back without their data.

use std::fs;
use std::time::Duration;

use super::{Chaos, Held};

impl Chaos<'_> {
    pub(super) async fn replace(&mut self) -> anyhow::Result<Held> {
        let leader = self.random.one_in(3);
        let old = self.target(leader).await?;
        self.cluster.kill(old)?;
        let new = self.join(old).await?;
        self.leave(old).await?;
        Ok(self.held(
            vec![old, new],
            format!("node {new} took the place of node {old}"),
        ))
    }

    pub(super) async fn wiped_disk(&mut self) -> anyhow::Result<Held> {
        let old = self.target(false).await?;
        self.cluster.kill(old)?;
        fs::remove_dir_all(self.cluster.data(old))?;
        self.cluster.spawn(old).await?;
        // Whether it ends or waits, it must not be taken for the node that it was.
        let deadline = std::time::Instant::now() + Duration::from_millis(2_500);
        let mut looks = 0;
        while std::time::Instant::now() < deadline && self.cluster.exited(old).is_none() {
            let serves = self.cluster.answers(old, "/readyz", 200).await;
            anyhow::ensure!(
                !serves,
                "node {old} lost its disk, came back empty, and was let in again"
            );
            looks += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let how = if self.cluster.runs(old) {
            "it was not let in"
        } else {
            "it ended"
        };
        let refused = self.cluster.log_end(old, 200);
        let new = self.join(old).await?;
        if self.cluster.runs(old) {
            self.cluster.kill(old)?;
        }
        self.leave(old).await?;
        let told = refused
            .lines()
            .rev()
            .find(|line| line.contains("ERROR") || line.contains("WARN"));
        let told = told.unwrap_or("nothing").to_owned();
        Ok(self.held(
            vec![old, new],
            format!("{how} ({looks} looks); it said: {told}"),
        ))
    }

    /// A new node, under a number that was never used, joins in place of `old`.
    async fn join(&mut self, old: u64) -> anyhow::Result<u64> {
        let new = self.cluster.unused_id();
        self.cluster.prepare(new)?;
        if self.cluster.small_disk() == Some(old) {
            self.cluster.mount_small_disk(new)?;
        }
        self.cluster.spawn(new).await?;
        self.cluster
            .until("the new node lives", || {
                self.cluster.answers(new, "/livez", 200)
            })
            .await?;
        let (peer, http) = self.cluster.peer_and_http(new);
        self.cluster.mesto(&[
            "cluster",
            "add-node",
            "--id",
            &new.to_string(),
            "--http",
            &http,
            "--peer",
            &peer,
        ])?;
        self.cluster.joined(new);
        Ok(new)
    }

    async fn leave(&mut self, old: u64) -> anyhow::Result<()> {
        self.cluster
            .mesto(&["cluster", "remove-node", "--id", &old.to_string()])?;
        self.cluster.left(old)?;
        *self.shared.nodes.lock() = self.cluster.addresses();
        self.cluster.ready().await
    }
}
