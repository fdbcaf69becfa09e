//! An operator who replaces members, under load: one goes, with or without its disk, and another comes, as a learner first.

use std::{cell::Cell, path::PathBuf, rc::Rc, time::Duration};

use futures_lite::future::or;
use pinion::{
    env::sim::{Sim, SimEnv, disk::SimDisk},
    pb::etcdserverpb as pb,
    shard::{Error, Seat, Shard},
    state::{
        Principal,
        cluster::{JoinMember, PromoteMember, RemoveMember},
    },
    types::MemberId,
};

use crate::world::{self, PEER_PORT, World};

const LEARNERS_MAX: u64 = 1;
/// Until the operator tries again.
const PATIENCE: Duration = Duration::from_millis(400);

#[derive(Clone, Debug)]
pub enum Change {
    Remove(MemberId),
    Join(pb::Member),
    Promote(MemberId),
}

impl Change {
    /// Of a member that is not founded: it joins.
    pub fn join(world: &World, at: usize) -> Self {
        let node = &world.nodes[at];
        let url =
            format!("http://{}", SimEnv::new(&world.sim, node.id, node.disk.clone()).address(PEER_PORT));
        Change::Join(pb::Member {
            id: node.id.0,
            name: format!("m{}", node.id),
            peer_ur_ls: vec![url],
            is_learner: true,
            ..pb::Member::default()
        })
    }

    async fn ask(self, shard: &Shard) -> Result<(), Error> {
        let nobody = Principal::default();
        match self {
            Change::Remove(id) => {
                shard.change(&nobody, (Seat::Leave, id), RemoveMember { id: id.0 }).await.map(drop)
            }
            Change::Join(member) => {
                let id = MemberId(member.id);
                let join = JoinMember { member: Some(member), learners_max: LEARNERS_MAX };
                shard.change(&nobody, (Seat::Follow, id), join).await.map(drop)
            }
            Change::Promote(id) => {
                shard.change(&nobody, (Seat::Vote, id), PromoteMember { id: id.0 }).await.map(drop)
            }
        }
    }

    /// Whether a member has it: an answer may get lost.
    pub fn is_there(&self, shard: &Shard) -> bool {
        shard.with_state(|state| {
            let member = |id: MemberId| state.cluster().member(id);
            match self {
                Change::Remove(id) => member(*id).is_none(),
                Change::Join(joined) => member(MemberId(joined.id)).is_some(),
                Change::Promote(id) => member(*id).is_some_and(|member| !member.is_learner),
            }
        })
    }
}

/// Tries until it is done, through whoever leads; says so in the end.
pub fn operate(world: &World, change: Change) -> Rc<Cell<bool>> {
    let (sim, done) = (world.sim.clone(), Rc::new(Cell::new(false)));
    let shards: Vec<_> = world.nodes.iter().map(|node| node.shard.clone()).collect();
    let told = done.clone();
    world.sim.spawn(world::client_id(950), async move {
        loop {
            let leaders = shards.iter().filter_map(|shard| shard.borrow().clone()).filter(Shard::can_read);
            let Some(shard) = leaders.max_by_key(Shard::term) else {
                sim.sleep(Duration::from_millis(5)).await;
                continue;
            };
            let patience = async {
                sim.sleep(PATIENCE).await;
                Err(Error::Timeout)
            };
            let asked = or(change.clone().ask(&shard), patience).await;
            // Who leads the newest term and has applied all that is committed knows.
            if asked.is_ok() || shard.linearize().await.is_ok() && change.is_there(&shard) {
                told.set(true);
                return;
            }
            sim.sleep(Duration::from_millis(sim.below(20))).await;
        }
    });
    done
}

/// Flips a bit somewhere: in a file of the checkpoint, or in the log, but not in what was written last there: of that nobody
/// can tell whether it was ever there.
pub fn damage(sim: &Sim, disk: &SimDisk) {
    let of_checkpoint = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "snap");
    let files: Vec<_> =
        disk.files().into_iter().filter(|(path, size)| of_checkpoint(path) && *size > 0).collect();
    if !files.is_empty() && sim.chance(500) {
        let (path, size) = &files[sim.below(files.len() as u64) as usize];
        assert!(disk.corrupt(path, sim.below(*size), 1 << sim.below(8)));
        return;
    }
    let (unit, tail) = (4_096, 3);
    let logs = disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "wal"));
    for (path, _) in logs {
        let content = disk.copy(&path).remove(&path).unwrap_or_default();
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last / unit);
        if used > tail {
            let batch = sim.below((used - tail) as u64) * unit as u64;
            disk.corrupt(&path, batch + sim.below(40), 1 << sim.below(8));
            return;
        }
    }
}
