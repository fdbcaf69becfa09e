//! The log: its bytes, its recovery, its promises on a simulated and on a real disk.

mod codec;
mod crash;
mod cut;
mod faults;
mod real;
mod scan;

use super::format::SegmentHeader;
use crate::types::ShardId;

/// A segment of 64 units.
fn header(epoch: u64) -> SegmentHeader {
    SegmentHeader { shard: ShardId(3), sequence: 1, epoch, unit: 512, segment_bytes: 64 * 512 }
}
