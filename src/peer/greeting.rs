//! The first words on a connection: who calls, whom, what for; and whether that is welcome.
//!
//! Pure: what the two sides say is decided here and sent by others. Whoever is not known yet is welcome: it may have joined
//! while this member was away. Whoever was removed is not.

use std::fmt;

use super::wire::{Kind, Record};
use crate::{
    pb::link::{self as pb, answer},
    types::{ClusterId, ETCD_VERSION, Level, LogId, MemberId},
};
use prost::Message as _;

/// The versions of the protocol that this release speaks, oldest and newest.
pub const SPOKEN: (u32, u32) = (1, 1);

/// Who this member is.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    pub cluster: ClusterId,
    pub member: MemberId,
    /// The newest set of commands that it knows.
    pub level: Level,
}

/// How things are with this member when it says something.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The set of commands that the cluster uses, as far as this member knows.
    pub used: Level,
    pub log: LogId,
}

/// What the cluster knows of whoever calls.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub is_removed: bool,
    pub used: Level,
    /// The log that it has said it has.
    pub log: Option<LogId>,
}

/// Why a connection is not welcome, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: pb::Reason,
    pub cluster: ClusterId,
    pub member: MemberId,
    pub versions: (u32, u32),
    pub server_version: String,
    /// The set of commands that it knows, and the one that its cluster uses.
    pub levels: (u32, u32),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { reason, cluster, member: MemberId(member), versions, server_version, levels } = self;
        let (oldest, newest) = versions;
        match reason {
            pb::Reason::Cluster => {
                write!(
                    f,
                    "cluster ID mismatch: the member that answers, {member:x}, is of cluster {:x}",
                    cluster.0
                )
            }
            pb::Reason::Removed => write!(
                f,
                "the member has been permanently removed from the cluster, as {member:x} knows: stop it and remove its \
                 data-dir"
            ),
            pb::Reason::Member => write!(f, "member {member:x} answers: its peer URL is another member's"),
            pb::Reason::Version => write!(
                f,
                "member {member:x}, of version {server_version}, speaks versions {oldest} to {newest} of the peer protocol, \
                 and this one {} to {}: bring the older of the two up to date",
                SPOKEN.0, SPOKEN.1
            ),
            pb::Reason::Level => write!(
                f,
                "member {member:x}, of version {server_version}, knows commands up to level {} and is of a cluster that uses \
                 level {}, which does not go together with this one: bring the older of the two up to date",
                levels.0, levels.1
            ),
            pb::Reason::Log => write!(
                f,
                "this member has another log than the one it told the cluster of, as {member:x} knows: its data were lost or \
                 another member's put in their place, and with them what it promised to the others. Put them back, or \
                 remove this member from the cluster and add it again, with an empty data-dir"
            ),
            pb::Reason::Busy => write!(f, "member {member:x} is busy with another one"),
            pb::Reason::Other => write!(f, "member {member:x}, of version {server_version}, refuses"),
        }
    }
}

impl Own {
    pub fn hello(
        &self,
        to: MemberId,
        urls: &[String],
        purpose: pb::Purpose,
        standing: Standing,
    ) -> pb::Hello {
        pb::Hello {
            oldest: SPOKEN.0,
            newest: SPOKEN.1,
            server_version: ETCD_VERSION.to_owned(),
            cluster: self.cluster.0,
            from: self.member.0,
            to: to.0,
            urls: urls.to_vec(),
            purpose: purpose as i32,
            level: self.level.0,
            used: standing.used.0,
            log: standing.log.0,
        }
    }

    /// The version to speak with whoever says this, or why it may go.
    pub fn consider(&self, hello: &pb::Hello, known: &Known) -> Result<u32, pb::Reason> {
        let common = hello.newest.min(SPOKEN.1);
        if hello.cluster != self.cluster.0 {
            return Err(pb::Reason::Cluster);
        }
        if hello.to != self.member.0 || hello.from == self.member.0 || hello.from == 0 {
            return Err(pb::Reason::Member);
        }
        if known.is_removed {
            return Err(pb::Reason::Removed);
        }
        if common < hello.oldest.max(SPOKEN.0) {
            return Err(pb::Reason::Version);
        }
        // A member that is still about to open its log does not say which it has, and says nothing else either.
        if known.log.is_some_and(|log| hello.log != log.0) {
            return Err(pb::Reason::Log);
        }
        if hello.level < known.used.0 || self.level.0 < hello.used {
            return Err(pb::Reason::Level);
        }
        Ok(common)
    }

    pub fn answer(&self, considered: Result<u32, pb::Reason>, used: Level) -> Record {
        let server_version = ETCD_VERSION.to_owned();
        let result = match considered {
            Ok(version) => answer::Result::Welcome(pb::Welcome { version, server_version }),
            Err(reason) => answer::Result::Refusal(pb::Refusal {
                reason: reason as i32,
                cluster: self.cluster.0,
                member: self.member.0,
                oldest: SPOKEN.0,
                newest: SPOKEN.1,
                server_version,
                level: self.level.0,
                used: used.0,
            }),
        };
        Record::new(Kind::Answer, pb::Answer { result: Some(result) }.encode_to_vec())
    }
}

/// What an answer comes to. One without a word is of a newer release, and a refusal.
pub fn welcomed(answer: pb::Answer) -> Result<pb::Welcome, Refusal> {
    match answer.result {
        Some(answer::Result::Welcome(welcome)) => Ok(welcome),
        Some(answer::Result::Refusal(refusal)) => Err(refusal.into()),
        None => Err(pb::Refusal::default().into()),
    }
}

impl From<pb::Refusal> for Refusal {
    fn from(refusal: pb::Refusal) -> Self {
        Refusal {
            reason: refusal.reason(),
            cluster: ClusterId(refusal.cluster),
            member: MemberId(refusal.member),
            versions: (refusal.oldest, refusal.newest),
            server_version: refusal.server_version,
            levels: (refusal.level, refusal.used),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own = Own { cluster: ClusterId(9), member: MemberId(1), level: Level(2) };

    const KNOWN: Known = Known { is_removed: false, used: Level(2), log: Some(LogId(5)) };

    fn hello() -> pb::Hello {
        let other = Own { member: MemberId(2), ..OWN };
        other.hello(
            OWN.member,
            &["http://two:2380".to_owned()],
            pb::Purpose::Frames,
            Standing { used: Level(1), log: LogId(5) },
        )
    }

    fn refused(hello: pb::Hello, is_removed: bool) -> String {
        let considered = OWN.consider(&hello, &Known { is_removed, ..KNOWN });
        let answer = pb::Answer::decode(OWN.answer(considered, Level(2)).payload).expect("an answer");
        welcomed(answer).expect_err("a refusal").to_string()
    }

    #[test]
    fn whoever_is_of_the_cluster_is_welcome() {
        assert_eq!(OWN.consider(&hello(), &KNOWN), Ok(1));
        let unknown = Known { log: None, ..KNOWN };
        assert_eq!(
            OWN.consider(&pb::Hello { log: 6, ..hello() }, &unknown),
            Ok(1),
            "it has not said which it has"
        );
        let newer = pb::Hello { newest: 7, ..hello() };
        let answer = OWN.answer(OWN.consider(&newer, &KNOWN), Level(1));
        let answer = pb::Answer::decode(answer.payload).expect("an answer");
        assert_eq!(welcomed(answer).map(|welcome| welcome.version), Ok(1), "what both speak");
    }

    #[test]
    fn a_refusal_says_what_is_wrong() {
        let strange = pb::Hello { cluster: 8, ..hello() };
        assert!(refused(strange, false).contains("cluster ID mismatch"));
        assert!(refused(hello(), true).contains("permanently removed"));
        for wrong in [
            pb::Hello { to: 3, ..hello() },
            pb::Hello { from: 1, ..hello() },
            pb::Hello { from: 0, ..hello() },
        ] {
            assert!(refused(wrong, false).contains("another member's"));
        }
        let newer = pb::Hello { oldest: 2, newest: 3, ..hello() };
        assert!(refused(newer, false).contains("versions 1 to 1"));
        let older = pb::Hello { level: 1, ..hello() };
        assert_eq!(OWN.consider(&older, &Known { used: Level(1), ..KNOWN }), Ok(1), "until it counts");
        assert!(refused(older, false).contains("uses level 2"));
        let ahead = pb::Hello { level: 3, used: 3, ..hello() };
        assert!(refused(ahead, false).contains("knows commands up to level 2"));
        assert!(refused(pb::Hello { log: 6, ..hello() }, false).contains("another log"));
        let silent = welcomed(pb::Answer { result: None }).expect_err("a refusal");
        assert_eq!(silent.reason, pb::Reason::Other);
    }
}
