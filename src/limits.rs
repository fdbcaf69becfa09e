//! Every bound of the server in one place. A flag may replace a default; nothing is unbounded.

use std::time::Duration;

/// Largest request a client may send unless `--max-request-bytes` says otherwise (etcd's default).
pub const MAX_REQUEST_BYTES: usize = 1536 * 1024;
/// gRPC framing allowance above `max-request-bytes`, as in etcd's `grpcOverheadBytes`.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;
/// Operations in one transaction unless `--max-txn-ops` says otherwise (etcd's default).
pub const MAX_TXN_OPS: usize = 128;
/// Levels of transactions in a transaction, whatever a larger `--max-txn-ops` says: with the default etcd takes as many.
/// Decoding and whatever else follows them goes as deep in its stack.
pub const TXN_NESTING_MAX: usize = 128;
/// Operations and comparisons of one transaction, nested ones included; four times `--max-txn-ops` if that is more.
pub const TXN_TOTAL_OPS: usize = 16 * 1024;
/// Shortest time of a lease in seconds, with the default election timeout: one and a half of it.
pub const LEASE_TTL_MIN: i64 = 2;
/// Renewals of one stream that have come together and need one question to the other members.
pub const KEEP_ALIVES_TOGETHER: usize = 1_024;
/// Longest time a lease is granted for, in seconds (etcd's `MaxLeaseTTL`).
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;
/// Leases revoked in one entry because their time is over: so many without keys, and so many fewer with keys as these
/// cost. A write that comes behind them waits until all are applied, for half a millisecond or so.
pub const LEASE_BATCH_COST: usize = 1_024;
pub const LEASE_BATCH_MIN: usize = 32;
/// Such batches under way: one that the log takes, and one that is applied.
pub const LEASE_BATCHES: usize = 2;
/// What deleting a key costs beside ending a lease.
pub const LEASE_KEY_COST: usize = 4;
/// Leases looked at to find those whose time is over, before others have their turn.
pub const LEASE_VISITS: usize = 4_096;
/// Pages of leases that a new leader gives their time in one turn.
pub const LEASE_VISIT_PAGES: usize = 8;
/// How often it is looked for leases whose time is over, if none is known to be over sooner (etcd's pace); none is
/// granted for less.
pub const LEASE_PAUSE: Duration = Duration::from_millis(500);
/// Until expired leases are revoked again that could not be: the queue was full, or something else (etcd's
/// `defaultExpiredleaseRetryInterval`).
pub const LEASE_BUSY_PAUSE: Duration = Duration::from_millis(10);
pub const LEASE_RETRY: Duration = Duration::from_secs(3);
/// How often what is left of a lease is noted, and of how many at a time (etcd's `defaultLeaseCheckpointInterval` and
/// `maxLeaseCheckpointBatchSize`).
pub const LEASE_NOTE_INTERVAL: Duration = Duration::from_secs(5 * 60);
pub const LEASE_NOTES_MAX: usize = 1_000;
/// Leases, or keys of one, that are listed in one step.
pub const LEASES_PIECE: usize = 1_024;
/// Keys that the comparisons of a transaction that writes may look at. They are made again when it is applied, by every
/// member, and at a restart: for ten milliseconds or so.
pub const TXN_COMPARED_KEYS: u64 = 100_000;
/// Requests admitted to a shard and not yet answered; one more gets `etcdserver: too many requests`.
/// (etcd: `maxGapBetweenApplyAndCommitIndex`.)
pub const SHARD_PENDING_MAX: usize = 5_000;
/// Bytes of admitted writes that are not proposed yet; reached, one more gets the same answer.
pub const SHARD_QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Payload bytes that other members forwarded and that are not proposed yet; beyond, they are refused.
pub const FORWARDED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Batches of another member that are known by their number, so that none of them is taken twice; older ones that come so
/// late are not taken. And of how many runs of members.
pub const FORWARDS_KNOWN: usize = 4_096;
pub const FORWARDING_RUNS_MAX: usize = 64;
/// Batches on their way to the leader at a time: what comes meanwhile gathers, and a lone one goes out at once.
pub const FORWARDS_UNDER_WAY: usize = 4;
/// Rounds of linearizable reads under way at a time, likewise.
pub const READ_ROUNDS_MAX: usize = 4;
/// Time after which another member that has not answered is asked again (etcd's `readIndexRetryTime`).
pub const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Questions of other members that are being answered; more are not, and asked again. And those of this member that wait
/// for an answer.
pub const QUESTIONS_MAX: usize = 1_024;
pub const ASKING_MAX: usize = 16 * 1_024;
/// Time after a start in which its first election may be brought forward (etcd's).
pub const ADVANCE_WAIT: Duration = Duration::from_secs(5);
/// Between two looks at whether another member leads.
pub const LEADER_PAUSE: Duration = Duration::from_millis(1);
/// While there is no leader, writes that came within this time of each other are given up together.
pub const BATCH_AGE: Duration = Duration::from_millis(100);
/// Linearizable reads that wait for their read index.
pub const SHARD_READS_MAX: usize = 100_000;
/// One frame between members: the longest entry, or several that are shorter than [`COMMITTED_BYTES_MAX`] together.
pub const PEER_FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Payload of an entry, so that its frame is within that bound.
pub const ENTRY_BYTES_LARGEST: usize = PEER_FRAME_BYTES_MAX / 8 * 7;
/// What an entry and a log write add to a request at most.
pub const REQUEST_MARGIN_BYTES: usize = 64 * 1024;
/// Of a member that has a link to this one: frames that wait to be sent to it. One that is longer goes alone.
pub const PEER_QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// The same of those that go before entries, and how many of them wait for a link while there is none.
pub const PEER_SIGNALS_BYTES: usize = 1024 * 1024;
pub const PEER_SIGNALS_MAX: usize = 4_096;
pub const PEER_SIGNALS_KEPT: usize = 16;
/// A frame goes in parts of so many bytes, between which more urgent ones go.
pub const PEER_PART_BYTES: usize = 64 * 1024;
/// Bytes gathered for one send to a member, and those that the system may hold before it sends them: whatever is urgent
/// comes behind both.
pub const PEER_GATHERED_BYTES: usize = 64 * 1024;
pub const PEER_UNSENT_BYTES: u32 = 64 * 1024;
/// Bytes sent to a member, or taken from it, before others have their turn.
pub const PEER_TURN_BYTES: usize = 1024 * 1024;
/// The shortest `--raft-read-timeout` and `--raft-write-timeout` (etcd's).
pub const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(5);
/// Of a greeting, with a member's URLs, and of what a checkpoint is announced with.
pub const PEER_HELLO_BYTES: usize = 2 * MEMBER_URLS_BYTES;
pub const PEER_OFFER_BYTES: usize = 16 * 1024 * 1024;
/// Members that call and are not known yet, beside those that are.
pub const PEER_GUESTS_MAX: usize = 16;
/// How long a guest may be away before it is forgotten.
pub const PEER_GUEST_PATIENCE: Duration = Duration::from_secs(60);
/// How long a connection to a member may take to be made and greeted.
pub const PEER_CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Pause before a lost link is made again: the first, and the longest.
pub const PEER_RETRY: Duration = Duration::from_millis(20);
pub const PEER_RETRY_MAX: Duration = Duration::from_millis(500);
/// The same after a refusal.
pub const PEER_REFUSED_RETRY: Duration = Duration::from_secs(1);
/// A link that held for so long begins with short pauses when it is lost.
pub const PEER_STABLE: Duration = Duration::from_secs(1);
/// How often a member is asked for a sign of life, unless the timeouts are short, and never more often than that.
pub const PEER_PROBE: Duration = Duration::from_secs(1);
pub const PEER_PROBE_MIN: Duration = Duration::from_millis(10);
/// How often it is said that a member cannot be reached, or that messages for it are dropped (etcd's
/// `statusMonitoringInterval`).
pub const PEER_COMPLAINT: Duration = Duration::from_secs(30);
/// How long a link to a removed member goes on, so that it hears of its removal.
pub const PEER_FAREWELL: Duration = Duration::from_secs(1);
/// Pieces of a checkpoint that are asked for ahead.
pub const PEER_PIECES_AHEAD: usize = 4;
/// How long a checkpoint's transfer goes on without progress, before it is given up.
pub const PEER_TRANSFER_PATIENCE: Duration = Duration::from_secs(30);
/// Frames from other members that wait for the shard's turn, and their bytes; more are dropped and counted, as Raft allows.
pub const SHARD_FRAMES_MAX: usize = 4_096;
pub const SHARD_FRAMES_BYTES_MAX: usize = 2 * PEER_FRAME_BYTES_MAX;
/// Payload bytes proposed and not committed yet.
pub const UNCOMMITTED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Payload bytes of committed entries that Raft gives at a time.
pub const COMMITTED_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Keys looked at or written for committed entries before the clock is looked at.
pub const APPLY_STEP_KEYS: usize = 256;
/// How long a turn of the loop applies before everything else has its turn; while more than [`UNAPPLIED_BYTES`] wait, so
/// many times as long.
pub const APPLY_SLICE: Duration = Duration::from_millis(1);
pub const APPLY_SLICE_FACTOR: u32 = 4;
/// Pause between two pieces of long work: too short to be waited for, and long enough to be over only when the core
/// has looked for finished I/O and run what that woke.
pub const TURN_PAUSE: Duration = Duration::from_nanos(500);
/// Payload bytes of entries that are committed and not applied: with more, nothing is proposed, and far beyond, nothing
/// is taken from the leader, which sends it again. The latter also goes for entries that wait for the disk.
pub const UNAPPLIED_BYTES: usize = 4 * 1024 * 1024;
pub const UNAPPLIED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a member that is asked to stop goes on with applying; the next start goes on with the rest.
pub const APPLY_PATIENCE: Duration = Duration::from_millis(500);
/// Bytes of applied entries kept in memory for followers; `--snapshot-catchup-entries` bounds their number.
pub const CATCHUP_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of the log kept on disk behind a checkpoint for followers that will come back, as many entries as the same flag
/// says (five segments of 64 MB stay with etcd). For those that are there and behind, one that is just being sent a
/// checkpoint above all, twice what the checkpoint takes if that is more, up to the latter. Who falls back further gets a
/// checkpoint.
pub const LOG_KEPT_BYTES: u64 = 256 * 1024 * 1024;
pub const LOG_NEEDED_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Payload bytes read back from the log at a time, beside the rest of a write, and in memory in all.
pub const READ_BACK_PIECE_BYTES: usize = 4 * 1024 * 1024;
pub const READ_BACK_BYTES: usize = 16 * 1024 * 1024;
/// One read of it: larger ones hold up the log's writes.
pub const READ_BACK_CHUNK_BYTES: usize = 256 * 1024;
/// Places that are to be read from next; who finds no room asks again. And those that reading may go on from.
pub const READ_BACKS_WANTED: usize = 8;
pub const READ_BACK_PLACES: usize = 4;
/// Payload bytes on their way to a member: beyond, nothing is sent until it acknowledges some. Also what is given out at
/// a time when it does. With one more message they fit into its queue.
pub const IN_FLIGHT_BYTES: usize = 4 * 1024 * 1024;
const _: () = assert!(
    2 * IN_FLIGHT_BYTES + COMMITTED_BYTES_MAX as usize + ENTRY_BYTES_MAX <= PEER_QUEUE_BYTES,
    "they fit into a queue"
);
/// Elections for which a member is still there that was not heard of.
pub const NEEDED_ELECTIONS: usize = 2;
/// Pause between two slices of work in the background.
pub const BACKGROUND_PAUSE: Duration = Duration::from_micros(100);
/// Records of one slice of physical compaction between two turns of the loop, and more of them for each request that
/// was applied in the turn. Freeing a version visits its record, and sometimes others of its chunk.
pub const COMPACTION_SLICE_KEYS: usize = 256;
pub const COMPACTION_KEYS_PER_WRITE: usize = 4;
/// For so many busy turns, and so many writes applied in them, a slice of compaction may be put off.
pub const COMPACTION_TURNS_PUT_OFF: u32 = 3;
pub const COMPACTION_WRITES_PUT_OFF: usize = 8;
/// Bytes of versions in the log only that make a checkpoint due: what a restart replays.
pub const CHECKPOINT_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of the log behind the last checkpoint that make one due.
pub const CHECKPOINT_LOG_BYTES: u64 = 64 * 1024 * 1024;
/// Changed chunks that make a checkpoint due: taking them is one step of the loop.
pub const CHECKPOINT_BLOCKS: usize = 4_096;
/// Chunks whose memory is given up for the mapped image in one turn of the loop.
pub const CHECKPOINT_SLICE_BLOCKS: usize = 16;
/// Applied entries that make a checkpoint due unless `--snapshot-count` says otherwise (etcd's default).
pub const CHECKPOINT_ENTRIES: u64 = 10_000;
/// Time between two looks at which release the cluster is taken for (etcd's `monitorVersionInterval`).
pub const VERSION_PAUSE: Duration = Duration::from_secs(4);
/// Bytes hashed before the loop goes on (`HashKV`, corruption checks).
pub const HASH_SLICE_BYTES: usize = 256 * 1024;
/// Changes of members that wait for their turn: there is one at a time.
pub const CHANGES_WAITING_MAX: usize = 64;
/// Bytes of the URLs that one member is known by.
pub const MEMBER_URLS_BYTES: usize = 64 * 1024;
/// Defragmentations that wait for their end; all of them are served by the same one.
pub const DEFRAGMENTS_MAX: usize = 256;
/// Payload of one Raft entry: a batch is closed when the next request would pass it.
pub const ENTRY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Requests in one Raft entry.
pub const ENTRY_REQUESTS_MAX: usize = 1_024;
/// Pairs a range builds, or many times as many keys it counts, before anything else may run: what is smaller is
/// answered at once.
pub const RANGE_AT_ONCE_KEYS: usize = 64;
/// How long a range may then go on, in steps of so many pairs, each time all other ranges of the core had their turn.
pub const RANGE_SLICE: Duration = Duration::from_micros(60);
pub const RANGE_STEP_KEYS: usize = 64;
/// Steps of a slice, whatever the clock says.
pub const RANGE_SLICE_STEPS: usize = 16;
/// Pairs that are given up at a time when nobody waits for them any more.
pub const LEFTOVER_PAIRS: usize = 1024;
/// Bytes of pairs of an answer that are kept: one with more is encoded piece by piece, as the client takes it.
pub const RANGE_KEPT_BYTES: usize = 32 * 1024;
/// Operations of a transaction whose answer is encoded in one step; one with more goes piece by piece, too.
pub const TXN_ENCODED_OPS: usize = 1_024;
/// One such piece: its bytes, and the keys looked at for it.
pub const RANGE_PIECE_BYTES: usize = 64 * 1024;
pub const RANGE_PIECE_KEYS: usize = 512;
/// Longest message that is compressed: that is done in one step, and takes a fiftieth of a millisecond for each KiB.
pub const ZIPPED_BYTES_MAX: usize = 64 * 1024;
/// Bytes of versions a backup visits in one slice; each costs at least half a kilobyte.
pub const BACKUP_SLICE_BYTES: usize = 16 * 1024;
/// Size of a log segment unless `--wal-segment-bytes` says otherwise, or `--max-request-bytes` needs more.
pub const WAL_SEGMENT_BYTES: u64 = 32 * 1024 * 1024;
/// Smallest segment whose largest batch still takes an entry of [`ENTRY_BYTES_MAX`].
pub const WAL_SEGMENT_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Largest batches a segment has room for, at least.
pub const WAL_SEGMENT_BATCHES: u64 = 4;
/// A write to the log that takes longer is worth a warning (etcd's `warnSyncDuration`).
pub const SLOW_LOG_WRITE: Duration = Duration::from_secs(1);
/// Segments kept for the log to go on in once it needs them; more are removed.
pub const WAL_SPARE_SEGMENTS: usize = 2;
/// Size a checkpoint segment is closed at; a longer body has one of its own.
pub const CHECKPOINT_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of checkpoint files above twice the live ones before segments are merged.
pub const CHECKPOINT_SLACK_BYTES: u64 = 32 * 1024 * 1024;
/// Segments smaller than half of a full one; more are merged, the smallest first.
pub const CHECKPOINT_SMALL_SEGMENTS_MAX: usize = 64;
/// Bytes carried by one such merge, unless it takes more to keep to the number.
pub const CHECKPOINT_CARRY_BYTES: u64 = 128 * 1024 * 1024;
/// One direct write of a checkpoint; larger ones hold up the log's.
pub const CHECKPOINT_PIECE_BYTES: usize = 256 * 1024;
/// Bytes of a checkpoint written before they are made durable.
pub const CHECKPOINT_SYNC_BYTES: u64 = 1024 * 1024;
/// Bytes read into the page cache at a time.
pub const CHECKPOINT_PREFETCH_BYTES: u64 = 1024 * 1024;
/// Time in which the pages of all mapped checkpoint files are given back once. More often costs reads more: they fault
/// the pages in again.
pub const CHECKPOINT_RELEASE_ROUND: Duration = Duration::from_secs(10);
/// Bytes freed at a time when a large file is removed, and the pause after it: a device that is told what is free takes
/// a fifth of a millisecond for a MiB, and a write waits for it. A checkpoint waits for the removal of old files.
pub const REMOVAL_BYTES: u64 = 2 * 1024 * 1024;
pub const REMOVAL_PAUSE: Duration = Duration::from_millis(2);
/// Bytes a keyspace may occupy unless `--quota-backend-bytes` says otherwise (etcd's default).
pub const QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;
/// A larger quota is taken with a warning (etcd's `MaxQuotaBytes`).
pub const QUOTA_BYTES_RECOMMENDED: i64 = 8 * 1024 * 1024 * 1024;
/// Open client connections of one core, unless the descriptors allow for fewer; a further one waits in the listener's
/// backlog.
pub const CONNECTIONS_MAX: usize = 65_536;
/// Descriptors that connections leave to the member itself: its log, checkpoints, backups, listeners and log files
/// (etcd's `reservedInternalFDNum`). With no more than these it does not start.
pub const DESCRIPTORS_KEPT: u64 = 150;
/// Of them, those that connections to `--listen-metrics-urls` may take when clients have all others.
pub const METRICS_CONNECTIONS: usize = 32;
/// And those that other members may take beside them.
pub const PEER_CONNECTIONS: usize = 64;
/// For so long, and so often, a name that nobody knows is looked up before a member founds or joins a cluster.
pub const RESOLVE_PATIENCE: Duration = Duration::from_secs(30);
pub const RESOLVE_PAUSE: Duration = Duration::from_secs(1);
/// For so long a member has to be connected before changes of members count on it (etcd's `HealthInterval`).
pub const MEMBER_HEALTHY: Duration = Duration::from_secs(5);
/// Connections a listener takes before others have their turn: each costs some 50 us until its first request is read.
pub const ACCEPT_BURST: usize = 8;
/// Pause after a failed accept: out of descriptors or memory, most likely.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// How often it is said that connections are not accepted.
pub const ACCEPT_COMPLAINT: Duration = Duration::from_secs(10);
/// Time without a packet after which the kernel asks a client for a sign of life, and between two such questions
/// (etcd's period).
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Time from a connection's beginning until it is clear what the client speaks, with HTTP/2 until its first SETTINGS
/// frame.
pub const CONNECTION_BEGIN: Duration = Duration::from_secs(30);
/// Time for a request's headers, and for the next byte of any other frame that has begun.
pub const FRAME_WAIT: Duration = Duration::from_secs(30);
/// Time for the next bytes of a message that has begun, or of a request that consists of one.
pub const MESSAGE_WAIT: Duration = Duration::from_secs(60);
/// Names that may be looked up at once; each has a thread of its own.
pub const NAMES_ASKED_MAX: usize = 32;
/// Addresses of one name that are tried, and how long one of them may take to answer.
pub const ADDRESSES_TRIED: usize = 8;
pub const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// Connections the kernel holds until they are accepted.
pub const LISTEN_BACKLOG: i32 = 4_096;
/// Bytes a client may send on one stream before they are read: the largest default request goes
/// through without waiting.
pub const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Bytes a client may send on one connection before they are read.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Bytes of a response buffered for one stream before its producer waits.
pub const STREAM_SEND_BYTES: usize = 128 * 1024;
/// Decoded size of a request's headers: room for large tokens.
pub const HEADER_LIST_BYTES: u32 = 256 * 1024;
/// Head of a request over HTTP/1.1, which only plain endpoints are asked over.
pub const HTTP1_HEAD_BYTES: usize = 64 * 1024;
/// What is read of a body there: other members ask in a few words.
pub const HTTP1_BODY_BYTES: usize = 4 * 1024;
/// What other members may answer.
pub const INQUIRY_BYTES_MAX: usize = 1024 * 1024;
/// Of a client's version, as it tells it with each call; the rest is cut off.
pub const CLIENT_VERSION_BYTES: usize = 64;
/// Streams a connection may reset, or have reset, before it counts as an attack.
pub const RESET_STREAMS_MAX: usize = 16_384;
/// Largest message the server sends (etcd's `maxSendBytes`).
pub const SEND_MESSAGE_BYTES_MAX: usize = i32::MAX as usize;
/// How long runnable tasks may keep a core from noticing finished I/O; a durable write waits no longer
/// to be acknowledged.
pub const TURN_MAX: Duration = Duration::from_millis(5);
/// Memory for direct I/O that is registered with the ring, cleared and pinned at a start; what does not fit is taken
/// from the heap.
pub const IO_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// The least that is worth registering, where the limit of locked memory forbids more.
pub const IO_BUFFER_BYTES_MIN: usize = 1024 * 1024;
/// How long a client of a member that stops has to answer that it heard of it, if nothing of its is under way.
pub const GOODBYE: Duration = Duration::from_millis(500);
/// Streams a client may have open on one connection, whatever a larger `--max-concurrent-streams` says.
pub const CONNECTION_STREAMS_MAX: u32 = 65_536;
/// SETTINGS frames that a client may send at once, and how long until it may send one more. Clients that measure the
/// bandwidth send a dozen in a connection's life.
pub const SETTINGS_BURST: u32 = 128;
pub const SETTINGS_PAUSE: Duration = Duration::from_millis(100);
/// Streams visited in a turn for SETTINGS frames: each visits all that are open. One frame is always allowed.
pub const TURN_SETTINGS_STREAMS: usize = 4_096;
/// PING frames sooner than allowed that a client may send; one more ends the connection (grpc-go's `maxPingStrikes`).
pub const PING_STRIKES_MAX: u32 = 2;
/// Time between two PING frames of a client without a request under way (grpc-go's `defaultPingTimeout`).
pub const PING_IDLE: Duration = Duration::from_secs(2 * 60 * 60);
/// Time for a client to take in why its connection ends; what it sends meanwhile is read and forgotten, since the kernel
/// would otherwise cut it off.
pub const PARTING: Duration = Duration::from_secs(1);
/// Bytes gathered for one send.
pub const CONNECTION_SEND_BYTES: usize = 64 * 1024;
/// Bytes held on behalf of all clients of a core, unless the machine's memory says otherwise: see `server/memory.rs`.
pub const CLIENTS_BYTES: usize = 256 * 1024 * 1024;
/// The least of it, on the smallest machine.
pub const CLIENTS_BYTES_MIN: usize = 64 * 1024 * 1024;
/// The same of one client; with more, or with more than its part where others hold much, no further request of its
/// connection is started.
pub const CLIENT_BYTES: usize = 64 * 1024 * 1024;
/// Messages of the longest kind that a client has room for, whatever their length.
pub const CLIENT_MESSAGES_MIN: usize = 4;
/// What a call under way is counted with, beside what is known of it.
pub const CALL_BYTES: usize = 4 * 1024;
/// Ranges of one client under way that are not answered at once, and of those the ones with many pairs in memory.
pub const CLIENT_READS_MAX: usize = 16;
pub const CLIENT_SORTS_MAX: usize = 1;
/// Pairs a range may have in memory before they are many.
pub const RANGE_FEW_PAIRS: usize = 1_024;
/// Writes admitted and not applied yet, shared out among the clients who have some; more of a client wait.
pub const SHARD_SHARED_WRITES: usize = 2 * ENTRY_REQUESTS_MAX;
/// The most of them one client has while it is alone, and where there are others. Whoever comes next waits for all that
/// are there, some ten microseconds for each.
pub const CLIENT_WRITES_ALONE: usize = SHARD_SHARED_WRITES / 8;
pub const CLIENT_WRITES_AMONG_OTHERS: usize = SHARD_SHARED_WRITES / 16;
const _: () = assert!(SHARD_SHARED_WRITES < SHARD_PENDING_MAX, "others find room");
/// Writes of one client that wait to be admitted; one more is refused.
pub const CLIENT_WRITES_WAITING_MAX: usize = SHARD_PENDING_MAX;
/// Requests held back as their client has no room; one more is refused.
pub const CONNECTION_HELD_MAX: usize = 1_024;
/// Bytes of one piece of an answer.
pub const DATA_QUEUED_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Bytes h2 may write to one connection before others have their turn.
pub const TURN_WRITE_BYTES: usize = 256 * 1024;
/// Bytes read from one connection before others have their turn.
pub const TURN_READ_BYTES: usize = 256 * 1024;
/// Requests of one connection started before those have had a chance to be answered.
pub const ROUND_CALLS_MAX: usize = 64;
/// Rounds of answers and new requests on one connection before others have their turn.
pub const TURN_ROUNDS_MAX: usize = 2;
/// Requests whose headers are decoded in a turn: as many as may be started. They are small, so that bytes bound nothing.
pub const TURN_REQUESTS_MAX: usize = ROUND_CALLS_MAX * TURN_ROUNDS_MAX;
/// Calls of an ended connection that are given up before others have their turn: each may hold a long message, whose memory
/// takes a fifth of a millisecond to give back.
pub const GIVEN_UP_CALLS: usize = 16;

/// Checkpoints that wait to be carried to other members: one for each is enough.
pub const TRANSFERS_MAX: usize = 16;

/// Time between two renderings of `/metrics`: who asks meanwhile gets the next one together.
pub const SCRAPE_PAUSE: Duration = Duration::from_millis(20);
/// A start that is not ready after so long says why, and again each time it has passed.
pub const READY_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of all users and roles: as fast as they are gone through in one step, and answered in one message.
pub const AUTH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Of a user's or a role's name: etcd ends with an error of its database beyond (bbolt's `MaxKeySize`).
pub const AUTH_NAME_BYTES_MAX: usize = 32 * 1024;
/// How long a simple token lives that is not used, unless `--auth-token-ttl` says otherwise (etcd's default).
pub const TOKEN_TTL: Duration = Duration::from_secs(300);
/// Simple tokens of a member; with one more, the one goes that was not used for longest. A thousand logins a second live
/// their whole time.
pub const TOKENS_MAX: usize = 300_000;
/// Simple tokens that were given and nobody here was asked about yet; with one more, the oldest goes. They are taken in all at
/// once, by whoever asks next.
pub const TOKENS_GIVEN_MAX: usize = 10_000;
/// Of those whose end has come, how many are forgotten each time somebody shows one.
pub const TOKENS_AT_ONCE: usize = 4;
/// Signed tokens that were found good, and are known the next time; with one more, the one goes that was not shown for
/// longest.
pub const JWT_KEPT_MAX: usize = 4_096;
/// Cost of hashing a password unless `--bcrypt-cost` says otherwise (bcrypt's default), and the costs there are.
pub const BCRYPT_COST: u32 = 10;
pub const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// A hash that came with a request costs no more to compare with than this or what `--bcrypt-cost` says: a second or two.
pub const BCRYPT_COST_FOREIGN_MAX: u32 = 15;
/// Clients who wait to have a password hashed or compared, and those of one client that wait in its own line.
pub const PASSWORDS_WAITING_MAX: usize = 256;
pub const CLIENT_PASSWORDS_WAITING_MAX: usize = 64;
/// How long a password that was right is known without another comparison, and how many are.
pub const PASSWORD_REMEMBERED: Duration = Duration::from_secs(300);
pub const PASSWORDS_REMEMBERED: usize = 4_096;
/// How often a password is compared again because it, or with signed tokens anything, was changed meanwhile.
pub const LOGIN_ATTEMPTS: usize = 16;
/// Of a name in a log line.
pub const LOGGED_NAME_BYTES: usize = 256;

/// What a watch takes beside the keys that name what it is about, and is counted with.
pub const WATCH_BYTES: usize = 1_024;
/// Events that are kept for watches that have not read them yet: their bytes, and how many times they stand in queues. More
/// are read from history.
pub const WATCH_QUEUED_BYTES: usize = 32 * 1024 * 1024;
pub const WATCH_QUEUED_ENTRIES: usize = 65_536;
/// Events of one revision that are kept in memory for a watch, if they are several.
pub const WATCH_REVISION_BYTES: usize = 1024 * 1024;
/// Events read from history that are gathered for a stream before it has to take them.
pub const WATCH_GATHERED_BYTES: usize = 256 * 1024;
/// Versions looked at in one step of reading from history, and those that are looked at at once where no more are missing.
pub const WATCH_STEP_VERSIONS: usize = 256;
pub const WATCH_AT_ONCE_VERSIONS: usize = 64;
/// Watches that have caught up and follow from now on, in one step.
pub const WATCH_ARRIVALS: usize = 256;
/// Versions, groups and watches looked at before the clock is, in telling watches what was written; how long a turn of the
/// loop goes on with that.
pub const WATCH_PUBLISH_STEPS: usize = 256;
pub const WATCH_SLICE: Duration = Duration::from_millis(1);
/// Revisions that wait to be told: with more, watches have to read them from history.
pub const WATCH_UNTOLD_REVISIONS: i64 = 100_000;
/// Time between two notices to a watch that wants to hear that it missed nothing, and the shortest there is (etcd's).
pub const WATCH_PROGRESS_INTERVAL: Duration = Duration::from_secs(10 * 60);
pub const WATCH_PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Bytes of answers to a watch stream that are made before other calls of the connection have their turn.
pub const FEED_BATCH_BYTES: usize = 16 * 1024;
/// Requests of a watch stream that are answered with nothing, and are taken before others have their turn.
pub const WATCH_REQUESTS_UNANSWERED: usize = 64;
/// Watches of a stream that ended which are given up before others have their turn.
pub const WATCHES_GIVEN_UP: usize = 256;
/// So many prefixes of one length are left in the tree of ranges; further ones are found by hash, which costs a look at each
/// key that is written, for each of so many lengths.
pub const WATCH_PREFIXES_FEW: usize = 16;
pub const WATCH_PREFIX_LENGTHS: usize = 32;

/// Events of the v2 tree that are known (etcd's history), and their bytes: with more, fewer are.
pub const V2_HISTORY_EVENTS: u64 = 1_000;
pub const V2_HISTORY_BYTES: usize = 64 * 1024 * 1024;
/// Nodes of the v2 tree that end in one command.
pub const V2_EXPIRED_TOGETHER: usize = 1_024;
/// How often it is seen whether nodes of the v2 tree are over (etcd's `syncer` period).
pub const V2_END_PAUSE: Duration = Duration::from_millis(500);
/// Nodes of the v2 tree that are listed in one go, and bytes after which it is enough; how often a listing of more begins anew because what it lists
/// has changed.
pub const V2_SLICE_NODES: usize = 2_048;
pub const V2_SLICE_BYTES: usize = 1024 * 1024;
pub const V2_LISTING_ATTEMPTS: usize = 32;
/// Events of the v2 tree that somebody may have to take yet: all that are known.
pub const V2_WAITING_EVENTS: usize = V2_HISTORY_EVENTS as usize;
/// And their bytes, unless it is only one.
pub const V2_WAITING_BYTES: usize = 8 * 1024 * 1024;
/// A path of the v2 API: each node above it is looked at, and listings have it whole for each below.
pub const V2_PATH_BYTES: usize = 4_096;
/// A form in a request of the v2 API (Go's `maxFormSize`).
pub const V2_FORM_BYTES: usize = 10 * 1024 * 1024;
/// What one that waits is counted with.
pub const V2_WAIT_BYTES: usize = 512;
