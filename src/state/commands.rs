//! Every command that a release knows, by its number: how an entry is applied by whoever did not propose it.

use bytes::Bytes;

use super::{
    StateMachine, auth,
    batch::{BatchError, Envelope},
    cluster,
    command::{Command, Kind},
    lease,
    outcome::Outcome,
    steps::{Applied, Asked},
    v2,
};
use crate::{pb::etcdserverpb as pb, types::Level};

/// Every command there is, ascending by number: a new one is a row here and a file. One that comes after a release has a
/// level of its own, which members of that release are seen not to know.
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
    Row::of::<v2::Write>(),
    Row::of::<v2::Expire>(),
];

type Apply = fn(Envelope, &mut StateMachine, usize, &mut Outcome) -> Result<Applied, prost::DecodeError>;

/// What a release knows. The state is given one, so that a simulation can put releases together that differ.
#[derive(Clone, Copy)]
pub struct Commands {
    rows: &'static [Row],
    newest: Level,
}

impl Default for Commands {
    /// What this release knows.
    fn default() -> Self {
        Self::new(COMMANDS)
    }
}

impl Commands {
    /// Rows ascend by number.
    pub fn new(rows: &'static [Row]) -> Self {
        let newest = rows.iter().map(|row| row.kind.level).max().unwrap_or(Level::FIRST);
        Self { rows, newest }
    }

    /// The newest level it has all commands of.
    pub fn newest(self) -> Level {
        self.newest
    }

    pub fn find(self, number: u16) -> Option<&'static Row> {
        let at = self.rows.binary_search_by_key(&number, |row| row.kind.number).ok()?;
        Some(&self.rows[at])
    }
}

/// One command, by its number.
#[derive(Clone, Copy)]
pub struct Row {
    pub kind: Kind,
    apply: Apply,
    /// Decodes what it is given and encodes it again.
    pub copy: fn(Bytes) -> Result<Vec<u8>, prost::DecodeError>,
}

impl Row {
    pub const fn of<C: Command>() -> Self {
        Row { kind: C::KIND, apply: apply_unasked::<C>, copy: |bytes| Ok(C::decode(bytes)?.encode_to_vec()) }
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
    /// The command's row, where it is known.
    pub fn row(&self, commands: Commands) -> Result<&'static Row, BatchError> {
        commands.find(self.kind).ok_or(BatchError::Kind(self.kind))
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
        Ok((state.row(&self)?.apply)(self, state, keys, outcome)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_each_is_found() {
        let commands = Commands::default();
        assert!(COMMANDS.windows(2).all(|rows| rows[0].kind.number < rows[1].kind.number));
        assert!(COMMANDS.iter().all(|row| commands.find(row.kind.number).is_some()));
        assert!(commands.find(0).is_none() && commands.find(u16::MAX).is_none());
        assert_eq!(
            commands.newest(),
            Level::FIRST,
            "members of an older release would not know what is newer"
        );
    }
}
