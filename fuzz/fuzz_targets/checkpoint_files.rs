//! Tables and manifests from outside: refused, or whole and consistent. Nothing panics.
//!
//! The input is taken as it is, and once more inside a file whose checksums are right, to get past them to the archive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion::{
    block::BlockId,
    storage::checkpoint::format::{
        ArchivedTable, HEADER_BYTES, Manifest, SegmentRef, TRAILER_BYTES, check_body, decode_segment,
        encode_end, encode_header, salt,
    },
    types::{Owner, ShardId},
};

const SHARD: ShardId = ShardId(0);
const UNIT: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    manifest(bytes);
    let reference = SegmentRef { sequence: 1, epoch: 2, bytes: bytes.len() as u64, table_checksum: 3 };
    if let Ok(table) = decode_segment(bytes, SHARD, &reference) {
        walk(bytes, table, &reference);
    }

    // The first byte says how many of the others are bodies.
    let Some((bodies, table)) = bytes.split_first() else { return };
    let (bodies, table) = table.split_at((usize::from(*bodies) * 16).min(table.len() / 16 * 16));
    let mut file = encode_header(SHARD, 1, 2).to_vec();
    file.extend_from_slice(bodies);
    let offset = file.len() as u64;
    let len = (file.len() + table.len() + TRAILER_BYTES).next_multiple_of(UNIT) as u64;
    let (end, table_checksum) = encode_end(table, offset, len, 1, 2);
    file.extend_from_slice(&end);
    let reference = SegmentRef { bytes: len, table_checksum, ..reference };
    if let Ok(table) = decode_segment(&file, SHARD, &reference) {
        walk(&file, table, &reference);
    }

    let (owner, segments) = (Owner::default(), Vec::new());
    let empty = Manifest { owner, generation: 0, summary: None, segments, blocks: 0, body_bytes: 0 };
    let mut file = empty.encode(SHARD, UNIT);
    file.truncate(HEADER_BYTES);
    file.extend_from_slice(bytes);
    file.resize(file.len().next_multiple_of(UNIT), 0);
    let (archive, size) = (bytes.len() as u64, file.len() as u64);
    file[40..48].copy_from_slice(&archive.to_le_bytes());
    file[48..56].copy_from_slice(&size.to_le_bytes());
    let checksum = crc32c::crc32c(&file[HEADER_BYTES..]);
    file[56..60].copy_from_slice(&checksum.to_le_bytes());
    let checksum = crc32c::crc32c(&file[..60]);
    file[60..64].copy_from_slice(&checksum.to_le_bytes());
    manifest(&file);
});

/// What is accepted means the same when it is written again.
fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::decode(bytes, SHARD) {
        let again = manifest.encode(SHARD, UNIT);
        assert_eq!(Manifest::decode(&again, SHARD).as_ref(), Ok(&manifest));
    }
}

/// As the loader goes through it.
fn walk(file: &[u8], table: &ArchivedTable, reference: &SegmentRef) {
    let salt = salt(reference.sequence, reference.epoch);
    let mut end = HEADER_BYTES as u64;
    for block in table.blocks.iter() {
        let (offset, bytes) = (block.offset.to_native(), block.bytes.to_native());
        assert_eq!(offset, end, "bodies follow each other");
        end = (offset + u64::from(bytes)).next_multiple_of(16);
        assert!(end <= file.len() as u64);
        check_body(file, offset, bytes, block.checksum.to_native(), salt);
    }
    assert!(table.updates.iter().map(|update| BlockId::from(&update.id)).is_sorted_by(|a, b| a < b));
}
