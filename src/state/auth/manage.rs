//! What all commands have in common that change users and roles: only root may, and the answer is a header.

use super::{Auth, Refusal};

/// A change of users and roles.
pub(super) trait Manage {
    /// True if something has changed.
    fn manage(&self, auth: &mut Auth) -> Result<bool, Refusal>;
}

/// Makes a command of a request that can [`Manage`]: its number in the log, and its answer.
macro_rules! commands {
    ($($number:literal: $request:ident => $response:ident;)*) => {$(
        impl $crate::state::Command for $crate::pb::etcdserverpb::$request {
            type Answer = $crate::pb::etcdserverpb::$response;
            type Progress = ();
            const KIND: $crate::state::command::Kind = $crate::state::command::Kind::first($number);

            fn needs(&self) -> $crate::state::command::Needs {
                $crate::state::command::Needs::Nothing
            }

            fn permits(
                &self,
                state: &$crate::state::StateMachine,
                who: &$crate::state::Principal,
            ) -> Result<(), $crate::state::Error> {
                Ok(state.auth().admin(who)?)
            }

            fn apply(
                &self,
                (): &mut (),
                state: &mut $crate::state::StateMachine,
                _: $crate::state::Context<'_>,
                outcome: &mut $crate::state::Outcome,
            ) -> std::task::Poll<Result<Self::Answer, $crate::state::Error>> {
                let header = Some($crate::state::kv::header(state.revision().0));
                if $crate::state::auth::manage::Manage::manage(self, state.auth_mut())? {
                    outcome.changes.push($crate::state::Change::Auth);
                }
                std::task::Poll::Ready(Ok($crate::pb::etcdserverpb::$response { header }))
            }
        }
    )*};
}

pub(super) use commands;
