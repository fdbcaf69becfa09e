//! What an operator asks of a server, one call at a time: compaction, defragmentation, a snapshot, a single read, a new member.
//!
//! Blocking, over tonic, on a thread of the caller. Not for load: that is `load`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use crate::pb::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::maintenance_client::MaintenanceClient;

/// A call that takes longer is given up.
const TIME_MAX: Duration = Duration::from_secs(900);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// So that a snapshot's stream is held up by the server or the disk, not by the window.
const WINDOW_BYTES: u32 = 8 << 20;
const MESSAGE_BYTES_MAX: usize = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// The server said no.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Refused(#[from] Box<tonic::Status>),
    #[error("the snapshot ended {missing} bytes before its end")]
    Short { missing: u64 },
    #[error("a stream of keepalives ended")]
    KeepAliveEnded,
    #[error("/metrics has no {0}")]
    NoSeries(&'static str),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

fn prepared(addr: SocketAddr) -> Result<(Runtime, Endpoint), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIME_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    Ok((runtime.map_err(io("start a runtime"))?, endpoint))
}

#[derive(Debug)]
pub struct Admin {
    runtime: Runtime,
    channel: Channel,
}

impl Admin {
    pub fn connect(addr: SocketAddr) -> Result<Self, Error> {
        let (runtime, endpoint) = prepared(addr)?;
        let channel = runtime.block_on(endpoint.connect())?;
        Ok(Self { runtime, channel })
    }

    /// Connects with the first call, and again with every call after a lost connection.
    pub fn connect_when_asked(addr: SocketAddr) -> Result<Self, Error> {
        let (runtime, endpoint) = prepared(addr)?;
        let channel = {
            let _context = runtime.enter();
            endpoint.connect_lazy()
        };
        Ok(Self { runtime, channel })
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    /// A linearizable read of one key.
    pub fn get(&self, key: &str) -> Result<Option<bytes::Bytes>, Error> {
        let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
        let reply = self.runtime.block_on(self.kv().range(request))?.into_inner();
        Ok(reply.kvs.into_iter().next().map(|kv| kv.value))
    }

    /// The store's revision.
    pub fn revision(&self) -> Result<i64, Error> {
        let request = pb::RangeRequest { key: vec![0].into(), limit: 1, ..Default::default() };
        let reply = self.runtime.block_on(self.kv().range(request))?.into_inner();
        Ok(reply.header.map_or(0, |header| header.revision))
    }

    /// Returns once the older versions cannot be read any more.
    pub fn compact(&self, revision: i64) -> Result<(), Error> {
        self.compaction(pb::CompactionRequest { revision, physical: false })
    }

    /// Waits until the older versions are gone from the disk.
    pub fn compact_on_disk(&self, revision: i64) -> Result<(), Error> {
        self.compaction(pb::CompactionRequest { revision, physical: true })
    }

    fn compaction(&self, request: pb::CompactionRequest) -> Result<(), Error> {
        self.runtime.block_on(self.kv().compact(request))?;
        Ok(())
    }

    /// The new member's id.
    pub fn add_learner(&self, peer_url: &str) -> Result<u64, Error> {
        let request = pb::MemberAddRequest { peer_ur_ls: vec![peer_url.to_owned()], is_learner: true };
        let reply = self.runtime.block_on(self.cluster().member_add(request))?.into_inner();
        Ok(reply.member.map_or(0, |member| member.id))
    }

    pub fn promote(&self, id: u64) -> Result<(), Error> {
        let request = pb::MemberPromoteRequest { id };
        self.runtime.block_on(self.cluster().member_promote(request))?;
        Ok(())
    }

    pub fn defragment(&self) -> Result<(), Error> {
        self.runtime.block_on(self.maintenance().defragment(pb::DefragmentRequest {}))?;
        Ok(())
    }

    /// Streams a snapshot into a new file and makes it durable; gives its size.
    pub fn save_snapshot(&self, path: &Path) -> Result<u64, Error> {
        let failed = || io(path.display().to_string());
        let mut file = std::fs::File::create_new(path).map_err(failed())?;
        let (mut size, mut missing) = (0, 0);
        // A deadline on the call alone would end with its first message.
        let saving = async {
            let mut stream = self.maintenance().snapshot(pb::SnapshotRequest {}).await?.into_inner();
            while let Some(part) = stream.message().await? {
                file.write_all(&part.blob).map_err(failed())?;
                size += part.blob.len() as u64;
                missing = part.remaining_bytes;
            }
            Ok::<_, Error>(())
        };
        let late = |_| tonic::Status::deadline_exceeded(format!("not done after {TIME_MAX:?}"));
        self.runtime.block_on(async { tokio::time::timeout(TIME_MAX, saving).await.map_err(late)? })?;
        if missing > 0 {
            return Err(Error::Short { missing });
        }
        file.sync_all().map_err(failed())?;
        Ok(size)
    }
}
