//! Learners come and go under writes, crashes and checkpoints: what was answered holds, Raft and the state always agree
//! on who is in the group, and what the state refuses is no change for Raft, now or at replay.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use pinion::{
    env::sim::Sim,
    pb::etcdserverpb as pb,
    shard::{Due, Error, Seat, Shard},
    state::{
        self, Principal,
        cluster::{JoinMember, PromoteMember, RemoveMember},
    },
    types::MemberId,
};

use crate::world::{self, STEPS_MAX, World};

const OWN: u64 = 1;
const LEARNERS_MAX: u64 = 2;
const ROUNDS: usize = 40;

/// What was asked of the member.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Join(u64),
    Remove(u64),
    Promote(u64),
}

/// Who is there as far as answers told.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    learners: BTreeSet<u64>,
    removed: BTreeSet<u64>,
}

impl Model {
    fn change(&mut self, asked: Asked) -> Result<(), Error> {
        let refused = |error: state::Error| Err(Error::Apply(error));
        match asked {
            Asked::Join(id) if self.removed.contains(&id) => refused(state::Error::MemberNotFound),
            Asked::Join(id) if self.learners.contains(&id) => refused(state::Error::MemberExists),
            Asked::Join(_) if self.learners.len() as u64 >= LEARNERS_MAX => {
                refused(state::Error::TooManyLearners)
            }
            Asked::Join(id) => {
                self.learners.insert(id);
                Ok(())
            }
            Asked::Remove(OWN) => refused(state::Error::NotEnoughStarted),
            Asked::Remove(id) if self.learners.remove(&id) => {
                self.removed.insert(id);
                Ok(())
            }
            Asked::Remove(_) => refused(state::Error::MemberNotFound),
            Asked::Promote(OWN) => refused(state::Error::MemberNotLearner),
            // None of them ever gets anything of the log.
            Asked::Promote(id) if self.learners.contains(&id) => Err(Error::LearnerNotReady),
            Asked::Promote(_) => refused(state::Error::MemberNotFound),
        }
    }

    fn of(shard: &Shard) -> Self {
        shard.with_state(|state| Model {
            learners: state.cluster().members().map(|member| member.id).filter(|id| *id != OWN).collect(),
            removed: state.cluster().removed().collect(),
        })
    }
}

async fn ask(shard: &Shard, asked: Asked) -> Result<(), Error> {
    let nobody = Principal::default();
    let answer = match asked {
        Asked::Join(id) => {
            let member = pb::Member {
                id,
                peer_ur_ls: vec![format!("http://m{id}:2380")],
                is_learner: true,
                ..pb::Member::default()
            };
            let join = JoinMember { member: Some(member), learners_max: LEARNERS_MAX };
            shard.change(&nobody, (Seat::Follow, MemberId(id)), join).await
        }
        Asked::Remove(id) => shard.change(&nobody, (Seat::Leave, MemberId(id)), RemoveMember { id }).await,
        Asked::Promote(id) => shard.change(&nobody, (Seat::Vote, MemberId(id)), PromoteMember { id }).await,
    };
    answer.map(drop)
}

fn draw(sim: &Sim) -> Asked {
    let id = OWN + sim.below(9);
    match sim.below(3) {
        0 => Asked::Join(if id == OWN { 2 } else { id }),
        1 => Asked::Remove(id),
        _ => Asked::Promote(id),
    }
}

#[test]
fn members_come_and_go_through_crashes() {
    let (mut seeds, mut changed) = (0, 0);
    for seed in world::seeds(20) {
        seeds += 1;
        let mut world = World::new(seed, 1);
        world.checkpoint = Due { entries: 3 + world.sim.below(20), bytes: 256 * 1024, log_bytes: 1 << 20 };
        world.start(0);
        let mut model = Model::default();
        for _ in 0..ROUNDS {
            let shard = world.serving(0).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(Model::of(&shard), model, "seed {seed}");
            let (asked, answer) = (draw(&world.sim), Rc::new(RefCell::new(None)));
            let (asking, told) = (shard.clone(), answer.clone());
            world.sim.spawn(world::client_id(0), async move {
                let put = pb::PutRequest { key: "k".into(), ..Default::default() };
                // Beside it, and told of nothing if the machine goes down.
                drop(asking.write(&Principal::default(), put).await);
                let answered = ask(&asking, asked).await;
                *told.borrow_mut() = Some(answered);
            });
            let mut wanted = model.clone();
            let expected = wanted.change(asked);
            if world.sim.chance(300) {
                world.sim.run_until(world.sim.below(300), || answer.borrow().is_some());
                world.crash(0);
                world.start(0);
                let shard = world.serving(0).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                let now = Model::of(&shard);
                let was_told = matches!(answer.take(), Some(Ok(())));
                assert!(now == wanted || now == model && !was_told, "seed {seed}: {asked:?} gave {now:?}");
                model = now;
                continue;
            }
            assert!(world.sim.run_until(STEPS_MAX, || answer.borrow().is_some()), "seed {seed}: stuck");
            let answered = answer.take().expect("just seen");
            assert_eq!(answered, expected, "seed {seed}: {asked:?} of {model:?}");
            changed += usize::from(answered.is_ok());
            model = wanted;
        }
    }
    assert!(seeds == 1 || changed > 3 * seeds, "{changed} changes in {seeds} worlds");
}
