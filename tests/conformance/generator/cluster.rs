//! Cluster and Maintenance. What would leave one member without a quorum is left out, and so is what a member does some
//! time later.

use bench_harness::pb::etcdserverpb::{
    self as pb, alarm_request::AlarmAction, downgrade_request::DowngradeAction,
};

use super::{Generator, Step};
use crate::conformance::{
    call::Call,
    identity::{LEARNER, SELF},
};

const PEER_URLS: [&str; 7] = [
    "http://127.0.0.1:1",
    "http://127.0.0.1:2",
    "",
    "nonsense",
    "http://127.0.0.1",
    "ftp://127.0.0.1:1",
    "http://:x",
];
const VERSIONS: [&str; 8] = ["3.6.0", "3.6", "3.5.0", "3.7.0", "3.8.0", "", "nonsense", "4.0.0"];

impl Generator {
    pub(super) fn cluster_call(&mut self, lot: u64) -> Call {
        match lot {
            0..300 => Call::MemberList(pb::MemberListRequest { linearizable: self.rng.percent(50) }),
            300..500 => {
                let count = self.rng.below(3);
                let peer_ur_ls = (0..count).map(|_| self.rng.pick(&PEER_URLS).to_owned()).collect();
                Call::MemberAdd(pb::MemberAddRequest { peer_ur_ls, is_learner: true })
            }
            500..700 => {
                Call::MemberRemove(pb::MemberRemoveRequest { id: self.rng.pick(&[LEARNER, LEARNER, 7, 0]) })
            }
            700..850 => {
                // Of a member that there is upstream takes any URL, and dies of one that is none.
                let id = self.rng.pick(&[LEARNER, 7]);
                let urls = if id == LEARNER { &PEER_URLS[..2] } else { &PEER_URLS };
                let url = self.rng.pick(urls).to_owned();
                Call::MemberUpdate(pb::MemberUpdateRequest { id, peer_ur_ls: vec![url] })
            }
            _ => Call::MemberPromote(pb::MemberPromoteRequest { id: self.rng.pick(&[LEARNER, SELF, 7]) }),
        }
    }

    pub(super) fn maintenance_call(&mut self, lot: u64) -> Call {
        match lot {
            0..300 => Call::Status(pb::StatusRequest {}),
            300..560 => self.alarm(),
            560..580 => Call::Defragment(pb::DefragmentRequest {}),
            580..660 => Call::Hash(pb::HashRequest {}),
            660..680 => Call::Snapshot,
            680..800 => {
                Call::MoveLeader(pb::MoveLeaderRequest { target_id: self.rng.pick(&[SELF, LEARNER, 7, 0]) })
            }
            _ => {
                let action = self.rng.pick(&[DowngradeAction::Validate, DowngradeAction::Cancel]);
                let version = self.rng.pick(&VERSIONS).to_owned();
                Call::Downgrade(pb::DowngradeRequest { action: action.into(), version })
            }
        }
    }

    fn alarm(&mut self) -> Call {
        let action = self.rng.pick(&[AlarmAction::Get, AlarmAction::Activate, AlarmAction::Deactivate]);
        let request = pb::AlarmRequest {
            // Of actions that are none upstream dies.
            action: action.into(),
            member_id: self.rng.pick(&[0, SELF, SELF, 7]),
            alarm: self.rng.pick(&[0, 1, 1, 2, 9]),
        };
        if request.action == i32::from(AlarmAction::Activate) {
            // Not for long: with an alarm, little else happens.
            for _ in 0..self.rng.below(6) {
                let call = self.kv_call();
                self.plan.push_back(Step::Call { client: super::ROOT, call });
            }
            let action = AlarmAction::Deactivate.into();
            let call = Call::Alarm(pb::AlarmRequest { action, ..request });
            self.plan.push_back(Step::Call { client: super::ROOT, call });
        }
        Call::Alarm(request)
    }
}
