//! Rows of the table of methods, as gRPC calls them.

use std::rc::Rc;

use futures_util::Stream;
use prost::Message;

use super::{Incoming, call::Calls};
use crate::{
    env::Env,
    protocol::exchange::Call,
    service::{self, Api, Caller, Error, Method, Outgoing, Requests},
    shard::AnswerReader,
    state::kv::Answer,
};

/// A method and how its calls begin.
pub struct Row {
    pub(super) service: &'static str,
    /// As it comes in: `/service/method`.
    pub(super) path: String,
    begin: Box<dyn Fn(Incoming) -> Call>,
}

impl Row {
    fn new(method: Method, begin: impl Fn(Incoming) -> Call + 'static) -> Self {
        let path = format!("/{}/{}", method.service, method.name);
        Self { service: method.service, path, begin: Box::new(begin) }
    }

    /// A call costs the one allocation for its future.
    pub(super) fn begin(&self, incoming: Incoming) -> Call {
        (self.begin)(incoming)
    }
}

/// Makes rows for one keyspace.
pub struct Codec<E> {
    env: E,
    api: Api,
}

impl<E: Env> Codec<E> {
    pub(in crate::protocol) fn new(env: &E, api: &Api) -> Self {
        Self { env: env.clone(), api: api.clone() }
    }

    fn calls(&self, method: Method, kind: &str) -> Rc<Calls<E>> {
        Rc::new(Calls::new(&self.env, &self.api, method, kind))
    }
}

impl<E: Env> service::Codec for Codec<E> {
    type Row = Row;

    fn unary<Q, R, H>(&self, method: Method, handler: H) -> Row
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        H: AsyncFn(&Api, &Caller, Q) -> Result<R, Error> + Copy + 'static,
    {
        let calls = self.calls(method, "unary");
        Row::new(method, move |incoming| Box::pin(calls.clone().unary(incoming, handler)))
    }

    fn long<Q, R, H>(&self, method: Method, handler: H) -> Row
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        H: AsyncFn(&Api, &Caller, Q) -> Result<Answer<R, AnswerReader>, Error> + Copy + 'static,
    {
        let calls = self.calls(method, "unary");
        Row::new(method, move |incoming| Box::pin(calls.clone().long(incoming, handler)))
    }

    fn server_stream<Q, R, S, H>(&self, method: Method, handler: H) -> Row
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        S: Stream<Item = Result<R, Error>> + 'static,
        H: Fn(&Api, &Caller, Q) -> Result<S, Error> + Copy + 'static,
    {
        let calls = self.calls(method, "server_stream");
        Row::new(method, move |incoming| Box::pin(calls.clone().server_stream(incoming, handler)))
    }

    fn long_stream<Q, R, S, H>(&self, method: Method, handler: H) -> Row
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        S: Stream<Item = Result<Answer<R, AnswerReader>, Error>> + 'static,
        H: Fn(&Api, &Caller, Q) -> Result<S, Error> + Copy + 'static,
    {
        let calls = self.calls(method, "server_stream");
        Row::new(method, move |incoming| Box::pin(calls.clone().long_stream(incoming, handler)))
    }

    fn both<Q, R, S, H>(&self, method: Method, handler: H) -> Row
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        S: Stream<Item = Result<R, Error>> + 'static,
        H: Fn(&Api, &Caller, Requests<Q>) -> Result<S, Error> + Copy + 'static,
    {
        let calls = self.calls(method, "bidi_stream");
        Row::new(method, move |incoming| Box::pin(calls.clone().both(incoming, handler)))
    }

    fn feed<Q, R, S, H>(&self, method: Method, handler: H) -> Row
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        S: Stream<Item = Result<Outgoing<R>, Error>> + 'static,
        H: Fn(&Api, &Caller, Requests<Q>) -> Result<S, Error> + Copy + 'static,
    {
        let calls = self.calls(method, "bidi_stream");
        Row::new(method, move |incoming| Box::pin(calls.clone().feed(incoming, handler)))
    }
}
