//! What reads find: pages of lists, things by their ids and names, and answers that were given.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::world::{World, desk_draft, moment};
use mesto_booking::command::Command;
use mesto_booking::instant::{DAY_MS, HOUR_MS, MINUTE_MS};
use mesto_booking::layout::Point;
use mesto_booking::query::MAX_PAGE_ITEMS;
use mesto_booking::reservation::EventKind;
use mesto_booking::secret::{KeySecret, TokenHash};
use mesto_booking::{Actor, DedupKey, Fingerprint, Interval, Outcome, Refusal, Stamp, query};

#[test]
fn accounts_and_spaces_come_in_pages_oldest_first() {
    let mut world = World::new();
    let users: Vec<_> = (0..3)
        .map(|n| world.register(&format!("user-{n}")))
        .collect();
    let page = |after, limit| {
        let page = query::users(&world.store, after, limit);
        let ids: Vec<_> = page.items.iter().map(|user| user.id).collect();
        (ids, page.next)
    };
    assert_eq!(page(None, 2), (users[..2].to_vec(), Some(users[1])));
    assert_eq!(page(Some(users[1]), 2), (users[2..].to_vec(), None));
    // A page of exactly what is left is the last one.
    assert_eq!(page(None, 3), (users.clone(), None));
    assert_eq!(
        page(None, 0),
        (users[..1].to_vec(), Some(users[0])),
        "no page is empty"
    );

    let spaces: Vec<_> = (0..=MAX_PAGE_ITEMS)
        .map(|n| world.make_space(&format!("space-{n}"), |_| {}))
        .collect();
    let page = query::spaces(&world.store, None, usize::MAX);
    let ids: Vec<_> = page.items.iter().map(|space| space.id).collect();
    assert_eq!(ids, spaces[..MAX_PAGE_ITEMS]);
    assert_eq!(page.next, ids.last().copied());
}

#[test]
fn a_space_is_found_by_its_id_and_by_its_slug() {
    let mut world = World::new();
    let nevsky = world.make_space("nevsky", |_| {});
    world.make_space("moika", |_| {});
    let found = |name: &str| query::space_by_id_or_slug(&world.store, name).map(|space| space.id);
    assert_eq!(found("nevsky"), Some(nevsky));
    assert_eq!(found(&nevsky.to_string()), Some(nevsky));
    assert_eq!(found("arbat"), None);
    assert_eq!(found("Not a slug"), None);
    assert_eq!(found("spc_0000000000000"), None);
}

#[test]
fn desks_are_listed_by_space_and_by_hall() {
    let mut world = World::new();
    let space = world.make_space("nevsky", |_| {});
    let (main, attic) = (
        world.make_hall(space, "main"),
        world.make_hall(space, "attic"),
    );
    let below = world.make_desks(main, &["A-1", "A-2"]);
    let above = world.make_desks(attic, &["B-1"]);
    let in_hall = |hall| {
        let hall = query::hall(&world.store, hall).unwrap();
        let desks = query::desks_of_hall(&world.store, &hall);
        desks.into_iter().map(|desk| desk.id).collect::<Vec<_>>()
    };
    assert_eq!(in_hall(main), below);
    assert_eq!(in_hall(attic), above);
    let all = query::desks_of_space(&world.store, space);
    let all: Vec<_> = all.into_iter().map(|desk| desk.id).collect();
    assert_eq!(all, [below, above].concat());
}

#[test]
fn alternatives_come_in_order_of_distance_on_the_plan() {
    let mut world = World::new();
    let space = world.make_space("nevsky", |_| {});
    let hall = world.make_hall(space, "main");
    let at = [
        ("here", 100, 100),
        ("third", 107, 100),
        ("second", 100, 106),
        ("first", 103, 104),
    ];
    let desks = at.map(|(label, x, y)| desk_draft(label, None, Point { x, y }));
    let desks = desks.to_vec();
    let Outcome::Desks(ids) = world.must(Actor::Operator, Command::PutDesks { hall, desks }) else {
        panic!("no desks")
    };
    let here = query::desk(&world.store, ids[0]).unwrap();
    let hour = Interval::new(moment(1, 10 * 60), moment(1, 11 * 60)).unwrap();
    let near = query::alternatives(&world.store, &here, hour, 3);
    let labels: Vec<_> = near.iter().map(|desk| desk.label.as_str()).collect();
    assert_eq!(labels, ["first", "second", "third"]);
}

#[test]
fn sessions_and_keys_are_found_by_their_ids() {
    let mut world = World::new();
    let user = world.register("anna");
    let open = Command::OpenSession {
        user,
        credential_version: 1,
        refresh_token_hash: TokenHash::new([1; 32]),
        ttl_ms: DAY_MS,
    };
    let Outcome::Session { id, expires_at, .. } = world.must(Actor::System, open) else {
        panic!("no session")
    };
    let session = query::session(&world.store, id).unwrap();
    assert_eq!((session.user, session.expires_at), (user, expires_at));
    assert_eq!(expires_at, world.now.plus_ms(DAY_MS));

    let secret = KeySecret::new([9; 32]);
    let install = Command::InstallSigningKey {
        secret: secret.clone(),
        replaces: None,
    };
    let Outcome::SigningKey(id) = world.must(Actor::System, install) else {
        panic!("no key")
    };
    assert!(query::signing_key(&world.store, id).unwrap().secret == secret);
}

#[test]
fn the_ends_of_a_space_s_events_are_found() {
    let mut world = World::new();
    let space = world.make_space("nevsky", |_| {});
    let made = world.index;
    let hall = world.make_hall(space, "main");
    // Another space, after and before it, has events of its own.
    let other = world.make_space("moika", |_| {});
    let oldest = query::oldest_event(&world.store, space).unwrap();
    assert_eq!((oldest.index, oldest.kind), (made, EventKind::SpaceChanged));
    let newest = query::newest_event(&world.store, space).unwrap();
    assert_eq!(newest.kind, EventKind::HallChanged { hall });
    assert_eq!(newest.index, world.index - 1);
    assert_eq!(
        query::newest_event(&world.store, other).unwrap().index,
        world.index
    );
}

#[test]
fn each_space_forgets_its_own_events() {
    let mut world = World::new();
    let spaces = ["nevsky", "moika"].map(|slug| world.make_space(slug, |_| {}));
    let made = world.index;
    world.make_hall(spaces[1], "main");
    world.now = world.now.plus_ms(73 * HOUR_MS);
    // What comes anew makes way for itself.
    world.make_hall(spaces[1], "attic");
    let floors = spaces.map(|space| query::event_floor(&world.store, space));
    assert_eq!(floors, [0, made + 1]);
    assert_eq!(
        query::oldest_event(&world.store, spaces[0]).unwrap().index,
        made - 1
    );
    assert_eq!(
        query::oldest_event(&world.store, spaces[1]).unwrap().index,
        world.index
    );
}

#[test]
fn a_key_s_answer_is_read_without_deciding_anything() {
    let mut world = World::new();
    let user = world.register("anna");
    let dedup = DedupKey::Node([7; 16]);
    let rename = |name: &str| Command::UpdateUser {
        user,
        display_name: Some(name.parse().unwrap()),
        expected_version: None,
    };
    let given = world.submit_as(Actor::System, dedup, b"body", rename("Anna"));
    let ask = |body: &[u8], minutes: u64| {
        let stamp = Stamp {
            index: 99,
            now: world.now.plus_ms(minutes * MINUTE_MS),
        };
        query::answer(&world.store, dedup, Fingerprint::of(&[body]), stamp)
    };
    let again = ask(b"body", 5).unwrap();
    assert_eq!((again.index, again.replayed), (given.index, true));
    assert_eq!(again.result, given.result);
    let other = ask(b"another body", 5).unwrap();
    assert_eq!(other.result, Err(Refusal::IdempotencyKeyReused));
    assert_eq!((other.index, other.replayed), (99, false));
    // Nodes' keys live for ten to twenty minutes; the clock began with a generation.
    assert_eq!(world.now, moment(1, 7 * 60));
    assert!(ask(b"body", 19).is_some());
    assert!(ask(b"body", 20).is_none());
}
