//! The messages that a client sends in one call.

use std::{
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use prost::Message;

use super::{answers::Halt, asked::Asked, framing::Framing, status::Status};
use crate::{
    metrics,
    protocol::exchange::Body,
    service::{Code, Error},
};

/// As bytes. No more of the body is read than the next one needs.
pub(super) struct Messages {
    body: Body,
    framing: Framing,
}

impl Messages {
    pub(super) fn new(body: Body, framing: Framing) -> Self {
        Self { body, framing }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Halt>> {
        loop {
            if let Some(message) = self.framing.cut()? {
                return Poll::Ready(Ok(Some(message)));
            }
            match ready!(self.body.poll_data(context)) {
                Some(data) => self.framing.add(data?),
                None if self.framing.is_between_messages() => return Poll::Ready(Ok(None)),
                None => {
                    let text = "grpc: the request ended within a message";
                    return Poll::Ready(Err(Status::new(Code::Internal, text).into()));
                }
            }
        }
    }

    /// The one message of a call that has one; any more are skipped.
    pub(super) async fn only<Q: Message + Default>(
        mut self,
        asked: Result<Asked, Status>,
    ) -> Result<(Asked, Q), Halt> {
        let asked = asked?;
        let Some(first) = poll_fn(|context| self.poll_next(context)).await? else {
            return Err(Status::new(Code::Internal, "grpc: the request has no message").into());
        };
        let message = decode(first)?;
        while poll_fn(|context| self.poll_next(context)).await?.is_some() {}
        Ok((asked, message))
    }

    /// All of them, each decoded once it is asked for.
    pub(super) fn decoded<Q>(self, counts: Arc<metrics::Method>) -> Decoded<Q> {
        Decoded { messages: Some(self), counts, _message: PhantomData }
    }
}

fn decode<Q: Message + Default>(message: Bytes) -> Result<Q, Status> {
    Q::decode(message)
        .map_err(|error| Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}")))
}

/// See [`Messages::decoded`].
pub(super) struct Decoded<Q> {
    /// None after the end or an error.
    messages: Option<Messages>,
    counts: Arc<metrics::Method>,
    _message: PhantomData<fn() -> Q>,
}

impl<Q: Message + Default> Stream for Decoded<Q> {
    type Item = Result<Q, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(messages) = &mut self.messages else { return Poll::Ready(None) };
        let next = match ready!(messages.poll_next(context)) {
            Ok(None) => None,
            Ok(Some(message)) => {
                self.counts.received.inc();
                Some(decode(message).map_err(Error::from))
            }
            Err(Halt::Status(status)) => Some(Err(status.into())),
            Err(Halt::Gone) => Some(Err(Error::Canceled)),
        };
        if !matches!(next, Some(Ok(_))) {
            self.messages = None;
        }
        Poll::Ready(next)
    }
}
