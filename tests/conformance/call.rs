//! One call, the way to send it, and what came back.

use std::fmt;

use bench_harness::pb::{
    etcdserverpb::{
        self as pb, auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient,
        lease_client::LeaseClient, maintenance_client::MaintenanceClient,
    },
    mvccpb::KeyValue,
    v3electionpb::{self as election, election_client::ElectionClient},
    v3lockpb::{self as lock, lock_client::LockClient},
};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Channel};

/// Debug text of a request or an answer is cut to this many characters: values of a megabyte are generated too.
const SHOWN_CHARS_MAX: usize = 6_000;
/// Answers carry whole key spaces with large values.
const ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;
const SHA256_BYTES: usize = 32;

/// The methods with one message each way, and the two kinds and the client that follow from each.
macro_rules! calls {
    ($($name:ident($request:ty => $answer:ty) by $client:ident.$method:ident,)*) => {
        #[derive(Clone, Debug, PartialEq)]
        pub enum Call {
            $($name($request),)*
            RangeStream(pb::RangeRequest),
            /// So many on one stream, which then is closed by half.
            LeaseKeepAlive(Vec<pb::LeaseKeepAliveRequest>),
            /// A lease whose id the server chooses: granted, asked for and revoked.
            AnyLease(i64),
            /// A backup of everything.
            Snapshot,
        }

        /// What a server said, without what may differ between two servers (see [`crate::conformance::identity`]).
        #[derive(Clone, Debug, PartialEq)]
        pub enum Answer {
            $($name($answer),)*
            /// The chunks put together: how a server cuts them is its own business.
            RangeStream(pb::RangeResponse),
            LeaseKeepAlive(Vec<pb::LeaseKeepAliveResponse>),
            AnyLease(pb::LeaseGrantResponse),
            /// Without the bytes: how a server lays out its files is its own business.
            Snapshot(pb::SnapshotResponse),
            Refused {
                code: Code,
                message: String,
            },
            /// The answer breaks a rule by itself, whatever the other server says.
            Malformed(String),
        }

        impl Call {
            pub fn name(&self) -> &'static str {
                match self {
                    $(Call::$name(_) => stringify!($name),)*
                    Call::RangeStream(_) => "RangeStream",
                    Call::LeaseKeepAlive(_) => "LeaseKeepAlive",
                    Call::AnyLease(_) => "AnyLease",
                    Call::Snapshot => "Snapshot",
                }
            }
        }

        impl Answer {
            pub fn header_mut(&mut self) -> Option<&mut pb::ResponseHeader> {
                match self {
                    $(Answer::$name(r) => r.header.as_mut(),)*
                    Answer::RangeStream(r) => r.header.as_mut(),
                    Answer::LeaseKeepAlive(all) => all.last_mut().and_then(|r| r.header.as_mut()),
                    Answer::AnyLease(r) => r.header.as_mut(),
                    Answer::Snapshot(r) => r.header.as_mut(),
                    Answer::Refused { .. } | Answer::Malformed(_) => None,
                }
            }
        }

        impl Client {
            pub async fn send(&self, call: Call, token: Option<&str>) -> Answer {
                let mut to = self.clone();
                let outcome = match call {
                    $(Call::$name(r) => to.$client.$method(with_token(r, token)).await
                        .map(|r| Answer::$name(r.into_inner())),)*
                    Call::RangeStream(r) => match to.kv.range_stream(with_token(r, token)).await {
                        Ok(stream) => collect(stream.into_inner()).await,
                        Err(status) => Err(status),
                    },
                    Call::LeaseKeepAlive(beats) => to.keep_alive(beats, token).await,
                    Call::AnyLease(ttl) => to.any_lease(ttl, token).await,
                    Call::Snapshot => to.snapshot(token).await,
                };
                outcome.unwrap_or_else(|status| refused(&status))
            }
        }
    };
}

calls! {
    Range(pb::RangeRequest => pb::RangeResponse) by kv.range,
    Put(pb::PutRequest => pb::PutResponse) by kv.put,
    DeleteRange(pb::DeleteRangeRequest => pb::DeleteRangeResponse) by kv.delete_range,
    Txn(pb::TxnRequest => pb::TxnResponse) by kv.txn,
    Compact(pb::CompactionRequest => pb::CompactionResponse) by kv.compact,
    LeaseGrant(pb::LeaseGrantRequest => pb::LeaseGrantResponse) by lease.lease_grant,
    LeaseRevoke(pb::LeaseRevokeRequest => pb::LeaseRevokeResponse) by lease.lease_revoke,
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest => pb::LeaseTimeToLiveResponse) by lease.lease_time_to_live,
    LeaseLeases(pb::LeaseLeasesRequest => pb::LeaseLeasesResponse) by lease.lease_leases,
    MemberAdd(pb::MemberAddRequest => pb::MemberAddResponse) by cluster.member_add,
    MemberRemove(pb::MemberRemoveRequest => pb::MemberRemoveResponse) by cluster.member_remove,
    MemberUpdate(pb::MemberUpdateRequest => pb::MemberUpdateResponse) by cluster.member_update,
    MemberList(pb::MemberListRequest => pb::MemberListResponse) by cluster.member_list,
    MemberPromote(pb::MemberPromoteRequest => pb::MemberPromoteResponse) by cluster.member_promote,
    Alarm(pb::AlarmRequest => pb::AlarmResponse) by maintenance.alarm,
    Status(pb::StatusRequest => pb::StatusResponse) by maintenance.status,
    Defragment(pb::DefragmentRequest => pb::DefragmentResponse) by maintenance.defragment,
    Hash(pb::HashRequest => pb::HashResponse) by maintenance.hash,
    HashKv(pb::HashKvRequest => pb::HashKvResponse) by maintenance.hash_kv,
    MoveLeader(pb::MoveLeaderRequest => pb::MoveLeaderResponse) by maintenance.move_leader,
    Downgrade(pb::DowngradeRequest => pb::DowngradeResponse) by maintenance.downgrade,
    AuthEnable(pb::AuthEnableRequest => pb::AuthEnableResponse) by auth.auth_enable,
    AuthDisable(pb::AuthDisableRequest => pb::AuthDisableResponse) by auth.auth_disable,
    AuthStatus(pb::AuthStatusRequest => pb::AuthStatusResponse) by auth.auth_status,
    Authenticate(pb::AuthenticateRequest => pb::AuthenticateResponse) by auth.authenticate,
    UserAdd(pb::AuthUserAddRequest => pb::AuthUserAddResponse) by auth.user_add,
    UserGet(pb::AuthUserGetRequest => pb::AuthUserGetResponse) by auth.user_get,
    UserList(pb::AuthUserListRequest => pb::AuthUserListResponse) by auth.user_list,
    UserDelete(pb::AuthUserDeleteRequest => pb::AuthUserDeleteResponse) by auth.user_delete,
    UserChangePassword(pb::AuthUserChangePasswordRequest => pb::AuthUserChangePasswordResponse)
        by auth.user_change_password,
    UserGrantRole(pb::AuthUserGrantRoleRequest => pb::AuthUserGrantRoleResponse) by auth.user_grant_role,
    UserRevokeRole(pb::AuthUserRevokeRoleRequest => pb::AuthUserRevokeRoleResponse) by auth.user_revoke_role,
    RoleAdd(pb::AuthRoleAddRequest => pb::AuthRoleAddResponse) by auth.role_add,
    RoleGet(pb::AuthRoleGetRequest => pb::AuthRoleGetResponse) by auth.role_get,
    RoleList(pb::AuthRoleListRequest => pb::AuthRoleListResponse) by auth.role_list,
    RoleDelete(pb::AuthRoleDeleteRequest => pb::AuthRoleDeleteResponse) by auth.role_delete,
    RoleGrantPermission(pb::AuthRoleGrantPermissionRequest => pb::AuthRoleGrantPermissionResponse)
        by auth.role_grant_permission,
    RoleRevokePermission(pb::AuthRoleRevokePermissionRequest => pb::AuthRoleRevokePermissionResponse)
        by auth.role_revoke_permission,
    Lock(lock::LockRequest => lock::LockResponse) by lock.lock,
    Unlock(lock::UnlockRequest => lock::UnlockResponse) by lock.unlock,
    Campaign(election::CampaignRequest => election::CampaignResponse) by election.campaign,
    Proclaim(election::ProclaimRequest => election::ProclaimResponse) by election.proclaim,
    Leader(election::LeaderRequest => election::LeaderResponse) by election.leader,
    Resign(election::ResignRequest => election::ResignResponse) by election.resign,
}

impl Call {
    /// A call that cannot change the state: reads between two writes may be sent at the same time.
    pub fn is_read(&self) -> bool {
        match self {
            Call::Range(_) | Call::RangeStream(_) | Call::HashKv(_) | Call::Status(_) | Call::Hash(_) => true,
            Call::Snapshot => true,
            Call::LeaseTimeToLive(_) | Call::LeaseLeases(_) | Call::LeaseKeepAlive(_) => true,
            Call::MemberList(_) | Call::Leader(_) | Call::AuthStatus(_) => true,
            Call::UserGet(_) | Call::UserList(_) | Call::RoleGet(_) | Call::RoleList(_) => true,
            Call::Txn(txn) => txn
                .success
                .iter()
                .chain(&txn.failure)
                .all(|op| matches!(op.request, Some(pb::request_op::Request::RequestRange(_)))),
            _ => false,
        }
    }

    /// One that may wait until others give way.
    pub fn may_wait(&self) -> bool {
        matches!(self, Call::Lock(_) | Call::Campaign(_))
    }
}

impl Answer {
    pub fn revision(&self) -> Option<i64> {
        self.clone().header_mut().map(|header| header.revision)
    }

    /// A success that carries no header at all is right for few.
    pub fn lacks_header(&self) -> bool {
        match self {
            Answer::Refused { .. } | Answer::Malformed(_) => false,
            Answer::MoveLeader(_) | Answer::Defragment(_) | Answer::Snapshot(_) => false,
            Answer::LeaseKeepAlive(all) if all.is_empty() => false,
            _ => self.clone().header_mut().is_none(),
        }
    }
}

/// The client of one server, cheap to clone: calls of clones share one connection.
#[derive(Clone)]
pub struct Client {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    cluster: ClusterClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    auth: AuthClient<Channel>,
    lock: LockClient<Channel>,
    election: ElectionClient<Channel>,
}

impl Client {
    pub fn new(channel: Channel) -> Self {
        let kv = KvClient::new(channel.clone());
        Self {
            kv: kv.max_decoding_message_size(ANSWER_BYTES_MAX).max_encoding_message_size(ANSWER_BYTES_MAX),
            lease: LeaseClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()),
            auth: AuthClient::new(channel.clone()),
            lock: LockClient::new(channel.clone()),
            election: ElectionClient::new(channel),
        }
    }

    async fn keep_alive(
        &mut self,
        beats: Vec<pb::LeaseKeepAliveRequest>,
        token: Option<&str>,
    ) -> Result<Answer, Status> {
        let stream = with_token(futures_util::stream::iter(beats), token);
        let mut answers = self.lease.lease_keep_alive(stream).await?.into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await? {
            all.push(answer);
        }
        Ok(Answer::LeaseKeepAlive(all))
    }

    async fn any_lease(&mut self, ttl: i64, token: Option<&str>) -> Result<Answer, Status> {
        let request = pb::LeaseGrantRequest { ttl, id: 0 };
        let mut granted = self.lease.lease_grant(with_token(request, token)).await?.into_inner();
        if granted.id <= 0 {
            return Ok(Answer::Malformed(format!("the server chose the id {}", granted.id)));
        }
        let request = pb::LeaseRevokeRequest { id: granted.id };
        self.lease.lease_revoke(with_token(request, token)).await?;
        granted.id = 1;
        Ok(Answer::AnyLease(granted))
    }

    /// The bytes that come must be as many as are announced, and end with the SHA-256 of all before it.
    async fn snapshot(&mut self, token: Option<&str>) -> Result<Answer, Status> {
        let request = with_token(pb::SnapshotRequest {}, token);
        let mut answers = self.maintenance.snapshot(request).await?.into_inner();
        let (mut first, mut bytes, mut announced) = (None, Vec::new(), None);
        while let Some(answer) = answers.message().await? {
            let whole = bytes.len() as u64 + answer.blob.len() as u64 + answer.remaining_bytes;
            bytes.extend_from_slice(&answer.blob);
            // What follows the database is not announced.
            if *announced.get_or_insert(whole) != whole && answer.remaining_bytes > 0 {
                return Ok(Answer::Malformed(format!("{whole} bytes announced after {announced:?}")));
            }
            let (remaining_bytes, blob) = Default::default();
            first.get_or_insert(pb::SnapshotResponse { remaining_bytes, blob, ..answer });
        }
        let Some(first) = first else { return Ok(Answer::Malformed("a backup of nothing".to_owned())) };
        let whole = bytes.split_last_chunk::<SHA256_BYTES>();
        let is_whole = whole.is_some_and(|(database, sum)| {
            announced == Some(database.len() as u64) && *sum == *Sha256::digest(database)
        });
        Ok(if is_whole {
            Answer::Snapshot(first)
        } else {
            Answer::Malformed(format!("{} bytes, {announced:?} announced, are no backup", bytes.len()))
        })
    }
}

pub fn with_token<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = MetadataValue::try_from(token).expect("tokens are visible text");
        request.metadata_mut().insert("token", value);
    }
    request
}

fn refused(status: &Status) -> Answer {
    Answer::Refused { code: status.code(), message: status.message().to_owned() }
}

/// Only the last chunk may carry a header, `more` and `count`.
async fn collect(mut stream: tonic::Streaming<pb::RangeStreamResponse>) -> Result<Answer, Status> {
    let mut kvs: Vec<KeyValue> = Vec::new();
    let mut last: Option<pb::RangeResponse> = None;
    while let Some(chunk) = stream.message().await? {
        if let Some(earlier) = last.take()
            && (earlier.header.is_some() || earlier.more || earlier.count != 0)
        {
            return Ok(Answer::Malformed("a chunk before the last carries header, more or count".to_owned()));
        }
        let Some(mut part) = chunk.range_response else {
            return Ok(Answer::Malformed("a chunk without a range response".to_owned()));
        };
        kvs.append(&mut part.kvs);
        last = Some(part);
    }
    Ok(match last {
        Some(end) => Answer::RangeStream(pb::RangeResponse { kvs, ..end }),
        None => Answer::Malformed("a stream that ended well without a chunk".to_owned()),
    })
}

/// Debug text of bounded length.
pub fn shown(what: &impl fmt::Debug) -> String {
    let text = format!("{what:?}");
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((cut, _)) => format!("{}... ({} bytes of text)", &text[..cut], text.len()),
        None => text,
    }
}
