//! Every command there is, by its number: how an entry is applied by whoever did not propose it.

use bytes::Bytes;

use super::{
    StateMachine, auth,
    batch::{BatchError, Envelope},
    cluster,
    command::{Command, Kind},
    lease,
    outcome::Outcome,
    steps::{Applied, Asked},
};
use crate::pb::etcdserverpb as pb;

/// Every command there is, ascending by number: a new one is a row here and a file.
pub static COMMANDS: &[Row] = &[
    Row::of::<pb::PutRequest>(),
    Row::of::<pb::DeleteRangeRequest>(),
    Row::of::<pb::TxnRequest>(),
    Row::of::<pb::CompactionRequest>(),
    Row::of::<pb::AlarmRequest>(),
    Row::of::<cluster::AddMember>(),
    Row::of::<cluster::PublishMember>(),
    Row::of::<pb::LeaseGrantRequest>(),
    Row::of::<pb::LeaseRevokeRequest>(),
    Row::of::<pb::LeaseCheckpointRequest>(),
    Row::of::<lease::ExpireLeases>(),
    Row::of::<cluster::JoinMember>(),
    Row::of::<cluster::RemoveMember>(),
    Row::of::<cluster::PromoteMember>(),
    Row::of::<cluster::UpdateMember>(),
    Row::of::<cluster::SetDowngrade>(),
    Row::of::<cluster::SetVersion>(),
    Row::of::<pb::AuthEnableRequest>(),
    Row::of::<pb::AuthDisableRequest>(),
    Row::of::<pb::AuthUserAddRequest>(),
    Row::of::<pb::AuthUserDeleteRequest>(),
    Row::of::<pb::AuthUserChangePasswordRequest>(),
    Row::of::<pb::AuthUserGrantRoleRequest>(),
    Row::of::<pb::AuthUserRevokeRoleRequest>(),
    Row::of::<pb::AuthRoleAddRequest>(),
    Row::of::<pb::AuthRoleDeleteRequest>(),
    Row::of::<pb::AuthRoleGrantPermissionRequest>(),
    Row::of::<pb::AuthRoleRevokePermissionRequest>(),
    Row::of::<auth::GiveToken>(),
];

type Apply = fn(Envelope, &mut StateMachine, usize, &mut Outcome) -> Result<Applied, prost::DecodeError>;

/// One command, by its number.
pub struct Row {
    pub kind: Kind,
    apply: Apply,
    /// Decodes what it is given and encodes it again.
    pub copy: fn(Bytes) -> Result<Vec<u8>, prost::DecodeError>,
}

impl Row {
    const fn of<C: Command>() -> Self {
        Row { kind: C::KIND, apply: apply_unasked::<C>, copy: |bytes| Ok(C::decode(bytes)?.encode_to_vec()) }
    }

    pub fn find(number: u16) -> Option<&'static Self> {
        let at = COMMANDS.binary_search_by_key(&number, |row| row.kind.number).ok()?;
        Some(&COMMANDS[at])
    }
}

/// Applies a command nobody here waits for: its caller had the answer, or has it from another member.
fn apply_unasked<C: Command>(
    envelope: Envelope,
    state: &mut StateMachine,
    keys: usize,
    outcome: &mut Outcome,
) -> Result<Applied, prost::DecodeError> {
    let Envelope { principal, body, .. } = envelope;
    Ok(Asked::new(C::decode(body)?, principal, false, drop).apply(state, keys, outcome))
}

impl Envelope {
    /// The command's row of the table.
    pub fn row(&self) -> Result<&'static Row, BatchError> {
        Row::find(self.kind).ok_or(BatchError::Kind(self.kind))
    }

    /// Applies the command as a whole, for nobody who waits.
    pub fn apply(self, state: &mut StateMachine, outcome: &mut Outcome) -> Result<(), BatchError> {
        let mut applied = self.begin(state, usize::MAX, outcome)?;
        while let Applied::Partly(unfinished) = &mut applied {
            if let Some(completion) = unfinished.step(state, usize::MAX, outcome) {
                applied = Applied::Done(completion);
            }
        }
        Ok(())
    }

    /// The command's first step, of about `keys` keys, for nobody who waits.
    pub fn begin(
        self,
        state: &mut StateMachine,
        keys: usize,
        outcome: &mut Outcome,
    ) -> Result<Applied, BatchError> {
        Ok((self.row()?.apply)(self, state, keys, outcome)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::command::Level;

    #[test]
    fn numbers_ascend_and_levels_are_known() {
        assert!(COMMANDS.is_sorted_by_key(|row| row.kind.number));
        assert!(COMMANDS.windows(2).all(|rows| rows[0].kind.number < rows[1].kind.number));
        assert!(COMMANDS.iter().all(|row| row.kind.level <= Level::NEWEST));
        assert!(COMMANDS.iter().all(|row| Row::find(row.kind.number).is_some()));
        assert!(Row::find(0).is_none() && Row::find(u16::MAX).is_none());
    }
}
