//! What happens in a run, as it is noted down: the history of an epoch for the checker, and for the report a sample of
//! each operation and everything that looked strange.

use std::time::Instant;

use parking_lot::Mutex;

use crate::checker::history::{Action, Answer, History, Record};

/// What kind an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Create,
    Cancel,
    Move,
    Availability,
    List,
    Get,
    LocalRead,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Create,
        Self::Cancel,
        Self::Move,
        Self::Availability,
        Self::List,
        Self::Get,
        Self::LocalRead,
    ];

    pub(crate) fn of(action: &Action) -> Self {
        match action {
            _ if action.is_local() => Self::LocalRead,
            Action::Create { .. } => Self::Create,
            Action::Cancel { .. } => Self::Cancel,
            Action::Move { .. } => Self::Move,
            Action::Availability { .. } => Self::Availability,
            Action::List { .. } => Self::List,
            Action::Get { .. } => Self::Get,
        }
    }

    pub(crate) fn is_write(self) -> bool {
        matches!(self, Self::Create | Self::Cancel | Self::Move)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Cancel => "cancel",
            Self::Move => "move",
            Self::Availability => "availability",
            Self::List => "list",
            Self::Get => "get",
            Self::LocalRead => "local read",
        }
    }
}

/// One operation of a client, with all its tries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) kind: Kind,
    /// When it was first tried, in nanoseconds of the run.
    pub(crate) from: u64,
    /// When it was settled or given up.
    pub(crate) until: u64,
    pub(crate) tries: u32,
    pub(crate) end: End,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was done.
    Done,
    /// A rule of booking said no.
    Refused,
    /// Never answered, though the client tried as long as it should.
    Unanswered,
    /// The client gave up early, as some do.
    GivenUp,
}

/// Notes of all clients.
pub(crate) struct Recorder {
    began: Instant,
    records: Mutex<Vec<Record>>,
    samples: Mutex<Vec<Sample>>,
    strange: Mutex<Vec<String>>,
}

/// How much that is strange is kept word for word.
const STRANGE_KEPT: usize = 50;

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            records: Mutex::default(),
            samples: Mutex::default(),
            strange: Mutex::default(),
        }
    }

    /// Nanoseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a run ends within centuries")
    }

    pub(crate) fn record(
        &self,
        client: u64,
        call: u64,
        min_index: Option<u64>,
        action: Action,
        answer: Option<Answer>,
    ) {
        self.records.lock().push(Record {
            client,
            call,
            min_index,
            action,
            answer,
        });
    }

    pub(crate) fn sample(&self, sample: Sample) {
        self.samples.lock().push(sample);
    }

    /// An answer that no correct system gives.
    pub(crate) fn strange(&self, what: String) {
        let mut strange = self.strange.lock();
        if strange.len() < STRANGE_KEPT {
            strange.push(what);
        }
    }

    /// The history since the last time this was asked.
    pub(crate) fn take_history(&self) -> History {
        History {
            records: std::mem::take(&mut self.records.lock()),
        }
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().clone()
    }

    pub(crate) fn take_strange(&self) -> Vec<String> {
        std::mem::take(&mut self.strange.lock())
    }
}
