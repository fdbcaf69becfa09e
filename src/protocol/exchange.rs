//! One request over HTTP/2: its body as it comes in, and the answer on its way out. The driver in `net` makes both.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Response};

use crate::{
    client::{Charge, Client},
    limits,
};

/// A call, from its request's head to its answer.
pub(crate) type Call = Pin<Box<dyn Future<Output = ()>>>;

/// The client has reset the stream, or the connection is gone: nobody waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Self {
        Gone
    }
}

/// A piece of an answer; counted until h2 has handed it to the socket or gives it up.
pub(crate) struct Payload {
    bytes: Bytes,
    _charge: Charge,
}

impl Payload {
    fn new(client: &Client, bytes: Bytes) -> Self {
        Self { _charge: client.owe(bytes.len()), bytes }
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// The body of a request. What is read makes room for more, and nothing else does: a client may send as much as its
/// window says and then waits for whoever should read.
pub(crate) struct Body(RecvStream);

impl Body {
    /// The next piece, `None` at the end; trailers are nobody's business.
    pub(crate) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        let Some(data) = ready!(self.0.poll_data(context)) else { return Poll::Ready(None) };
        let data = data?;
        self.0.flow_control().release_capacity(data.len())?;
        Poll::Ready(Some(Ok(data)))
    }
}

/// The way back to the client, before anything was sent.
pub(crate) struct Reply {
    stream: SendResponse<Payload>,
    call: Charge,
}

impl Reply {
    /// The call is counted until its answer is under way.
    pub(crate) fn new(stream: SendResponse<Payload>, client: &Client) -> Self {
        Self { stream, call: client.charge(limits::CALL_BYTES) }
    }

    pub(crate) fn client(&self) -> &Client {
        self.call.client()
    }

    /// Ready when the client no longer wants an answer.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Gone> {
        self.stream.poll_reset(context).map(|_| Gone)
    }

    /// The whole answer: a head without a body.
    pub(crate) fn finish(mut self, head: Response<()>) -> Result<(), Gone> {
        self.stream.send_response(head, true)?;
        Ok(())
    }

    /// A head that a body follows.
    pub(crate) fn begin(mut self, head: Response<()>) -> Result<Sending, Gone> {
        let stream = self.stream.send_response(head, false)?;
        Ok(Sending { stream, call: self.call })
    }
}

/// An answer whose head is sent.
pub(crate) struct Sending {
    stream: SendStream<Payload>,
    call: Charge,
}

impl Sending {
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Gone> {
        self.stream.poll_reset(context).map(|_| Gone)
    }

    /// Queues all of `body`, which leaves as the client takes it. For what is in memory anyway.
    pub(crate) fn queue(&mut self, mut body: Bytes, last: bool) -> Result<(), Gone> {
        while body.len() > limits::DATA_QUEUED_BYTES_MAX {
            let piece = body.split_to(limits::DATA_QUEUED_BYTES_MAX);
            self.stream.send_data(Payload::new(self.call.client(), piece), false)?;
        }
        self.stream.send_data(Payload::new(self.call.client(), body), last)?;
        Ok(())
    }

    /// Waits until the client has room for some of a piece that would be `bytes` long.
    pub(crate) async fn room(&mut self, bytes: usize) -> Result<(), Gone> {
        self.stream.reserve_capacity(bytes);
        while self.stream.capacity() == 0 {
            poll_fn(|context| self.stream.poll_capacity(context)).await.ok_or(Gone)??;
        }
        Ok(())
    }

    /// Queues `body` piece by piece, as the client makes room. For what has more to follow.
    pub(crate) async fn send(&mut self, mut body: Bytes) -> Result<(), Gone> {
        let client = self.call.client().clone();
        let mut waiting = Some(client.owe(body.len()));
        while !body.is_empty() {
            self.stream.reserve_capacity(body.len());
            let mut room = self.stream.capacity();
            if room == 0 {
                room = poll_fn(|context| self.stream.poll_capacity(context)).await.ok_or(Gone)??;
            }
            let piece = body.split_to(room.min(body.len()));
            // What was sent counts by itself, what waits counts on.
            drop(waiting.take());
            self.stream.send_data(Payload::new(&client, piece), false)?;
            if !body.is_empty() {
                waiting = Some(client.owe(body.len()));
            }
        }
        Ok(())
    }

    /// Ends the answer.
    pub(crate) fn trailers(mut self, trailers: HeaderMap) -> Result<(), Gone> {
        self.stream.send_trailers(trailers)?;
        Ok(())
    }
}

impl From<RecvStream> for Body {
    fn from(stream: RecvStream) -> Self {
        Self(stream)
    }
}
