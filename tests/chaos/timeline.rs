//! Who leads, looked at a few times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use crate::load::Shared;
use crate::nodes::OPERATOR;

/// The leader from a moment on, in nanoseconds of the run; none if no node knows of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reign {
    pub(crate) from: u64,
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
}

const INTERVAL: Duration = Duration::from_millis(150);

/// Looks until told to stop; gives each change.
pub(crate) async fn watch(shared: Arc<Shared>, stop: Arc<AtomicBool>) -> Vec<Reign> {
    let mut reigns: Vec<Reign> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let from = shared.recorder.now();
        let nodes = shared.nodes.lock().clone();
        let views = join_all(nodes.iter().map(|(_, address)| view(&shared.http, address))).await;
        // A node that was cut off may believe in an old leader; the latest term is right.
        let latest = views.into_iter().flatten().max();
        let (term, leader) = latest.map_or((0, None), |(term, leader)| (term, leader));
        if reigns
            .last()
            .is_none_or(|last| (last.leader, last.term) != (leader, term))
        {
            reigns.push(Reign { from, leader, term });
        }
        tokio::time::sleep(INTERVAL).await;
    }
    reigns
}

async fn view(http: &reqwest::Client, address: &str) -> Option<(u64, Option<u64>)> {
    let request = http
        .get(format!("{address}/api/v1/cluster"))
        .bearer_auth(OPERATOR);
    let answer = request
        .timeout(Duration::from_millis(400))
        .send()
        .await
        .ok()?;
    let view: Value = answer.json().await.ok()?;
    Some((view["term"].as_u64()?, view["leader"].as_u64()))
}
