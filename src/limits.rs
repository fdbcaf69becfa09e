//! Every bound of the server in one place. A flag may replace a default; nothing is unbounded.

/// Largest request a client may send unless `--max-request-bytes` says otherwise (etcd's default).
pub const MAX_REQUEST_BYTES: usize = 1536 * 1024;
/// gRPC framing allowance above `max-request-bytes`, as in etcd's `grpcOverheadBytes`.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;
/// Operations in one transaction unless `--max-txn-ops` says otherwise (etcd's default).
pub const MAX_TXN_OPS: usize = 128;
/// Requests admitted to a shard and not yet answered; one more gets `etcdserver: too many requests`.
/// (etcd: `maxGapBetweenApplyAndCommitIndex`.)
pub const SHARD_PENDING_MAX: usize = 5_000;
/// Payload of one Raft entry: a batch is closed when the next request would pass it.
pub const ENTRY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Requests in one Raft entry.
pub const ENTRY_REQUESTS_MAX: usize = 4_096;
/// Keys a range visits before it lets the loop go on.
pub const RANGE_SLICE_KEYS: usize = 512;
/// Size of a log segment unless `--wal-segment-bytes` says otherwise.
pub const WAL_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Smallest segment whose largest batch still takes an entry of [`ENTRY_BYTES_MAX`].
pub const WAL_SEGMENT_BYTES_MIN: u64 = 16 * 1024 * 1024;
