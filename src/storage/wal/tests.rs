//! The log: its bytes, its recovery, its promises on a simulated and on a real disk.

mod codec;
mod crash;
mod cut;
mod faults;
mod known;
mod lookback;
mod real;
mod scan;

use super::format::SegmentHeader;
use crate::types::{ClusterId, LogId, MemberId, Owner, ShardId};

/// A segment of 64 units.
fn header(epoch: u64) -> SegmentHeader {
    let owner = Owner { cluster: ClusterId(5), member: MemberId(6), log: LogId(7) };
    SegmentHeader { shard: ShardId(3), owner, sequence: 1, epoch, unit: 512, segment_bytes: 64 * 512 }
}
