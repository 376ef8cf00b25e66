//! Images and imports: consistent while commits go on, atomic when they take over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mesto_storage::{MemoryDisk, Order as Direction, StateOptions, StorageError};

use crate::disks::{Dice, Disk, Kept, small_layers, wait_for_room};
use crate::state_model::{applied, check, content, digest_of, random_commit};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn consistent_while_commits_go_on(disk: &Disk, seed: u64) {
    let dice = Dice::new(seed);
    let opened = disk.open();
    let mut state =
        Kept::try_open(Arc::clone(&opened.engine), small_layers(&dice)).expect("the state opens");
    let mut model = Model::new();
    let mut index = 0;
    for _ in 0..20 {
        index += 1;
        random_commit(&state, &mut model, &dice, index);
    }
    let pace = 1 + dice.below(30);
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
            for _ in 0..dice.below(pace) {
                state.writer.step();
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

/// With real threads: one commits without a pause, one carries, one reads image after image, and
/// one looks at views. Every image and every view is a commit that was, by its digest.
#[test]
fn images_and_views_are_consistent_beside_committing_and_carrying_threads() {
    let disk = Disk::sled();
    let opened = disk.open();
    let options = StateOptions {
        max_layer_bytes: 30_000,
        portion_pairs: 16,
        ..StateOptions::default()
    };
    let kept = Kept::try_open(Arc::clone(&opened.engine), options).expect("the state opens");
    let (state, carrier) = kept.spawn();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let dice = Dice::new(1);
            let mut model = Model::new();
            for index in 1..=1500 {
                wait_for_room(&state);
                random_commit(&state, &mut model, &dice, index);
            }
            ended.store(true, Ordering::SeqCst);
            model
        });
        let views = scope.spawn(|| {
            let mut views = 0;
            while !ended.load(Ordering::SeqCst) {
                state.read(|view| {
                    let up = view.scan(&[], &[], Direction::Ascending, usize::MAX);
                    let mut up = up.expect("scans succeed");
                    let down = view.scan(&[], &[], Direction::Descending, usize::MAX);
                    let down = down.expect("scans succeed");
                    up.reverse();
                    assert!(up == down, "both ways the same");
                    assert_eq!(digest_of(&up.into_iter().collect()), view.digest());
                });
                views += 1;
            }
            views
        });
        let mut images = 0;
        while !ended.load(Ordering::SeqCst) {
            let mut image = state.image().expect("no other image is alive");
            let mut pairs = Model::new();
            while let Some(page) = image.next_page(200).expect("pages can be read") {
                pairs.extend(page);
            }
            assert_eq!(digest_of(&pairs), image.digest());
            images += 1;
        }
        let views = views.join().expect("views are sound");
        let model = writer.join().expect("commits succeed");
        assert!(images > 3 && views > 3, "{images} images, {views} views");
        assert!(state.stats().carried_layers > 10, "{:?}", state.stats());
        check(&state, &model, 1500);
    });
    drop(state);
    carrier
        .join()
        .expect("the writer ends with the last handle");
}

/// A bound that is too small gives the image up, and the state goes on.
#[test]
fn an_image_that_costs_too_much_is_given_up() {
    let disk = MemoryDisk::new();
    let options = StateOptions {
        max_image_bytes: 2_000,
        ..StateOptions::default()
    };
    let mut state = Kept::try_open(disk.engine(), options).expect("the state opens");
    let dice = Dice::new(3);
    let mut model = Model::new();
    for index in 1..=20 {
        random_commit(&state, &mut model, &dice, index);
    }
    let mut image = state.image().expect("no other image is alive");
    for index in 21..=60 {
        random_commit(&state, &mut model, &dice, index);
    }
    assert!(
        image.next_page(100).is_ok(),
        "commits alone cost an image nothing"
    );
    state.carry().expect("all is carried");
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
        let dice = Dice::new(5);
        let mut state = Kept::try_open(Arc::clone(&opened.engine), small_layers(&dice))
            .expect("the state opens");
        let mut old = Model::new();
        for index in 1..=30 {
            random_commit(&state, &mut old, &dice, index);
            if index < 25 {
                state.writer.step();
            }
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
        assert_eq!(
            state.stats().layer_bytes,
            0,
            "what was above the old one is gone"
        );
        random_commit(&state, &mut model, &dice, 501);
        check(&state, &model, 501);
        state.carry().expect("all is carried");
        drop((image, state, opened));
        let opened = disk.open();
        let state = Kept::open(Arc::clone(&opened.engine));
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
    let state = Kept::open(disk.engine());
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
        let mut state = Kept::open(disk.engine());
        let mut old = Model::new();
        random_commit(&state, &mut old, &dice, 1);
        state.carry().expect("all is carried");
        disk.engine().flush().expect("a flush succeeds");
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
        let state = Kept::open(disk.engine());
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

/// An import takes over at any moment of the writer's work, commits and crashes around it: what
/// comes back is a commit that was, of the old generation or of the new.
#[test]
fn an_import_takes_over_in_the_middle_of_a_layer() {
    let mut flipped_in = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let dice = Dice::new(seed);
        let disk = MemoryDisk::new();
        let mut state =
            Kept::try_open(disk.engine(), small_layers(&dice)).expect("the state opens");
        let mut models = BTreeMap::from([(0, Model::new())]);
        let mut model = Model::new();
        let mut index = 0;
        for _ in 0..3 {
            for _ in 0..=dice.below(12) {
                index += 1;
                random_commit(&state, &mut model, &dice, index);
                models.insert(index, model.clone());
                for _ in 0..dice.below(6) {
                    state.writer.step();
                }
            }
            flipped_in.insert(state.stats().layers);
            let new = some_model(60, dice.roll().to_le_bytes()[0]);
            let mut import = state.import().expect("no other import is alive");
            for page in pages(&new) {
                import.put_page(page).expect("a page is written");
                index += 1;
                random_commit(&state, &mut model, &dice, index);
                models.insert(index, model.clone());
                for _ in 0..dice.below(4) {
                    state.writer.step();
                }
            }
            index += 10;
            import
                .finish(applied(index), digest_of(&new))
                .expect("the digest is right");
            // What was durable before the flip and was overtaken by it cannot come back.
            models.retain(|old, _| *old >= index);
            model = new;
            models.insert(index, model.clone());
            check(&state, &model, index);
            for _ in 0..dice.below(40) {
                state.writer.step();
            }
            check(&state, &model, index);
        }
        for _ in 0..dice.below(8) {
            index += 1;
            random_commit(&state, &mut model, &dice, index);
            models.insert(index, model.clone());
            state.writer.step();
        }
        disk.power_cut(dice.roll());
        drop(state);
        let mut state =
            Kept::try_open(disk.engine(), small_layers(&dice)).expect("the state opens");
        let found = state.applied().index;
        check(&state, &models[&found], found);
        state.carry().expect("what is unfinished is carried");
        while state.writer.step() {}
        check(&state, &models[&found], found);
    }
    assert!(
        flipped_in.len() > 1,
        "with and without layers: {flipped_in:?}"
    );
}
