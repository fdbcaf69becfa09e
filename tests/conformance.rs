//! Conformance: the same calls to upstream etcd and to Pinion, answers compared field by field.
//!
//! | variable         | meaning                                                                             |
//! |------------------|-------------------------------------------------------------------------------------|
//! | `PINION_CALLS`   | generated calls in all (default 60000), in sessions of 25000 on fresh servers         |
//! | `PINION_SEED`    | seed of the first session (default 1); alone it runs one session, to replay a failure |
//! | `PINION_PAIRS`   | pairs of servers at the same time (default 3)                                         |
//! | `PINION_AREAS`   | parts of the API to draw from (see `generator::Area`)                                 |
//! | `PINION_BIN`     | the program to test instead of the one just built                                     |

#[path = "tested/launch.rs"]
mod tested;

mod conformance {
    pub mod call;
    pub mod compare;
    pub mod generator;
    pub mod identity;
    pub mod named;
    pub mod observing;
    pub mod pair;
    pub mod raw;
    pub mod run;
    pub mod seeded;
    pub mod session;
    pub mod waiting;
    pub mod watches;
}

use bench_harness::{oracle, pb::etcdserverpb as pb};
use conformance::{
    call::Call,
    generator::Area,
    named::{self, Both},
    pair::{NOBODY, Pair},
    raw,
    run::{self, Plan},
    session::Session,
};

#[test]
fn generated_calls_get_the_same_answers() {
    let report = run::run(&Plan::from_env());
    println!("{report}");
    assert!(report.clean(), "{}", report.found());
}

/// The check checked: upstream beside upstream, and one write that only one of them got.
#[test]
fn a_write_only_one_server_got_is_noticed() {
    let etcd = oracle::program("etcd").unwrap_or_else(|missing| panic!("{missing}"));
    run::block_on(async {
        let mut pair = Pair::start_with(etcd, &[]).await.expect("start two upstream servers");
        let outcome = Session::new(3, &[Area::Kv], &mut pair).run(300).await;
        assert!(outcome.differences.is_empty() && outcome.broken.is_none(), "{outcome:?}");

        let planted = pb::PutRequest { key: "k1".into(), value: "planted".into(), ..Default::default() };
        pair.tested.answer(NOBODY, Call::Put(planted)).await;
        let outcome = Session::new(4, &[Area::Kv], &mut pair).run(300).await;
        assert!(!outcome.differences.is_empty(), "the planted write was not noticed: {outcome:?}");
    });
}

#[test]
fn broken_requests_are_refused_the_same_way() {
    run::block_on(async {
        let mut pair = Pair::start().await.unwrap_or_else(|why| panic!("{why}"));
        let mut different = Vec::new();
        for case in raw::cases() {
            let upstream = raw::send(pair.upstream.server.addr(), &case).await;
            let tested = raw::send(pair.tested.server.addr(), &case).await;
            println!("{}: {upstream:?}", case.name);
            if !raw::alike(&case, &upstream, &tested) {
                different.push(format!("{}:\n  upstream: {upstream:?}\n  tested:   {tested:?}", case.name));
            }
            pair.alive().unwrap_or_else(|ended| panic!("{}: {ended}", case.name));
        }
        assert!(different.is_empty(), "{}", different.join("\n"));
    });
}

/// A test of each named case, on servers of its own.
macro_rules! named {
    ($($case:ident,)*) => {
        mod fault_of_the_past {
            use super::*;

            $(#[test]
            fn $case() {
                run::block_on(async {
                    let mut both = Both::start().await;
                    named::$case(&mut both).await.unwrap_or_else(|why| panic!("{why}"));
                    both.pair.alive().unwrap_or_else(|ended| panic!("{ended}"));
                });
            })*
        }
    };
}

named! {
    what_is_revoked_is_not_renewed,
    a_restart_between_changes_of_users_leaves_the_revision,
    nothing_is_for_everybody,
    transactions_hide_nothing,
    a_lease_does_not_tell_its_keys,
    progress_waits_for_events_and_comes,
    a_deletion_at_the_compacted_revision_is_seen,
    a_start_below_zero_is_its_own_fault,
    a_watch_without_an_end_is_of_all_that_follows,
    a_watch_that_begins_later_is_told_of_nothing_before,
    a_lock_is_not_granted_after_its_lease,
    who_does_not_read_misses_nothing_without_being_told,
    a_watch_is_told_beside_answers_without_an_end,
    a_watch_with_a_token_that_ended_is_refused_as_such,
    who_is_killed_in_the_middle_of_a_watch_goes_alone,
    others_are_served_while_passwords_are_tried_without_an_end,
    a_path_without_a_slash_is_none,
    who_resets_what_it_begins_holds_nobody_up,
}
