//! Times on a clock that is turned by hand.

use std::collections::BTreeMap;

use futures_lite::future::{block_on, poll_once};
use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const ELECTION: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Instant {
    Instant(SECOND + millis * 1_000_000)
}

fn place(number: u64) -> Place {
    Place::of(number / PAGE_LEASES as u64, number as usize % PAGE_LEASES)
}

fn lease(id: i64, ttl: i64) -> Lease {
    Lease { id, ttl, remaining: 0 }
}

fn leading() -> Times {
    let times = Times::new(ELECTION, false);
    times.lead();
    while times.visit(&Leases::default(), at(0), 1) {}
    times
}

fn over(times: &Times, now: Instant) -> Vec<Place> {
    let mut over = Vec::new();
    while times.take_over(now, 100, usize::MAX, &mut over) {}
    over
}

#[derive(Clone, Debug)]
enum Step {
    Grant(u64, i64),
    Renew(u64),
    Gone(u64),
    Wait(u64),
    PutBack(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let number = || 0u64..20;
    let ttl = prop_oneof![8 => 1i64..30, 1 => 1i64..1_000_000, 1 => Just(limits::LEASE_TTL_MAX)];
    prop_oneof![
        3 => (number(), ttl).prop_map(|(number, ttl)| Step::Grant(number, ttl)),
        4 => number().prop_map(Step::Renew),
        2 => number().prop_map(Step::Gone),
        4 => prop_oneof![1u64..500, 1u64..20_000, 1u64..2_000_000_000].prop_map(Step::Wait),
        1 => number().prop_map(Step::PutBack),
    ]
}

proptest! {
    /// None is told of early, none twice, and each is once its time is over.
    #[test]
    fn each_lease_is_told_of_once_when_its_time_is_over(steps in prop::collection::vec(step(), 1..200)) {
        const LATE_MS: u64 = 40;
        let times = leading();
        // Seconds, end, whether it was told of, and when it was put back.
        let mut model: BTreeMap<u64, (i64, Instant, bool, u64)> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Grant(number, ttl) => {
                    if let std::collections::btree_map::Entry::Vacant(free) = model.entry(number) {
                        times.granted(place(number), lease(number as i64 + 1, ttl), at(now));
                        free.insert((ttl, at(now).after(seconds(ttl)), false, 0));
                    }
                }
                Step::Renew(number) => {
                    if let Some((ttl, ends, ..)) = model.get_mut(&number) {
                        let renewal = times.renew(place(number), *ttl, at(now));
                        if *ends <= at(now) {
                            prop_assert_eq!(renewal, Renewal::Over);
                        } else {
                            prop_assert_eq!(renewal, Renewal::Renewed);
                            *ends = at(now).after(seconds(*ttl));
                        }
                    }
                }
                Step::Gone(number) => {
                    if model.remove(&number).is_some() {
                        times.gone(place(number));
                    }
                }
                Step::PutBack(number) => {
                    if let Some((_, _, told @ true, back)) = model.get_mut(&number) {
                        times.put_back(&[place(number)], at(now), at(now));
                        (*told, *back) = (false, now);
                    }
                }
                Step::Wait(millis) => now += millis,
            }
            for taken in over(&times, at(now)) {
                let (_, (_, ends, told, _)) =
                    model.iter_mut().find(|(number, _)| place(**number) == taken).expect("it is there");
                prop_assert!(*ends <= at(now) && !std::mem::replace(told, true));
            }
            for (number, (_, ends, told, back)) in &model {
                let is_late = (*ends).max(at(*back)).0 + LATE_MS * 1_000_000 <= at(now).0;
                prop_assert!(*told || !is_late, "{number} is not told of");
                prop_assert_eq!(times.ends(place(*number)), Some(*ends));
            }
        }
    }
}

#[test]
fn slots_are_few_however_far_ahead() {
    let mut leading = Leading::default();
    for number in 0..100_000 {
        leading.begin(place(number), at(number * 7_919_000), at(0));
    }
    assert!(leading.ending.slots() < 5_000, "{} slots", leading.ending.slots());
    let mut seen = 0;
    while let Some(taken) = leading.ending.take(&mut Ending(&mut leading.pages), at(u64::MAX >> 24)) {
        seen += u64::from(taken.page() < 400);
    }
    assert_eq!((seen, leading.ending.slots()), (100_000, 0));
}

#[test]
fn what_is_gone_leaves_nothing_behind() {
    const LIVE: usize = 10;
    for ttl in [|_| limits::LEASE_TTL_MAX, |number: u64| 301 + (number * number) as i64 % 8_999_999_000] {
        let times = Times::new(ELECTION, true);
        times.lead();
        for number in 0..100_000 {
            let now = at(number);
            times.granted(place(number), lease(number as i64 + 1, ttl(number)), now);
            if let Some(old) = number.checked_sub(LIVE as u64) {
                assert_eq!(times.renew(place(old), ttl(old), now), Renewal::Renewed);
                times.gone(place(old));
            }
            let leading = times.0.leading.borrow();
            let Leading { pages, ending, noting, .. } = leading.as_ref().expect("it leads");
            assert!(pages.0.len() <= 2 && ending.slots() <= LIVE && noting.slots() <= LIVE, "{number}");
        }
    }
}

#[test]
fn a_place_that_is_granted_again_is_told_of_once() {
    let times = leading();
    for id in 1..=3 {
        times.granted(place(0), lease(id, 5), at(0));
        times.granted(place(id as u64), lease(id + 10, 5), at(0));
        if id < 3 {
            times.gone(place(0));
        }
    }
    times.gone(place(2));
    let mut told = over(&times, at(5_100));
    told.sort_unstable();
    assert_eq!(told, [place(0), place(1), place(3)]);
}

#[test]
fn a_new_leader_shortens_nothing() {
    let mut leases = Leases::default();
    for id in 1..=1_000 {
        leases.add(Lease { remaining: if id == 7 { 20 } else { 0 }, ..lease(id, 60) });
    }
    let times = Times::new(ELECTION, false);
    assert_eq!(times.renew(place(0), 60, at(0)), Renewal::NotLeading);
    times.lead();
    // Told of before it was visited.
    let granted = leases.add(lease(5_000, 5));
    times.granted(granted, lease(5_000, 5), at(0));
    assert_eq!(times.renew(place(1), 60, at(0)), Renewal::Renewed);
    let mut turns = 0;
    while times.visit(&leases, at(100), 1) {
        turns += 1;
    }
    assert_eq!(turns, 4, "one page after the other");
    assert_eq!(times.ends(place(0)), Some(at(61_100)));
    assert_eq!(times.ends(place(1)), Some(at(60_000)), "it was renewed already");
    assert_eq!(times.ends(place(6)), Some(at(21_100)), "what was noted");
    assert_eq!(times.ends(granted), Some(at(5_000)));
    times.follow();
    assert_eq!((times.ends(place(0)), times.next()), (None, None));
    assert_eq!(over(&times, at(1_000_000)), []);
}

/// etcd#17132: what was noted was forgotten by the leader after the next.
#[test]
fn what_was_noted_holds_for_each_leader_that_comes() {
    let mut leases = Leases::default();
    let noted = leases.add(Lease { remaining: 400, ..lease(1, 3_600) });
    for times in [Times::new(ELECTION, true), Times::new(ELECTION, true)] {
        times.lead();
        while times.visit(&leases, at(0), 1) {}
        assert_eq!(times.ends(noted), Some(at(401_000)));
        // Before there was time to note it again.
        times.follow();
    }
}

#[test]
fn whoever_waits_for_the_end_hears_of_it() {
    let times = leading();
    times.granted(place(3), lease(4, 1), at(0));
    let mut gone = times.gone_later(place(3));
    for _ in 0..100 {
        drop(times.gone_later(place(3)));
    }
    assert!(times.0.waiting.borrow()[&place(3)].len() <= 4, "nobody waits for those");
    assert_eq!(block_on(poll_once(&mut gone)), None);
    times.gone(place(3));
    assert_eq!(block_on(gone), Some(()));
    let demoted = times.gone_later(place(5));
    times.follow();
    assert_eq!(block_on(demoted), None);
}

#[test]
fn what_is_left_of_long_leases_is_noted_every_five_minutes() {
    const MINUTES: u64 = 60_000;
    let mut leases = Leases::default();
    let (long, short) = (lease(1, 900), lease(2, 300));
    let places = [leases.add(long), leases.add(short)];
    let times = Times::new(ELECTION, true);
    times.lead();
    times.granted(places[0], long, at(0));
    times.granted(places[1], short, at(0));
    let notes = |millis| times.take_to_note(&leases, at(millis), 100, 100);
    assert_eq!(notes(5 * MINUTES - 1), []);
    assert_eq!(notes(5 * MINUTES + 500), [(1, 600)]);
    assert_eq!(times.renew(places[0], 900, at(6 * MINUTES)), Renewal::Renewed);
    assert_eq!(notes(11 * MINUTES), [(1, 600)]);
    times.gone(places[0]);
    assert_eq!(notes(60 * MINUTES), []);
    // Renewed before it was visited.
    times.lead();
    assert_eq!(times.renew(places[0], 900, at(60 * MINUTES)), Renewal::Renewed);
    assert_eq!(notes(66 * MINUTES), [(1, 540)]);
}
