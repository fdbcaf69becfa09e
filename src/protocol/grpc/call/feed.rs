//! Answers of which many go out at once, and which share what they have in common.
//!
//! All that are ready leave in one piece of data, each of them framed; short parts are copied there, long ones are sent from
//! where they lie. Nothing more is asked for before the client has made room.

use std::{future::poll_fn, pin::pin, rc::Rc, task::Poll};

use bytes::Bytes;
use futures_lite::future::yield_now;
use futures_util::Stream;
use prost::Message;

use super::Calls;
use crate::{
    env::Env,
    limits,
    protocol::grpc::{
        Incoming,
        answers::{Halt, Way, refuse},
        framing::{begin_frame, framed_with},
        status::Status,
    },
    service::{Api, Caller, Error, Outgoing, Requests},
};

/// A part of a message that is longer is not copied.
const COPIED_BYTES: usize = 4 * 1024;

/// What is to be sent next.
#[derive(Default)]
struct Batch {
    closed: Vec<Bytes>,
    open: Vec<u8>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, part: Bytes) {
        self.bytes += part.len();
        if part.len() <= COPIED_BYTES {
            self.open.extend_from_slice(&part);
        } else {
            self.close();
            self.closed.push(part);
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed.push(std::mem::take(&mut self.open).into());
        }
    }

    async fn send(&mut self, way: &mut Way, gzip: bool) -> Result<(), Halt> {
        self.close();
        for part in self.closed.drain(..) {
            way.send(part, gzip).await?;
        }
        self.bytes = 0;
        Ok(())
    }
}

impl<E: Env> Calls<E> {
    /// Runs a handler that answers messages with messages which others are sent, too.
    pub(in crate::protocol::grpc) async fn feed<Q, R, S>(
        self: Rc<Self>,
        incoming: Incoming,
        handler: impl Fn(&Api, &Caller, Requests<Q>) -> Result<S, Error>,
    ) where
        Q: Message + Default + 'static,
        R: Message,
        S: Stream<Item = Result<Outgoing<R>, Error>>,
    {
        let Some((begun, answers)) = self.begin_both(incoming, handler).await else { return };
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                let status = Status::from(&error);
                begun.running.end(status.code);
                return refuse(begun.reply, &status);
            }
        };
        let mut way = Way::Closed(begun.reply);
        let gzip = begun.asked.gzip_answers;
        let sent = self.in_time(begun.timer, &begun.caller, self.send_feed(answers, gzip, &mut way)).await;
        begun.running.finish(sent, way, gzip);
    }

    /// Sends all answers, as many at a time as there are.
    async fn send_feed<R: Message>(
        &self,
        answers: impl Stream<Item = Result<Outgoing<R>, Error>>,
        gzip: bool,
        way: &mut Way,
    ) -> Result<(), Halt> {
        let mut answers = pin!(answers);
        let mut batch = Batch::default();
        loop {
            let next = poll_fn(|context| match answers.as_mut().poll_next(context) {
                Poll::Ready(next) => Poll::Ready(Ok(Some(next))),
                Poll::Pending if batch.bytes > 0 => Poll::Ready(Ok(None)),
                Poll::Pending => way.poll_gone(context).map(Err),
            });
            match next.await? {
                Some(Some(Ok(answer))) => self.add(answer, gzip, &mut batch)?,
                Some(Some(Err(error))) => {
                    batch.send(way, gzip).await?;
                    return Err(Status::from(&error).into());
                }
                Some(None) => return batch.send(way, gzip).await,
                None => {
                    batch.send(way, gzip).await?;
                    continue;
                }
            }
            if batch.bytes >= limits::FEED_BATCH_BYTES {
                batch.send(way, gzip).await?;
                // Other calls of the connection have their turn.
                yield_now().await;
            }
        }
    }

    fn add<R: Message>(&self, answer: Outgoing<R>, gzip: bool, batch: &mut Batch) -> Result<(), Status> {
        match answer {
            Outgoing::Message(message, rest) => {
                let len = message.encoded_len() + rest.iter().map(Bytes::len).sum::<usize>();
                if gzip && len <= limits::ZIPPED_BYTES_MAX {
                    batch.push(framed_with(&message, &rest)?);
                } else {
                    self.begin(&message, len, batch)?;
                    rest.into_iter().for_each(|part| batch.push(part));
                }
                self.count(len);
            }
            Outgoing::Begin(message, rest) => {
                let len = message.encoded_len() + rest;
                self.begin(&message, len, batch)?;
                self.count(len);
            }
            Outgoing::Piece(parts) => parts.into_iter().for_each(|part| batch.push(part)),
        }
        Ok(())
    }

    /// Prefix and first part of a message that is `len` bytes long.
    fn begin<R: Message>(&self, message: &R, len: usize, batch: &mut Batch) -> Result<(), Status> {
        let before = batch.open.len();
        begin_frame(len, &mut batch.open)?;
        message.encode(&mut batch.open).expect("a vector takes any message");
        batch.bytes += batch.open.len() - before;
        Ok(())
    }
}
