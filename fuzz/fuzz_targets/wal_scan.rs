//! Recovery of one segment: any bytes end in a tail inside the segment, in bounded memory.
//!
//! The input is a list of commands that write batches (whole, torn or with a damaged byte) and noise into
//! the segment, because random bytes alone never get past a checksum.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion::{
    storage::wal::{
        Record,
        format::{
            BATCH_HEADER_BYTES, BatchHeader, SegmentHeader, batch_bytes_max, encode_record, salt,
            seal_records,
        },
        scan::{End, Scan, Step},
    },
    types::{LogIndex, Owner, ShardId, Term},
};

const UNIT: usize = 512;
const SEGMENT_BYTES: usize = 128 * UNIT;
const EPOCH: u64 = 7;

fuzz_target!(|input: &[u8]| {
    let header = SegmentHeader {
        shard: ShardId(0),
        owner: Owner::default(),
        sequence: 1,
        epoch: EPOCH,
        unit: UNIT as u32,
        segment_bytes: SEGMENT_BYTES as u64,
    };
    let mut segment = vec![0; SEGMENT_BYTES];
    let (mut position, mut batch, mut whole) = (UNIT, 1, true);
    let mut expected = 0;
    for command in input.chunks(4) {
        let &[what, size, at, flip] = command else { break };
        let bytes = write_batch(&mut segment, position, batch, usize::from(size) * 8);
        let Some(bytes) = bytes else { break };
        match what % 8 {
            0 => segment[position + usize::from(at) * bytes / 256..][..1][0] ^= flip,
            1 => segment[position + usize::from(at) % (bytes / UNIT) * UNIT..][..UNIT].fill(flip),
            2 => segment[position..position + input.len().min(bytes)]
                .copy_from_slice(&input[..input.len().min(bytes)]),
            _ if whole => expected += 1,
            _ => {}
        }
        whole &= what % 8 > 2;
        position += bytes;
        batch += 1;
    }
    let (batches, end) = scan(&segment, header);
    assert!(batches >= expected, "{batches} of {expected} whole batches");
    assert_eq!(batches, end.batches);
    assert!(end.tail % UNIT as u64 == 0 && (UNIT as u64..=SEGMENT_BYTES as u64).contains(&end.tail));
    assert!(end.evidence.is_none_or(|offset| offset >= end.tail));
});

fn write_batch(segment: &mut [u8], position: usize, batch: u64, payload: usize) -> Option<usize> {
    let mut records = Vec::new();
    let data = vec![batch as u8; payload];
    encode_record(
        Record::Entry { term: Term(1), index: LogIndex(batch), kind: 0, data: &data },
        &mut records,
    );
    let count = seal_records(&mut records, salt(EPOCH, batch));
    let header =
        BatchHeader { sequence: batch, durable: batch - 1, bytes: records.len() as u32, records: count };
    let bytes = (BATCH_HEADER_BYTES + records.len()).next_multiple_of(UNIT);
    let target = segment.get_mut(position..position + bytes)?;
    target[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode(EPOCH));
    target[BATCH_HEADER_BYTES..][..records.len()].copy_from_slice(&records);
    Some(bytes)
}

fn scan(segment: &[u8], header: SegmentHeader) -> (u64, End) {
    let mut scan = Scan::new(header, Some(1), batch_bytes_max(header.segment_bytes));
    let mut batches = 0;
    loop {
        match scan.step(|_| Ok(())).expect("the replay takes everything") {
            Step::Read { offset, bytes } => scan.supply(&segment[offset as usize..][..bytes]),
            Step::Batch => batches += 1,
            Step::End(end) => return (batches, end),
        }
    }
}
