//! Backups while clients write, compaction frees and rewrites, checkpoints move values into files, and members crash:
//! each has every revision of the moment it was asked for, and nothing of what came after.

use std::{cell::Cell, cell::RefCell, collections::BTreeMap, rc::Rc};

use pinion::{
    backup::{Backup, Digest, Metadata},
    shard::{Due, Shard},
};

use crate::{
    checkpoint::{self, Keys, Known},
    world::{self, World},
};

/// The keys after each revision of a backup that changed any and still has a version.
fn history(backup: &Backup<'_>) -> BTreeMap<i64, Keys> {
    let mut history = BTreeMap::new();
    let mut keys = Keys::new();
    for version in backup.versions() {
        let version = version.expect("a sound row");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text was written");
        match version.tombstone {
            true => keys.remove(&text(version.key)),
            false => keys.insert(text(version.key), text(version.value)),
        };
        history.insert(version.main, keys.clone());
    }
    history
}

/// Takes one backup after the other until its member is gone.
async fn back_up(world: Rc<World>, known: Rc<RefCell<Known>>, shard: Shard, taken: Rc<Cell<u64>>) {
    loop {
        world.sim.sleep(std::time::Duration::from_micros(world.sim.below(3_000))).await;
        let (before, status) = (known.borrow().clone(), shard.status());
        let Ok(mut backup) = shard.backup(Metadata::default()).await else { return };
        let (mut file, bytes) = (Vec::new(), backup.bytes());
        while let Some(piece) = backup.next().await {
            file.extend_from_slice(&piece.expect("nothing it quotes goes away"));
            // A client that does not take everything at once.
            if world.sim.chance(200) {
                world.sim.sleep(std::time::Duration::from_micros(world.sim.below(1_000))).await;
            }
        }
        assert_eq!(file.len() as u64, bytes + 32, "the size was announced");
        let backup = Backup::open(&file, Digest::Demanded).expect("a sound backup");
        let compacted = backup.metadata().compaction.revision().unwrap_or(-1);
        assert_eq!(backup.metadata().revision, status.revision.0, "of the moment it was asked for");
        assert_eq!(compacted, status.compact_revision.0);
        assert!(backup.metadata().revision >= before.revision, "nothing acknowledged is missing");
        let history = history(&backup);
        for (revision, keys) in before.history.range(compacted.max(before.compacted)..) {
            // Nothing has a version by then: there are no keys.
            let none = Keys::new();
            let found = history.range(..=revision).next_back().map_or(&none, |(_, keys)| keys);
            assert_eq!(found, keys, "revision {revision} of {}", status.revision.0);
        }
        taken.set(taken.get() + 1);
    }
}

fn backups(seed: u64) -> u64 {
    let mut world = World::new(seed, 1);
    world.checkpoint = Due { entries: 1 + world.sim.below(12), bytes: 256 * 1024, log_bytes: 1 << 20 };
    let world = Rc::new(world);
    let (known, taken) = (Rc::new(RefCell::new(Known::new())), Rc::new(Cell::new(0)));
    for _ in 0..5 {
        world.start(0);
        let shard = world.serving(0).unwrap_or_else(|error| panic!("seed {seed}: no start: {error}"));
        known.borrow_mut().settle(&shard, seed);
        checkpoint::client(world.clone(), known.clone(), shard.clone());
        let task = back_up(world.clone(), known.clone(), shard, taken.clone());
        world.sim.spawn(world.nodes[0].id, task);
        world.sim.run_until(1 + world.sim.below(6_000), || false);
        world.crash(0);
        checkpoint::end_client(&world);
    }
    taken.get()
}

#[test]
fn a_backup_is_of_one_moment_whatever_goes_on() {
    let seeds = world::seeds(30);
    let count = seeds.clone().count() as u64;
    let taken: u64 = seeds.map(backups).sum();
    assert!(taken > count, "{taken} backups in {count} worlds");
}
