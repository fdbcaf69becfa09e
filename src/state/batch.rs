//! What one log entry carries: the commands of one turn in the order they were admitted, each in an envelope that says
//! who asked.
//!
//! ```text
//! +-----------+--------+------------+---------+-----------+-----------+----------------------+
//! | version u8| 0 x 3  | member u64 | run u64 | first u64 | count u32 | count x envelope     |   all little-endian
//! +-----------+--------+------------+---------+-----------+-----------+----------------------+
//!
//! +-----------+----------+----------+- - - - - - - - - - - - - - - - -+---------+
//! | length u32| kind u16 | user u16 | auth revision u64 | name (user) | command |
//! +-----------+----------+----------+- - - - - - - - - - - - - - - - -+---------+
//! ```
//!
//! `length` counts what follows it; revision and name are there if `user`, the length of the name, is not 0. A request's
//! identity is the member that proposed it, that member's run, and its number within the run: `first` for the first
//! one, and so on. So an answer finds its caller, and an entry from another run finds none.

use bytes::{Buf, Bytes};

use super::command::{Command, Principal};
use crate::types::{Level, MemberId};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 32;
const LENGTH_BYTES: usize = 4;
/// Kind, and length of the user's name.
const FIXED_BYTES: usize = 4;
const AUTH_REVISION_BYTES: usize = 8;

/// An entry that cannot be applied, so that the member cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("a batch of {0} bytes is cut short")]
    Short(usize),
    #[error("a batch has bytes after its last command")]
    Trailing,
    #[error("a batch has bytes where there should be none")]
    Reserved,
    #[error(
        "it is of version {0}, which this release does not know: start the release that wrote it, or a newer one"
    )]
    Version(u8),
    #[error(
        "it holds a command of kind {0}, which this release does not know: start the release that wrote it, or a \
         newer one"
    )]
    Kind(u16),
    #[error(
        "the cluster has gone on to commands of level {0}, which this release does not know: start the release that \
         this member ran before, or a newer one"
    )]
    Level(Level),
    #[error("a command cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// Which run of which member proposed something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub member: MemberId,
    /// Random per run.
    pub run: u64,
}

/// A batch being filled.
pub struct Builder {
    bytes: Vec<u8>,
    count: u32,
}

impl Builder {
    /// Bytes of a batch without commands.
    pub const HEADER_BYTES: usize = HEADER_BYTES;

    /// Bytes that [`Builder::push`] will add.
    pub fn cost(principal: &Principal, command: &impl Command) -> usize {
        LENGTH_BYTES + envelope_bytes(principal, command)
    }

    /// An empty batch; `capacity` bytes are set aside for its commands.
    pub fn new(origin: Origin, first: u64, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + capacity);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&origin.member.0.to_le_bytes());
        bytes.extend_from_slice(&origin.run.to_le_bytes());
        bytes.extend_from_slice(&first.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        assert_eq!(bytes.len(), HEADER_BYTES);
        Builder { bytes, count: 0 }
    }

    pub fn push<C: Command>(&mut self, principal: &Principal, command: &C) {
        let length = u32::try_from(envelope_bytes(principal, command)).expect("commands are bounded");
        let user = u16::try_from(principal.user.len()).expect("names are bounded");
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&C::KIND.number.to_le_bytes());
        self.bytes.extend_from_slice(&user.to_le_bytes());
        if user > 0 {
            self.bytes.extend_from_slice(&principal.auth_revision.to_le_bytes());
            self.bytes.extend_from_slice(&principal.user);
        }
        command.encode(&mut self.bytes).expect("a vector takes any message");
        self.count += 1;
    }

    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the commands, framing included.
    pub fn bytes(&self) -> usize {
        self.bytes.len() - HEADER_BYTES
    }

    pub fn finish(mut self) -> Bytes {
        self.bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&self.count.to_le_bytes());
        Bytes::from(self.bytes)
    }

    /// A batch of one command that nobody waits for.
    pub fn single(command: &impl Command) -> Bytes {
        let principal = Principal::default();
        let mut builder = Builder::new(Origin::default(), 0, Self::cost(&principal, command));
        builder.push(&principal, command);
        builder.finish()
    }
}

fn envelope_bytes(principal: &Principal, command: &impl Command) -> usize {
    let user = match principal.user.len() {
        0 => 0,
        name => AUTH_REVISION_BYTES + name,
    };
    FIXED_BYTES + user + command.encoded_len()
}

/// A batch read back; an iterator over its envelopes, which share the entry's memory.
#[derive(Debug)]
pub struct Batch {
    pub origin: Origin,
    pub first: u64,
    left: u32,
    rest: Bytes,
}

/// One command, not decoded yet.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub principal: Principal,
    pub(super) kind: u16,
    /// The command's message.
    pub body: Bytes,
}

impl Batch {
    pub fn decode(mut bytes: Bytes) -> Result<Self, BatchError> {
        match bytes.first() {
            Some(&VERSION) => {}
            Some(other) => return Err(BatchError::Version(*other)),
            None => return Err(BatchError::Short(0)),
        }
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Short(bytes.len()));
        }
        if bytes[1..4] != [0; 3] {
            return Err(BatchError::Reserved);
        }
        bytes.advance(4);
        let origin = Origin { member: MemberId(bytes.get_u64_le()), run: bytes.get_u64_le() };
        let (first, left) = (bytes.get_u64_le(), bytes.get_u32_le());
        Ok(Batch { origin, first, left, rest: bytes })
    }

    fn take(&mut self) -> Result<Envelope, BatchError> {
        let short = BatchError::Short(self.rest.len());
        let Some((length, _)) = self.rest.split_first_chunk() else { return Err(short) };
        let length = u32::from_le_bytes(*length) as usize;
        self.rest.advance(LENGTH_BYTES);
        if self.rest.len() < length || length < FIXED_BYTES {
            return Err(short);
        }
        let mut body = self.rest.split_to(length);
        let (kind, user) = (body.get_u16_le(), usize::from(body.get_u16_le()));
        let mut principal = Principal::default();
        if user > 0 {
            if body.len() < AUTH_REVISION_BYTES + user {
                return Err(short);
            }
            principal.auth_revision = body.get_u64_le();
            principal.user = body.split_to(user);
        }
        Ok(Envelope { principal, kind, body })
    }
}

impl Iterator for Batch {
    type Item = Result<Envelope, BatchError>;

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
    use prost::Message;

    use super::*;
    use crate::{
        pb::etcdserverpb as pb,
        state::{Commands, Outcome, StateMachine},
    };

    const ORIGIN: Origin = Origin { member: MemberId(7), run: 9 };

    fn put(i: usize) -> pb::PutRequest {
        pb::PutRequest { key: format!("k{i}").into(), value: vec![b'v'; i].into(), ..Default::default() }
    }

    fn principal(i: usize) -> Principal {
        match i % 2 {
            0 => Principal::default(),
            _ => Principal { user: format!("user{i}").into(), auth_revision: i as u64 },
        }
    }

    fn batch(count: usize) -> Bytes {
        let mut builder = Builder::new(ORIGIN, 100, 64);
        for i in 0..count {
            let (bytes, cost) = (builder.bytes(), Builder::cost(&principal(i), &put(i)));
            builder.push(&principal(i), &put(i));
            assert_eq!(builder.bytes(), bytes + cost);
        }
        builder.finish()
    }

    #[test]
    fn a_batch_comes_back_as_it_was() {
        let batch = Batch::decode(batch(50)).unwrap();
        assert_eq!((batch.origin, batch.first), (ORIGIN, 100));
        let envelopes: Vec<_> = batch.map(Result::unwrap).collect();
        assert_eq!(envelopes.len(), 50);
        for (i, envelope) in envelopes.into_iter().enumerate() {
            assert_eq!(envelope.principal, principal(i));
            assert_eq!(envelope.row(Commands::default()).unwrap().kind, pb::PutRequest::KIND);
            assert_eq!(pb::PutRequest::decode(envelope.body), Ok(put(i)));
        }
    }

    #[test]
    fn a_damaged_batch_is_an_error_and_ends() {
        let whole = batch(4);
        for cut in 0..whole.len() {
            let read = Batch::decode(whole.slice(..cut)).map(|b| b.collect::<Result<Vec<_>, _>>());
            assert!(!matches!(read, Ok(Ok(_))), "cut at {cut}");
        }
        let longer = Bytes::from([&whole[..], b"x"].concat());
        assert!(Batch::decode(longer).unwrap().any(|r| matches!(r, Err(BatchError::Trailing))));
    }

    #[test]
    fn what_a_newer_release_wrote_is_refused_by_name() {
        let mut bytes = batch(1).to_vec();
        bytes[HEADER_BYTES + LENGTH_BYTES..][..2].copy_from_slice(&999u16.to_le_bytes());
        let envelope = Batch::decode(bytes.clone().into()).unwrap().next().unwrap().unwrap();
        let error = envelope.apply(&mut StateMachine::new(), &mut Outcome::default()).unwrap_err();
        assert_eq!(error, BatchError::Kind(999));
        assert!(error.to_string().contains("newer one"));
        bytes[0] = 2;
        assert_eq!(Batch::decode(bytes.clone().into()).unwrap_err(), BatchError::Version(2));
        bytes[..2].copy_from_slice(&[VERSION, 1]);
        assert_eq!(Batch::decode(bytes.into()).unwrap_err(), BatchError::Reserved);
    }
}
