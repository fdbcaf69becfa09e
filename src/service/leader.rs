//! Streams whose clients insist on a leader (`hasleader`): they end once the member has had none for so long that it may
//! have lost its cluster (`monitorLeader` in etcd v3.7 `v3rpc/interceptor.go`). A new call is refused at once.

use std::time::Duration;

use super::{Api, Word};
use crate::env::Env;

/// Election timeouts without a leader after which streams end: opening them again costs more than waiting.
const PATIENCE: u32 = 3;

impl Api {
    /// Given when the leader is lost for long; who asks later waits for the next time.
    pub fn leaderless(&self) -> Word {
        self.0.leaderless.borrow().clone()
    }

    pub(crate) fn end_streams_without_leader(&self) {
        self.0.leaderless.take().give();
    }
}

/// Looks once an election timeout, for ever.
pub async fn watch_leader<E: Env>(env: &E, api: &Api, election: Duration) {
    let mut without = 0;
    loop {
        env.sleep(election).await;
        without = if api.shard().leader().0 == 0 { without + 1 } else { 0 };
        if without >= PATIENCE {
            api.end_streams_without_leader();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        env::Env,
        service::{
            Options,
            tests::member::{TestMember, metrics},
        },
        types::Keyspace,
    };

    const ELECTION: Duration = Duration::from_millis(100);

    fn is_ended_after(member: TestMember, timeouts: u32) -> bool {
        let api =
            Api::new(&member.env, Keyspace::default(), member.shard.clone(), metrics(), Options::default());
        let (env, word, watched) = (member.env.clone(), api.leaderless(), api.clone());
        member.env.spawn(async move { watch_leader(&env, &watched, ELECTION).await });
        let env = member.env.clone();
        member.run(async move { env.sleep(ELECTION * timeouts + ELECTION / 2).await });
        assert!(!api.leaderless().is_given(), "who asks now waits for the next time");
        word.is_given()
    }

    #[test]
    fn a_leader_that_is_missing_for_long_ends_streams() {
        assert!(!is_ended_after(TestMember::alone(), 2));
        assert!(is_ended_after(TestMember::alone(), 3));
        assert!(!is_ended_after(TestMember::serving(Options::default()), 10));
    }
}
