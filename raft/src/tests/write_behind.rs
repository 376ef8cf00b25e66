//! Nodes whose state is on the disk later than in memory: what a restart comes back with, what a purge waits for, and
//! what a snapshot replaces.

use std::time::Duration;

use mesto_storage::StateOptions;

use super::harness::Cluster;
use crate::node::Tuning;
use crate::runtime::seed_this_thread;
use crate::types::NodeId;

const SOON: Duration = Duration::from_secs(2);

/// Layers of a few commands, carried a few pairs at a time.
fn small_layers() -> StateOptions {
    StateOptions {
        max_layer_bytes: 2_000,
        portion_pairs: 2,
        ..StateOptions::default()
    }
}

fn persisted(cluster: &Cluster, id: NodeId) -> u64 {
    cluster.nodes[&id].state_stats().persisted_index
}

async fn restart_all(cluster: &mut Cluster) {
    for id in 1..=3 {
        cluster.start(id).await;
    }
    cluster.leader().await;
}

async fn has_all(cluster: &Cluster, count: u64, seed: u64) {
    let seen = cluster.converge().await;
    assert!(
        seen.windows(2).all(|pair| pair[0] == pair[1]),
        "seed {seed}: equal index, equal digest: {seen:?}"
    );
    for id in 1..=3 {
        cluster.nodes[&id]
            .read_barrier(SOON)
            .await
            .expect("a quorum is there");
        for number in 0..count {
            let value = cluster.value(id, &format!("desk-{number}"));
            assert_eq!(value.as_deref(), Some("=taken"), "seed {seed}, node {id}");
        }
    }
}

/// Nodes die while layers are full, half carried and empty; what they had not carried is applied again, and comes to
/// the same digest.
#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_layers_applies_the_rest_again() {
    let mut behind = 0;
    for seed in 200..212 {
        seed_this_thread(seed);
        let mut cluster = Cluster::with_layers(3, Tuning::default(), small_layers()).await;
        let mut count = 0;
        for round in 0..4 {
            for _ in 0..=(seed * 7 + round * 5) % 23 {
                let id = count % 3 + 1;
                cluster.propose(id, &format!("desk-{count}=taken")).await;
                count += 1;
            }
            let victim = (seed + round) % 3 + 1;
            let applied = cluster.nodes[&victim].status().applied;
            let carried = persisted(&cluster, victim);
            assert!(carried <= applied);
            cluster.kill(victim).await;
            let other = cluster.any_but(victim);
            cluster.propose(other, &format!("desk-{count}=taken")).await;
            count += 1;
            cluster.start(victim).await;
            // Where it comes back is what its disk has, and only the log can have brought it further since.
            behind += u64::from(carried < applied);
            assert!(persisted(&cluster, victim) >= carried);
        }
        has_all(&cluster, count, seed).await;
    }
    assert!(
        behind > 20,
        "hardly ever was anything in memory only: {behind}"
    );
}

/// A purge waits for the state on the disk, however much room its layers have.
#[tokio::test(start_paused = true)]
async fn a_log_is_purged_only_as_far_as_the_state_was_persisted() {
    seed_this_thread(220);
    let tuning = Tuning {
        snapshot_every_entries: 40,
        keep_log_entries: 5,
        ..Tuning::default()
    };
    let mut cluster = Cluster::new(3, tuning).await;
    for number in 0..200 {
        cluster
            .propose(number % 3 + 1, &format!("desk-{number}=taken"))
            .await;
        for id in 1..=3 {
            let purged = cluster.nodes[&id].status().purged.unwrap_or(0);
            let persisted = persisted(&cluster, id);
            assert!(
                purged <= persisted,
                "purged {purged}, persisted {persisted}"
            );
        }
    }
    for id in 1..=3 {
        let status = cluster.nodes[&id].status();
        assert!(status.purged > Some(100), "{:?}", status.purged);
        assert!(
            persisted(&cluster, id) < status.applied,
            "layers never fill by themselves here"
        );
    }
    for id in 1..=3 {
        cluster.lose_power(id, 220 + id).await;
    }
    restart_all(&mut cluster).await;
    has_all(&cluster, 200, 220).await;
}

/// A node that comes back with layers half carried and is sent a snapshot has the snapshot's state, also after it dies
/// right behind it.
#[tokio::test(start_paused = true)]
async fn a_snapshot_takes_over_in_the_middle_of_layers() {
    for seed in 230..236 {
        seed_this_thread(seed);
        let tuning = Tuning {
            snapshot_every_entries: 40,
            keep_log_entries: 5,
            // What is under way to a node that is cut off is given up soon.
            snapshot_timeout_ms: 1_000,
            ..Tuning::default()
        };
        let mut cluster = Cluster::with_layers(3, tuning, small_layers()).await;
        let leader = cluster.leader().await;
        let away = cluster.any_but(leader);
        let mut count = 0;
        for _ in 0..10 + seed % 7 {
            cluster
                .propose(leader, &format!("desk-{count}=taken"))
                .await;
            count += 1;
        }
        // Cut off, not killed: what it holds in memory is still above its disk when the snapshot arrives.
        cluster.cut(away, true);
        for _ in 0..200 {
            cluster
                .propose(leader, &format!("desk-{count}=taken"))
                .await;
            count += 1;
        }
        cluster.cut(away, false);
        has_all(&cluster, count, seed).await;
        let snapshot = cluster.nodes[&away].status().snapshot;
        assert!(snapshot > Some(100), "it was sent one: {snapshot:?}");
        assert!(persisted(&cluster, away) >= snapshot.unwrap_or(0));
        cluster.lose_power(away, seed).await;
        cluster.start(away).await;
        has_all(&cluster, count, seed).await;
    }
}

/// Power fails everywhere at once while layers are carried, again and again on the same disks.
#[tokio::test(start_paused = true)]
async fn power_is_lost_everywhere_in_the_middle_of_layers() {
    for seed in 240..252 {
        seed_this_thread(seed);
        let tuning = Tuning {
            snapshot_every_entries: 30,
            keep_log_entries: 5,
            ..Tuning::default()
        };
        let mut cluster = Cluster::with_layers(3, tuning, small_layers()).await;
        let mut count = 0;
        for round in 0..3 {
            for _ in 0..=(seed * 5 + round * 11) % 40 {
                let id = count % 3 + 1;
                cluster.propose(id, &format!("desk-{count}=taken")).await;
                count += 1;
            }
            for id in 1..=3 {
                cluster.lose_power(id, seed * 100 + round * 10 + id).await;
            }
            restart_all(&mut cluster).await;
            has_all(&cluster, count, seed).await;
        }
    }
}

/// A node that is told to stop leaves nothing for the next start to apply again.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_stopped_persists_what_it_applied() {
    seed_this_thread(260);
    let mut cluster = Cluster::new(3, Tuning::default()).await;
    for number in 0..20 {
        cluster
            .propose(number % 3 + 1, &format!("desk-{number}=taken"))
            .await;
    }
    cluster.converge().await;
    let node = cluster.nodes.remove(&2).expect("it runs");
    let before = node.status();
    assert!(node.state_stats().persisted_index < before.applied);
    node.stop().await;
    assert_eq!(node.state_stats().persisted_index, before.applied);
    drop(node);
    cluster.start(2).await;
    has_all(&cluster, 20, 260).await;
}
