//! Whoever follows the changes knows the state.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::any::{apply, whole};
use crate::{
    pb::{
        etcdserverpb::{self as pb, AlarmType, alarm_request::AlarmAction, request_op::Request as Op},
        mvccpb::KeyValue,
    },
    state::{Change, Context, Error, Operations, Outcome, Principal, StateMachine},
};

/// The keys as far as changes tell of them.
pub struct Follower {
    pub keys: BTreeMap<Bytes, KeyValue>,
    pub revision: i64,
    pub compacted: i64,
}

impl Default for Follower {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), revision: 1, compacted: -1 }
    }
}

impl Follower {
    pub fn follow(&mut self, state: &StateMachine, outcome: &Outcome) {
        for change in &outcome.changes {
            match change {
                Change::Versions(written) => {
                    assert_eq!(written.revision.0, self.revision + 1, "revisions follow each other");
                    self.revision = written.revision.0;
                    let mut subs = 0..written.count;
                    for version in state.versions(*written) {
                        assert_eq!((version.main, Some(version.sub)), (self.revision, subs.next()));
                        let key = Bytes::copy_from_slice(version.key);
                        if version.tombstone {
                            self.keys.remove(&key).expect("only what exists is deleted");
                            continue;
                        }
                        let kv = KeyValue {
                            key: key.clone(),
                            create_revision: version.create,
                            mod_revision: version.main,
                            version: version.version,
                            value: Bytes::copy_from_slice(version.value),
                            lease: version.lease,
                        };
                        self.keys.insert(key, kv);
                    }
                    assert!(subs.is_empty(), "all versions are told of");
                }
                Change::Compacted(revision) => self.compacted = revision.0,
                Change::Alarms
                | Change::Members
                | Change::Auth
                | Change::LeaseGranted { .. }
                | Change::LeaseGone { .. } => {
                    panic!("nothing but keys was written")
                }
            }
        }
    }
}

fn put(prev_kv: bool) -> pb::PutRequest {
    pb::PutRequest { key: "key".into(), value: "value".into(), prev_kv, ..Default::default() }
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

#[test]
fn a_put_that_reads_first_is_a_txn() {
    let (mut state, mut outcome) = (StateMachine::new(), Outcome::default());
    let principal = Principal::default();
    for prev_kv in [false, true] {
        state.apply(&put(prev_kv), Context::asked_by(&principal), &mut outcome).unwrap();
    }
    assert_eq!(outcome.operations, Operations { puts: 2, put_bytes: 16, ranges: 1, txns: 1, deletes: 0 });
    assert_eq!(outcome.changes.len(), 2);
}

#[test]
fn only_the_branch_taken_counts_whether_somebody_waits_or_not() {
    let never = vec![pb::Compare { key: "key".into(), ..Default::default() }];
    let nested = pb::TxnRequest {
        compare: vec![pb::Compare {
            key: "key".into(),
            target: pb::compare::CompareTarget::Version as i32,
            target_union: Some(pb::compare::TargetUnion::Version(7)),
            ..Default::default()
        }],
        success: vec![op(Op::RequestPut(put(false)))],
        failure: vec![
            op(Op::RequestDeleteRange(pb::DeleteRangeRequest { key: "x".into(), ..Default::default() })),
            op(Op::RequestRange(pb::RangeRequest { key: "x".into(), ..Default::default() })),
        ],
    };
    let request = pb::TxnRequest {
        compare: never,
        success: vec![op(Op::RequestTxn(nested)), op(Op::RequestPut(put(false)))],
        failure: vec![op(Op::RequestPut(put(false)))],
    };
    for answer_wanted in [true, false] {
        let (mut state, mut outcome) = (StateMachine::new(), Outcome::default());
        let principal = Principal::default();
        let context = Context { answer_wanted, ..Context::asked_by(&principal) };
        let answer = state.apply(&request, context, &mut outcome).unwrap();
        let answer = whole(&state, answer);
        assert!(answer.succeeded);
        assert_eq!(answer.responses.len(), if answer_wanted { 2 } else { 0 });
        let expected = Operations { ranges: 1, puts: 1, put_bytes: 8, deletes: 1, txns: 1 };
        assert_eq!(outcome.operations, expected, "{answer_wanted}");
        assert_eq!(state.revision().0, 2);
    }
}

#[test]
fn what_is_refused_or_changes_nothing_tells_of_nothing() {
    let (mut state, mut outcome) = (StateMachine::new(), Outcome::default());
    let principal = Principal::default();
    let context = Context::asked_by(&principal);
    let leased = pb::PutRequest { lease: 7, ..put(true) };
    assert_eq!(state.apply(&leased, context, &mut outcome), Err(Error::LeaseNotFound));
    let nothing = pb::DeleteRangeRequest { key: "x".into(), ..Default::default() };
    state.apply(&nothing, context, &mut outcome).unwrap();
    assert_eq!(
        outcome,
        Outcome {
            operations: Operations { deletes: 1, ..Default::default() },
            visited: 1,
            ..Default::default()
        }
    );
}

#[test]
fn an_alarm_is_told_of_when_it_is_raised_or_lifted() {
    let mut state = StateMachine::new();
    let alarm =
        |action| pb::AlarmRequest { action: action as i32, member_id: 1, alarm: AlarmType::Nospace as i32 };
    let mut told = |action| {
        let mut outcome = Outcome::default();
        let principal = Principal::default();
        state.apply(&alarm(action), Context::asked_by(&principal), &mut outcome).unwrap();
        outcome.changes.len()
    };
    let actions = [AlarmAction::Activate, AlarmAction::Activate, AlarmAction::Get, AlarmAction::Deactivate];
    assert_eq!(actions.map(&mut told), [1, 0, 0, 1]);
    assert!(apply(&mut StateMachine::new(), &put(false)).is_ok());
}
