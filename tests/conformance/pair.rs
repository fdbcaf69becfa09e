//! Two servers side by side, started empty: upstream etcd and the one under test.

use std::path::{Path, PathBuf};

use bench_harness::{oracle, process::Server};
use tonic::transport::Endpoint;

use crate::tested;

use super::{
    call::{Answer, Call, Client},
    identity::Identity,
};

pub struct Peer {
    pub server: Server,
    client: Client,
    identity: Identity,
}

impl Peer {
    /// Not synced, as these tests never cut the power.
    async fn start(program: PathBuf, data_dir: &Path) -> Result<Self, String> {
        let server = tested::launch(program, data_dir)
            .arg("--unsafe-no-fsync")
            .start()
            .map_err(|error| error.to_string())?;
        let endpoint = Endpoint::from_shared(server.endpoint()).map_err(|error| error.to_string())?;
        let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
        let identity = Identity::ask(channel.clone()).await?;
        Ok(Self { server, client: Client::new(channel), identity })
    }

    pub async fn answer(&self, call: Call) -> Answer {
        self.identity.strip(self.client.send(call).await)
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

/// The data directories go with it.
pub struct Pair {
    pub upstream: Peer,
    pub tested: Peer,
    _directory: tempfile::TempDir,
}

impl Pair {
    pub async fn start() -> Result<Self, String> {
        Self::start_with(tested::program()).await
    }

    pub async fn start_with(tested: PathBuf) -> Result<Self, String> {
        let upstream = oracle::program("etcd").map_err(|missing| missing.to_string())?;
        let directory =
            tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
        Ok(Self {
            upstream: Peer::start(upstream, &directory.path().join("upstream")).await?,
            tested: Peer::start(tested, &directory.path().join("tested")).await?,
            _directory: directory,
        })
    }

    /// The same call to both at the same time: upstream's answer, then the other's.
    pub async fn answers(&self, call: &Call) -> (Answer, Answer) {
        let upstream = self.upstream.answer(call.clone());
        let tested = self.tested.answer(call.clone());
        tokio::join!(upstream, tested)
    }

    pub fn alive(&mut self) -> Result<(), String> {
        self.upstream.alive()?;
        self.tested.alive()
    }
}
