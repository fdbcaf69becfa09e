//! gRPC's message framing: a flag, a length, and a protobuf message, plain or compressed.

use std::io::{Read, Write};

use bytes::{Bytes, BytesMut};
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use prometheus::IntCounter;
use prost::Message;

use super::status::Status;
use crate::{limits, service::Code};

/// Compressed flag and length.
const PREFIX_BYTES: usize = 5;

/// Cuts a request's body into messages, and bounds them.
pub(super) struct Framing {
    max: usize,
    /// The client compresses with gzip where the flag says so.
    gzip: bool,
    received: IntCounter,
    /// What has arrived and was not cut off yet, of one frame; a message in more than one is gathered.
    arrived: Bytes,
    gathered: BytesMut,
    /// Flag and length of the message that is arriving.
    prefix: Option<(u8, usize)>,
}

impl Framing {
    pub(super) fn new(max: usize, gzip: bool, received: IntCounter) -> Self {
        Self { max, gzip, received, arrived: Bytes::new(), gathered: BytesMut::new(), prefix: None }
    }

    /// Takes a piece of the body. To be called only when there is no message left to cut.
    pub(super) fn add(&mut self, data: Bytes) {
        if self.gathered.is_empty() && self.arrived.is_empty() {
            self.arrived = data;
            return;
        }
        // Grows with what comes in: a length alone sets no memory aside.
        self.gathered.extend_from_slice(&std::mem::take(&mut self.arrived));
        self.gathered.extend_from_slice(&data);
    }

    /// The next message, if all of it has arrived.
    pub(super) fn cut(&mut self) -> Result<Option<Bytes>, Status> {
        let (flag, len) = match self.prefix {
            Some(prefix) => prefix,
            None => {
                let Some(prefix) = self.take(PREFIX_BYTES) else { return Ok(None) };
                self.check(&prefix)?
            }
        };
        self.prefix = Some((flag, len));
        let Some(message) = self.take(len) else { return Ok(None) };
        self.prefix = None;
        match flag {
            0 => Ok(Some(message)),
            _ => self.inflate(&message).map(Some),
        }
    }

    /// Bytes in memory of a message that is arriving.
    pub(super) fn held(&self) -> usize {
        let gathered = if self.gathered.is_empty() { 0 } else { self.gathered.capacity() };
        self.arrived.len() + gathered
    }

    /// Whether the body may end here.
    pub(super) fn is_between_messages(&self) -> bool {
        self.prefix.is_none() && self.arrived.is_empty() && self.gathered.is_empty()
    }

    fn take(&mut self, len: usize) -> Option<Bytes> {
        if !self.gathered.is_empty() {
            if self.gathered.len() < len {
                return None;
            }
            let taken = self.gathered.split_to(len).freeze();
            if self.gathered.is_empty() {
                // It would keep all the memory.
                self.gathered = BytesMut::new();
            }
            return Some(taken);
        }
        (self.arrived.len() >= len).then(|| self.arrived.split_to(len))
    }

    /// Codes and texts are grpc-go's, which clients know.
    fn check(&self, prefix: &[u8]) -> Result<(u8, usize), Status> {
        let [flag, length @ ..] = *prefix.first_chunk::<PREFIX_BYTES>().expect("a whole prefix");
        let (length, max) = (u32::from_be_bytes(length) as usize, self.max);
        if length > max {
            let text = format!("grpc: received message larger than max ({length} vs. {max})");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if flag > 1 {
            let text = format!("grpc: received unexpected payload format {flag}");
            return Err(Status::new(Code::Internal, text));
        }
        if flag == 1 && !self.gzip {
            let text = "grpc: compressed flag set with identity or empty encoding";
            return Err(Status::new(Code::Internal, text));
        }
        self.received.inc_by(length as u64);
        Ok((flag, length))
    }

    fn inflate(&self, message: &[u8]) -> Result<Bytes, Status> {
        let max = self.max;
        let mut plain = Vec::new();
        if let Err(error) = MultiGzDecoder::new(message).take(max as u64 + 1).read_to_end(&mut plain) {
            let text = format!("grpc: failed to decompress the received message: {error}");
            return Err(Status::new(Code::Internal, text));
        }
        if plain.len() > max {
            let text = format!("grpc: received message after decompression larger than max {max}");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        Ok(plain.into())
    }
}

/// A message with its prefix, ready to be sent. A long one is not compressed, which its flag says.
pub(super) fn framed<M: Message>(message: &M, len: usize, gzip: bool) -> Result<Bytes, Status> {
    let gzip = gzip && len <= limits::ZIPPED_BYTES_MAX;
    let plain = if gzip { [0; 4] } else { length(len)? };
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + len);
    bytes.resize(PREFIX_BYTES, 0);
    message.encode(&mut bytes).expect("a vector takes any message");
    assert_eq!(bytes.len(), PREFIX_BYTES + len, "the length was that of another message");
    if gzip {
        return compressed(&bytes[PREFIX_BYTES..]);
    }
    bytes[1..PREFIX_BYTES].copy_from_slice(&plain);
    Ok(bytes.into())
}

/// A message and more fields of it, compressed, with its prefix.
pub(super) fn framed_with<M: Message>(message: &M, rest: &[Bytes]) -> Result<Bytes, Status> {
    let mut bytes = message.encode_to_vec();
    rest.iter().for_each(|part| bytes.extend_from_slice(part));
    compressed(&bytes)
}

/// Appends what precedes a plain message of `len` bytes.
pub(super) fn begin_frame(len: usize, to: &mut Vec<u8>) -> Result<(), Status> {
    let length = length(len)?;
    to.push(0);
    to.extend_from_slice(&length);
    Ok(())
}

/// The message compressed, with its prefix.
fn compressed(message: &[u8]) -> Result<Bytes, Status> {
    let mut encoder = GzEncoder::new(vec![1, 0, 0, 0, 0], Compression::default());
    encoder.write_all(message).expect("a vector takes it all");
    let mut bytes = encoder.finish().expect("a vector takes it all");
    let sent = bytes.len() - PREFIX_BYTES;
    bytes[1..PREFIX_BYTES].copy_from_slice(&length(sent)?);
    Ok(bytes.into())
}

/// What precedes a plain message of `len` bytes.
pub(super) fn prefix(len: usize) -> Result<Bytes, Status> {
    let mut bytes = Vec::with_capacity(PREFIX_BYTES);
    begin_frame(len, &mut bytes)?;
    Ok(bytes.into())
}

fn length(sent: usize) -> Result<[u8; 4], Status> {
    let max = limits::SEND_MESSAGE_BYTES_MAX;
    if sent > max {
        let text = format!("grpc: trying to send message larger than max ({sent} vs. {max})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(u32::try_from(sent).expect("within the bound").to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb as pb;

    fn framing(max: usize, gzip: bool) -> Framing {
        Framing::new(max, gzip, IntCounter::new("received", "for the test").expect("a valid name"))
    }

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut zipping = GzEncoder::new(Vec::new(), Compression::default());
        zipping.write_all(bytes).expect("a vector takes it all");
        zipping.finish().expect("a vector takes it all")
    }

    fn messages(lengths: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for length in lengths {
            bytes.push(0);
            bytes.extend((*length as u32).to_be_bytes());
            bytes.extend(std::iter::repeat_n(0xff, *length));
        }
        bytes
    }

    #[test]
    fn frames_may_cut_messages_anywhere() {
        let lengths = [7, 0, 300, 1];
        let bytes = messages(&lengths);
        for step in 1..=bytes.len() {
            let mut framing = framing(300, false);
            let mut cut = Vec::new();
            for piece in bytes.chunks(step) {
                framing.add(Bytes::copy_from_slice(piece));
                while let Some(message) = framing.cut().expect("within the bound") {
                    assert!(message.iter().all(|byte| *byte == 0xff));
                    cut.push(message.len());
                }
            }
            assert_eq!(cut, lengths, "step {step}");
            assert!(framing.is_between_messages(), "step {step}");
            assert_eq!(framing.received.get(), 308, "step {step}");
        }
    }

    #[test]
    fn a_message_over_the_bound_is_refused_by_its_prefix() {
        let mut framing = framing(299, false);
        framing.add(Bytes::from(messages(&[299, 300])[..299 + 5 + 5].to_vec()));
        framing.cut().expect("within the bound").expect("a message");
        let status = framing.cut().expect_err("too large");
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(status.text, "grpc: received message larger than max (300 vs. 299)");
    }

    #[test]
    fn flags_without_a_meaning_are_refused() {
        for (flag, gzip) in [(1, false), (2, false), (2, true)] {
            let mut framing = framing(300, gzip);
            framing.add(Bytes::from(vec![flag, 0, 0, 0, 0]));
            assert_eq!(framing.cut().expect_err("refused").code, Code::Internal);
        }
    }

    #[test]
    fn compressed_messages_come_back_and_are_bounded() {
        let message =
            pb::PutRequest { key: "a".into(), value: vec![b'v'; 1000].into(), ..Default::default() };
        let sent = framed(&message, message.encoded_len(), true).expect("within the bound");
        assert!(sent[0] == 1 && sent.len() < 200, "compressed to {}", sent.len());
        let long =
            pb::PutRequest { value: vec![b'v'; limits::ZIPPED_BYTES_MAX].into(), ..Default::default() };
        let plain = framed(&long, long.encoded_len(), true).expect("within the bound");
        assert_eq!((plain[0], plain.len()), (0, PREFIX_BYTES + long.encoded_len()), "it would take too long");
        let mut roomy = framing(2000, true);
        roomy.add(sent.clone());
        let plain = roomy.cut().expect("sound").expect("complete");
        assert_eq!(pb::PutRequest::decode(plain).expect("sound"), message);
        let whole = message.encode_to_vec();
        let members = [zipped(&whole[..500]), zipped(&whole[500..])].concat();
        let mut parts = framing(2000, true);
        parts.add([&[1][..], &(members.len() as u32).to_be_bytes(), &members].concat().into());
        let plain = parts.cut().expect("sound").expect("complete");
        assert_eq!(
            pb::PutRequest::decode(plain).expect("sound"),
            message,
            "in two members, as Go reads them"
        );
        let mut tight = framing(500, true);
        tight.add(sent);
        assert_eq!(tight.cut().expect_err("a bomb").code, Code::ResourceExhausted);
        let mut broken = framing(500, true);
        broken.add(Bytes::from_static(b"\x01\0\0\0\x02no"));
        assert_eq!(broken.cut().expect_err("not gzip").code, Code::Internal);
    }
}
