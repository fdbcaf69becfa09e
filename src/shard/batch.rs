//! What one Raft entry carries: the requests of one turn, in the order they arrived.
//!
//! ```text
//! +-----------+-----------+-----------+-------------------------------+
//! | origin u64| first u64 | count u32 | count x ( length u32 | request)|     all little-endian
//! +-----------+-----------+-----------+-------------------------------+
//! ```
//!
//! `origin` names the member's run that proposed the entry and `first` numbers its first request
//! within that run, so a reply finds its caller and an entry from another run finds none.

use bytes::{Buf, Bytes};

use crate::state::{DecodeError, Request};

const HEADER_BYTES: usize = 20;
const LENGTH_BYTES: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    #[error("a batch of {0} bytes is cut short")]
    Short(usize),
    #[error("a batch has bytes after its last request")]
    Trailing,
    #[error(transparent)]
    Request(#[from] DecodeError),
}

/// A batch being filled.
pub struct Builder {
    bytes: Vec<u8>,
    count: u32,
}

impl Builder {
    /// Bytes of a batch without requests.
    pub const HEADER_BYTES: usize = HEADER_BYTES;

    /// Bytes that [`Builder::push`] will add.
    pub fn cost(request: &Request) -> usize {
        LENGTH_BYTES + request.encoded_len()
    }

    /// An empty batch; `capacity` bytes are set aside for its requests.
    pub fn new(origin: u64, first: u64, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + capacity);
        bytes.extend_from_slice(&origin.to_le_bytes());
        bytes.extend_from_slice(&first.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        Builder { bytes, count: 0 }
    }

    pub fn push(&mut self, request: &Request) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        request.encode(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - at - LENGTH_BYTES).expect("requests are bounded");
        self.bytes[at..at + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        self.count += 1;
    }

    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the requests, framing included.
    pub fn bytes(&self) -> usize {
        self.bytes.len() - HEADER_BYTES
    }

    pub fn finish(mut self) -> Bytes {
        self.bytes[16..HEADER_BYTES].copy_from_slice(&self.count.to_le_bytes());
        Bytes::from(self.bytes)
    }
}

/// A batch read back; an iterator over its requests, which share the entry's memory.
#[derive(Debug)]
pub struct Batch {
    pub origin: u64,
    pub first: u64,
    left: u32,
    rest: Bytes,
}

impl Batch {
    pub fn decode(mut bytes: Bytes) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Short(bytes.len()));
        }
        let (origin, first, left) = (bytes.get_u64_le(), bytes.get_u64_le(), bytes.get_u32_le());
        Ok(Batch { origin, first, left, rest: bytes })
    }

    fn take(&mut self) -> Result<Request, BatchError> {
        if self.rest.len() < LENGTH_BYTES {
            return Err(BatchError::Short(self.rest.len()));
        }
        let length = self.rest.get_u32_le() as usize;
        if self.rest.len() < length {
            return Err(BatchError::Short(self.rest.len()));
        }
        Ok(Request::decode(self.rest.split_to(length))?)
    }
}

impl Iterator for Batch {
    type Item = Result<Request, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let trailing = !self.rest.is_empty();
            self.rest.clear();
            return trailing.then_some(Err(BatchError::Trailing));
        }
        self.left -= 1;
        let taken = self.take();
        if taken.is_err() {
            (self.left, self.rest) = (0, Bytes::new());
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb as pb;

    fn put(i: usize) -> Request {
        Request::Put(pb::PutRequest {
            key: format!("k{i}").into(),
            value: vec![b'v'; i].into(),
            ..Default::default()
        })
    }

    #[test]
    fn a_batch_comes_back_as_it_was() {
        let mut builder = Builder::new(7, 100, 64);
        (0..50).for_each(|i| builder.push(&put(i)));
        let batch = Batch::decode(builder.finish()).unwrap();
        assert_eq!((batch.origin, batch.first), (7, 100));
        let requests: Vec<_> = batch.map(Result::unwrap).collect();
        assert_eq!(requests, (0..50).map(put).collect::<Vec<_>>());
    }

    #[test]
    fn a_damaged_batch_is_an_error_and_ends() {
        let mut builder = Builder::new(7, 100, 64);
        (0..3).for_each(|i| builder.push(&put(i)));
        let whole = builder.finish();
        for cut in 0..whole.len() {
            let read = Batch::decode(whole.slice(..cut)).map(|b| b.collect::<Result<Vec<_>, _>>());
            assert!(!matches!(read, Ok(Ok(_))), "cut at {cut}");
        }
        let longer = Bytes::from([&whole[..], b"x"].concat());
        assert!(Batch::decode(longer).unwrap().any(|r| matches!(r, Err(BatchError::Trailing))));
    }
}
