//! What is written is read back, and nothing else is.

use proptest::{collection::vec, prelude::*};

use super::{super::format::*, header};
use crate::types::{LogIndex, MemberId, Term};

#[derive(Clone, Debug)]
enum Owned {
    Entry(u64, u64, u8, Vec<u8>),
    HardState(u64, u64, u64),
}

impl Owned {
    fn record(&self) -> Record<'_> {
        match self {
            Self::Entry(term, index, kind, data) => {
                Record::Entry { term: Term(*term), index: LogIndex(*index), kind: *kind, data }
            }
            Self::HardState(term, vote, commit) => {
                Record::HardState { term: Term(*term), vote: MemberId(*vote), commit: LogIndex(*commit) }
            }
        }
    }
}

fn owned() -> impl Strategy<Value = Owned> {
    prop_oneof![
        3 => (any::<u64>(), any::<u64>(), any::<u8>(), vec(any::<u8>(), 0..300))
            .prop_map(|(term, index, kind, data)| Owned::Entry(term, index, kind, data)),
        1 => any::<(u64, u64, u64)>().prop_map(|(term, vote, commit)| Owned::HardState(term, vote, commit)),
    ]
}

proptest! {
    #[test]
    fn records_round_trip(records in vec(owned(), 1..10), salt: u32) {
        let mut bytes = Vec::new();
        for owned in &records {
            let before = bytes.len();
            encode_record(owned.record(), &mut bytes);
            prop_assert_eq!(bytes.len() - before, owned.record().encoded_bytes());
        }
        prop_assert_eq!(seal_records(&mut bytes, salt) as usize, records.len());
        let mut rest = &bytes[..];
        for owned in &records {
            let (record, after) = decode_record(rest, salt).expect("the record is whole");
            prop_assert_eq!(record, owned.record());
            rest = after;
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn a_record_with_any_bit_flipped_or_another_salt_is_refused(owned in owned(), at: usize, salt: u32) {
        let mut bytes = Vec::new();
        encode_record(owned.record(), &mut bytes);
        seal_records(&mut bytes, salt);
        prop_assert!(decode_record(&bytes, salt ^ 1).is_none());
        let bit = at % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(decode_record(&bytes, salt).is_none());
    }

    #[test]
    fn a_batch_header_belongs_to_its_epoch(
        sequence in 1..u64::MAX, back in 1..u64::MAX, bytes: u32, records: u32, epoch: u64, bit in 0..384usize,
    ) {
        let durable = sequence - back.min(sequence);
        let batch = BatchHeader { sequence, durable, bytes, records };
        let mut encoded = batch.encode(epoch);
        prop_assert_eq!(BatchHeader::decode(&encoded, epoch), Some(batch));
        prop_assert_eq!(BatchHeader::decode(&encoded, epoch ^ 1), None);
        encoded[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(BatchHeader::decode(&encoded, epoch), None);
    }

    #[test]
    fn a_segment_header_with_any_bit_flipped_is_refused(epoch: u64, bit in 0..8 * SEGMENT_HEADER_BYTES) {
        let mut encoded = header(epoch).encode();
        prop_assert_eq!(SegmentHeader::decode(&encoded), Ok(header(epoch)));
        encoded[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(SegmentHeader::decode(&encoded).is_err());
    }

    #[test]
    fn noise_is_never_a_header_or_a_record(bytes in vec(any::<u8>(), 0..200), epoch: u64, salt: u32) {
        prop_assert!(SegmentHeader::decode(&bytes).is_err());
        prop_assert_eq!(BatchHeader::decode(&bytes, epoch), None);
        prop_assert!(decode_record(&bytes, salt).is_none());
    }
}

/// What `docs/log-format.md` draws.
#[test]
fn the_bytes_of_a_segment_header_are_those_of_version_3() {
    let encoded = header(0x0102_0304).encode();
    let mut expected = [0; 96];
    expected[..8].copy_from_slice(b"PINIONWL");
    expected[8] = 3;
    expected[12] = 3;
    expected[16] = 1;
    expected[24..28].copy_from_slice(&[4, 3, 2, 1]);
    expected[33] = 2;
    expected[41] = 0x80;
    (expected[48], expected[56], expected[64]) = (5, 6, 7);
    assert_eq!(encoded[..92], expected[..92]);
}

#[test]
fn another_version_is_named() {
    let mut encoded = header(1).encode();
    encoded[8] = 9;
    assert_eq!(SegmentHeader::decode(&encoded), Err(HeaderFault::Version(9)));
}
