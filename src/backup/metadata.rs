//! All that a backup says besides the versions, to and from the rows of the small buckets.

use prost::Message;
use serde::{Deserialize, Serialize};

use super::schema::{
    ALARM, AUTH, AUTH_ENABLED, AUTH_REVISION, AUTH_ROLES, AUTH_USERS, CLUSTER, CLUSTER_VERSION, CONF_STATE,
    CONSISTENT_INDEX, DOWNGRADE, FINISHED_COMPACTION, LEASE, MEMBERS, MEMBERS_REMOVED, META, REMOVED,
    SCHEDULED_COMPACTION, STORAGE_VERSION, TERM,
};
use crate::{
    backup::bbolt::Small,
    pb::{
        authpb::{Role, User},
        etcdserverpb::{AlarmMember, Member},
    },
    row::RevisionKey,
};

/// See `backup`. Nothing in it depends on the member the file was taken from but `members` and `removed`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The current revision.
    pub revision: i64,
    pub compaction: Compaction,
    /// Index and term of the last entry applied; 0 if unknown (the term before etcd 3.5).
    pub index: u64,
    pub term: u64,
    /// Of etcd's schema, as `3.7.0`; not known before etcd 3.6.
    pub storage_version: Option<String>,
    /// As `3.7.0`; not known before etcd 3.5.
    pub cluster_version: Option<String>,
    pub members: Vec<Member>,
    /// Ids of members that were there once.
    pub removed: Vec<u64>,
    pub alarms: Vec<AlarmMember>,
    pub leases: Vec<Lease>,
    pub auth: Auth,
}

/// Nothing before the first one. Between `finished` and `scheduled` superseded versions may still be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    pub scheduled: Option<i64>,
    pub finished: Option<i64>,
}

impl Compaction {
    /// Revisions below cannot be read.
    pub fn revision(&self) -> Option<i64> {
        self.scheduled.max(self.finished)
    }
}

/// A member in etcd's JSON (`server/etcdserver/api/membership/member.go`).
#[derive(Serialize, Deserialize)]
#[serde(remote = "Member")]
struct MemberRow {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_ur_ls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_ur_ls: Vec<String>,
}

/// `leasepb.Lease`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Lease {
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// Granted seconds.
    #[prost(int64, tag = "2")]
    pub ttl: i64,
    /// Seconds left at the last checkpoint, 0 if there was none.
    #[prost(int64, tag = "3")]
    pub remaining_ttl: i64,
}

/// Users and roles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Auth {
    pub enabled: bool,
    pub revision: u64,
    pub users: Vec<User>,
    pub roles: Vec<Role>,
}

/// `raftpb.ConfState` in JSON, as far as etcd uses it.
#[derive(Serialize)]
struct ConfState {
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    auto_leave: bool,
}

type Row = (Vec<u8>, Vec<u8>);

impl Metadata {
    /// Every bucket but `key`.
    pub(super) fn buckets(&self) -> Vec<Small> {
        let bucket = |name: &[u8], mut rows: Vec<Row>| {
            rows.sort_unstable();
            Small { name: name.to_vec(), rows }
        };
        let alarm = |alarm: &AlarmMember| (alarm.encode_to_vec(), Vec::new());
        let member = |member: &Member| {
            let mut row = Vec::new();
            MemberRow::serialize(member, &mut serde_json::Serializer::new(&mut row)).expect("plain fields");
            (member_key(member.id), row)
        };
        vec![
            bucket(META, self.meta()),
            bucket(CLUSTER, self.cluster()),
            bucket(MEMBERS, self.members.iter().map(member).collect()),
            bucket(
                MEMBERS_REMOVED,
                self.removed.iter().map(|id| (member_key(*id), REMOVED.to_vec())).collect(),
            ),
            bucket(
                LEASE,
                self.leases.iter().map(|lease| (number(lease.id as u64), lease.encode_to_vec())).collect(),
            ),
            bucket(ALARM, self.alarms.iter().map(alarm).collect()),
            bucket(AUTH, self.auth.rows()),
            bucket(
                AUTH_USERS,
                self.auth.users.iter().map(|user| (user.name.to_vec(), user.encode_to_vec())).collect(),
            ),
            bucket(
                AUTH_ROLES,
                self.auth.roles.iter().map(|role| (role.name.to_vec(), role.encode_to_vec())).collect(),
            ),
        ]
    }

    fn meta(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut put =
            |key: &[u8], value: Option<Vec<u8>>| rows.extend(value.map(|value| (key.to_vec(), value)));
        let revision = |revision: i64| RevisionKey::new(revision, 0, false).as_bytes().to_vec();
        put(SCHEDULED_COMPACTION, self.compaction.scheduled.map(revision));
        put(FINISHED_COMPACTION, self.compaction.finished.map(revision));
        put(CONSISTENT_INDEX, (self.index > 0).then(|| number(self.index)));
        put(TERM, (self.term > 0).then(|| number(self.term)));
        put(STORAGE_VERSION, self.storage_version.as_ref().map(|version| version.clone().into_bytes()));
        let ids = |learners: bool| {
            let mut ids: Vec<u64> = self
                .members
                .iter()
                .filter(|member| member.is_learner == learners)
                .map(|member| member.id)
                .collect();
            ids.sort_unstable();
            ids
        };
        let conf_state = ConfState { voters: ids(false), learners: ids(true), auto_leave: false };
        put(CONF_STATE, (!self.members.is_empty()).then(|| json(&conf_state)));
        rows
    }

    fn cluster(&self) -> Vec<Row> {
        let version = self.cluster_version.as_ref();
        version.map(|version| (CLUSTER_VERSION.to_vec(), version.clone().into_bytes())).into_iter().collect()
    }

    /// Takes up a row of any bucket but `key`; the error says what is wrong with it.
    pub(super) fn take(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match bucket {
            META => self.take_meta(key, value),
            CLUSTER if key == CLUSTER_VERSION => {
                text(value).map(|version| self.cluster_version = Some(version))
            }
            // A downgrade that was under way ends with its cluster.
            CLUSTER if key == DOWNGRADE => Ok(()),
            MEMBERS => {
                let mut row = serde_json::Deserializer::from_slice(value);
                let member = MemberRow::deserialize(&mut row).and_then(|member| row.end().map(|()| member));
                let member = member.map_err(|_| "it is not a member in JSON")?;
                let is_own = member_id(key) == Some(member.id);
                self.members.push(member);
                is_own.then_some(()).ok_or("it is filed under another member's id")
            }
            MEMBERS_REMOVED => {
                member_id(key).map(|id| self.removed.push(id)).ok_or("its key is not a member id")
            }
            LEASE => {
                let lease = Lease::decode(value).map_err(|_| "it is not a lease")?;
                let is_own = number(lease.id as u64) == key && lease.id != 0;
                self.leases.push(lease);
                is_own.then_some(()).ok_or("it is filed under another lease's id")
            }
            ALARM => {
                let alarm = AlarmMember::decode(key).map_err(|_| "it is not an alarm")?;
                self.alarms.push(alarm);
                Ok(())
            }
            AUTH if key == AUTH_ENABLED => {
                self.auth.enabled = value == [1];
                (value.len() == 1).then_some(()).ok_or("it is neither on nor off")
            }
            AUTH if key == AUTH_REVISION => eight(value).map(|revision| self.auth.revision = revision),
            AUTH_USERS => {
                let user = User::decode(value).map_err(|_| "it is not a user")?;
                let is_own = user.name == key;
                self.auth.users.push(user);
                is_own.then_some(()).ok_or("it is filed under another user's name")
            }
            AUTH_ROLES => {
                let role = Role::decode(value).map_err(|_| "it is not a role")?;
                let is_own = role.name == key;
                self.auth.roles.push(role);
                is_own.then_some(()).ok_or("it is filed under another role's name")
            }
            _ => Err("etcd 3.4 to 3.7 have no such row"),
        }
    }

    fn take_meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let revision = || match RevisionKey::decode(value) {
            Some((main, _, false)) => Ok(Some(main)),
            _ => Err("it is not a revision"),
        };
        match key {
            SCHEDULED_COMPACTION => self.compaction.scheduled = revision()?,
            FINISHED_COMPACTION => self.compaction.finished = revision()?,
            CONSISTENT_INDEX => self.index = eight(value)?,
            TERM => self.term = eight(value)?,
            // Follows from the members, and a restore makes new ones.
            CONF_STATE => {}
            STORAGE_VERSION => self.storage_version = Some(text(value)?),
            _ => return Err("etcd 3.4 to 3.7 have no such row"),
        }
        Ok(())
    }
}

impl Auth {
    fn rows(&self) -> Vec<Row> {
        let enabled = self.enabled.then(|| (AUTH_ENABLED.to_vec(), vec![1]));
        let revision = (self.revision > 0).then(|| (AUTH_REVISION.to_vec(), number(self.revision)));
        enabled.into_iter().chain(revision).collect()
    }
}

fn number(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn eight(bytes: &[u8]) -> Result<u64, &'static str> {
    Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| "it is not a number of eight bytes")?))
}

fn text(bytes: &[u8]) -> Result<String, &'static str> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "it is not text")
}

fn member_key(id: u64) -> Vec<u8> {
    format!("{id:x}").into_bytes()
}

fn member_id(key: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(key).ok()?, 16).ok()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain fields")
}
