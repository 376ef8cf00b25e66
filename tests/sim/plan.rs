//! What a seed stands for: the size of the cluster, the tuning, the load, and which faults come how often.
//!
//! A swarm (Groce and others, "Swarm Testing", 2012): each seed enables a random part of the faults only, with random
//! weights, because some failures hide behind others when everything goes wrong at once.

use crate::dice::Dice;

macro_rules! faults {
    ($($name:ident = $text:literal;)*) => {
        /// Something that can go wrong, or that an operator may do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault { $($name,)* }

        impl Fault {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name on the command line.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

faults! {
    Loss = "loss";
    Duplicates = "duplicates";
    Delay = "delay";
    Hold = "hold";
    SlowLink = "slow-link";
    PartitionOne = "partition-one";
    PartitionMinority = "partition-minority";
    PartitionOneWay = "partition-one-way";
    PartitionBridge = "partition-bridge";
    PartitionRing = "partition-ring";
    PartitionLeader = "partition-leader";
    PartitionClients = "partition-clients";
    Crash = "crash";
    CrashAll = "crash-all";
    LongOutage = "long-outage";
    PowerCut = "power-cut";
    PowerCutAll = "power-cut-all";
    Pause = "pause";
    PauseLeader = "pause-leader";
    ClockSkew = "clock-skew";
    ClockJump = "clock-jump";
    ClockDrift = "clock-drift";
    FlushFailure = "flush-failure";
    DiskFull = "disk-full";
    DamageLog = "damage-log";
    DamageState = "damage-state";
    DamageSnapshot = "damage-snapshot";
    Wipe = "wipe";
    Membership = "membership";
    Transfer = "transfer";
    Snapshot = "snapshot";
}

impl Fault {
    /// The fault of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.name() == name)
    }

    /// Whether it is a state of the whole run rather than an event.
    fn is_ambient(self) -> bool {
        matches!(
            self,
            Self::Loss | Self::Duplicates | Self::Delay | Self::ClockSkew | Self::ClockDrift
        )
    }

    /// How much likelier it is than others, where it is enabled.
    fn weight(self) -> u64 {
        match self {
            Self::Crash | Self::PowerCut | Self::PartitionLeader | Self::PauseLeader => 3,
            Self::Transfer | Self::Snapshot | Self::Membership => 2,
            _ => 1,
        }
    }
}

/// A run, as it is planned.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Nodes 1 to this found the cluster.
    pub(crate) founders: u64,
    /// How long things go wrong, in milliseconds.
    pub(crate) trouble_ms: u64,
    /// The faults that are enabled.
    pub(crate) enabled: Vec<Fault>,
    /// The faults that are events, by weight.
    pub(crate) events: Vec<(u64, Fault)>,
    /// The mean time between two of them, in milliseconds.
    pub(crate) gap_ms: u64,
    /// The longest that a fault lasts, unless it is meant to last long, in milliseconds.
    pub(crate) lasting_ms: u64,
    pub(crate) network: NetworkPlan,
    pub(crate) tuning: TuningPlan,
    pub(crate) load: LoadPlan,
}

/// How messages fare.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkPlan {
    /// The least and the greatest latency, in milliseconds.
    pub(crate) latency_ms: (u64, u64),
    /// The part of messages that is lost.
    pub(crate) loss: f64,
    /// The part that arrives twice.
    pub(crate) duplicates: f64,
    /// The part that is delayed by much more than the latency, and by how much at most, in milliseconds.
    pub(crate) delayed: (f64, u64),
}

/// How nodes are set up. Small numbers, so that snapshots, purges and chunks come often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TuningPlan {
    pub(crate) snapshot_every_entries: u64,
    pub(crate) keep_log_entries: u64,
    pub(crate) max_append_entries: u64,
    pub(crate) max_append_bytes: usize,
    pub(crate) log_cache_bytes: usize,
    pub(crate) max_image_bytes: usize,
    pub(crate) max_layer_bytes: usize,
    pub(crate) portion_pairs: usize,
    /// How long a node tries to have a write decided, and a read confirmed, in milliseconds.
    pub(crate) write_ms: u64,
    pub(crate) read_ms: u64,
    /// How long a sync of the log takes at the most, in milliseconds.
    pub(crate) sync_ms: u64,
}

/// What clients do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadPlan {
    pub(crate) clients: u64,
    pub(crate) users: u64,
    pub(crate) desks: u64,
    /// Bookable slots of a desk that clients fight for.
    pub(crate) slots: u64,
    /// The mean pause of a client between two requests, in milliseconds.
    pub(crate) think_ms: u64,
    /// How long a client waits for an answer as a rule, in milliseconds.
    pub(crate) patience_ms: u64,
    /// The part of requests that a client gives up early.
    pub(crate) impatience: f64,
    /// The part of writes that are sent again though they were answered.
    pub(crate) repeats: f64,
}

impl Plan {
    /// What `seed` stands for, with all faults or only those of `chosen`.
    pub(crate) fn new(seed: u64, chosen: Option<&[Fault]>) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let quiet = dice.chance(0.02);
        let part = 0.15 + 0.5 * dice.unit();
        let mut enabled = Vec::new();
        for fault in Fault::ALL {
            let drawn = dice.chance(part) && !quiet;
            let wanted = chosen.map_or(drawn, |chosen| chosen.contains(fault));
            if wanted {
                enabled.push(*fault);
            }
        }
        let mut events = Vec::new();
        for fault in Fault::ALL {
            let weight = fault.weight() * dice.between(1, 4);
            if enabled.contains(fault) && !fault.is_ambient() {
                events.push((weight, *fault));
            }
        }
        let founders = *dice.weighted(&[(7, 3), (3, 5)]);
        // Between nearly always broken and mostly whole: too much trouble hides as much as too little.
        let lasting_ms = *dice.pick(&[150, 400, 1_000, 2_500]);
        let gap_ms = lasting_ms * dice.pick(&[2, 4, 8, 16]) / 4;
        Self {
            seed,
            founders,
            trouble_ms: dice.between(6_000, 20_000),
            gap_ms,
            lasting_ms,
            network: NetworkPlan::draw(&mut dice, &enabled),
            tuning: TuningPlan::draw(&mut dice, seed),
            load: LoadPlan::draw(&mut dice),
            enabled,
            events,
        }
    }

    /// Whether this fault may come.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.enabled.contains(&fault)
    }

    /// In one line, for the trace.
    pub(crate) fn text(&self) -> String {
        let faults: Vec<_> = self.enabled.iter().map(|fault| fault.name()).collect();
        format!(
            "{} nodes, {} ms of trouble, one fault in {} ms of up to {} ms: {}; {:?}; {:?}; {:?}",
            self.founders,
            self.trouble_ms,
            self.gap_ms,
            self.lasting_ms,
            faults.join(" "),
            self.network,
            self.tuning,
            self.load
        )
    }
}

impl NetworkPlan {
    fn draw(dice: &mut Dice, enabled: &[Fault]) -> Self {
        let least = dice.between(0, 2);
        let most = least + *dice.pick(&[1, 3, 8, 20]);
        let (loss, duplicates) = (
            *dice.pick(&[0.002, 0.01, 0.05]),
            *dice.pick(&[0.002, 0.02, 0.1]),
        );
        let delayed = (
            *dice.pick(&[0.002, 0.02, 0.05]),
            *dice.pick(&[100, 400, 1_500]),
        );
        let if_on = |fault, value| {
            if enabled.contains(&fault) { value } else { 0.0 }
        };
        Self {
            latency_ms: (least, most),
            loss: if_on(Fault::Loss, loss),
            duplicates: if_on(Fault::Duplicates, duplicates),
            delayed: (if_on(Fault::Delay, delayed.0), delayed.1),
        }
    }
}

impl TuningPlan {
    fn draw(dice: &mut Dice, seed: u64) -> Self {
        Self {
            snapshot_every_entries: *dice.pick(&[20, 60, 200, 1_000]),
            keep_log_entries: *dice.pick(&[0, 5, 30, 200]),
            max_append_entries: *dice.pick(&[1, 4, 32, 300]),
            max_append_bytes: *dice.pick(&[2_000, 20_000, 1 << 20]),
            log_cache_bytes: *dice.pick(&[0, 4_000, 1 << 20]),
            max_image_bytes: *dice.pick(&[3_000, 1 << 20]),
            max_layer_bytes: *dice.pick(&[500, 4_000, 40_000, 8 << 20]),
            portion_pairs: *dice.pick(&[1, 8, 128]),
            write_ms: *dice.pick(&[150, 600, 5_000]),
            read_ms: *dice.pick(&[150, 600, 3_000]),
            sync_ms: *Dice::new(seed, "syncs").pick(&[2, 6, 20]),
        }
    }
}

impl LoadPlan {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            clients: dice.between(3, 10),
            users: dice.between(2, 8),
            desks: dice.between(1, 5),
            slots: dice.between(2, 8),
            think_ms: *dice.pick(&[5, 20, 60, 200]),
            patience_ms: *dice.pick(&[500, 1_500, 3_500, 7_000]),
            impatience: *dice.pick(&[0.0, 0.05, 0.3]),
            repeats: *dice.pick(&[0.0, 0.02, 0.1]),
        }
    }
}
