//! One sorted sequence out of the engine's pairs and the changes above them.

use std::iter::Peekable;

use super::head::{stored_end, stored_key};
use crate::{Engine, Order, Pair, StorageError, Tree};

/// Changes in the order of a scan: keys with their values, `None` where the key was removed.
pub(super) type Changes<'a> = Box<dyn Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + 'a>;

/// Most pairs fetched from the engine at a time.
const FETCH_PAIRS: usize = 512;

/// A range of keys, `[from, to)`, in one direction; an empty `to` means no bound.
#[derive(Clone, Copy)]
pub(super) struct Range<'a> {
    pub(super) from: &'a [u8],
    pub(super) to: &'a [u8],
    pub(super) order: Order,
}

impl Range<'_> {
    /// Whether no key can lie in it.
    pub(super) fn is_empty(&self) -> bool {
        !self.to.is_empty() && self.from >= self.to
    }
}

/// The first `limit` pairs of a generation in `range`, as `changes` (the newest first) make
/// them of what the engine holds.
///
/// While it runs the engine may be given what `changes` hold, and nothing else.
pub(super) fn scan(
    engine: &dyn Engine,
    generation: u8,
    changes: Vec<Changes<'_>>,
    range: Range<'_>,
    limit: usize,
) -> Result<Vec<Pair>, StorageError> {
    if range.is_empty() || limit == 0 {
        return Ok(Vec::new());
    }
    let mut changes: Vec<_> = changes.into_iter().map(Iterator::peekable).collect();
    changes.retain_mut(|source| source.peek().is_some());
    if changes.is_empty() {
        return scan_generation(engine, generation, range, limit);
    }
    let mut stored = Stored::new(engine, generation, range, limit.min(FETCH_PAIRS));
    let comes_first = |a: &[u8], b: &[u8]| match range.order {
        Order::Ascending => a < b,
        Order::Descending => a > b,
    };
    let mut pairs = Vec::new();
    while pairs.len() < limit {
        let changed = first_key(&mut changes, comes_first);
        let unchanged = stored.key()?;
        match (changed, unchanged) {
            (None, None) => break,
            (Some(key), unchanged) if unchanged.is_none_or(|other| !comes_first(other, key)) => {
                if unchanged == Some(key) {
                    stored.skip();
                }
                if let Some(value) = take(&mut changes, key) {
                    pairs.push((key.to_vec(), value.to_vec()));
                }
            }
            _ => pairs.extend(stored.next()),
        }
    }
    Ok(pairs)
}

fn first_key<'a>(
    changes: &mut [Peekable<Changes<'a>>],
    comes_first: impl Fn(&[u8], &[u8]) -> bool,
) -> Option<&'a [u8]> {
    changes
        .iter_mut()
        .filter_map(|source| source.peek().map(|(key, _)| *key))
        .reduce(|first, key| if comes_first(key, first) { key } else { first })
}

/// Moves every source past `key` and gives what the newest says.
fn take<'a>(changes: &mut [Peekable<Changes<'a>>], key: &[u8]) -> Option<&'a [u8]> {
    let mut newest = None;
    for source in changes {
        if let Some((_, value)) = source.next_if(|(other, _)| *other == key) {
            newest.get_or_insert(value);
        }
    }
    newest.flatten()
}

/// The engine's pairs, fetched portion by portion.
struct Stored<'a> {
    engine: &'a dyn Engine,
    generation: u8,
    from: Vec<u8>,
    to: Vec<u8>,
    order: Order,
    portion: usize,
    fetched: std::vec::IntoIter<Pair>,
    ended: bool,
}

impl<'a> Stored<'a> {
    fn new(engine: &'a dyn Engine, generation: u8, range: Range<'_>, portion: usize) -> Stored<'a> {
        Stored {
            engine,
            generation,
            from: range.from.to_vec(),
            to: range.to.to_vec(),
            order: range.order,
            portion,
            fetched: Vec::new().into_iter(),
            ended: false,
        }
    }

    /// The key of the next pair.
    fn key(&mut self) -> Result<Option<&[u8]>, StorageError> {
        if self.fetched.as_slice().is_empty() && !self.ended {
            self.fetch()?;
        }
        Ok(self
            .fetched
            .as_slice()
            .first()
            .map(|(key, _)| key.as_slice()))
    }

    fn next(&mut self) -> Option<Pair> {
        self.fetched.next()
    }

    fn skip(&mut self) {
        self.fetched.next();
    }

    fn fetch(&mut self) -> Result<(), StorageError> {
        let range = Range {
            from: &self.from,
            to: &self.to,
            order: self.order,
        };
        if range.is_empty() {
            self.ended = true;
            return Ok(());
        }
        let pairs = scan_generation(self.engine, self.generation, range, self.portion)?;
        self.ended = pairs.len() < self.portion;
        if let Some((last, _)) = pairs.last() {
            match self.order {
                Order::Ascending => self.from = successor(last),
                // Nothing comes before the empty key, and as a bound it would mean none.
                Order::Descending if last.is_empty() => self.ended = true,
                Order::Descending => self.to = last.clone(),
            }
        }
        self.fetched = pairs.into_iter();
        Ok(())
    }
}

/// What the engine holds of a generation.
pub(super) fn scan_generation(
    engine: &dyn Engine,
    generation: u8,
    range: Range<'_>,
    limit: usize,
) -> Result<Vec<Pair>, StorageError> {
    let from = stored_key(generation, range.from);
    let to = stored_end(generation, range.to);
    let mut pairs = engine.scan(Tree::State, &from, &to, range.order, limit)?;
    for (key, _) in &mut pairs {
        key.remove(0);
    }
    Ok(pairs)
}

/// The smallest key after `key`.
pub(super) fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
