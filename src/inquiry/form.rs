//! How questions and answers look: paths, headers and JSON of etcd v3.7's `etcdhttp/peer.go`, `membership/member.go` and
//! `etcdserver/corrupt.go`. Go leaves out what is empty, and writes a list that was never made as `null`.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Error;
use crate::pb::etcdserverpb as pb;

pub const MEMBERS: &str = "/members";
/// The member's id follows, in decimal.
pub const PROMOTE: &str = "/members/promote/";
pub const HASH: &str = "/members/hashkv";
pub const DOWNGRADE: &str = "/downgrade/enabled";
pub const VERSION: &str = "/version";

/// `X-Etcd-Cluster-ID`: which cluster a question is meant for, or an answer is from.
pub const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
/// Which release of this server answers; etcd says nothing there.
pub const PINION: HeaderName = HeaderName::from_static("x-pinion-version");
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What both answer for who is of another cluster (`rafthttp.ErrClusterIDMismatch`).
pub const OTHER_CLUSTER: &str = "cluster ID mismatch";
/// Why a hash is not told, in the words that others look for (`mvcc.ErrCompacted`, `mvcc.ErrFutureRev`).
pub const COMPACTED: &str = "mvcc: required revision has been compacted";
pub const FUTURE: &str = "mvcc: required revision is a future revision";

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Versions {
    #[serde(rename = "etcdserver", default)]
    pub server: String,
    #[serde(rename = "etcdcluster", default)]
    pub cluster: String,
    #[serde(default)]
    pub storage: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct HashQuestion {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: i64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct HashAnswer {
    #[serde(default)]
    pub header: HashHeader,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hash: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub compact_revision: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hash_revision: i64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct HashHeader {
    /// The newest one there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: i64,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Why a member does not tell its hash at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashRefusal {
    /// It has compacted it.
    Compacted,
    /// It has not got that far.
    Future,
    OtherCluster,
}

impl Error {
    /// What a hash was refused for.
    pub fn hash_refusal(&self) -> Option<HashRefusal> {
        let Error::Refused { status, text } = self else { return None };
        match status.as_u16() {
            400 if text.contains(COMPACTED) => Some(HashRefusal::Compacted),
            400 if text.contains(FUTURE) => Some(HashRefusal::Future),
            412 if text.contains(OTHER_CLUSTER) => Some(HashRefusal::OtherCluster),
            _ => None,
        }
    }
}

#[derive(Deserialize, Serialize)]
struct Member {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_zero")]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Option::is_none")]
    client_urls: Option<Vec<String>>,
}

/// As the answer to who is in the cluster, with the line's end that Go's encoder writes.
pub fn write_members(members: &[pb::Member]) -> Bytes {
    let member = |member: &pb::Member| Member {
        id: member.id,
        peer_urls: Some(member.peer_ur_ls.clone()),
        is_learner: member.is_learner,
        name: member.name.clone(),
        client_urls: Some(member.client_ur_ls.clone()).filter(|urls| !urls.is_empty()),
    };
    let members: Vec<_> = members.iter().map(member).collect();
    let mut text = serde_json::to_vec(&members).expect("strings and numbers");
    text.push(b'\n');
    text.into()
}

pub fn parse_members(text: &[u8]) -> Result<Vec<pb::Member>, Error> {
    let members: Option<Vec<Member>> = parse(text)?;
    let member = |member: Member| pb::Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls.unwrap_or_default(),
        client_ur_ls: member.client_urls.unwrap_or_default(),
        is_learner: member.is_learner,
    };
    Ok(members.unwrap_or_default().into_iter().map(member).collect())
}

pub fn write(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("strings and numbers").into()
}

pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| Error::Nonsense(error.to_string()))
}

/// An id as headers have it.
pub fn parse_id(value: &HeaderValue) -> Option<u64> {
    u64::from_str_radix(value.to_str().ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As upstream 3.7.1 answers `GET /members`.
    const TWO: &str = r#"[{"id":9372538179322589801,"peerURLs":["http://127.0.0.1:1"],"name":"a","clientURLs":["http://127.0.0.1:2"]},{"id":2,"peerURLs":["http://b:1","http://c:1"],"isLearner":true}]
"#;

    #[test]
    fn members_are_written_as_they_are_read() {
        let members = parse_members(TWO.as_bytes()).expect("members");
        assert_eq!((members[0].id, &members[0].name[..]), (0x8211_f1d0_f64f_3269, "a"));
        assert!(members[1].is_learner && members[1].name.is_empty() && members[1].client_ur_ls.is_empty());
        assert_eq!(write_members(&members), TWO);
        assert_eq!(parse_members(b"null\n").expect("nobody"), []);
        assert_eq!(parse_members(b"[{\"id\":1,\"peerURLs\":null}]").expect("one")[0].id, 1);
        for nonsense in ["", "{}", "[{}]", "[{\"id\":-1}]", "404 page not found\n"] {
            assert!(matches!(parse_members(nonsense.as_bytes()), Err(Error::Nonsense(_))), "{nonsense}");
        }
    }

    #[test]
    fn what_is_zero_is_left_out() {
        assert_eq!(write(&HashQuestion { revision: 0 }), "{}");
        let answer =
            HashAnswer { header: HashHeader { revision: 7 }, hash: 1, compact_revision: 0, hash_revision: 5 };
        assert_eq!(write(&answer), r#"{"header":{"revision":7},"hash":1,"hash_revision":5}"#);
        assert_eq!(parse::<HashAnswer>(&write(&answer)).expect("read again"), answer);
    }

    #[test]
    fn a_refusal_is_known_by_its_words() {
        let refused = |status: u16, text: &str| {
            let status = http::StatusCode::from_u16(status).expect("a code");
            Error::Refused { status, text: text.to_owned() }.hash_refusal()
        };
        assert_eq!(refused(400, COMPACTED), Some(HashRefusal::Compacted));
        assert_eq!(refused(400, FUTURE), Some(HashRefusal::Future));
        assert_eq!(refused(412, OTHER_CLUSTER), Some(HashRefusal::OtherCluster));
        assert_eq!(refused(404, "404 page not found"), None);
    }
}
