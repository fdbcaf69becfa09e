//! A segment header is refused or means what its bytes say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion::storage::wal::format::{SEGMENT_HEADER_BYTES, SegmentHeader};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(header.encode(), bytes[..SEGMENT_HEADER_BYTES]);
    }
});
