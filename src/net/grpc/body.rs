//! A request's body, refused as soon as a message in it announces more bytes than are allowed.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use prometheus::IntCounter;
use tonic::Status;

/// Compressed flag and length.
const PREFIX_BYTES: usize = 5;

/// Follows the message framing, counts the messages' bytes and bounds their length.
///
/// tonic has a bound of its own, but another code and text than grpc-go, which clients know.
pub(super) struct MessageBound {
    body: Incoming,
    framing: Framing,
}

impl MessageBound {
    pub(super) fn new(body: Incoming, max: usize, received: IntCounter) -> Self {
        Self { body, framing: Framing { max, received, prefix: [0; PREFIX_BYTES], prefix_len: 0, left: 0 } }
    }
}

impl Body for MessageBound {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref()
            && let Err(status) = self.framing.follow(data)
        {
            return Poll::Ready(Some(Err(status.into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Framing {
    max: usize,
    received: IntCounter,
    /// As much of the current message's prefix as has arrived.
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    /// Bytes of the current message that have not arrived.
    left: usize,
}

impl Framing {
    fn follow(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            let skip = self.left.min(data.len());
            self.left -= skip;
            data = &data[skip..];
            let missing = if self.left == 0 { PREFIX_BYTES - self.prefix_len } else { 0 };
            let take = missing.min(data.len());
            self.prefix[self.prefix_len..self.prefix_len + take].copy_from_slice(&data[..take]);
            self.prefix_len += take;
            data = &data[take..];
            if self.prefix_len == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                let length = u32::from_be_bytes(length) as usize;
                if length > self.max {
                    let max = self.max;
                    return Err(Status::resource_exhausted(format!(
                        "grpc: received message larger than max ({length} vs. {max})"
                    )));
                }
                self.received.inc_by(length as u64);
                self.left = length;
                self.prefix_len = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(max: usize) -> Framing {
        let received = IntCounter::new("received", "for the test").expect("a valid name");
        Framing { max, received, prefix: [0; PREFIX_BYTES], prefix_len: 0, left: 0 }
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
        for step in 1..bytes.len() {
            let mut framing = framing(300);
            for piece in bytes.chunks(step) {
                framing.follow(piece).expect("within the bound");
            }
            assert_eq!((framing.left, framing.prefix_len), (0, 0), "step {step}");
            assert_eq!(framing.received.get(), 308, "step {step}");
        }
    }

    #[test]
    fn a_message_over_the_bound_is_refused_by_its_prefix() {
        let mut framing = framing(299);
        let status = framing.follow(&messages(&[299, 300])[..299 + 5 + 5]).expect_err("too large");
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert_eq!(status.message(), "grpc: received message larger than max (300 vs. 299)");
    }
}
