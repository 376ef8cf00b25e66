//! What came of a check.

use std::fmt;

use super::history::{History, Record};
use super::text;

/// How many records of a violation are shown: the last ones, which lead up to it.
const SHOWN: usize = 20;

/// What came of a check.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Everything can be explained.
    Linearizable {
        /// Operations, after tries under one key were merged.
        operations: usize,
        /// Objects searched, by real time and by log index.
        objects: usize,
        /// Steps of search.
        steps: u64,
    },
    /// Something cannot.
    Violation(Box<Violation>),
    /// Not known, which is a failure.
    OutOfBudget {
        /// The object whose search did not end.
        object: String,
        /// How many operations concern it.
        operations: usize,
    },
}

/// What cannot be explained.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// In a sentence.
    pub(crate) what: String,
    /// The records that show it, a history of their own.
    pub(crate) records: Vec<Record>,
}

impl Verdict {
    /// Whether the check passed.
    pub(crate) fn is_linearizable(&self) -> bool {
        matches!(self, Self::Linearizable { .. })
    }
}

impl Violation {
    pub(super) fn of<'a>(what: &str, records: impl IntoIterator<Item = &'a Record>) -> Self {
        Self {
            what: what.to_owned(),
            records: records.into_iter().cloned().collect(),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linearizable {
                operations,
                objects,
                steps,
            } => {
                write!(
                    f,
                    "linearizable: {operations} operations, {objects} objects, {steps} steps"
                )
            }
            Self::Violation(violation) => violation.fmt(f),
            Self::OutOfBudget { object, operations } => {
                write!(
                    f,
                    "out of budget, so not known and a failure: {object}, {operations} operations"
                )
            }
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "not linearizable: {}", self.what)?;
        let left_out = self.records.len().saturating_sub(SHOWN);
        if left_out > 0 {
            writeln!(f, "  ... {left_out} before")?;
        }
        let shown = History {
            records: self.records[left_out..].to_vec(),
        };
        f.write_str(&text::write(&shown))
    }
}
