//! The requests of a call that has more than one.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt};

use super::Error;

/// In order, up to the client's last. None is taken from the connection before it is asked for, so a handler that does
/// not ask holds its client up.
pub struct Requests<Q>(Pin<Box<dyn Stream<Item = Result<Q, Error>>>>);

impl<Q> Requests<Q> {
    pub fn new(requests: impl Stream<Item = Result<Q, Error>> + 'static) -> Self {
        Self(Box::pin(requests))
    }

    /// `None` once the client has said that there will be no more; it may still wait for answers. An error ends the call.
    pub async fn next(&mut self) -> Option<Result<Q, Error>> {
        self.0.next().await
    }
}

impl<Q> Stream for Requests<Q> {
    type Item = Result<Q, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}
