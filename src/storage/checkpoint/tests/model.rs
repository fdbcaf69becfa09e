//! The store against a map, through checkpoints, merges, defragmentations and restarts.

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Checkpoint { compact_all: bool },
    Idle,
    Sweep,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => Just(Op::Checkpoint { compact_all: false }),
        1 => Just(Op::Checkpoint { compact_all: true }),
        1 => Just(Op::Idle),
        2 => Just(Op::Sweep),
        2 => Just(Op::Reopen),
    ]
}

/// Bounds that hold after every checkpoint, old files swept.
fn check_bounds(store: &CheckpointStore<SimEnv>, state: &State, compact_all: bool) {
    let shape = small().shape;
    // What a block takes beside its body: padding, its entry, its meta.
    let live = state.body_bytes() + state.blocks.len() as u64 * (15 + 56 + 48);
    let rounding = 1024 * (store.segments.len() as u64 + 2);
    assert!(
        store.bytes_on_disk() <= 2 * live + shape.slack_bytes + rounding,
        "{} bytes for {live} live ones",
        store.bytes_on_disk()
    );
    if compact_all {
        assert!(store.bytes_on_disk() <= live + rounding, "{} for {live}", store.bytes_on_disk());
    }
    // Above half a full segment only those that hold that much.
    let large = 2 * store.bytes_on_disk() / shape.segment_bytes + 1;
    assert!(
        store.segments.len() as u64 <= large + shape.small_segments_max as u64,
        "{}",
        store.segments.len()
    );
}

async fn play(env: SimEnv, seed: u64, ops: Vec<Op>) {
    let mut rng = Rng::new(seed);
    let mut state = State::default();
    let mut saved = None;
    let (mut store, loaded) = open(env.clone(), small()).await.expect("a new one opens");
    assert_eq!(loaded, None);
    // What a reader would hold: the bodies as the checkpoints placed them.
    let mut held: BTreeMap<BlockId, Bytes> = BTreeMap::new();
    for op in ops {
        match op {
            Op::Checkpoint { .. } | Op::Idle => {
                let compact_all = matches!(op, Op::Checkpoint { compact_all: true });
                let checkpoint = match op {
                    Op::Idle => Checkpoint { summary: state.summary.clone(), changes: Vec::new() },
                    _ => state.step(&mut rng, 9000),
                };
                let wrote = store.write(checkpoint, compact_all).await.expect("the disk works");
                held.retain(|id, _| state.blocks.contains_key(id));
                for (id, body) in wrote.placed {
                    assert_eq!(body, state.blocks[&id].0);
                    held.insert(id, body);
                }
                assert!(held.keys().eq(state.blocks.keys()), "every block was placed once");
                saved = Some(state.clone());
                // Nobody holds what was replaced, so all of it can go.
                store.sweep().await.expect("the disk works");
                check_bounds(&store, &state, compact_all);
                let files: u64 = env.disk().files().iter().map(|(_, bytes)| bytes).sum();
                assert_eq!(files, store.bytes_on_disk());
            }
            Op::Sweep => store.sweep().await.expect("the disk works"),
            Op::Reopen => {
                drop(store);
                let opened = open(env.clone(), small()).await.expect("it opens");
                let loaded;
                (store, loaded) = opened;
                held = loaded.iter().flat_map(|l| &l.blocks).map(|b| (b.id, b.body.clone())).collect();
                assert_eq!(State::of(loaded), saved);
                state = saved.clone().unwrap_or_default();
            }
        }
    }
    let before = store.catalog;
    let (store, loaded) = open(env, small()).await.expect("it opens");
    assert_eq!(State::of(loaded), saved);
    assert_eq!(store.catalog, before, "memory is what the files say");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_a_map(seed in any::<u64>(), ops in prop::collection::vec(op(), 1..60)) {
        with_disk(seed, async move |env, _| play(env, seed, ops).await);
    }
}

#[test]
fn a_long_life_stays_in_bounds() {
    let ops = (0..600).map(|at| match at % 50 {
        49 => Op::Reopen,
        _ => Op::Checkpoint { compact_all: at % 97 == 0 },
    });
    let ops: Vec<Op> = ops.collect();
    with_disk(5, async move |env, _| play(env, 5, ops).await);
}

#[test]
fn a_checkpoint_costs_what_changed() {
    with_disk(1, async |env, _| {
        let mut rng = Rng::new(1);
        let mut state = State::default();
        let (mut store, _) = open(env, small()).await.expect("a new one opens");
        let writes = (0..200).map(|number| state.write(&mut rng, id(number), 5000)).collect();
        let first = Checkpoint { summary: summary(), changes: writes };
        let saved = store.write(first, false).await.expect("the disk works");
        assert!(saved.written_bytes > state.body_bytes());
        let mut written = 0;
        for at in 0..100 {
            let change = state.write(&mut rng, id(200 + at), 1000);
            let one = Checkpoint { summary: summary(), changes: vec![change] };
            written += store.write(one, false).await.expect("the disk works").written_bytes;
        }
        // Two files a checkpoint, and each body moves a few times until it is in a large segment.
        assert!(written < 100 * 2 * 1024 + 6 * 100 * 1000, "{written}");
    });
}

#[test]
fn a_held_body_keeps_its_file() {
    with_disk(2, async |env, disk| {
        let mut rng = Rng::new(2);
        let mut state = State::default();
        let (mut store, _) = open(env, small()).await.expect("a new one opens");
        let writes: Vec<BlockChange> = (0..4).map(|number| state.write(&mut rng, id(number), 5000)).collect();
        let saved =
            store.write(Checkpoint { summary: summary(), changes: writes }, false).await.expect("written");
        let (_, held) = saved.placed.into_iter().find(|(_, body)| !body.is_empty()).expect("a body");
        let drops = (0..4).map(|number| BlockChange::Drop { id: id(number) }).collect();
        store.write(Checkpoint { summary: summary(), changes: drops }, false).await.expect("written");
        let first = |path: &std::path::Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.and_then(files::segment_name).is_some_and(|(sequence, _)| sequence == 1)
        };
        let there = |disk: &SimDisk| disk.files().iter().any(|(path, _)| first(path));
        store.sweep().await.expect("the disk works");
        assert!(there(&disk), "somebody reads it");
        drop(held);
        store.sweep().await.expect("the disk works");
        assert!(!there(&disk));
        assert_eq!(store.bytes_on_disk(), store.manifest_bytes);
    });
}
