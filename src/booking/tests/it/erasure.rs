//! What must be gone is gone: the data of an erased user, and keys that no longer sign.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::world::World;
use mesto_booking::account::{Role, UserStatus};
use mesto_booking::command::Command;
use mesto_booking::instant::{DAY_MS, MINUTE_MS};
use mesto_booking::secret::{KeySecret, TokenHash};
use mesto_booking::{Actor, Outcome, query};

/// The kind of the records that remember answers; they are forgotten in their own time.
const ANSWERS: u8 = 0x40;

/// How many records, other than remembered answers, hold these bytes in their key or value.
fn records_with(world: &World, needle: &[u8]) -> usize {
    let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let records = world.store.iter().filter(|(key, _)| key[0] != ANSWERS);
    records
        .filter(|(key, value)| holds(key) || holds(value))
        .count()
}

#[test]
fn nothing_personal_is_left_of_an_erased_user() {
    let mut world = World::new();
    let user = world.register("anna");
    let display_name = Some("Anna Ivanova".parse().unwrap());
    world.must(
        Actor::Member(user),
        Command::UpdateUser {
            user,
            display_name,
            expected_version: None,
        },
    );
    let email = "anna@example.com".parse().unwrap();
    world.must(
        Actor::Operator,
        Command::SetRole {
            email,
            role: Role::Admin,
        },
    );
    let refresh_token_hash = TokenHash::new(*b"a hash that occurs nowhere else!");
    world.must(
        Actor::System,
        Command::OpenSession {
            user,
            credential_version: 1,
            refresh_token_hash,
            ttl_ms: DAY_MS,
        },
    );

    let personal: [&[u8]; 4] = [
        b"anna@example.com",
        b"Anna Ivanova",
        b"$fake$anna",
        refresh_token_hash.expose(),
    ];
    for needle in personal {
        assert!(records_with(&world, needle) > 0, "it was there: {needle:?}");
    }
    world.must(Actor::Member(user), Command::DeleteUser { user });
    for needle in personal {
        assert_eq!(records_with(&world, needle), 0, "it is gone: {needle:?}");
    }
    let left = query::user(&world.store, user).unwrap();
    assert_eq!((left.status, left.role), (UserStatus::Erased, Role::Member));
    assert_eq!(query::totals(&world.store).users, 0);
}

#[test]
fn a_key_that_no_longer_signs_says_since_when() {
    let mut world = World::new();
    let mut replaces = None;
    for number in 0..3 {
        world.now = world.now.plus_ms(MINUTE_MS);
        let secret = KeySecret::new([number; 32]);
        let Outcome::SigningKey(id) = world.must(
            Actor::System,
            Command::InstallSigningKey { secret, replaces },
        ) else {
            panic!("no key")
        };
        replaces = Some(id);
    }
    let keys = query::signing_keys(&world.store);
    let retired: Vec<_> = keys.iter().map(|key| key.retired_at).collect();
    assert_eq!(
        retired,
        [Some(keys[1].created_at), Some(keys[2].created_at), None]
    );
    assert_eq!(keys[2].secret.expose(), &[2; 32]);
}
