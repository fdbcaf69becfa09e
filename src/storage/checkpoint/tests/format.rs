//! Every byte of a segment and a manifest counts.

use super::super::format::{
    Fault, HEADER_BYTES, Manifest, SegmentRef, Table, UpdateEntry, check_body, decode_segment, encode_end,
    encode_header, encode_table, salt,
};
use super::*;
use crate::types::{ClusterId, LogId};

const UNIT: u64 = 512;

fn block(number: u64) -> BlockId {
    BlockId { space: SpaceId(1), number }
}

fn segment(bodies: &[&[u8]]) -> (Vec<u8>, SegmentRef, Table) {
    let (sequence, epoch) = (6, 0xfeed);
    let mut file = encode_header(SHARD, sequence, epoch).to_vec();
    let mut table = Table {
        blocks: Vec::new(),
        updates: vec![
            UpdateEntry { id: block(1), meta: vec![0, 7] },
            UpdateEntry { id: block(2), meta: vec![] },
        ],
        drops: vec![block(3), BlockId { space: SpaceId(9), number: 0 }],
    };
    for (at, body) in bodies.iter().enumerate() {
        let offset = file.len() as u64;
        file.extend_from_slice(body);
        file.resize(padded(file.len() as u64) as usize, 0);
        table.blocks.push(BlockEntry {
            id: block(10 + at as u64),
            offset,
            bytes: body.len() as u32,
            checksum: crc32c::crc32c_append(salt(sequence, epoch), &file[offset as usize..]),
            meta: body.iter().copied().step_by(5).collect(),
        });
    }
    let encoded = encode_table(&table);
    let offset = file.len() as u64;
    let bytes = (offset + (encoded.len() + TRAILER_BYTES) as u64).next_multiple_of(UNIT);
    let (end, table_checksum) = encode_end(&encoded, offset, bytes, sequence, epoch);
    file.extend_from_slice(&end);
    (file, SegmentRef { sequence, epoch, bytes, table_checksum }, table)
}

/// The table and all bodies, as a reader checks them.
fn read(file: &[u8], reference: &SegmentRef) -> Result<usize, Fault> {
    let table = decode_segment(file, SHARD, reference)?;
    let salt = salt(reference.sequence, reference.epoch);
    for block in table.blocks.iter() {
        let (offset, bytes) = (block.offset.to_native(), block.bytes.to_native());
        if !check_body(file, offset, bytes, block.checksum.to_native(), salt) {
            return Err(Fault::Corrupt { offset, what: "a body" });
        }
    }
    Ok(table.blocks.len())
}

fn example() -> (Vec<u8>, SegmentRef, Table) {
    segment(&[b"the first body", b"", &[7; 333], &[0; 16]])
}

#[test]
fn a_segment_is_read_as_it_was_written() {
    let (file, reference, table) = example();
    assert_eq!(read(&file, &reference), Ok(4));
    let archived = decode_segment(&file, SHARD, &reference).expect("it is whole");
    for (archived, entry) in archived.blocks.iter().zip(&table.blocks) {
        assert_eq!(BlockId::from(&archived.id), entry.id);
        assert_eq!(archived.meta.as_slice(), entry.meta);
    }
    assert!(archived.drops.iter().map(BlockId::from).eq(table.drops));
}

#[test]
fn no_changed_byte_of_a_segment_is_taken() {
    let (file, reference, _) = example();
    for at in 0..file.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[at] ^= flip;
            match read(&damaged, &reference) {
                Err(Fault::Corrupt { offset, .. }) => assert!(offset <= file.len() as u64),
                Err(Fault::Version(_)) => assert!((8..12).contains(&at)),
                other => panic!("byte {at} {flip:#x}: {other:?}"),
            }
        }
    }
}

#[test]
fn no_truncated_or_extended_segment_is_taken() {
    let (mut file, reference, _) = example();
    for len in 0..file.len() {
        let shorter = SegmentRef { bytes: len as u64, ..reference };
        for reference in [reference, shorter] {
            assert!(matches!(read(&file[..len], &reference), Err(Fault::Corrupt { .. })), "{len}");
        }
    }
    file.push(0);
    assert!(matches!(read(&file, &reference), Err(Fault::Corrupt { .. })));
}

#[test]
fn a_segment_is_the_one_that_is_meant() {
    let (file, reference, _) = example();
    let others = [
        SegmentRef { sequence: 5, ..reference },
        SegmentRef { epoch: 1, ..reference },
        SegmentRef { table_checksum: 1, ..reference },
        SegmentRef { bytes: reference.bytes + UNIT, ..reference },
    ];
    for other in others {
        assert!(matches!(read(&file, &other), Err(Fault::Corrupt { .. })), "{other:?}");
    }
    assert_eq!(decode_segment(&file, ShardId(4), &reference).err(), Some(Fault::Shard(SHARD.0)));
}

fn manifest() -> Manifest {
    let (_, reference, _) = example();
    let segments = vec![SegmentRef { sequence: 2, ..reference }, reference];
    let owner = Owner { cluster: ClusterId(5), member: MemberId(6), log: LogId(7) };
    Manifest { owner, generation: 77, summary: Some(summary()), segments, blocks: 12, body_bytes: 3456 }
}

#[test]
fn a_manifest_is_read_as_it_was_written() {
    for unit in [512, 4096] {
        let bytes = manifest().encode(SHARD, unit);
        assert!(bytes.len().is_multiple_of(unit));
        assert_eq!(Manifest::decode(&bytes, SHARD), Ok(manifest()));
        assert_eq!(Manifest::decode(&bytes, ShardId(0)), Err(Fault::Shard(SHARD.0)));
    }
    let owner = Owner::default();
    let empty = Manifest { owner, generation: 0, summary: None, segments: vec![], blocks: 0, body_bytes: 0 };
    assert_eq!(Manifest::decode(&empty.encode(SHARD, 512), SHARD), Ok(empty));
}

#[test]
fn no_damaged_manifest_is_taken() {
    let bytes = manifest().encode(SHARD, 512);
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            match Manifest::decode(&damaged, SHARD) {
                Err(Fault::Corrupt { .. }) => {}
                Err(Fault::Version(_)) => assert!((8..12).contains(&at)),
                other => panic!("byte {at} {flip:#x}: {other:?}"),
            }
        }
        assert!(matches!(Manifest::decode(&bytes[..at], SHARD), Err(Fault::Corrupt { .. })), "{at}");
    }
}

/// The archived bytes are the format: a release of rkyv or a changed type must not change them unnoticed.
#[test]
fn the_bytes_are_those_of_version_3() {
    let (file, _, _) = example();
    assert_eq!((file.len(), crc32c::crc32c(&file)), (1024, SEGMENT_CHECKSUM));
    let bytes = manifest().encode(SHARD, 512);
    assert_eq!((bytes.len(), crc32c::crc32c(&bytes)), (512, MANIFEST_CHECKSUM));
    assert_eq!(HEADER_BYTES, 64);
    // A header that ends with its own checksum adds nothing to that of the file: it is held against the page here.
    let numbers = |header: &[u8], at: &[usize]| -> Vec<u64> {
        at.iter().map(|at| u64::from_le_bytes(*header[*at..].first_chunk().expect("within"))).collect()
    };
    assert_eq!(file[..16], *b"PINIONSG\x03\0\0\0\x03\0\0\0");
    assert_eq!(numbers(&file, &[16, 24, 32]), [6, 0xfeed, 0]);
    assert_eq!(bytes[..16], *b"PINIONSM\x03\0\0\0\x03\0\0\0");
    let archive = bytes.iter().rposition(|byte| *byte != 0).expect("an archive") as u64 + 1 - 64;
    let [cluster, member, log, length, size] = numbers(&bytes, &[16, 24, 32, 40, 48])[..] else {
        unreachable!("five were asked for")
    };
    assert_eq!((cluster, member, log, size), (5, 6, 7, 512));
    assert!((archive..archive + 8).contains(&length), "an archive of {length} or {archive} bytes");
}

const SEGMENT_CHECKSUM: u32 = 962_722_568;
const MANIFEST_CHECKSUM: u32 = 3_404_694_512;
