//! Who calls, and what they ask for beside the request.

use std::{net::SocketAddr, rc::Rc};

use super::Word;
use crate::{client::Client, env::Instant};

/// One call's caller. Making one allocates nothing where there is no token.
#[derive(Clone)]
pub struct Caller {
    pub connection: Rc<Connection>,
    /// What proves who it is, as the client sent it; see [`Api::who`](super::Api::who).
    pub token: Option<Rc<str>>,
    /// Nobody waits any longer than that.
    pub deadline: Option<Instant>,
    /// Not to be served by a member that has lost its cluster (`hasleader`).
    pub needs_leader: bool,
}

/// What all calls of a connection have in common.
#[derive(Debug, Default)]
pub struct Connection {
    pub peer: Option<SocketAddr>,
    /// The common name of the client's certificate.
    pub certificate: Option<Rc<str>>,
    pub stopping: Word,
    /// What is held for whoever is at the other end.
    pub client: Client,
}

impl Caller {
    /// Word that the server is stopping, which whatever lasts as long as its client likes has to end with.
    pub fn stopping(&self) -> &Word {
        &self.connection.stopping
    }

    pub fn client(&self) -> &Client {
        &self.connection.client
    }
}
