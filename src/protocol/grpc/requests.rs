//! The messages that a client sends in one call.

use std::{
    future::{Future, poll_fn},
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use prost::Message;

use super::{answers::Halt, deadline::is_over, framing::Framing, status::Status};
use crate::{
    client::{Charge, Claim, Client, Revoked},
    limits, metrics,
    protocol::{
        exchange::Body,
        timers::{Timer, Timers},
    },
    service::{Code, Error, Method},
};

/// As bytes. No more of the body is read than the next one needs, and what has come of it is claimed until the rest has.
///
/// Between messages a client may take its time; within one, or with the only one, it is given up if nothing comes any
/// more. A timer runs only while there is something to wait for, and looks once in a while whether anything came.
pub(super) struct Messages {
    body: Body,
    framing: Framing,
    timers: Timers,
    timer: Option<Timer>,
    /// Something came since the timer was set.
    heard: bool,
    /// The call consists of one message.
    only: bool,
    claim: Claim,
}

impl Messages {
    pub(super) fn new(body: Body, framing: Framing, timers: Timers, client: &Client) -> Self {
        Self { body, framing, timers, timer: None, heard: false, only: false, claim: client.claim() }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Halt>> {
        loop {
            if let Some(message) = self.framing.cut()? {
                return Poll::Ready(Ok(Some(message)));
            }
            self.claim.set(self.framing.held())?;
            if let Poll::Ready(Revoked) = self.claim.poll_revoked(context) {
                return Poll::Ready(Err(Revoked.into()));
            }
            let Poll::Ready(data) = self.body.poll_data(context) else {
                return self.poll_late(context).map(Err);
            };
            match data {
                Some(data) => {
                    self.heard = true;
                    self.framing.add(data?);
                }
                None if self.framing.is_between_messages() => return Poll::Ready(Ok(None)),
                None => {
                    let text = "grpc: the request ended within a message";
                    return Poll::Ready(Err(Status::new(Code::Internal, text).into()));
                }
            }
        }
    }

    /// Ready when nothing has come for too long.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Halt> {
        if !self.only && self.framing.is_between_messages() {
            self.timer = None;
            return Poll::Pending;
        }
        loop {
            if self.timer.is_none() {
                self.heard = false;
            }
            let timer = self.timer.get_or_insert_with(|| self.timers.sleep(limits::MESSAGE_WAIT));
            ready!(timer.as_mut().poll(context));
            self.timer = None;
            if !self.heard {
                let text = "grpc: the request has stopped within a message";
                return Poll::Ready(Status::new(Code::DeadlineExceeded, text).into());
            }
        }
    }

    /// The one message of a call that has one, and what a long one is counted with; any more are skipped. `look` is shown it
    /// as it came. Once the client's own `timer` is over, it is not waited for.
    ///
    /// Borrows what is large: each async function has room for all of its arguments, and again for where they are moved to.
    pub(super) async fn only<Q: Message + Default>(
        &mut self,
        method: &Method,
        timer: &mut Option<impl Future<Output = ()> + Unpin>,
        look: impl FnOnce(&[u8]),
    ) -> Result<(Q, Option<Charge>), Halt> {
        self.only = true;
        let Some(first) = poll_fn(|context| self.poll_in_time(timer, context)).await? else {
            return Err(Status::new(Code::Internal, "grpc: the request has no message").into());
        };
        look(&first);
        let mut charge = None;
        if first.len() > limits::CALL_BYTES {
            self.claim.set(first.len())?;
            let rest = self.claim.client().claim();
            charge = Some(std::mem::replace(&mut self.claim, rest).settle());
        }
        let message = Q::decode(first.clone()).map_err(|_| match (method.undecodable)(&first) {
            Some(error) => Status::from(&error),
            None => undecodable(),
        })?;
        while poll_fn(|context| self.poll_in_time(timer, context)).await?.is_some() {}
        Ok((message, charge))
    }

    fn poll_in_time(
        &mut self,
        timer: &mut Option<impl Future<Output = ()> + Unpin>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Halt>> {
        match self.poll_next(context) {
            Poll::Pending if is_over(timer, context) => {
                Poll::Ready(Err(Status::from(&Error::DeadlineExceeded).into()))
            }
            next => next,
        }
    }

    /// All of them, each decoded once it is asked for.
    pub(super) fn decoded<Q>(self, counts: Arc<metrics::Method>) -> Decoded<Q> {
        Decoded { messages: Some(self), counts, _message: PhantomData }
    }
}

/// In grpc-go's words. The decoder's own would name each message on the way to what it could not read.
fn undecodable() -> Status {
    let text = "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data";
    Status::new(Code::Internal, text)
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
                Some(Q::decode(message).map_err(|_| undecodable().into()))
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
