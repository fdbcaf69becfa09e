//! What hashes of several members say: who is to blame. Pure.

use std::collections::BTreeMap;

use crate::{
    inquiry::form::HashAnswer,
    state::mvcc::HashKv,
    types::{MemberId, Revision},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blame {
    pub member: MemberId,
    pub complaint: &'static str,
}

/// The leader hashed twice, and the others in between, up to the revision of the first. Since then it has heard from
/// them that it still leads, so that none of them can be ahead of it; `newest` is where it is.
pub fn periodic(
    own: MemberId,
    (first, second): (HashKv, HashKv),
    newest: Revision,
    others: &[(MemberId, HashAnswer)],
) -> Option<Blame> {
    if differ(first, second) {
        return Some(Blame { member: own, complaint: "found hash mismatch" });
    }
    others.iter().find_map(|&(member, theirs)| {
        let complaint = if theirs.header.revision > newest.0 {
            "revision from follower must be less than or equal to leader's"
        } else if theirs.compact_revision > second.compacted.0 {
            "compact revision from follower must be less than or equal to leader's"
        } else if theirs.compact_revision == first.compacted.0 && theirs.hash != first.hash {
            "same compact revision then hashes must match"
        } else {
            return None;
        };
        Some(Blame { member, complaint })
    })
}

/// Of the same versions, yet not the same.
fn differ(first: HashKv, second: HashKv) -> bool {
    (first.revision, first.compacted) == (second.revision, second.compacted) && first.hash != second.hash
}

/// What came of a comparison of what was compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Others that could be compared with.
    pub counted: usize,
    /// Those that differ from a majority; nobody in particular (0) if there is none.
    pub blamed: Vec<MemberId>,
}

/// `own` and the others' hashes up to the compacted revision; `all` of the others were asked.
pub fn compacted(id: MemberId, own: HashKv, all: usize, others: &[(MemberId, HashAnswer)]) -> Compared {
    let mut members: BTreeMap<u32, Vec<MemberId>> = BTreeMap::from([(own.hash, vec![id])]);
    let comparable = others.iter().filter(|(_, theirs)| theirs.compact_revision == own.compacted.0);
    let mut counted = 0;
    for (member, theirs) in comparable {
        counted += 1;
        members.entry(theirs.hash).or_default().push(*member);
    }
    let quorum = all.div_ceil(2) + 1;
    let blamed = if members.len() == 1 {
        Vec::new()
    } else if members.values().any(|agree| agree.len() >= quorum) {
        members.into_values().filter(|agree| agree.len() < quorum).flatten().collect()
    } else {
        vec![MemberId(0)]
    };
    Compared { counted, blamed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inquiry::form::HashHeader;

    fn hash(hash: u32, compacted: i64, revision: i64) -> HashKv {
        HashKv { hash, compacted: Revision(compacted), revision: Revision(revision) }
    }

    fn told(member: u64, hash: u32, compacted: i64, newest: i64) -> (MemberId, HashAnswer) {
        let header = HashHeader { revision: newest };
        let answer = HashAnswer { header, hash, compact_revision: compacted, hash_revision: newest };
        (MemberId(member), answer)
    }

    #[test]
    fn only_hashes_of_the_same_versions_can_differ() {
        assert!(differ(hash(1, 2, 3), hash(2, 2, 3)));
        assert!(!differ(hash(1, 2, 3), hash(1, 2, 3)));
        assert!(!differ(hash(1, 2, 3), hash(2, 2, 4)), "written in between");
        assert!(!differ(hash(1, 2, 3), hash(2, 3, 3)), "compacted in between");
    }

    #[test]
    fn whoever_cannot_be_right_is_blamed() {
        let blamed = |other, newest| {
            let hashes = (hash(1, 2, 5), hash(9, 3, 7));
            periodic(MemberId(1), hashes, Revision(newest), &[other]).map(|blame| blame.member.0)
        };
        assert_eq!(blamed(told(2, 1, 2, 6), 7), None);
        assert_eq!(blamed(told(2, 8, 2, 6), 7), Some(2), "another hash of the same");
        assert_eq!(blamed(told(2, 8, 3, 6), 7), None, "compacted since then");
        assert_eq!(blamed(told(2, 8, 4, 6), 7), Some(2), "compacted further than the leader");
        assert_eq!(blamed(told(2, 8, 3, 8), 7), Some(2), "ahead of the leader");
        let own = periodic(MemberId(1), (hash(1, 2, 5), hash(3, 2, 5)), Revision(5), &[told(2, 8, 2, 9)]);
        assert_eq!(own.map(|blame| blame.member.0), Some(1), "the leader itself comes first");
    }

    #[test]
    fn a_majority_is_right() {
        let compared = |all, others: &[(MemberId, HashAnswer)]| {
            let Compared { counted, blamed } = compacted(MemberId(1), hash(1, 5, 5), all, others);
            (counted, blamed.into_iter().map(|member| member.0).collect::<Vec<_>>())
        };
        assert_eq!(compared(2, &[told(2, 1, 5, 9), told(3, 1, 5, 9)]), (2, vec![]));
        assert_eq!(compared(2, &[told(2, 1, 5, 9), told(3, 7, 4, 9)]), (1, vec![]), "one lags");
        assert_eq!(compared(2, &[told(2, 1, 5, 9), told(3, 7, 5, 9)]), (2, vec![3]));
        assert_eq!(compared(2, &[told(2, 7, 5, 9), told(3, 7, 5, 9)]), (2, vec![1]), "the leader");
        assert_eq!(compared(2, &[told(3, 7, 5, 9)]), (1, vec![0]), "two of three, and they differ");
        assert_eq!(compared(1, &[told(2, 7, 5, 9)]), (1, vec![0]), "nobody knows who");
        assert_eq!(compared(0, &[]), (0, vec![]));
    }
}
