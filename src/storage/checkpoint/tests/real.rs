//! The checkpoint on a real disk, through the executor it is written on.

use glommio::{LocalExecutorBuilder, Placement};

use super::*;
use crate::env::real::RealEnv;

/// A directory on the disk that holds the build, not on a memory file system.
fn scratch() -> tempfile::TempDir {
    let base = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tmp");
    std::fs::create_dir_all(&base).expect("the build directory is writable");
    tempfile::tempdir_in(base).expect("the build directory is writable")
}

#[test]
fn checkpoints_survive_restarts_on_a_real_disk() {
    let dir = scratch();
    let path = dir.path().join("member/shard-3/snap");
    let options = CheckpointOptions { dir: path.clone(), ..small() };
    let task = move || async move {
        let env = RealEnv::default();
        let mut rng = Rng::new(11);
        let mut state = State::default();
        let (mut store, loaded) = open(env.clone(), options.clone()).await.expect("it opens");
        assert_eq!(loaded, None);
        for round in 0..6 {
            for at in 0..5 {
                // The third is longer than the bytes of one sync.
                let bytes_max = if round == 0 && at == 2 { 1_500_000 } else { 20_000 };
                let checkpoint = state.step(&mut rng, bytes_max);
                let saved = store.write(checkpoint, at == 4).await.expect("the disk works");
                for (id, body) in &saved.placed {
                    assert_eq!(*body, state.blocks[id].0);
                }
                drop(saved);
                store.sweep().await.expect("the disk works");
                let files = std::fs::read_dir(&path).expect("readable").map(|file| file.expect("an entry"));
                let bytes: u64 = files.map(|file| file.metadata().expect("its size").len()).sum();
                assert_eq!(bytes, store.bytes_on_disk());
            }
            drop(store);
            let loaded;
            (store, loaded) = open(env.clone(), options.clone()).await.expect("it opens");
            let found = State::of(loaded);
            store.release().await.expect("the mappings are whole");
            assert_eq!(found.as_ref(), Some(&state));
        }
        let expected = crate::storage::data_dir::DataDir::open(&env, dir.path(), None).await;
        assert!(expected.is_err(), "a directory without a version is not taken for a new one");
    };
    let executor = LocalExecutorBuilder::new(Placement::Unbound).spawn(task).expect("an executor starts");
    executor.join().expect("the test does not panic");
}
