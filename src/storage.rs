//! What one shard keeps on disk: the log of what was decided, checkpoints of what it came to, and the directory that
//! holds both.
//!
//! Nothing here knows what an entry or a block means.

pub mod checkpoint;
pub mod data_dir;
pub mod wal;
