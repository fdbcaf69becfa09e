//! What goes over a connection between members, byte by byte.
//!
//! ```text
//! preface  8 bytes, of whoever made the connection: 89 "PINION" 0a
//! then, both ways, records:
//!   0  u32  length of the payload
//!   4  u32  crc32c of bytes 8..16 and the payload, started with the length
//!   8  u8   kind
//!   9  u8   flags: 1 the frame ends here, 2 its lane is that of entries
//!  10  u16  zero
//!  12  u32  shard
//!  16       payload
//! ```
//!
//! All numbers are little-endian. A frame that is longer than a part goes in several records, between which those of the
//! other lane may come: a heartbeat does not wait for the end of a long entry. Nothing here does I/O.

use bytes::Bytes;

use crate::{env::Lane, limits, types::ShardId};

/// What a connection begins with: no HTTP request does, and no TLS.
pub const PREFACE: &[u8; 8] = b"\x89PINION\n";

pub const HEADER_BYTES: usize = 16;

const ENDS: u8 = 1;
const ENTRIES: u8 = 2;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Hello` of `link.proto`, as the others of the same name.
    Hello = 1,
    Answer = 2,
    /// A part of a frame of a shard.
    Frame = 3,
    /// Eight bytes that come back as an echo.
    Probe = 4,
    Echo = 5,
    Offer = 6,
    Want = 7,
    /// What was wanted, in the order in which it was.
    Piece = 8,
    Done = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::*;
        [Hello, Answer, Frame, Probe, Echo, Offer, Want, Piece, Done]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }

    /// The longest payload there is.
    fn most(self) -> usize {
        match self {
            Kind::Hello => limits::PEER_HELLO_BYTES,
            Kind::Answer | Kind::Probe | Kind::Echo | Kind::Want | Kind::Done => 1_024,
            Kind::Frame => limits::PEER_PART_BYTES,
            Kind::Offer => limits::PEER_OFFER_BYTES,
            Kind::Piece => limits::CHECKPOINT_PIECE_BYTES,
        }
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: Kind,
    /// Of frames: it is the last part.
    pub ends: bool,
    /// Of frames.
    pub lane: Lane,
    /// Of frames; 0 of others.
    pub shard: ShardId,
    pub payload: Bytes,
}

impl Record {
    /// One that is no part of a frame.
    pub fn new(kind: Kind, payload: impl Into<Bytes>) -> Self {
        Record { kind, ends: true, lane: Lane::Signals, shard: ShardId(0), payload: payload.into() }
    }

    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let Record { kind, ends, lane, shard, payload } = self;
        assert!(payload.len() <= kind.most(), "{kind:?} of {} bytes", payload.len());
        let length = (payload.len() as u32).to_le_bytes();
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = flag(*ends, ENDS) | flag(*lane == Lane::Entries, ENTRIES);
        let mut told = [0; 8];
        told[0] = *kind as u8;
        told[1] = flags;
        told[4..].copy_from_slice(&shard.0.to_le_bytes());
        out.extend_from_slice(&length);
        out.extend_from_slice(&checksum(&length, &told, payload).to_le_bytes());
        out.extend_from_slice(&told);
        out.extend_from_slice(payload);
    }
}

/// Why what came is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a record of {0} bytes, more than members send")]
    TooLong(usize),
    #[error("a record of kind {0}, which this version does not know")]
    Kind(u8),
    #[error(
        "a record whose checksum is wrong: the network, or a machine on the way, changes what it carries"
    )]
    Checksum,
    #[error(
        "an HTTP answer: the other end may be an etcd, and all members of a cluster must be of the same kind"
    )]
    Http,
}

/// How many bytes the record that `bytes` begin with has, or how many it takes to know.
pub fn needed(bytes: &[u8]) -> Result<usize, WireError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(HEADER_BYTES) };
    if header.starts_with(b"HTTP/1.") {
        return Err(WireError::Http);
    }
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let kind = Kind::from_byte(header[8]).ok_or(WireError::Kind(header[8]))?;
    if length > kind.most() {
        return Err(WireError::TooLong(length));
    }
    Ok(HEADER_BYTES + length)
}

/// The record that these bytes are, all of them.
pub fn decode(bytes: &[u8]) -> Result<Record, WireError> {
    let (header, payload) = bytes.split_first_chunk::<HEADER_BYTES>().expect("as many as are needed");
    let (length, rest) = header.split_first_chunk::<4>().expect("a header is longer");
    let (sum, told) = rest.split_first_chunk::<4>().expect("a header is longer");
    let told: &[u8; 8] = told.try_into().expect("what is left of a header");
    if checksum(length, told, payload) != u32::from_le_bytes(*sum) {
        return Err(WireError::Checksum);
    }
    Ok(Record {
        kind: Kind::from_byte(told[0]).ok_or(WireError::Kind(told[0]))?,
        ends: told[1] & ENDS != 0,
        lane: if told[1] & ENTRIES != 0 { Lane::Entries } else { Lane::Signals },
        shard: ShardId(u32::from_le_bytes([told[4], told[5], told[6], told[7]])),
        payload: Bytes::copy_from_slice(payload),
    })
}

fn checksum(length: &[u8; 4], told: &[u8; 8], payload: &[u8]) -> u32 {
    let sum = crc32c::crc32c_append(crc32c::crc32c(length), told);
    crc32c::crc32c_append(sum, payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode_into(&mut bytes);
        bytes
    }

    fn record() -> impl Strategy<Value = Record> {
        let kind = (1..=9u8).prop_map(|byte| Kind::from_byte(byte).expect("a kind"));
        let lane = any::<bool>().prop_map(|is_long| if is_long { Lane::Entries } else { Lane::Signals });
        let payload = proptest::collection::vec(any::<u8>(), 0..1_024).prop_map(Bytes::from);
        (kind, any::<bool>(), lane, any::<u32>(), payload).prop_map(|(kind, ends, lane, shard, payload)| {
            Record { kind, ends, lane, shard: ShardId(shard), payload }
        })
    }

    proptest! {
        #[test]
        fn a_record_comes_back(record in record()) {
            let bytes = encoded(&record);
            for cut in 0..bytes.len().min(HEADER_BYTES) {
                prop_assert_eq!(needed(&bytes[..cut]), Ok(HEADER_BYTES));
            }
            prop_assert_eq!(needed(&bytes), Ok(bytes.len()));
            prop_assert_eq!(decode(&bytes), Ok(record));
        }

        #[test]
        fn a_changed_bit_is_noticed(record in record(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut bytes = encoded(&record);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // What only claims to be longer is found out once that has come.
            let is_wrong = match needed(&bytes) {
                Ok(length) if length == bytes.len() => decode(&bytes).is_err(),
                _ => true,
            };
            prop_assert!(is_wrong);
        }

        #[test]
        fn anything_is_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), HEADER_BYTES..64)) {
            if let Ok(length) = needed(&bytes)
                && length <= bytes.len()
            {
                prop_assert!(decode(&bytes[..length]).is_ok() || decode(&bytes[..length]).is_err());
            }
        }
    }

    #[test]
    fn a_connection_to_something_else_is_found_out() {
        assert_eq!(needed(b"HTTP/1.1 400 Bad Request\r\n"), Err(WireError::Http));
        let mut bytes = encoded(&Record::new(Kind::Probe, b"12345678".as_slice()));
        bytes[8] = 77;
        assert_eq!(needed(&bytes), Err(WireError::Kind(77)));
        bytes[8] = Kind::Probe as u8;
        bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(needed(&bytes), Err(WireError::TooLong(u32::MAX as usize)));
        for other in [b"GET /rai".as_slice(), b"PRI * HT", b"POST /ra", b"\x16\x03\x01\x00\x00\x00\x00\x00"] {
            assert_ne!(PREFACE[0], other[0], "told apart by its first byte");
        }
    }
}
