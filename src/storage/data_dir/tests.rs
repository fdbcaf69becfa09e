use std::io::Write;

use glommio::{LocalExecutorBuilder, Placement};

use super::*;
use crate::env::real::RealEnv;

fn on_glommio<T: Send + 'static>(test: impl AsyncFnOnce(RealEnv) -> T + Send + 'static) -> T {
    LocalExecutorBuilder::new(Placement::Unbound)
        .spawn(|| async move { test(RealEnv::default()).await })
        .expect("an executor starts")
        .join()
        .expect("the test does not panic")
}

async fn refused(env: &RealEnv, path: &Path) -> DataDirError {
    let opened = DataDir::open(env, path, None).await;
    opened.map(|_| ()).expect_err("it must not be opened")
}

#[test]
fn a_data_directory_is_used_by_one_process_at_a_time() {
    let dir = tempfile::tempdir().expect("a directory is made");
    let path = dir.path().join("default.etcd");
    on_glommio(async move |env| {
        let first = DataDir::open(&env, &path, None).await.expect("a new directory opens");
        assert_eq!(first.wal(ShardId(0)), path.join("member/shard-0/wal"));
        let second = refused(&env, &path).await;
        assert!(matches!(second, DataDirError::Locked { .. }), "{second:?}");
        drop(first);
        DataDir::open(&env, &path, None).await.expect("the lock was released");
    });
}

#[test]
fn what_is_not_ours_or_not_of_this_version_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory is made");
    let path = dir.path().join("default.etcd");
    on_glommio(async move |env| {
        DataDir::open(&env, &path, None).await.expect("a new directory opens");
        let member = path.join("member");
        let version = std::fs::File::options().append(true).open(member.join("version"));
        version.and_then(|mut file| file.write_all(b"0")).expect("writable");
        let newer = refused(&env, &path).await;
        assert!(matches!(newer, DataDirError::Version { .. }), "{newer:?}");
        assert!(newer.to_string().contains("Start the release that wrote it"), "{newer}");

        std::fs::remove_file(member.join("version")).expect("removable");
        std::fs::create_dir(member.join("snap")).expect("writable");
        let unversioned = refused(&env, &path).await;
        assert!(
            matches!(&unversioned, DataDirError::Foreign { name, .. } if name == "snap"),
            "{unversioned:?}"
        );
        assert!(unversioned.to_string().contains("Choose an empty --data-dir"), "{unversioned}");

        std::fs::create_dir_all(path.join(RESTORING).join("member")).expect("writable");
        let half = refused(&env, &path).await;
        assert!(matches!(half, DataDirError::HalfRestored { .. }), "{half:?}");
        assert!(half.to_string().contains("and restore again"), "{half}");
    });
}

#[test]
fn nothing_is_made_where_another_member_keeps_its_data() {
    let dir = tempfile::tempdir().expect("a directory is made");
    let path = dir.path().to_path_buf();
    on_glommio(async move |env| {
        let (data, log) = (path.join("data"), path.join("log"));
        let open = async |data: &Path, log: Option<&Path>| DataDir::open(&env, data, log).await.map(drop);
        open(&data, Some(&log)).await.expect("a new directory opens");
        open(&data, Some(&log)).await.expect("its own");
        let member = data.join("member");
        for inside in [member.clone(), member.join("x"), log.join("shard-0"), log.join("shard-1/x/y")] {
            for (data, log) in [(inside.clone(), None), (path.join("other"), Some(inside.clone()))] {
                let refused = open(&data, log.as_deref()).await.expect_err("it is taken");
                assert!(
                    matches!(&refused, DataDirError::Nested { path, .. } if *path == inside),
                    "{refused}"
                );
                assert!(!inside.join("lock").exists() || inside == member, "{inside:?}");
            }
        }
        // Beside the shards, a member's own log in its own data, and where a log directory is above.
        open(&path.join("other"), Some(&path.join("other/member/wal"))).await.expect("its own");
        open(&path.join("other"), Some(&path.join("other/member/wal"))).await.expect("its own");
        open(&log.join("third"), None).await.expect("beside the shards");
        let theirs = path.join("theirs");
        std::fs::create_dir_all(theirs.join("version")).expect("a directory of somebody else's");
        open(&theirs.join("data"), None).await.expect("no member has such a version");
        std::fs::create_dir(log.join("fourth")).expect("a directory");
        std::os::unix::fs::symlink("version", log.join("fourth/version")).expect("a link");
        let refused =
            open(&log.join("fourth/data"), None).await.expect_err("what cannot be read is not passed over");
        assert!(matches!(refused, DataDirError::Disk(_)), "{refused}");
    });
}
