//! Images and imports: consistent while commits go on, atomic when they take over.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesto_storage::{MemoryDisk, State, StateOptions, StorageError};

use crate::disks::{Dice, Disk};
use crate::state_model::{applied, check, content, digest_of, random_commit};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn consistent_while_commits_go_on(disk: &Disk, seed: u64) {
    let dice = Dice::new(seed);
    let opened = disk.open();
    let state = State::open(Arc::clone(&opened.engine)).expect("the state opens");
    let mut model = Model::new();
    let mut index = 0;
    for _ in 0..20 {
        index += 1;
        random_commit(&state, &mut model, &dice, index);
    }
    for _ in 0..4 {
        let (frozen, frozen_index) = (model.clone(), index);
        let mut image = state.image().expect("no other image is alive");
        assert!(matches!(state.image(), Err(StorageError::Misuse { .. })));
        let mut pairs = Model::new();
        while let Some(page) = image
            .next_page(1 + dice.size(600))
            .expect("pages can be read")
        {
            assert!(!page.is_empty());
            for (key, value) in page {
                assert!(pairs.last_key_value().is_none_or(|(last, _)| *last < key));
                pairs.insert(key, value);
            }
            for _ in 0..dice.below(3) {
                index += 1;
                random_commit(&state, &mut model, &dice, index);
            }
        }
        assert!(pairs == frozen, "the image is what was there when it began");
        assert_eq!(image.digest(), digest_of(&frozen));
        assert_eq!(image.applied(), &applied(frozen_index));
        assert_eq!(image.saved_bytes(), 0, "nothing is kept once it is read");
        drop(image);
        check(&state, &model, index);
    }
}

#[test]
fn an_image_is_consistent_on_the_memory_disk() {
    for seed in 0..100 {
        consistent_while_commits_go_on(&Disk::memory(), seed);
    }
}

#[test]
fn an_image_is_consistent_on_sled() {
    for seed in 0..3 {
        consistent_while_commits_go_on(&Disk::sled(), seed);
    }
}

/// With real threads: one commits without a pause, the other reads image after image.
#[test]
fn an_image_is_consistent_beside_a_committing_thread() {
    let disk = Disk::sled();
    let opened = disk.open();
    let state = State::open(Arc::clone(&opened.engine)).expect("the state opens");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let dice = Dice::new(1);
            let mut model = Model::new();
            for index in 1..=1500 {
                random_commit(&state, &mut model, &dice, index);
            }
        });
        let mut images = 0;
        while !writer.is_finished() {
            let mut image = state.image().expect("no other image is alive");
            let mut pairs = Model::new();
            while let Some(page) = image.next_page(200).expect("pages can be read") {
                pairs.extend(page);
            }
            assert_eq!(digest_of(&pairs), image.digest());
            images += 1;
        }
        assert!(images > 3, "only {images} images");
    });
}

/// A bound that is too small gives the image up, and the state goes on.
#[test]
fn an_image_that_costs_too_much_is_given_up() {
    let disk = MemoryDisk::new();
    let options = StateOptions {
        max_image_bytes: 2_000,
    };
    let state = State::open_with(disk.engine(), options).expect("the state opens");
    let dice = Dice::new(3);
    let mut model = Model::new();
    for index in 1..=20 {
        random_commit(&state, &mut model, &dice, index);
    }
    let mut image = state.image().expect("no other image is alive");
    for index in 21..=60 {
        random_commit(&state, &mut model, &dice, index);
    }
    assert!(matches!(
        image.next_page(100),
        Err(StorageError::ImageLost { .. })
    ));
    drop(image);
    check(&state, &model, 60);
    let mut again = state.image().expect("a new image can be begun");
    assert!(again.next_page(100).is_ok());
}

fn pages(model: &Model) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    let pairs: Vec<_> = model
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    pairs.chunks(7).map(<[_]>::to_vec).collect()
}

fn some_model(count: usize, fill: u8) -> Model {
    (0..count)
        .map(|n| (format!("new/{n:05}").into_bytes(), vec![fill; 20]))
        .collect()
}

#[test]
fn an_import_flips_at_once_and_cleans_up() {
    for disk in [Disk::memory(), Disk::sled()] {
        let opened = disk.open();
        let state = State::open(Arc::clone(&opened.engine)).expect("the state opens");
        let dice = Dice::new(5);
        let mut old = Model::new();
        for index in 1..=30 {
            random_commit(&state, &mut old, &dice, index);
        }
        let new = some_model(900, 1);
        let mut image = state.image().expect("no other image is alive");
        let mut import = state.import().expect("no other import is alive");
        assert!(state.import().is_err());
        for page in pages(&new) {
            import.put_page(page).expect("a page is written");
            check(&state, &old, 30);
        }
        let stale = state.transaction();
        import
            .finish(applied(500), digest_of(&new))
            .expect("the digest is right");
        check(&state, &new, 500);
        assert!(matches!(
            image.next_page(10),
            Err(StorageError::ImageLost { .. })
        ));
        assert!(state.commit(stale, applied(501)).is_err());
        while state.remove_leftovers().expect("leftovers are removed") {}

        let mut model = new;
        random_commit(&state, &mut model, &dice, 501);
        check(&state, &model, 501);
        drop((image, state, opened));
        let opened = disk.open();
        let state = State::open(Arc::clone(&opened.engine)).expect("the state opens");
        check(&state, &model, 501);
        assert!(
            !state
                .remove_leftovers()
                .expect("there is nothing left over")
        );
    }
}

#[test]
fn an_import_with_another_digest_changes_nothing() {
    let disk = MemoryDisk::new();
    let state = State::open(disk.engine()).expect("the state opens");
    let mut import = state.import().expect("no other import is alive");
    import
        .put_page(vec![(b"a".to_vec(), vec![1])])
        .expect("a page is written");
    let wrong = digest_of(&some_model(1, 0));
    assert!(matches!(
        import.finish(applied(9), wrong),
        Err(StorageError::Corruption { .. })
    ));
    assert!(content(&state).is_empty());

    let mut import = state.import().expect("the last one is over");
    import
        .put_page(vec![(b"b".to_vec(), vec![])])
        .expect("a page is written");
    let falling = import.put_page(vec![(b"a".to_vec(), vec![])]);
    assert!(matches!(falling, Err(StorageError::Corruption { .. })));
    drop(import);
    while state.remove_leftovers().expect("leftovers are removed") {}
    assert_eq!(
        disk.engine()
            .scan(
                mesto_storage::Tree::State,
                &[],
                &[],
                mesto_storage::Order::Ascending,
                9
            )
            .map(|pairs| pairs.len())
            .ok(),
        Some(0)
    );
}

/// However often the power fails while an import goes on, the state is the old or the new one.
#[test]
fn a_power_cut_during_an_import_leaves_the_old_or_the_new() {
    let (mut old_seen, mut new_seen) = (0, 0);
    for seed in 0..300 {
        let dice = Dice::new(seed);
        let disk = MemoryDisk::new();
        let state = State::open(disk.engine()).expect("the state opens");
        let mut old = Model::new();
        random_commit(&state, &mut old, &dice, 1);
        state.flush().expect("a flush succeeds");
        let new = some_model(40, 2);
        let mut import = state.import().expect("no other import is alive");
        let stop = dice.size(12);
        let mut cut = false;
        for (place, page) in pages(&new).into_iter().enumerate() {
            import.put_page(page).expect("a page is written");
            if place == stop {
                cut = true;
                break;
            }
        }
        if cut {
            drop(import);
        } else {
            if dice.below(2) == 0 {
                disk.fail_flush_after(1);
            }
            // The second flush may fail: then the flip is written, but perhaps not durable.
            let _ = import.finish(applied(70), digest_of(&new));
        }
        disk.power_cut(seed);
        let state = State::open(disk.engine()).expect("the state opens");
        if state.applied().index == 1 {
            old_seen += 1;
            check(&state, &old, 1);
        } else {
            new_seen += 1;
            check(&state, &new, 70);
        }
        while state.remove_leftovers().expect("leftovers are removed") {}
    }
    assert!(
        old_seen > 20 && new_seen > 20,
        "{old_seen} old, {new_seen} new"
    );
}
