//! The state as the engine has it: what an open begins with and a checker reads.

use std::collections::BTreeSet;

use super::head::{FIRST_GENERATION, Head, LAST_GENERATION};
use super::layer::Frozen;
use super::merge::{self, Range, scan_generation, successor};
use super::{Applied, Digest, redo};
use crate::{Engine, Order, StorageError, Tree};

const ALL: Range<'_> = Range {
    from: &[],
    to: &[],
    order: Order::Ascending,
};

/// What an open found.
pub(super) struct Stored {
    pub(super) head: Head,
    /// Whether there was a head.
    pub(super) begun: bool,
    /// A layer that the head names and that was not carried to its end.
    pub(super) unfinished: Option<Frozen>,
    /// Generations to be removed.
    pub(super) dead: BTreeSet<u8>,
}

/// Reads the head and the layer that it may name.
///
/// # Errors
/// `Corruption`; `Io` or `Poisoned` of the engine.
pub(super) fn open(engine: &dyn Engine) -> Result<Stored, StorageError> {
    let found = Head::read(engine)?;
    let begun = found.is_some();
    let stored = found.unwrap_or_else(Head::fresh);
    let head = stored.with_pieces(0);
    if !begun && !scan_generation(engine, head.generation, ALL, 1)?.is_empty() {
        return Err(StorageError::corruption(
            "the state has pairs, but its head is missing",
        ));
    }
    let unfinished = match stored.redo_pieces {
        0 => None,
        pieces => {
            tracing::info!(
                index = head.applied.index,
                pieces,
                "going on with a layer of the state that was not carried to its end"
            );
            Some(Frozen {
                layer: redo::read(engine, &stored)?,
                head: head.clone(),
            })
        }
    };
    Ok(Stored {
        dead: dead_generations(engine, head.generation)?,
        head,
        begun,
        unfinished,
    })
}

fn dead_generations(engine: &dyn Engine, live: u8) -> Result<BTreeSet<u8>, StorageError> {
    let mut dead = BTreeSet::new();
    let mut next = FIRST_GENERATION;
    while next <= LAST_GENERATION {
        let found = engine.scan(Tree::State, &[next], &[], Order::Ascending, 1)?;
        let Some(generation) = found.first().and_then(|(key, _)| key.first()) else {
            break;
        };
        if *generation != live {
            dead.insert(*generation);
        }
        next = generation.saturating_add(1);
    }
    Ok(dead)
}

/// What [`recompute`] found.
pub(crate) struct Recomputed {
    pub(crate) applied: Applied,
    pub(crate) stored: Digest,
    pub(crate) computed: Digest,
    pub(crate) pairs: u64,
}

/// Reads all live pairs and computes their digest anew: what a checker compares.
///
/// # Errors
/// `Corruption`; `Io` or `Poisoned` of the engine.
pub(crate) fn recompute(engine: &dyn Engine) -> Result<Recomputed, StorageError> {
    const PAGE_PAIRS: usize = 1024;
    let stored = Head::read(engine)?.unwrap_or_else(Head::fresh);
    let unfinished = redo::read(engine, &stored)?;
    let mut digest = Digest::EMPTY;
    let mut pairs = 0;
    let mut cursor = Vec::new();
    loop {
        let range = Range {
            from: &cursor,
            ..ALL
        };
        let changes = vec![unfinished.changes(range)];
        let page = merge::scan(engine, stored.generation, changes, range, PAGE_PAIRS)?;
        let Some((last, _)) = page.last() else { break };
        let next = successor(last);
        for (key, value) in page {
            digest.add(&key, &value);
            pairs += 1;
        }
        cursor = next;
    }
    Ok(Recomputed {
        applied: stored.applied,
        stored: stored.digest,
        computed: digest,
        pairs,
    })
}
