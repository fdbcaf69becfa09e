//! Member and cluster ids, derived as etcd derives them, so that tools and data recognise each other.

use sha1::{Digest, Sha1};

use crate::types::{ClusterId, MemberId};

/// Id of a member that is there from the start: SHA-1 over its sorted peer URLs and the cluster
/// token (etcd v3.7 `membership.computeMemberID`).
pub fn member_id<S: AsRef<str>>(peer_urls: &[S], token: &str) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(AsRef::as_ref).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(token);
    MemberId(first_u64(hash))
}

/// SHA-1 over the sorted ids of the first members (etcd v3.7 `RaftCluster.genID`).
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut members = members.to_vec();
    members.sort_unstable();
    let mut hash = Sha1::new();
    for member in members {
        hash.update(member.0.to_be_bytes());
    }
    ClusterId(first_u64(hash))
}

fn first_u64(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_give_the_ids_of_a_default_etcd() {
        let member = member_id(&["http://localhost:2380"], "etcd-cluster");
        assert_eq!(member, MemberId(0x8e9e_05c5_2164_694d));
        assert_eq!(cluster_id(&[member]), ClusterId(0xcdf8_1819_4e3a_8c32));
    }

    #[test]
    fn order_does_not_matter() {
        assert_eq!(
            member_id(&["http://b:1", "http://a:1"], "t"),
            member_id(&["http://a:1", "http://b:1"], "t")
        );
        assert_eq!(cluster_id(&[MemberId(2), MemberId(1)]), cluster_id(&[MemberId(1), MemberId(2)]));
        assert_ne!(member_id(&["http://a:1"], "t"), member_id(&["http://a:1"], "u"));
    }
}
