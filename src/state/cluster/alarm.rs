//! Alarms: what is wrong with members, as all members know it.
//!
//! Part of the replicated state, owned by the [`StateMachine`](crate::state::StateMachine): raised and lifted by entries of the
//! log, so every member refuses the same requests from the same entry on. Why an alarm is raised is decided elsewhere:
//! by whoever admits writes, by the checks for corruption, by an operator.

use std::{collections::BTreeSet, task::Poll};

use crate::{
    pb::etcdserverpb::{self as pb, AlarmType, alarm_request::AlarmAction},
    state::{
        Error, StateMachine,
        command::{Command, Context, Kind, Needs, Principal},
        kv::header,
        outcome::{Change, Outcome},
    },
};

impl Command for pb::AlarmRequest {
    type Answer = pb::AlarmResponse;
    type Progress = ();
    const KIND: Kind = Kind::first(5);

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    /// Members raise them, and who else may is seen where they are admitted.
    fn permits(&self, _: &StateMachine, _: &Principal) -> Result<(), Error> {
        Ok(())
    }

    fn apply(
        &self,
        (): &mut (),
        state: &mut StateMachine,
        _: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<Self::Answer, Error>> {
        let header = Some(header(state.revision().0));
        let cluster = state.cluster_mut();
        let before = cluster.alarms.0.len();
        let concerned = cluster.alarms.apply(self);
        if cluster.alarms.0.len() != before {
            cluster.unsaved = true;
            outcome.changes.push(Change::Alarms);
        }
        Poll::Ready(Ok(pb::AlarmResponse { header, alarms: concerned }))
    }
}

/// The alarms that are on, ordered by kind, then by member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms(BTreeSet<(i32, u64)>);

impl Alarms {
    /// Alarms as [`Alarms::list`] gave them.
    pub fn restore(list: &[pb::AlarmMember]) -> Self {
        Self(list.iter().map(|alarm| (alarm.alarm, alarm.member_id)).collect())
    }

    /// The alarms that the request is about: those asked for, the one raised (again or not), the one lifted.
    fn apply(&mut self, request: &pb::AlarmRequest) -> Vec<pb::AlarmMember> {
        let (kind, member_id) = (request.alarm, request.member_id);
        let concerned = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => return self.list(kind),
            Ok(AlarmAction::Activate) if kind != AlarmType::None as i32 => {
                self.0.insert((kind, member_id));
                true
            }
            Ok(AlarmAction::Deactivate) => self.0.remove(&(kind, member_id)),
            Ok(AlarmAction::Activate) | Err(_) => false,
        };
        if concerned { vec![pb::AlarmMember { member_id, alarm: kind }] } else { Vec::new() }
    }

    /// Those of one kind, or all of them for `AlarmType::None`.
    pub fn list(&self, kind: i32) -> Vec<pb::AlarmMember> {
        let wanted = |of: i32| kind == AlarmType::None as i32 || of == kind;
        let found = self.0.iter().filter(|(of, _)| wanted(*of));
        found.map(|&(alarm, member_id)| pb::AlarmMember { member_id, alarm }).collect()
    }

    /// Whether any member has this alarm.
    pub fn is_on(&self, kind: AlarmType) -> bool {
        let kind = kind as i32;
        self.0.range((kind, 0)..=(kind, u64::MAX)).next().is_some()
    }

    /// Whether this member has this alarm.
    pub fn is_on_for(&self, kind: AlarmType, member_id: u64) -> bool {
        self.0.contains(&(kind as i32, member_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(action: AlarmAction, member_id: u64, kind: AlarmType) -> pb::AlarmRequest {
        pb::AlarmRequest { action: action as i32, member_id, alarm: kind as i32 }
    }

    fn one(member_id: u64, kind: AlarmType) -> pb::AlarmMember {
        pb::AlarmMember { member_id, alarm: kind as i32 }
    }

    #[test]
    fn an_alarm_is_on_from_the_first_raise_to_the_one_lift() {
        use AlarmAction::{Activate, Deactivate, Get};
        let mut alarms = Alarms::default();
        for _ in 0..2 {
            let answer = alarms.apply(&request(Activate, 7, AlarmType::Nospace));
            assert_eq!(answer, [one(7, AlarmType::Nospace)]);
        }
        assert_eq!(alarms.apply(&request(Activate, 3, AlarmType::Corrupt)), [one(3, AlarmType::Corrupt)]);
        assert_eq!(alarms.apply(&request(Activate, 3, AlarmType::None)), []);
        assert_eq!(
            alarms.apply(&request(Get, 0, AlarmType::None)),
            [one(7, AlarmType::Nospace), one(3, AlarmType::Corrupt)]
        );
        assert_eq!(alarms.apply(&request(Get, 0, AlarmType::Corrupt)), [one(3, AlarmType::Corrupt)]);
        assert_eq!(Alarms::restore(&alarms.list(0)), alarms);

        assert_eq!(alarms.apply(&request(Deactivate, 8, AlarmType::Nospace)), []);
        assert!(alarms.is_on(AlarmType::Nospace) && alarms.is_on_for(AlarmType::Nospace, 7));
        assert_eq!(alarms.apply(&request(Deactivate, 7, AlarmType::Nospace)), [one(7, AlarmType::Nospace)]);
        assert_eq!(alarms.apply(&request(Deactivate, 7, AlarmType::Nospace)), []);
        assert!(!alarms.is_on(AlarmType::Nospace) && alarms.is_on(AlarmType::Corrupt));
    }

    #[test]
    fn an_alarm_of_a_later_version_is_kept() {
        let mut alarms = Alarms::default();
        let unknown = pb::AlarmRequest { action: AlarmAction::Activate as i32, member_id: 1, alarm: 7 };
        assert_eq!(alarms.apply(&unknown), [pb::AlarmMember { member_id: 1, alarm: 7 }]);
        assert_eq!(alarms.list(0).len(), 1);
        assert!(!alarms.is_on(AlarmType::Nospace) && !alarms.is_on(AlarmType::Corrupt));
    }
}
