//! Two servers side by side, started empty: upstream etcd and the one under test. Each has several clients, every one with
//! a connection and, once it has logged in, a token of its own.

use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
    time::Duration,
};

use bench_harness::{oracle, process::Server};
use tonic::transport::{Channel, Endpoint};

use crate::tested;

use super::{
    call::{Answer, Call, Client},
    identity::Identity,
};

pub const CLIENTS: usize = 5;
/// Which client's calls carry no token, ever.
pub const NOBODY: usize = 0;
/// Upstream takes some seconds to let go of streams.
const GRACE: Duration = Duration::from_secs(20);
const OPTIONS: [&str; 1] = ["--unsafe-no-fsync"];

pub struct Connection {
    pub channel: Channel,
    client: Client,
    token: RefCell<Option<String>>,
}

impl Connection {
    pub fn token(&self) -> Option<String> {
        self.token.borrow().clone()
    }
}

pub struct Peer {
    pub server: Server,
    pub connections: Vec<Connection>,
    identity: Cell<Identity>,
}

impl Peer {
    /// Not synced, as these tests never cut the power.
    async fn start(program: PathBuf, data_dir: &Path, options: &[&str]) -> Result<Self, String> {
        let server = tested::launch(program, data_dir)
            .args(OPTIONS)
            .args(options.iter().copied())
            .start()
            .map_err(|error| error.to_string())?;
        let connections = connect(&server).await?;
        let identity = Identity::ask(connections[NOBODY].channel.clone()).await?;
        Ok(Self { server, connections, identity: Cell::new(identity) })
    }

    pub async fn answer(&self, client: usize, call: Call) -> Answer {
        let connection = &self.connections[client];
        let token = connection.token();
        let answer = connection.client.send(self.identity.get().localize(call), token.as_deref()).await;
        if let Answer::Authenticate(r) = &answer
            && client != NOBODY
        {
            *connection.token.borrow_mut() = Some(r.token.clone());
        }
        let mut identity = self.identity.get();
        identity.observe(&answer);
        self.identity.set(identity);
        identity.strip(answer)
    }

    /// Sends a call that may take its time: what it becomes is for `end`.
    pub fn begin(&self, client: usize, call: Call) -> tokio::task::JoinHandle<Answer> {
        let connection = &self.connections[client];
        let (client, token) = (connection.client.clone(), connection.token());
        tokio::spawn(async move { client.send(call, token.as_deref()).await })
    }

    pub fn end(&self, answer: Answer) -> Answer {
        self.identity.get().strip(answer)
    }

    /// Replaces what a client has for a token.
    pub fn give_token(&self, client: usize, token: Option<&str>) {
        *self.connections[client].token.borrow_mut() = token.map(str::to_owned);
    }

    /// Ends the server, in order or at once, and starts it again. Clients connect anew and keep their tokens.
    pub async fn restart(&mut self, in_order: bool) -> Result<(), String> {
        let tokens = self.connections.drain(..).map(|c| c.token.into_inner()).collect::<Vec<_>>();
        let ended = if in_order { self.server.terminate(GRACE) } else { self.server.kill() };
        ended.map_err(|error| error.to_string())?;
        self.server.start_again().map_err(|error| error.to_string())?;
        self.connections = connect(&self.server).await?;
        let identity = self.identity.get().again(self.connections[NOBODY].channel.clone()).await?;
        self.identity.set(identity);
        for (connection, token) in self.connections.iter().zip(tokens) {
            *connection.token.borrow_mut() = token;
        }
        Ok(())
    }

    /// Whether it still runs; if not, how it ended and what it said last.
    fn alive(&mut self) -> Result<(), String> {
        match self.server.exited() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let tail = self.server.log_tail().unwrap_or_else(|error| error.to_string());
                Err(format!(
                    "the server of {} ended ({status}); its last words:\n{tail}",
                    self.server.endpoint()
                ))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

async fn connect(server: &Server) -> Result<Vec<Connection>, String> {
    let endpoint = Endpoint::from_shared(server.endpoint()).map_err(|error| error.to_string())?;
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
        connections.push(Connection {
            client: Client::new(channel.clone()),
            channel,
            token: RefCell::default(),
        });
    }
    Ok(connections)
}

/// The data directories go with it.
pub struct Pair {
    pub upstream: Peer,
    pub tested: Peer,
    _directory: tempfile::TempDir,
}

impl Pair {
    pub async fn start() -> Result<Self, String> {
        Self::start_with(tested::program(), &[]).await
    }

    pub async fn start_with(tested: PathBuf, options: &[&str]) -> Result<Self, String> {
        let upstream = oracle::program("etcd").map_err(|missing| missing.to_string())?;
        let directory =
            tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
        Ok(Self {
            upstream: Peer::start(upstream, &directory.path().join("upstream"), options).await?,
            tested: Peer::start(tested, &directory.path().join("tested"), options).await?,
            _directory: directory,
        })
    }

    pub fn both(&self) -> [&Peer; 2] {
        [&self.upstream, &self.tested]
    }

    /// The same call to both at the same time: upstream's answer, then the other's.
    pub async fn answers(&self, client: usize, call: &Call) -> (Answer, Answer) {
        let upstream = self.upstream.answer(client, call.clone());
        let tested = self.tested.answer(client, call.clone());
        tokio::join!(upstream, tested)
    }

    pub async fn restart(&mut self, in_order: bool) -> Result<(), String> {
        self.upstream.restart(in_order).await?;
        self.tested.restart(in_order).await
    }

    pub fn alive(&mut self) -> Result<(), String> {
        self.upstream.alive()?;
        self.tested.alive()
    }
}
