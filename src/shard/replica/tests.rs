use std::path::Path;

use futures_lite::future::{block_on, poll_fn, poll_once};

use super::*;
use crate::{
    consensus::{self, Payload},
    env::{
        NoLinks,
        sim::{Sim, SimEnv, disk::SimDisk},
    },
    state::Commands,
    storage::{data_dir::DataDir, wal::WalOptions},
};

/// Runs a future of a simulated member to its end.
fn run<T: 'static>(sim: &Sim, future: impl Future<Output = T> + 'static) -> T {
    let mut future = Box::pin(future);
    for _ in 0..1_000_000 {
        if let Some(done) = block_on(poll_once(&mut future)) {
            return done;
        }
        assert!(sim.step(), "nothing can happen any more");
    }
    panic!("it does not end")
}

/// A member alone in its group, that has just started for the first time.
async fn sole(env: SimEnv) -> Replica<SimEnv> {
    let dir = DataDir::open(&env, Path::new("/data"), None).await.unwrap();
    let mut replay = Replay::new(Commands::default(), None, 100);
    let options = WalOptions { segment_bytes: 1 << 20, ..WalOptions::new(dir.wal(ShardId(3)), ShardId(3)) };
    let (mut wal, _) = Wal::open(env.clone(), options, |_| Ok(())).await.unwrap();
    found(&mut wal, &mut replay, &[crate::pb::etcdserverpb::Member { id: 1, ..Default::default() }])
        .await
        .unwrap();
    let options = consensus::Options {
        id: MemberId(1),
        run: 1,
        election_ticks: 10,
        heartbeat_ticks: 1,
        pre_vote: true,
        uncommitted_bytes_max: 1 << 20,
        committed_bytes_max: 1 << 20,
        catchup_entries: 4,
        catchup_bytes: 1 << 20,
    };
    let pipeline = Pipeline::new(options, replay.window, LogIndex(1), 1).unwrap();
    let applied = LogPosition { index: LogIndex(1), term: Term(1) };
    let parts = Parts { pipeline, wal, applied, links: Rc::new(NoLinks) };
    let mut replica = Replica::new(env, (MemberId(1), ShardId(3)), parts);
    replica.campaign_if_sole_voter().unwrap();
    replica
}

/// Everything that there is to do without the disk; what was committed.
fn turn(replica: &mut Replica<SimEnv>) -> Vec<Bytes> {
    let mut committed = Vec::new();
    while let Some(progress) = replica.next(true) {
        for entry in progress.committed {
            replica.applied(entry.index, entry.term);
            if let Ok(Payload::Data(data)) = entry.payload() {
                committed.push(data);
            }
        }
    }
    committed
}

#[test]
fn a_batch_is_committed_when_its_write_has_ended() {
    let sim = Sim::new(1);
    let env = SimEnv::new(&sim, MemberId(1), SimDisk::new(&sim));
    run(&sim, async move {
        let mut replica = sole(env.clone()).await;
        assert_eq!(replica.leadership(), Some(Leadership::Gained(Term(2))));
        assert_eq!(replica.leadership(), None, "told once");
        while replica.readable().is_none() {
            turn(&mut replica);
            if replica.is_writing() {
                poll_fn(|cx| if replica.poll(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
                replica.finish_write(env.now()).unwrap();
            }
        }
        replica.propose([Bytes::from_static(b"x")]).unwrap();
        assert_eq!(turn(&mut replica), Vec::<Bytes>::new());
        assert!(replica.is_writing() && !replica.is_open(), "the next batch gathers");
        assert_eq!(replica.finish_write(env.now()).unwrap(), None, "it has not ended");
        poll_fn(|cx| if replica.poll(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        assert!(replica.finish_write(env.now()).unwrap().is_some());
        assert_eq!(turn(&mut replica), vec![Bytes::from_static(b"x")]);
        assert!(replica.is_open());
        replica.read_index(1);
        let progress = replica.next(true).unwrap();
        assert_eq!(progress.reads, vec![(1, replica.committed())]);
        replica.close().await.unwrap();
    });
}

#[test]
fn nobody_speaks_for_another_member() {
    let sim = Sim::new(1);
    let env = SimEnv::new(&sim, MemberId(1), SimDisk::new(&sim));
    run(&sim, async move {
        let mut replica = sole(env).await;
        let word = Word::Refusal(crate::pb::peer::Refusal::default());
        let aside = Aside { from: MemberId(2), to: MemberId(1), term: Term(2), word };
        let mut heard = |sender| replica.step((MemberId(sender), aside.clone().encode()), true);
        assert_eq!(heard(3), None);
        assert_eq!(heard(2), Some(aside.clone()));
    });
}
