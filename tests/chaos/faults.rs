//! What can go wrong, and how each of it is made to go wrong and put right again.
//!
//! A fault is injected, held for a while that the seed decides, and healed; then the cluster has a bounded time to serve
//! on all members again. What must hold meanwhile is asserted here: a node without a quorum neither acknowledges writes
//! nor answers linearizable reads, a node whose disk fails stops, a wiped disk is refused.

mod disk;
mod links;
mod members;
mod processes;

use clap::ValueEnum;

use crate::load::Shared;
use crate::nodes::Cluster;
use crate::probe::Probe;
use crate::random::Random;
use crate::tools::Tools;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL of the leader, started again.
    KillLeader,
    /// SIGKILL of a follower, started again.
    KillFollower,
    /// SIGKILL of all nodes at once, all started again.
    KillAll,
    /// SIGTERM of the leader, started again.
    StopLeader,
    /// One node after the other is stopped and started again.
    RollingRestart,
    /// SIGSTOP of the leader, beyond the election time-out, then SIGCONT.
    PauseLeader,
    /// SIGSTOP of a follower, then SIGCONT.
    PauseFollower,
    /// No link to or from the leader.
    IsolateLeader,
    /// No link to or from a follower.
    IsolateFollower,
    /// No link at all.
    IsolateAll,
    /// The leader reaches nobody; others reach it.
    LeaderCannotAsk,
    /// Nobody reaches the leader; it reaches others.
    LeaderCannotBeAsked,
    /// What one node answers to the others is lost; what it is asked arrives.
    AnswersLost,
    /// One node can only ask, another only be asked.
    Ring,
    /// Two nodes reach each other only through the third.
    Bridge,
    /// Connections break at random.
    Lossy,
    /// All links have a delay.
    Slow,
    /// The leader's links carry little.
    Narrow,
    /// The leader's wall clock is an hour ahead, then right again.
    LeaderClockAhead,
    /// A follower's wall clock is an hour behind, then right again.
    FollowerClockBehind,
    /// The leader's disk takes long to make data durable.
    LeaderSlowSync,
    /// A follower's disk takes long to make data durable.
    FollowerSlowSync,
    /// The leader's disk fails to make data durable.
    LeaderSyncError,
    /// A follower's disk fails to make data durable.
    FollowerSyncError,
    /// The disk of one node is full.
    FullDisk,
    /// The leader is asked to hand over.
    HandOver,
    /// All nodes take a snapshot at once.
    Snapshots,
    /// A follower is down until the log that it lacks is gone, so that it needs a snapshot; it may be killed again while it
    /// gets it.
    LongOutage,
    /// Lossy and slow links, while the leader is killed and another node is paused.
    Storm,
    /// A node is gone for good; another takes its place, under a new number.
    Replace,
    /// A node comes back without its data; it must be refused, then it is replaced.
    WipedDisk,
}

/// How much of the cluster a fault takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// One node at a time: service must go on.
    OneNode,
    /// Links of more than one node: service may be hampered.
    Network,
    /// A majority: there is no service.
    Majority,
}

impl Fault {
    /// The name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .expect("none is hidden")
            .get_name()
            .to_owned()
    }

    pub(crate) fn reach(self) -> Reach {
        match self {
            Self::KillAll | Self::IsolateAll | Self::Storm => Reach::Majority,
            Self::Ring | Self::Bridge | Self::Lossy | Self::Slow => Reach::Network,
            _ => Reach::OneNode,
        }
    }

    /// Why it cannot be had here, if so.
    pub(crate) fn missing(self, tools: &Tools) -> Option<&'static str> {
        match self {
            Self::LeaderClockAhead | Self::FollowerClockBehind if tools.faketime.is_none() => {
                Some("libfaketime is not installed (Debian: faketime)")
            }
            Self::LeaderSlowSync
            | Self::FollowerSlowSync
            | Self::LeaderSyncError
            | Self::FollowerSyncError
                if !tools.strace =>
            {
                Some("strace cannot interfere with processes here")
            }
            Self::FullDisk if !tools.tmpfs => {
                Some("no file system can be mounted here (needs root)")
            }
            _ => None,
        }
    }

    /// How often it comes, beside the others: those whose time without service is of most interest come more often.
    fn weight(self) -> usize {
        match self {
            Self::KillLeader | Self::PauseLeader | Self::IsolateLeader | Self::StopLeader => 3,
            _ => 1,
        }
    }
}

/// The faults of a run, in order, without end: rounds in which each comes as often as its weight says.
pub(crate) struct Schedule {
    chosen: Vec<Fault>,
    round: Vec<Fault>,
    random: Random,
}

impl Schedule {
    pub(crate) fn new(chosen: Vec<Fault>, seed: u64) -> Self {
        Self {
            chosen,
            round: Vec::new(),
            random: Random::new(seed, 1),
        }
    }

    pub(crate) fn next(&mut self) -> Fault {
        if self.round.is_empty() {
            let heavy = |fault: &Fault| vec![*fault; fault.weight()];
            self.round = self.chosen.iter().flat_map(heavy).collect();
            self.random.shuffle(&mut self.round);
        }
        self.round.pop().expect("some fault was chosen")
    }
}

/// A fault that was had.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) fault: Fault,
    /// Which nodes.
    pub(crate) nodes: Vec<u64>,
    /// When it began, in nanoseconds of the run.
    pub(crate) from: u64,
    /// When it was healed.
    pub(crate) healed: u64,
    /// When every member served again.
    pub(crate) recovered: u64,
    /// What was asserted meanwhile, and how often.
    pub(crate) note: String,
}

/// What faults are made with.
pub(crate) struct Chaos<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) shared: &'a Shared,
    pub(crate) probe: &'a Probe,
    pub(crate) random: Random,
}

/// What a fault came to, before it is known how long the recovery takes.
struct Held {
    nodes: Vec<u64>,
    healed: u64,
    note: String,
}

impl Chaos<'_> {
    /// Injects, holds, heals, and waits until the cluster has recovered.
    pub(crate) async fn have(&mut self, fault: Fault) -> anyhow::Result<Event> {
        let from = self.shared.recorder.now();
        let held = self.hold(fault).await?;
        self.cluster.net.heal();
        self.cluster.ready().await?;
        for id in self.cluster.ids() {
            if let Some(status) = self.cluster.exited(id) {
                anyhow::bail!("node {id} ended by itself with {status}");
            }
        }
        Ok(Event {
            fault,
            nodes: held.nodes,
            from,
            healed: held.healed,
            recovered: self.shared.recorder.now(),
            note: held.note,
        })
    }

    async fn hold(&mut self, fault: Fault) -> anyhow::Result<Held> {
        match fault {
            Fault::KillLeader => self.kill(true).await,
            Fault::KillFollower => self.kill(false).await,
            Fault::KillAll => self.kill_all().await,
            Fault::StopLeader => self.stop_leader().await,
            Fault::RollingRestart => self.rolling_restart().await,
            Fault::PauseLeader => self.pause(true).await,
            Fault::PauseFollower => self.pause(false).await,
            Fault::IsolateLeader => self.isolate(true).await,
            Fault::IsolateFollower => self.isolate(false).await,
            Fault::IsolateAll => self.isolate_all().await,
            Fault::LeaderCannotAsk => self.one_way(true).await,
            Fault::LeaderCannotBeAsked => self.one_way(false).await,
            Fault::AnswersLost => self.answers_lost().await,
            Fault::Ring => self.ring().await,
            Fault::Bridge => self.bridge().await,
            Fault::Lossy => self.lossy().await,
            Fault::Slow => self.slow().await,
            Fault::Narrow => self.narrow().await,
            Fault::LeaderClockAhead => self.clock(true, 3_600).await,
            Fault::FollowerClockBehind => self.clock(false, -3_600).await,
            Fault::LeaderSlowSync => self.slow_sync(true).await,
            Fault::FollowerSlowSync => self.slow_sync(false).await,
            Fault::LeaderSyncError => self.sync_error(true).await,
            Fault::FollowerSyncError => self.sync_error(false).await,
            Fault::FullDisk => self.full_disk().await,
            Fault::HandOver => self.hand_over().await,
            Fault::Snapshots => self.snapshots().await,
            Fault::LongOutage => self.long_outage().await,
            Fault::Storm => self.storm().await,
            Fault::Replace => self.replace().await,
            Fault::WipedDisk => self.wiped_disk().await,
        }
    }

    /// The leader, or one of the others.
    async fn target(&mut self, leader: bool) -> anyhow::Result<u64> {
        let now = self.cluster.leader().await?;
        if leader {
            return Ok(now);
        }
        let others: Vec<u64> = self
            .cluster
            .ids()
            .into_iter()
            .filter(|id| *id != now)
            .collect();
        Ok(*self.random.of(&others))
    }

    async fn pass(&mut self, least_ms: u64, most_ms: u64) {
        let time = self.random.between_ms(least_ms, most_ms);
        tokio::time::sleep(time).await;
    }

    /// Just healed.
    fn held(&self, nodes: Vec<u64>, note: impl Into<String>) -> Held {
        Held {
            nodes,
            healed: self.shared.recorder.now(),
            note: note.into(),
        }
    }
}
