use std::{cell::RefCell, rc::Rc};

use super::*;
use crate::env::sim::{Sim, SimEnv, disk::SimDisk};

const ME: Identity = Identity { member: MemberId(7), cluster: ClusterId(9) };
const OTHER: Identity = Identity { member: MemberId(8), cluster: ClusterId(9) };

fn run<T: 'static>(test: impl AsyncFnOnce(SimEnv) -> T + 'static) -> T {
    let sim = Sim::new(1);
    let env = SimEnv::new(&sim, MemberId(1), SimDisk::new(&sim));
    let result = Rc::new(RefCell::new(None));
    let slot = result.clone();
    sim.spawn(MemberId(1), async move {
        env.disk().create_dir(Path::new("/data/member")).await.expect("made");
        let value = test(env).await;
        *slot.borrow_mut() = Some(value);
    });
    assert!(sim.run_until(1_000_000, || result.borrow().is_some()), "the test ends");
    result.take().expect("just seen")
}

const DIR: &str = "/data/member/shard-0/wal";

async fn open(env: &SimEnv, identity: Identity, founded: bool) -> Result<Anchor<SimEnv>, DataDirError> {
    open_in(DIR, env, identity, founded).await
}

async fn open_in(
    dir: &str,
    env: &SimEnv,
    identity: Identity,
    founded: bool,
) -> Result<Anchor<SimEnv>, DataDirError> {
    let expected = Expected { shard: ShardId(0), dir: PathBuf::from(dir), identity, founded };
    Anchor::open(env.clone(), PathBuf::from("/data/member/log-0"), expected).await
}

#[test]
fn a_mark_is_read_as_it_was_written() {
    let mark = Mark {
        shard: ShardId(3),
        owner: Owner { cluster: ClusterId(1), member: MemberId(2), log: LogId(u64::MAX) },
        batches: 77,
        place: "/mnt/log one".to_owned(),
    };
    assert_eq!(Mark::decode(mark.encode().as_bytes()), Ok(mark.clone()));
    let odd = Mark { place: "a\nlog 1".to_owned(), ..mark };
    assert_eq!(Mark::decode(odd.encode().as_bytes()).map(|mark| mark.place), Ok("a\\nlog 1".to_owned()));
}

#[test]
fn it_remembers_the_log_and_how_far_it_reached() {
    run(async |env| {
        let mut new = open(&env, ME, false).await.expect("a new one");
        assert_eq!((new.batches(), new.place()), (0, ""));
        let owner = new.owner();
        let again = open(&env, ME, false).await.expect("nothing was founded");
        assert_eq!((again.owner(), again.batches()), (owner, 0));
        new.reached(5).await.expect("written");
        let known = open(&env, ME, true).await.expect("it is there");
        assert_eq!((known.owner(), known.batches(), known.place()), (owner, 5, "shard-0/wal"));
        let mut moved = open_in("/log/shard-0", &env, ME, true).await.expect("it is there");
        moved.reached(6).await.expect("written");
        let known = open(&env, ME, true).await.expect("it is there");
        assert_eq!((known.batches(), known.place()), (6, "/log/shard-0"));
    });
}

#[test]
fn a_log_that_nobody_claims_is_left_alone() {
    run(async |env| {
        env.disk().create_dir(Path::new(DIR)).await.expect("made");
        env.disk().write_small(&Path::new(DIR).join("0000000000000001.wal"), b"x").await.expect("written");
        let refused = open(&env, ME, false).await.map(drop).expect_err("whose is it?");
        assert!(matches!(refused, DataDirError::Unclaimed { .. }), "{refused}");
        assert_eq!(env.disk().list(Path::new("/data/member")).await.expect("listed"), ["shard-0"]);
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    run(async |env| {
        let missing = open(&env, ME, true).await.map(drop).expect_err("a member has one");
        assert!(matches!(missing, DataDirError::NoAnchor { .. }), "{missing}");
        open(&env, ME, false).await.expect("a new one");
        assert_eq!(open(&env, ME, true).await.expect("an older copy").batches(), 1, "there was a log");
        for founded in [true, false] {
            let other = open(&env, OTHER, founded).await.map(drop).expect_err("of another member");
            assert!(matches!(other, DataDirError::OtherMember { .. }), "{other}");
            assert_eq!(other.to_string().contains("`identity` is missing"), !founded, "{other}");
        }
        env.disk().write_small(Path::new("/data/member/log-0"), &[0; 100]).await.expect("written");
        let zeros = open(&env, ME, true).await.map(drop).expect_err("damaged");
        assert!(matches!(zeros, DataDirError::Damaged { .. }), "{zeros}");
    });
}
