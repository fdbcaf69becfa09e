//! One segment in memory: where it ends, torn or damaged anywhere.

use proptest::{collection::vec, prelude::*};

use super::{
    super::{
        format::*,
        scan::{End, Scan, Step},
    },
    header,
};
use crate::types::{LogIndex, MemberId, Term};

const UNIT: usize = 512;
const BATCH_MAX: u64 = 16 * UNIT as u64;

/// A segment full of what was there before.
struct Image {
    bytes: Vec<u8>,
    header: SegmentHeader,
    position: usize,
    batch: u64,
}

impl Image {
    fn new(epoch: u64, before: Option<&Image>) -> Self {
        let header = header(epoch);
        let mut bytes =
            before.map_or_else(|| vec![0; header.segment_bytes as usize], |old| old.bytes.clone());
        bytes[..SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode());
        Self { bytes, header, position: UNIT, batch: 1 }
    }

    fn fits(&self, records: &[Vec<u8>]) -> bool {
        let bytes: usize = records.iter().map(|data| RECORD_HEADER_BYTES + data.len()).sum();
        self.position + (BATCH_HEADER_BYTES + bytes).next_multiple_of(UNIT) <= self.bytes.len()
    }

    /// Writes one batch and returns its padded range.
    fn push(&mut self, records: &[Vec<u8>]) -> std::ops::Range<usize> {
        let mut payload = Vec::new();
        for data in records {
            let record = Record::Entry { term: Term(1), index: LogIndex(self.batch), kind: 0, data };
            encode_record(record, &mut payload);
        }
        let epoch = self.header.epoch;
        let count = seal_records(&mut payload, salt(epoch, self.batch));
        let batch = BatchHeader {
            sequence: self.batch,
            durable: self.batch - 1,
            bytes: payload.len() as u32,
            records: count,
        };
        let end = self.position + (BATCH_HEADER_BYTES + payload.len()).next_multiple_of(UNIT);
        let range = self.position..end;
        let target = &mut self.bytes[range.clone()];
        target.fill(0);
        target[..BATCH_HEADER_BYTES].copy_from_slice(&batch.encode(epoch));
        target[BATCH_HEADER_BYTES..][..payload.len()].copy_from_slice(&payload);
        self.position = end;
        self.batch += 1;
        range
    }
}

fn scan(bytes: &[u8], header: SegmentHeader) -> (Vec<Vec<u8>>, End) {
    let mut scan = Scan::new(header, Some(1), BATCH_MAX);
    let mut seen = Vec::new();
    loop {
        let step = scan.step(|record| {
            if let Record::Entry { data, .. } = record {
                seen.push(data.to_vec());
            }
            Ok(())
        });
        match step.expect("the replay takes everything") {
            Step::Read { offset, bytes: len } => scan.supply(&bytes[offset as usize..][..len]),
            Step::Batch => {}
            Step::End(end) => return (seen, end),
        }
    }
}

fn batches() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    vec(vec(vec(any::<u8>(), 0..900), 1..4), 1..8)
}

proptest! {
    #[test]
    fn every_torn_prefix_is_cut_and_everything_before_is_kept(batches in batches(), keep: u64, old_epoch: bool) {
        let mut before = Image::new(7, None);
        while before.fits(&[vec![9; 700]]) {
            before.push(&[vec![9; 700]]);
        }
        let mut image = Image::new(8, old_epoch.then_some(&before));
        for records in &batches[..batches.len() - 1] {
            image.push(records);
        }
        let without = image.bytes.clone();
        let kept: Vec<Vec<u8>> = batches[..batches.len() - 1].concat();
        let range = image.push(&batches[batches.len() - 1]);
        let sectors = range.len() / UNIT;
        for prefix in 0..sectors {
            let mut torn = without.clone();
            torn[range.start..][..prefix * UNIT].copy_from_slice(&image.bytes[range.start..][..prefix * UNIT]);
            check_torn(&torn, &image, &kept, &range, prefix > 0)?;
        }
        // Any other subset of the sectors: one of them is missing for sure.
        let mut torn = image.bytes.clone();
        let missing = (keep % sectors as u64) as usize;
        for sector in (0..sectors).filter(|sector| *sector == missing || keep >> (sector % 64) & 1 == 0) {
            let at = range.start + sector * UNIT;
            torn[at..at + UNIT].copy_from_slice(&without[at..at + UNIT]);
        }
        let unchanged = torn == image.bytes;
        if !unchanged && torn[range.clone()] != image.bytes[range.clone()] && !only_padding(&torn, &image, &range) {
            check_torn(&torn, &image, &kept, &range, torn[range.start..][..4] == *b"PBAT")?;
        }
        let (seen, end) = scan(&image.bytes, image.header);
        prop_assert_eq!(seen, batches.concat());
        prop_assert_eq!((end.tail, end.torn, end.evidence), (range.end as u64, false, None));
        prop_assert_eq!(end.next_batch, batches.len() as u64 + 1);
    }

    #[test]
    fn damage_before_the_tail_is_seen_and_damage_of_the_tail_is_cut(
        batches in batches(), victim: usize, bit: usize,
    ) {
        let mut image = Image::new(8, None);
        let ranges: Vec<_> = batches.iter().map(|records| image.push(records)).collect();
        let victim = victim % batches.len();
        let bytes = BATCH_HEADER_BYTES
            + batches[victim].iter().map(|data| RECORD_HEADER_BYTES + data.len()).sum::<usize>();
        let bit = bit % (bytes * 8);
        image.bytes[ranges[victim].start + bit / 8] ^= 1 << (bit % 8);
        let (seen, end) = scan(&image.bytes, image.header);
        prop_assert_eq!(seen, batches[..victim].concat());
        prop_assert_eq!(end.tail, ranges[victim].start as u64);
        let next = ranges.get(victim + 1).map(|range| range.start as u64);
        prop_assert_eq!(end.evidence, next);
    }

    #[test]
    fn records_of_an_earlier_use_are_never_replayed(old in batches(), new in batches()) {
        let mut before = Image::new(7, None);
        for records in &old {
            before.push(records);
        }
        let mut image = Image::new(8, Some(&before));
        let (seen, end) = scan(&image.bytes, image.header);
        prop_assert!(seen.is_empty());
        prop_assert_eq!((end.tail, end.torn, end.evidence), (UNIT as u64, false, None));
        for records in &new {
            image.push(records);
        }
        let (seen, end) = scan(&image.bytes, image.header);
        prop_assert_eq!(seen, new.concat());
        prop_assert_eq!(end.evidence, None);
    }

    #[test]
    fn pieces_of_a_torn_batch_never_pass_for_parts_of_later_ones(
        lost in batches(), kept in batches(), sectors: u64, opening in 0..2usize,
    ) {
        // Two batches with records at the same places, so that only the salt tells their pieces apart.
        let same = |byte: u8| lost[0].iter().map(|data| vec![byte; data.len()]).collect::<Vec<_>>();
        let mut image = Image::new(8, None);
        image.push(&kept[0]);
        let clean = image.bytes.clone();
        let (tail, batch) = (image.position, image.batch);
        let torn = image.push(&same(1));
        for sector in (0..torn.len() / UNIT).filter(|sector| sectors >> (sector % 64) & 1 == 0) {
            let at = torn.start + sector * UNIT;
            image.bytes[at..at + UNIT].copy_from_slice(&clean[at..at + UNIT]);
        }
        // The log goes on with a batch in one sector, then with one over the pieces, torn likewise.
        (image.position, image.batch) = (tail, batch);
        let opened = image.push(&vec![vec![0; 8]; opening]);
        prop_assert_eq!(opened.len(), UNIT);
        let before = image.bytes.clone();
        let next = image.push(&same(2));
        for sector in (0..next.len() / UNIT).filter(|sector| sectors >> (sector % 64) & 1 == 1) {
            let at = next.start + sector * UNIT;
            image.bytes[at..at + UNIT].copy_from_slice(&before[at..at + UNIT]);
        }
        let mut expected = kept[0].clone();
        expected.extend(vec![vec![0; 8]; opening]);
        let (seen, end) = scan(&image.bytes, image.header);
        prop_assert_eq!(end.evidence, None);
        prop_assert_eq!(&seen[..expected.len()], &expected[..]);
        let rest = &seen[expected.len()..];
        prop_assert!(rest.is_empty() || rest == same(2));
    }

    #[test]
    fn any_bytes_after_a_header_are_taken_without_a_panic(noise in vec(any::<u8>(), 0..4096), at: usize) {
        let mut image = Image::new(8, None);
        image.push(&[vec![1; 100]]);
        let at = UNIT + at % (image.bytes.len() - UNIT - noise.len());
        image.bytes[at..at + noise.len()].copy_from_slice(&noise);
        scan(&image.bytes, image.header);
    }
}

fn check_torn(
    torn: &[u8],
    image: &Image,
    kept: &[Vec<u8>],
    range: &std::ops::Range<usize>,
    begun: bool,
) -> Result<(), TestCaseError> {
    let (seen, end) = scan(torn, image.header);
    prop_assert_eq!(&seen[..], kept);
    prop_assert_eq!(end.tail, range.start as u64);
    prop_assert_eq!(end.evidence, None);
    prop_assert!(!end.torn || begun);
    Ok(())
}

/// The missing sectors held padding only, or what was there before: the batch is whole.
fn only_padding(torn: &[u8], image: &Image, range: &std::ops::Range<usize>) -> bool {
    let batch = BatchHeader::decode(&torn[range.start..], image.header.epoch);
    batch.is_some_and(|batch| {
        let end = range.start + BATCH_HEADER_BYTES + batch.bytes as usize;
        torn[range.start..end] == image.bytes[range.start..end]
    })
}

#[test]
fn the_first_batch_of_a_cut_log_may_have_any_number_but_must_be_there() {
    let mut image = Image::new(8, None);
    image.batch = 40;
    image.push(&[vec![1; 10]]);
    let mut first = Scan::new(image.header, None, BATCH_MAX);
    let Ok(Step::Read { offset, bytes }) = first.step(|_| Ok(())) else { panic!("it needs bytes") };
    first.supply(&image.bytes[offset as usize..][..bytes]);
    assert_eq!(first.step(|_| Ok(())).expect("whole"), Step::Batch);
    let Ok(Step::End(end)) = first.step(|_| Ok(())) else { panic!("there is one batch") };
    assert_eq!(end.next_batch, 41);

    let (seen, end) = scan(&image.bytes, image.header);
    assert!(seen.is_empty());
    assert_eq!(end.evidence, Some(UNIT as u64), "batch 40 proves that batch 1 is missing");
    assert_eq!(end.tail, UNIT as u64);
}

#[test]
fn a_hard_state_is_small_enough_for_any_unit() {
    let record = Record::HardState { term: Term(1), vote: MemberId(2), commit: LogIndex(3) };
    assert!(BATCH_HEADER_BYTES + record.encoded_bytes() <= UNIT_BYTES_MIN);
}
