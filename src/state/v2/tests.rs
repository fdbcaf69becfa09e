use std::collections::BTreeMap;

use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    block::{Block, BlockChange, BlockId},
    limits,
    state::{
        Context, Loading, Outcome, Principal, StateMachine, cluster::AddMember, command::Command,
        space::Space,
    },
    types::LogIndex,
};

mod model;

use model::Model;

const PATHS: [&str; 14] = [
    "", "/a", "/b", "/a/b", "/a/c", "/a/b/c", "/a/b/c/d", "/b/_h", "/b/_h/x", "/_g", "/a-", "/a/b-c",
    "/a/b/_", "/b/a",
];

fn apply<C: Command>(state: &mut StateMachine, command: &C, keys: usize) -> (C::Answer, Outcome) {
    let (nobody, mut outcome) = (Principal::default(), Outcome::default());
    let context = Context::asked_by(&nobody).in_steps_of(keys);
    let answer = state.apply(command, context, &mut outcome).expect("never refused as a command");
    (answer, outcome)
}

fn write(method: Method, path: &'static str) -> Write {
    Write { method: method as i32, path: path.into(), time: 1_000_000_000 * SECOND, ..Write::default() }
}

fn set(path: &'static str, value: &'static str) -> Write {
    Write { value: value.into(), ..write(Method::Set, path) }
}

const SECOND: i64 = 1_000_000_000;

fn member() -> StateMachine {
    let mut state = StateMachine::new();
    let member = crate::pb::etcdserverpb::Member { id: 1, ..Default::default() };
    apply(&mut state, &AddMember { member: Some(member) }, usize::MAX);
    state
}

/// Blocks as a checkpoint would have them on disk.
#[derive(Default)]
struct Disk {
    blocks: BTreeMap<BlockId, Block>,
    facts: Vec<u8>,
}

impl Disk {
    fn save(&mut self, state: &mut StateMachine) {
        let (changes, facts) = state.changes();
        for change in changes {
            match change {
                BlockChange::Write(block) => drop(self.blocks.insert(block.id, block)),
                BlockChange::Meta { id, meta } => self.blocks.get_mut(&id).expect("it is there").meta = meta,
                BlockChange::Drop { id } => drop(self.blocks.remove(&id)),
            }
        }
        self.facts = facts;
        state.saved();
    }

    fn load(&self, backwards: bool) -> StateMachine {
        let mut loading = Loading::default();
        let blocks: Vec<_> = self.blocks.values().collect();
        let take = |block: &&Block| loading.take(block).expect("written by this release");
        if backwards {
            blocks.iter().rev().for_each(take)
        } else {
            blocks.iter().for_each(take)
        }
        loading.finish(LogIndex(9), &self.facts).expect("a whole state")
    }
}

/// All nodes but the root, with what is known of each.
fn content(tree: &Tree) -> BTreeMap<Vec<u8>, Shown> {
    let (mut found, mut stack) = (BTreeMap::new(), vec![NodeId::ROOT]);
    while let Some(id) = stack.pop() {
        if id != NodeId::ROOT {
            found.insert(tree.path(id), tree.show(id, 0));
        }
        stack.extend(tree.node(id).directory().into_iter().flat_map(|directory| directory.children.values()));
    }
    assert_eq!(found.len(), tree.len(), "nothing is left over");
    found
}

fn events(tree: &Tree) -> Vec<Event> {
    tree.history.from(0).map(|event| Event::clone(event)).collect()
}

fn any_write() -> impl Strategy<Value = Write> {
    let method = select(vec![
        Method::Set,
        Method::Set,
        Method::Create,
        Method::CreateInOrder,
        Method::Update,
        Method::CompareAndSwap,
        Method::Delete,
        Method::CompareAndDelete,
    ]);
    let value = select(vec!["", "x", "y"]);
    let ends = select(vec![0, 0, 5, SECOND, 1_000_000_000 * SECOND, 1_000_000_007 * SECOND]);
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2));
    let before = (select(vec!["", "", "x"]), select(vec![0, 0, 0, 7]));
    (method, select(PATHS.to_vec()), value, ends, flags, before).prop_map(
        |(method, path, value, expires, (dir, recursive, refresh), (prev_value, prev_index))| Write {
            value: value.into(),
            expires,
            dir,
            recursive,
            refresh,
            prev_value: prev_value.into(),
            prev_index,
            ..write(method, path)
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Write(Write),
    Expire(i64),
    Save,
    NotSaved,
    Restart(bool),
    Members,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => any_write().prop_map(Step::Write),
        2 => select(vec![6, 2 * SECOND, 1_000_000_003 * SECOND, 1_000_000_009 * SECOND]).prop_map(Step::Expire),
        1 => Just(Step::Save),
        1 => Just(Step::NotSaved),
        1 => any::<bool>().prop_map(Step::Restart),
        1 => Just(Step::Members),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Against a model that has paths and nothing else, with restarts from checkpoints in between.
    #[test]
    fn the_tree_does_as_its_model(steps in prop::collection::vec(any_step(), 1..60), keys in 1usize..4) {
        let mut state = member();
        let mut disk = Disk::default();
        let mut model: Option<Model> = None;
        for step in steps {
            match step {
                Step::Write(write) => {
                    let model = model.get_or_insert_with(|| Model::new(state.v2_index()));
                    let (answer, outcome) = apply(&mut state, &write, keys);
                    let wanted = model.write(&write);
                    prop_assert_eq!(answer.clone().map(|event| Event::clone(&event)), wanted);
                    let told: Vec<_> = outcome.events.iter().map(|event| event.index()).collect();
                    prop_assert_eq!(told, answer.iter().map(|event| event.index()).collect::<Vec<_>>());
                }
                Step::Expire(time) => {
                    let model = model.get_or_insert_with(|| Model::new(state.v2_index()));
                    let (ended, outcome) = apply(&mut state, &Expire { time }, keys);
                    let wanted = model.expire(time, &outcome.events);
                    prop_assert_eq!(ended, wanted);
                }
                Step::Save => disk.save(&mut state),
                Step::NotSaved => {
                    state.changes();
                    state.not_saved();
                }
                Step::Restart(backwards) => {
                    disk.save(&mut state);
                    let before = (state.v2_index(), state.v2().history.start(), *state.v2().counts());
                    state = disk.load(backwards);
                    let now = (state.v2_index(), state.v2().history.start(), *state.v2().counts());
                    prop_assert_eq!(now, before);
                    prop_assert_eq!(state.v2().unsaved().bytes, 0);
                }
                Step::Members => {
                    let member = crate::pb::etcdserverpb::Member { id: 1, ..Default::default() };
                    apply(&mut state, &AddMember { member: Some(member) }, usize::MAX);
                    if let Some(model) = &mut model {
                        model.index += 1;
                    }
                }
            }
            if let Some(model) = &model {
                prop_assert_eq!(state.v2_index(), model.index);
                prop_assert_eq!(content(state.v2()), model.content());
                prop_assert_eq!(&events(state.v2()), &model.events);
                let ends = model.content().values().filter_map(|node| node.expires).min();
                prop_assert_eq!(state.v2().next_end(), ends);
            }
        }
    }
}

#[test]
fn the_first_write_of_a_single_member_has_index_4() {
    let mut state = member();
    assert_eq!(state.v2_index(), 3);
    let (answer, _) = apply(&mut state, &set("/a", "x"), usize::MAX);
    assert_eq!(answer.expect("made").index(), 4);
}

#[test]
fn who_never_used_it_has_no_trace_of_it_in_checkpoints() {
    let mut state = member();
    let (changes, facts) = state.changes();
    assert!(
        changes.iter().all(|change| !matches!(change, BlockChange::Write(block) if block.id.space == SPACE))
    );
    assert!(!crate::state::space::Facts::default().spaces().any(|_| true) && !facts.is_empty());
    // The tree begins while that checkpoint is under way.
    apply(&mut state, &set("/a", "x"), usize::MAX).0.expect("set");
    state.not_saved();
    let mut disk = Disk::default();
    disk.save(&mut state);
    assert_eq!(content(disk.load(false).v2()), content(state.v2()));
}

#[test]
fn a_thousand_events_are_known_and_older_ones_are_not() {
    let mut state = member();
    let mut disk = Disk::default();
    for round in 0..2_500u64 {
        let (answer, _) = apply(&mut state, &set("/a", "x"), usize::MAX);
        let index = answer.expect("set").index();
        if round % 333 == 0 {
            disk.save(&mut state);
            state = disk.load(round % 2 == 0);
        }
        let start = (index + 1).saturating_sub(limits::V2_HISTORY_EVENTS).max(1);
        assert_eq!(state.v2().history.start(), start);
        assert!(state.v2().events_from(start).is_ok());
        assert_eq!(state.v2().events_from(start - 1).err(), Some(start), "after {index}");
    }
    assert_eq!(events(state.v2()).len(), 1_000);
    disk.save(&mut state);
    let runs = disk.blocks.keys().filter(|id| id.space == SPACE).count();
    assert!(runs <= 1_000 / 64 + 3, "{runs} blocks");
}

#[test]
fn long_values_push_events_out_of_the_history() {
    let mut state = member();
    let value = bytes::Bytes::from(vec![b'x'; 1024 * 1024]);
    for _ in 0..100 {
        let long = Write { value: value.clone(), ..write(Method::Set, "/long") };
        apply(&mut state, &long, usize::MAX).0.expect("set");
    }
    // Each has the value and the one before.
    let known = events(state.v2()).len();
    assert!((20..40).contains(&known), "{known}");
}

#[test]
fn a_large_directory_ends_at_once_and_goes_in_steps() {
    let mut state = member();
    for at in 0..10_000u32 {
        let path = format!("/d/{}/{at}", at % 7).into_bytes();
        let set = Write { path: path.into(), expires: 1_000_000_007 * SECOND, ..set("", "x") };
        apply(&mut state, &set, usize::MAX).0.expect("set");
    }
    let delete = Write { recursive: true, ..write(Method::Delete, "/d") };
    let (nobody, mut outcome, mut steps) =
        (Principal::default(), Outcome::default(), crate::state::Steps::default());
    let context = Context::asked_by(&nobody).in_steps_of(100);
    let mut count = 0;
    while state.step(&delete, &mut steps, context, &mut outcome).is_pending() {
        assert!(state.v2().find(b"/d").is_err(), "nobody sees a part of it");
        count += 1;
    }
    assert!(count >= 100, "{count} steps");
    assert_eq!((state.v2().len(), state.v2().next_end(), outcome.events.len()), (0, None, 1));
}

#[test]
fn a_walk_sees_one_moment_or_says_so() {
    let mut state = member();
    for path in ["/d/a", "/d/b/c", "/d/b/_h", "/d/z"] {
        apply(&mut state, &set(path, "x"), usize::MAX).0.expect("set");
    }
    let names = |state: &StateMachine, recursive, nodes| {
        let (mut walk, mut seen) = (Walk::new(b"/d".to_vec(), recursive), Vec::new());
        let mut take = |visit: Visit<'_>| {
            seen.push(match visit {
                Visit::Open(node) => format!("+{}", String::from_utf8_lossy(&node.name)),
                Visit::Close(node) => format!("-{}", String::from_utf8_lossy(&node.name)),
            });
            nodes != 3
        };
        while !walk.step(state.v2(), nodes, &mut take).expect("nothing changes") {}
        seen
    };
    // With three it is enough after each.
    for nodes in [1, 2, 3, 100] {
        assert_eq!(names(&state, false, nodes), ["+a", "+b", "-b", "+z"]);
        assert_eq!(names(&state, true, nodes), ["+a", "+b", "+c", "-b", "+z"]);
    }
    let begun = |state: &StateMachine| {
        let mut walk = Walk::new(b"/d".to_vec(), true);
        assert_eq!(walk.step(state.v2(), 1, |_| true), Ok(false));
        walk
    };
    let mut walk = begun(&state);
    apply(&mut state, &set("/elsewhere", "x"), usize::MAX).0.expect("set");
    assert_eq!(walk.step(state.v2(), 1, |_| true), Ok(false), "it is none of its business");
    let mut walk = begun(&state);
    apply(&mut state, &set("/d/b/c", "y"), usize::MAX).0.expect("set");
    assert_eq!(walk.step(state.v2(), 1, |_| true), Err(Disturbed));
    let mut walk = begun(&state);
    let delete = Write { recursive: true, ..write(Method::Delete, "/d") };
    apply(&mut state, &delete, usize::MAX).0.expect("deleted");
    assert_eq!(walk.step(state.v2(), 1, |_| true), Err(Disturbed));
}
