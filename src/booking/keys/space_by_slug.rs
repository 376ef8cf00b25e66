//! Which space has a slug: what keeps slugs unique.
//!
//! Key: `0x11`, the slug. Value: [`SpaceId`].

use super::super::ids::SpaceId;
use super::super::store::{Store, StoreMut};
use super::super::text::Slug;

const KIND: u8 = 0x11;

fn key(slug: &Slug) -> Vec<u8> {
    super::key(KIND, &[slug.as_str().as_bytes()])
}

/// The space with the slug.
pub(crate) fn get(store: &dyn Store, slug: &Slug) -> Option<SpaceId> {
    super::get(store, &key(slug))
}

/// Gives the slug to a space.
pub(crate) fn put(store: &mut dyn StoreMut, slug: &Slug, space: SpaceId) {
    super::put(store, &key(slug), &space);
}

/// Sets the slug free.
pub(crate) fn delete(store: &mut dyn StoreMut, slug: &Slug) {
    store.delete(&key(slug));
}
