//! Cost of the log's bytes: encoding and sealing a batch, and reading a segment back.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pinion::{
    storage::wal::{
        Record,
        format::{BATCH_HEADER_BYTES, BatchHeader, SegmentHeader, encode_record, salt, seal_records},
        scan::{Scan, Step},
    },
    types::{LogIndex, MemberId, Owner, ShardId, Term},
};

const EPOCH: u64 = 7;
const UNIT: usize = 4096;
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;

/// What the shard logs in one turn: an entry and a hard state.
fn batch(data: &[u8], records: &mut Vec<u8>) {
    encode_record(Record::Entry { term: Term(1), index: LogIndex(9), kind: 0, data }, records);
    encode_record(Record::HardState { term: Term(1), vote: MemberId(1), commit: LogIndex(8) }, records);
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal_encode_and_seal");
    for bytes in [300, 16 * 1024, 256 * 1024] {
        let data = vec![0x5a; bytes];
        let mut records = Vec::with_capacity(bytes + 1024);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{bytes} B"), |bencher| {
            bencher.iter(|| {
                records.clear();
                batch(black_box(&data), &mut records);
                seal_records(&mut records, salt(EPOCH, 3))
            });
        });
    }
    group.finish();
}

fn segment(entry_bytes: usize) -> (SegmentHeader, Vec<u8>) {
    let header = SegmentHeader {
        shard: ShardId(0),
        owner: Owner::default(),
        sequence: 1,
        epoch: EPOCH,
        unit: UNIT as u32,
        segment_bytes: SEGMENT_BYTES as u64,
    };
    let (mut bytes, data) = (vec![0; UNIT], vec![0x5a; entry_bytes]);
    for sequence in 1.. {
        let mut records = Vec::new();
        batch(&data, &mut records);
        let count = seal_records(&mut records, salt(EPOCH, sequence));
        let end = (bytes.len() + BATCH_HEADER_BYTES + records.len()).next_multiple_of(UNIT);
        if end > SEGMENT_BYTES {
            break;
        }
        let length = records.len() as u32;
        let batch = BatchHeader { sequence, durable: sequence - 1, bytes: length, records: count };
        bytes.extend_from_slice(&batch.encode(EPOCH));
        bytes.extend_from_slice(&records);
        bytes.resize(end, 0);
    }
    bytes.resize(SEGMENT_BYTES, 0);
    (header, bytes)
}

fn recover(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal_scan_segment");
    group.throughput(Throughput::Bytes(SEGMENT_BYTES as u64));
    for entry_bytes in [300, 16 * 1024] {
        let (header, bytes) = segment(entry_bytes);
        group.bench_function(format!("entries of {entry_bytes} B"), |bencher| {
            bencher.iter_batched(
                || Scan::new(header, Some(1), header.segment_bytes / 4),
                |mut scan| {
                    let mut records = 0;
                    loop {
                        let step = scan.step(|_| {
                            records += 1;
                            Ok(())
                        });
                        match step.expect("the replay takes everything") {
                            Step::Read { offset, bytes: len } => {
                                scan.supply(&bytes[offset as usize..][..len]);
                            }
                            Step::Batch => {}
                            Step::End(_) => return records,
                        }
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, encode, recover);
criterion_main!(benches);
