//! Whatever comes as a frame, a member goes on.

use proptest::prelude::*;
use prost::Message as _;

use super::*;

/// Small numbers, so that they meet the log, and some that are far beyond it.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..12u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX >> 1), 1 => any::<u64>()]
}

fn context() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(0), Just(16), 0..20usize].prop_map(|length| Bytes::from(vec![7; length]))
}

/// An encoded change, most often of a member that is there.
fn change() -> impl Strategy<Value = Bytes> {
    use ChangeKind::{AddLearner, AddVoter, Remove};
    (prop::sample::select(vec![AddVoter, AddLearner, Remove]), 1..6u64).prop_map(|(kind, member)| {
        ConfigChange { kind, member: MemberId(member), context: "".into() }.encode()
    })
}

fn entry() -> impl Strategy<Value = pb::Entry> {
    let data = prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(b"x")), change()];
    (number(), number(), 0..4i32, data).prop_map(|(index, term, kind, data)| pb::Entry {
        index,
        term,
        kind,
        data,
    })
}

/// Entries that follow one another, most often.
fn append() -> impl Strategy<Value = pb::Append> {
    let entries = prop::collection::vec((0..3u64, any::<bool>(), change()), 0..5);
    let follows = (number(), number(), number(), entries).prop_map(|(index, term, commit, entries)| {
        let (mut last, mut last_term) = (index, term);
        let entries = entries.into_iter().map(|(step, is_change, change)| {
            last = last.wrapping_add(1);
            last_term = last_term.saturating_add(step / 2);
            let (kind, data) = if is_change { (2, change) } else { (0, Bytes::from_static(b"x")) };
            pb::Entry { index: last, term: last_term, kind, data }
        });
        pb::Append { entries: entries.collect(), prev_index: index, prev_term: term, commit }
    });
    let any = (number(), number(), number(), prop::collection::vec(entry(), 0..3)).prop_map(
        |(prev_index, prev_term, commit, entries)| pb::Append { prev_index, prev_term, commit, entries },
    );
    prop_oneof![4 => follows, 1 => any]
}

fn body() -> impl Strategy<Value = Body> {
    let flags = (any::<bool>(), any::<bool>());
    let ids = || prop::collection::vec(0..5u64, 0..4);
    prop_oneof![
        4 => append().prop_map(Body::Append),
        2 => (number(), number(), any::<bool>(), number(), number()).prop_map(
            |(index, commit, rejected, hint_index, hint_term)| {
                Body::AppendReply(pb::AppendReply { index, commit, rejected, hint_index, hint_term })
            }
        ),
        1 => (number(), context())
            .prop_map(|(commit, context)| Body::Heartbeat(pb::Heartbeat { commit, context })),
        1 => (number(), context())
            .prop_map(|(commit, context)| Body::HeartbeatReply(pb::HeartbeatReply { commit, context })),
        2 => (flags, number(), number(), number(), number()).prop_map(
            |((pre, transfer), last_index, last_term, commit, commit_term)| {
                Body::Vote(pb::Vote { pre, last_index, last_term, commit, commit_term, transfer })
            }
        ),
        2 => (any::<bool>(), any::<bool>(), number(), number()).prop_map(
            |(pre, rejected, commit, commit_term)| {
                Body::VoteReply(pb::VoteReply { pre, rejected, commit, commit_term })
            }
        ),
        2 => (number(), number(), ids(), ids()).prop_map(|(index, term, voters, learners)| {
            Body::Checkpoint(pb::Checkpoint { index, term, voters, learners })
        }),
        1 => Just(Body::Campaign(pb::Campaign {})),
        1 => context().prop_map(|context| Body::ReadIndex(pb::ReadIndex { context })),
        1 => (number(), context())
            .prop_map(|(index, context)| Body::ReadIndexReply(pb::ReadIndexReply { index, context })),
    ]
}

/// What happens to a member.
#[derive(Clone, Debug)]
enum Step {
    Frame {
        from: u64,
        term: u64,
        body: Body,
    },
    Tick,
    Propose,
    /// Everything becomes durable and is applied.
    Settle,
    /// Readies are taken, and nothing becomes durable.
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6u64, number(), body()).prop_map(|(from, term, body)| Step::Frame { from, term, body }),
        2 => Just(Step::Tick),
        1 => Just(Step::Propose),
        2 => Just(Step::Settle),
        1 => Just(Step::Take),
    ]
}

fn run(mut pipeline: Pipeline, steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::Frame { from, term, body } => {
                let frame = pb::Frame { from, to: 1, term, body: Some(body) }.encode_to_vec();
                // Taken or refused: what counts is that there is an answer.
                drop(pipeline.step_with_checkpoint(frame.into(), 3));
            }
            Step::Tick => (0..5).for_each(|_| pipeline.tick(3)),
            Step::Propose => drop(pipeline.propose([Bytes::from_static(b"x")])),
            Step::Settle => take_all(&mut pipeline, true),
            Step::Take => take_all(&mut pipeline, false),
        }
    }
    take_all(&mut pipeline, true);
}

/// As [`settle`], with readies that were taken before.
fn take_all(pipeline: &mut Pipeline, durable: bool) {
    loop {
        let readies = readies(pipeline);
        let mut applied = pipeline.node.raft.raft_log.applied;
        for ready in readies {
            if let Some(baseline) = ready.restored {
                applied = applied.max(baseline.position.index.0);
            }
            for entry in ready.committed {
                if let Payload::Config(change) = entry.payload().unwrap() {
                    // Nobody proposes to remove the last voter.
                    drop(pipeline.apply_change(&change));
                }
                applied = applied.max(entry.index.0);
            }
        }
        if !durable {
            // A received checkpoint is not in place before it is durable.
            let log = &pipeline.node.raft.raft_log;
            let now = applied.min(log.persisted);
            if now > log.applied && now >= pipeline.node.store().base().index.0 {
                pipeline.applied(LogIndex(now));
            }
            return;
        }
        let last = pipeline.last_number;
        drop(pipeline.persisted(last));
        let base = pipeline.node.store().base().index.0;
        let applied = applied.max(base);
        if applied > pipeline.node.raft.raft_log.applied {
            pipeline.applied(LogIndex(applied));
        }
        if !pipeline.has_ready() {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]
    /// Led by this member or not.
    #[test]
    fn no_frame_is_a_panic(leads in any::<bool>(), steps in prop::collection::vec(step(), 1..30)) {
        let [leader, ..] = led();
        run(if leads { leader } else { member(1, &[1, 2, 3]) }, steps);
    }

    #[test]
    fn what_decodes_encodes_to_what_it_was(from in 1..5u64, term in 0..5u64, body in body()) {
        let bytes = Bytes::from(pb::Frame { from, to: 9, term, body: Some(body) }.encode_to_vec());
        if let Ok(frame) = Frame::decode(bytes.clone()) {
            let message = eraftpb::Message::from(frame.clone());
            prop_assert_eq!(Frame::from(message), frame.clone());
            prop_assert_eq!(frame.encode(), bytes);
        }
    }
}
