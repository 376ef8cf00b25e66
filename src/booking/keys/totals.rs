//! How much of everything there is.
//!
//! Key: `0x50`. Value: [`Totals`].

use super::super::reservation::Totals;
use super::super::store::{Store, StoreMut};

const KIND: u8 = 0x50;

/// The counts.
pub(crate) fn get(store: &dyn Store) -> Totals {
    super::get(store, &[KIND]).unwrap_or_default()
}

/// Changes the counts.
pub(crate) fn change(store: &mut dyn StoreMut, change: impl FnOnce(&mut Totals)) {
    let mut totals = get(store);
    change(&mut totals);
    super::put(store, &[KIND], &totals);
}
