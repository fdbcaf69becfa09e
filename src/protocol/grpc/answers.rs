//! The way back to a client: a whole answer, a long one in pieces, or a stream of them.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures_lite::future::or;
use http::StatusCode;

use super::status::{self, Status};
use crate::{
    client::Revoked,
    limits,
    protocol::exchange::{Gone, Reply, Sending},
    service::Error,
    shard::AnswerReader,
};

/// Why there is no (further) outcome of a call.
pub(super) enum Halt {
    /// The client is told.
    Status(Status),
    /// Nobody is left to be told.
    Gone,
}

impl From<Status> for Halt {
    fn from(status: Status) -> Self {
        Halt::Status(status)
    }
}

impl From<Revoked> for Halt {
    fn from(_: Revoked) -> Self {
        Halt::Status(Status::from(&Error::TooManyRequests))
    }
}

impl From<Gone> for Halt {
    fn from(_: Gone) -> Self {
        Halt::Gone
    }
}

/// Sends the one answer of a call.
pub(super) fn whole(reply: Reply, message: Bytes, gzip: bool) {
    let send = || {
        let mut sending = reply.begin(status::head(gzip))?;
        sending.queue(message, false)?;
        sending.trailers(status::success())
    };
    said(send());
}

/// Sends an answer piece by piece, each made once the client has room for some of it.
pub(super) async fn pieces(reply: Reply, prefix: Bytes, answer: AnswerReader, gzip: bool) {
    let send = async move {
        let mut sending = reply.begin(status::head(gzip))?;
        sending.queue(prefix, false)?;
        match all_pieces(&mut sending, answer).await {
            Ok(()) => sending.trailers(status::success()),
            // Of the message a part is sent already.
            Err(Halt::Status(status)) => sending.trailers(status.trailers()),
            Err(Halt::Gone) => Err(Gone),
        }
    };
    said(send.await);
}

async fn all_pieces(sending: &mut Sending, mut answer: AnswerReader) -> Result<(), Halt> {
    let (mut pieces, mut more) = (Vec::new(), true);
    while more {
        let revoked = async {
            answer.revoked().await;
            Err(Halt::from(Revoked))
        };
        let room = async { sending.room(limits::RANGE_PIECE_BYTES).await.map_err(Halt::from) };
        or(revoked, room).await?;
        let next = answer.next(limits::RANGE_PIECE_BYTES, &mut pieces).await;
        more = next.map_err(|error| Status::from(&Error::from(error)))?;
        for piece in pieces.drain(..) {
            sending.send(piece).await?;
        }
    }
    Ok(())
}

/// The way back of a stream: its head leaves with the first answer.
pub(super) enum Way {
    Closed(Reply),
    Open(Sending),
    /// The head could not be sent.
    Lost,
}

impl Way {
    /// Sends a message once the client has made room for it.
    pub(super) async fn send(&mut self, message: Bytes, gzip: bool) -> Result<(), Gone> {
        self.opened(gzip)?.send(message).await
    }

    /// The same for a long one, piece by piece.
    pub(super) async fn send_long(
        &mut self,
        prefix: Bytes,
        answer: AnswerReader,
        gzip: bool,
    ) -> Result<(), Halt> {
        let sending = self.opened(gzip)?;
        sending.send(prefix).await?;
        all_pieces(sending, answer).await
    }

    /// Ends the stream, well or not.
    pub(super) fn end(mut self, ended: Result<(), &Status>, gzip: bool) {
        let sent = match ended {
            Ok(()) => self.opened(gzip).map(drop).and_then(|()| self.trailers(status::success())),
            Err(status) => match self {
                Way::Closed(reply) => return refuse(reply, status),
                Way::Open(_) => self.trailers(status.trailers()),
                Way::Lost => return,
            },
        };
        said(sent);
    }

    fn trailers(self, trailers: http::HeaderMap) -> Result<(), Gone> {
        match self {
            Way::Open(sending) => sending.trailers(trailers),
            Way::Closed(_) | Way::Lost => Err(Gone),
        }
    }

    fn opened(&mut self, gzip: bool) -> Result<&mut Sending, Gone> {
        if let Way::Closed(_) = self
            && let Way::Closed(reply) = std::mem::replace(self, Way::Lost)
        {
            *self = Way::Open(reply.begin(status::head(gzip))?);
        }
        match self {
            Way::Open(sending) => Ok(sending),
            Way::Closed(_) | Way::Lost => Err(Gone),
        }
    }

    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Gone> {
        match self {
            Way::Closed(reply) => reply.poll_gone(context),
            Way::Open(sending) => sending.poll_gone(context),
            Way::Lost => Poll::Ready(Gone),
        }
    }
}

/// Ends a call that has not been answered yet.
pub(super) fn end(reply: Reply, halt: Halt) {
    match halt {
        Halt::Status(status) => refuse(reply, &status),
        Halt::Gone => {}
    }
}

/// Ends a call without success.
pub(super) fn refuse(reply: Reply, status: &Status) {
    said(reply.finish(status.head()));
}

/// Ends what is no call: with a code of HTTP too.
pub(super) fn refuse_as(reply: Reply, http: StatusCode, status: &Status) {
    let mut head = status.head();
    *head.status_mut() = http;
    said(reply.finish(head));
}

/// A client need not wait for its answer.
fn said(sent: Result<(), Gone>) {
    if let Err(Gone) = sent {
        tracing::debug!("the client did not wait for an answer");
    }
}
