//! The end of an epoch: everything is read once more, through every node, and the history is judged.
//!
//! The checker says whether the history is linearizable; since the last reads are part of it, that includes that nothing
//! acknowledged is lost. A simpler look, which shares no code with the checker, says the same of the plainest case:
//! bookings that were acknowledged and that nobody touched again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::checker::history::{Action, History, Id, Outcome, Refusal, Sight};
use crate::checker::{self, BUDGET, Verdict, text};
use crate::plant::CHANGES;

/// What came of judging one epoch.
#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    pub(crate) epoch: u64,
    /// The checker's words.
    pub(crate) verdict: String,
    /// Whether the checker found something that cannot be explained; one that gave up has not.
    pub(crate) violation: bool,
    /// How many acknowledged bookings that nobody touched again were found at the end.
    pub(crate) kept: usize,
    /// What is wrong, if anything.
    pub(crate) faults: Vec<String>,
    /// Which planted changes were tried, and whether each was caught; none where the history is at fault itself.
    pub(crate) changes: Vec<(&'static str, Option<bool>)>,
    /// Where the history is kept, if it is at fault.
    pub(crate) file: Option<PathBuf>,
}

/// Judges the history of an epoch. One that is at fault is kept in `folder`.
pub(crate) fn judge(epoch: u64, history: &History, folder: &Path) -> Judgement {
    let verdict = checker::check(history, BUDGET);
    let mut faults = Vec::new();
    if !verdict.is_linearizable() {
        faults.push(verdict.to_string());
    }
    let kept = match untouched(history) {
        Ok(kept) => kept,
        Err(lost) => {
            faults.push(lost);
            0
        }
    };
    let changes = if faults.is_empty() {
        planted(history)
    } else {
        Vec::new()
    };
    for (name, caught) in &changes {
        if *caught == Some(false) {
            faults.push(format!("the checker let a planted bug pass: {name}"));
        }
    }
    let file = (!faults.is_empty()).then(|| folder.join(format!("history-{epoch}.txt")));
    if let Some(file) = &file
        && let Err(error) = std::fs::write(file, text::write(history))
    {
        faults.push(format!("the history could not be kept: {error}"));
    }
    Judgement {
        epoch,
        violation: matches!(verdict, Verdict::Violation(_)),
        verdict: verdict
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
        kept,
        faults,
        changes,
        file,
    }
}

/// Each change of one answer that a checker must catch, tried.
fn planted(history: &History) -> Vec<(&'static str, Option<bool>)> {
    // A checker that gives up has caught nothing.
    let caught =
        |changed: History| matches!(checker::check(&changed, BUDGET), Verdict::Violation(_));
    CHANGES
        .iter()
        .map(|(name, change)| (*name, change(history).map(caught)))
        .collect()
}

/// Every booking that was acknowledged, and that nobody tried to cancel or move, is in its user's last list as it was
/// acknowledged. Gives how many.
fn untouched(history: &History) -> Result<usize, String> {
    let mut touched: BTreeSet<&Id> = BTreeSet::new();
    let mut made: BTreeMap<&Id, (u64, &Id, &Sight)> = BTreeMap::new();
    let mut last: BTreeMap<&Id, (u64, &[Sight])> = BTreeMap::new();
    for record in &history.records {
        let outcome = record.answer.as_ref().map(|answer| &answer.outcome);
        match (&record.action, outcome) {
            (
                Action::Cancel { .. } | Action::Move { .. },
                Some(Outcome::Refused(Refusal::NotApplied)),
            ) => {}
            (Action::Cancel { booking, .. } | Action::Move { booking, .. }, _) => {
                touched.insert(booking);
            }
            (Action::Create { user, .. }, Some(Outcome::Booking(sight))) => {
                let at = record
                    .answer
                    .as_ref()
                    .map_or(record.call, |answer| answer.at);
                made.insert(&sight.booking, (at, user, sight));
            }
            (
                Action::List { local: false, user },
                Some(Outcome::Bookings { items, whole: true }),
            ) => {
                let seen = last.entry(user).or_default();
                if record.call >= seen.0 {
                    *seen = (record.call, items);
                }
            }
            _ => {}
        }
    }
    let mut kept = 0;
    for (booking, (at, user, sight)) in made {
        let listed = last.get(user).filter(|(asked, _)| *asked > at);
        // After a run that broke off there may have been no last look.
        let Some((_, items)) = listed.filter(|_| !touched.contains(booking)) else {
            continue;
        };
        if !items.contains(sight) {
            return Err(format!(
                "{booking} of {user} was acknowledged, never touched again, and is lost: {sight:?}"
            ));
        }
        kept += 1;
    }
    Ok(kept)
}
