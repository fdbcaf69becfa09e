use futures_lite::future::{block_on, poll_once};

use super::*;
use crate::state::{
    Context, Outcome, Principal, StateMachine,
    v2::{Method, Write},
};

struct World {
    state: StateMachine,
    waiters: Rc<RefCell<Waiters>>,
}

impl World {
    fn new() -> Self {
        Self { state: StateMachine::new(), waiters: Rc::default() }
    }

    fn apply(&mut self, write: &Write) -> Vec<Rc<Event>> {
        let (nobody, mut outcome) = (Principal::default(), Outcome::default());
        let answer = self.state.apply(write, Context::asked_by(&nobody), &mut outcome);
        answer.expect("a command").expect("not refused");
        outcome.events
    }

    fn write(&mut self, method: Method, path: &str) {
        let write = Write {
            method: method as i32,
            path: path.to_owned().into(),
            recursive: true,
            ..Write::default()
        };
        for event in self.apply(&write) {
            self.waiters.borrow_mut().publish(&event);
        }
    }

    fn set(&mut self, path: &str) {
        self.write(Method::Set, path);
    }

    fn wait(&self, key: &str, recursive: bool, is_stream: bool, from: u64) -> Result<Wait, Refused> {
        let wanted = Wanted { key: key.as_bytes().into(), recursive, is_stream, from };
        Waiters::begin(&self.waiters, self.state.v2(), self.state.v2_index(), wanted)
    }
}

/// Keys of what has come.
fn told(wait: &Wait) -> Vec<String> {
    std::iter::from_fn(|| block_on(poll_once(wait.next())).flatten())
        .map(|event| format!("{}{}", event.index(), String::from_utf8_lossy(&event.node.key)))
        .collect()
}

#[test]
fn who_waits_for_one_event_leaves_with_it() {
    let mut world = World::new();
    let wait = world.wait("/a", false, false, 0).expect("from now on");
    let above = world.wait("", true, false, 0).expect("from now on");
    let above_alone = world.wait("", false, false, 0).expect("from now on");
    assert_eq!(world.waiters.borrow().len(), 3);
    world.set("/b");
    assert_eq!(told(&wait), [""; 0]);
    assert_eq!(told(&above), ["2/b"]);
    world.set("/a");
    world.set("/a");
    assert_eq!(told(&wait), ["3/a"]);
    assert_eq!(told(&above), [""; 0]);
    assert_eq!(world.waiters.borrow().len(), 1);
    drop((wait, above, above_alone));
    assert_eq!((world.waiters.borrow().len(), world.waiters.borrow().places.len()), (0, 0));
}

#[test]
fn a_stream_gets_all_from_its_index_on_once() {
    let mut world = World::new();
    (0..3).for_each(|_| world.set("/a/b"));
    let stream = world.wait("/a", true, true, 3).expect("known");
    world.set("/a/c");
    world.set("/b");
    world.write(Method::Delete, "/a/b");
    assert_eq!(told(&stream), ["3/a/b", "4/a/b", "5/a/c", "7/a/b"]);
}

#[test]
fn one_that_waits_for_the_future_is_told_of_nothing_before() {
    let mut world = World::new();
    world.set("/a");
    let wait = world.wait("/a", false, false, 4).expect("to come");
    world.set("/a");
    assert_eq!(told(&wait), [""; 0]);
    world.set("/a");
    assert_eq!(told(&wait), ["4/a"]);
}

/// What was applied and not told yet is found in the history, and then not told again.
#[test]
fn what_is_known_already_is_not_told_again() {
    let mut world = World::new();
    let write = Write { method: Method::Set as i32, path: "/a".into(), ..Write::default() };
    let events = world.apply(&write);
    let stream = world.wait("/a", false, true, 2).expect("known");
    world.waiters.borrow_mut().publish(&events[0]);
    assert_eq!(told(&stream), ["2/a"]);
}

#[test]
fn the_end_of_a_directory_is_told_below_and_hidden_keys_are_not_told_above() {
    let mut world = World::new();
    world.set("/d/e/f");
    world.set("/d/_h/g");
    let below =
        ["/d/e/f", "/d/e", "/d/_h/g", "/d/x"].map(|key| world.wait(key, false, true, 0).expect("now"));
    let beside = ["/d0", "/d-", "/e"].map(|key| world.wait(key, true, true, 0).expect("now"));
    let above = world.wait("", true, true, 0).expect("now");
    world.set("/d/_h/g");
    assert_eq!(told(&above), [""; 0]);
    assert_eq!(told(&below[2]), ["4/d/_h/g"]);
    world.write(Method::Delete, "/d");
    for wait in &below {
        assert_eq!(told(wait), ["5/d"]);
    }
    for wait in &beside {
        assert_eq!(told(wait), [""; 0]);
    }
    assert_eq!(told(&above), ["5/d"]);
}

#[test]
fn what_is_not_known_any_more_is_refused() {
    let mut world = World::new();
    (0..1_500).for_each(|_| world.set("/a"));
    let Err(refused) = world.wait("/a", false, false, 7) else { panic!("it is cleared") };
    assert_eq!((refused.code, refused.index), (Code::EventIndexCleared, 1_501));
    assert_eq!(refused.cause, "the requested history has been cleared [502/7]");
    assert!(world.wait("/a", false, false, 502).is_ok());
}

#[test]
fn who_takes_nothing_is_lost_and_others_are_not() {
    let mut world = World::new();
    let (slow, quick) =
        (world.wait("/a", false, true, 0).expect("now"), world.wait("/a", false, true, 0).expect("now"));
    for _ in 0..=limits::V2_WAITING_EVENTS {
        world.set("/a");
        assert_eq!(told(&quick).len(), 1);
    }
    assert!(block_on(slow.next()).is_none(), "at once, with what it could have taken");
    assert_eq!(world.waiters.borrow().len(), 1);
}

#[test]
fn who_takes_no_long_events_is_lost_sooner() {
    let mut world = World::new();
    let wait = world.wait("/a", false, true, 0).expect("now");
    let long = vec![b'x'; 1024 * 1024];
    let write =
        Write { method: Method::Set as i32, path: "/a".into(), value: long.into(), ..Write::default() };
    let mut count = 0;
    while world.waiters.borrow().len() > 0 {
        for event in world.apply(&write) {
            world.waiters.borrow_mut().publish(&event);
        }
        count += 1;
    }
    assert!((2..=limits::V2_WAITING_BYTES / (1024 * 1024) + 1).contains(&count), "{count}");
    assert!(block_on(wait.next()).is_none());
}

#[test]
fn another_state_tells_what_it_knows_or_loses_all() {
    let mut world = World::new();
    world.set("/a");
    let wait = world.wait("/a", false, true, 0).expect("now");
    // Applied elsewhere.
    let write = Write { method: Method::Set as i32, path: "/a".into(), ..Write::default() };
    world.apply(&write);
    let index = world.state.v2_index();
    world.waiters.borrow_mut().replaced(world.state.v2(), index);
    assert_eq!(told(&wait), ["3/a"]);
    (0..1_100).for_each(|_| drop(world.apply(&write)));
    let index = world.state.v2_index();
    world.waiters.borrow_mut().replaced(world.state.v2(), index);
    assert!(block_on(wait.next()).is_none());
}
