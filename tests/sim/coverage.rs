//! How often everything that a run is for really happened.
//!
//! A simulator that injects nothing finds nothing. Each fault and each event has a name here, and over a run of a
//! hundred seeds or more each name must have fired: see [`Event::ALL`].

use std::collections::BTreeMap;

macro_rules! events {
    ($($name:ident = $text:literal;)*) => {
        /// Something that a run counts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Event { $($name,)* }

        impl Event {
            /// All that must fire.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in the table.
            pub(crate) fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

events! {
    // The network.
    MessageLost = "network: message lost";
    MessageDuplicated = "network: message delivered twice";
    MessageDelayed = "network: message delayed on purpose";
    MessageReordered = "network: message overtaken by a later one";
    PartitionOne = "partition: one node";
    PartitionMinority = "partition: a minority";
    PartitionOneWay = "partition: one way";
    PartitionBridge = "partition: bridge";
    PartitionRing = "partition: ring";
    PartitionLeader = "partition: the leader alone";
    PartitionClients = "partition: clients from a node";
    LinkHeld = "network: link held, then released at once";
    LinkSlow = "network: link slow";
    // Processes and machines.
    Crash = "process: killed";
    CrashAll = "process: all killed at once";
    LongOutage = "process: long outage";
    PowerCut = "power: cut on one node";
    PowerCutAll = "power: cut on all at once";
    LogTailLost = "power: unsynced log records lost";
    LogTailTorn = "power: a part of the unsynced log kept, records lost";
    StateTailLost = "power: unsynced writes to the state lost";
    StateTailTorn = "power: a part of the unsynced state kept";
    Pause = "process: paused and resumed";
    PauseLeader = "process: the leader paused and resumed";
    // Clocks.
    ClockSkew = "clock: runs apart from the others";
    ClockJumpForward = "clock: jumped forward";
    ClockJumpBack = "clock: jumped back";
    ClockDrift = "clock: runs faster or slower";
    // Disks.
    FlushFailed = "disk: flush failed, node stopped";
    DiskFull = "disk: full, node stopped";
    LogDamaged = "disk: a log record damaged";
    LogDamageFound = "disk: damaged log record found";
    StateDamaged = "disk: a part of the state unreadable";
    StateDamageFound = "disk: unreadable state found";
    SnapshotDamaged = "disk: a snapshot damaged";
    Wiped = "disk: wiped under its old id, refused";
    // Operators.
    NodeAdded = "membership: node added";
    NodeRemoved = "membership: node removed";
    LeaderTransferred = "leader handed over";
    SnapshotTaken = "snapshot taken on demand";
    // What consensus did about it.
    Election = "raft: leader elected";
    Truncated = "raft: uncommitted entries truncated";
    SnapshotBuilt = "raft: snapshot built";
    SnapshotInstalled = "raft: snapshot installed";
    LogPurged = "raft: log purged";
    Forwarded = "raft: command forwarded to the leader";
    EntryRepeated = "raft: command in the log more than once";
    // What clients did and were told.
    GaveUp = "client: gave up waiting";
    Retried = "client: tried again with the same key";
    SwitchedNode = "client: tried again on another node";
    AnsweredFromMemory = "client: retry answered from memory";
    ConnectionRefused = "client: connection refused";
    UnknownOutcome = "client: told that the outcome is unknown";
    NotApplied = "client: told that nothing was applied";
    Booked = "booking: made";
    Moved = "booking: moved";
    Cancelled = "booking: cancelled";
    SlotTaken = "booking: refused, slot taken";
    UserBooked = "booking: refused, user is elsewhere";
    ScheduleChanged = "layout: schedule changed";
    Registered = "account: registered";
    SignedIn = "account: signed in";
    WrongPassword = "account: wrong password refused";
    Refreshed = "account: session refreshed";
    SignedOut = "account: signed out";
    PasswordChanged = "account: password changed";
    TokenExpired = "account: access token expired";
    Renamed = "account: renamed";
    Erased = "account: erased";
    BroughtIn = "booking: brought in by an import";
    LocalRead = "read: local";
    LocalReadRefused = "read: local, too stale";
    MinIndexRead = "read: after an index";
    // The second half of a run.
    Liveness = "liveness: a quorum elected, served, converged";
    LivenessWithout = "liveness: with others gone for good";
}

/// From so many seeds on what is rare must have happened, too.
const SEEDS_FOR_RARE_EVENTS: u64 = 400;

impl Event {
    /// Whether it comes in a few of a hundred seeds only: a group of entries is seldom more than one write.
    fn is_rare(self) -> bool {
        self == Self::LogTailTorn
    }
}

/// Counts by event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coverage(BTreeMap<Event, u64>);

impl Coverage {
    /// It happened.
    pub(crate) fn count(&mut self, event: Event) {
        self.add(event, 1);
    }

    /// It happened so many times.
    pub(crate) fn add(&mut self, event: Event, times: u64) {
        *self.0.entry(event).or_default() += times;
    }

    /// Adds another run's counts.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (event, times) in &other.0 {
            self.add(*event, *times);
        }
    }

    /// How often it happened.
    pub(crate) fn of(&self, event: Event) -> u64 {
        self.0.get(&event).copied().unwrap_or(0)
    }

    /// What never happened, though in so many seeds it should.
    pub(crate) fn missing(&self, seeds: u64) -> Vec<Event> {
        let never = |event: &&Event| self.of(**event) == 0;
        let due = |event: &&Event| seeds >= SEEDS_FOR_RARE_EVENTS || !event.is_rare();
        Event::ALL
            .iter()
            .filter(never)
            .filter(due)
            .copied()
            .collect()
    }
}
