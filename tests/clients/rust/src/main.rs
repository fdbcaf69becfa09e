//! The Rust client `etcd-client` against one member. See ../../../clients.rs for how it is called and what it says.

mod auth;
mod kv;
mod lease;
mod lock;
mod watch;

use std::{
    io::BufRead,
    time::{Duration, Instant},
};

use etcd_client::{Client, ConnectOptions, Error};

/// How long anything may take that is meant to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the server is, and how to reach it.
#[derive(Clone)]
struct Member(String);

impl Member {
    async fn connect(&self, options: ConnectOptions) -> Result<Client, Error> {
        Client::connect([&self.0], Some(options.with_timeout(PATIENCE))).await
    }

    /// Has the server end and start again on the same address: `restart` in order, `kill` at once.
    fn order(&self, order: &str) {
        println!("{order}");
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).expect("read an answer");
        assert!(!answer.is_empty(), "nobody answers");
    }
}

/// What must be refused, and how.
#[track_caller]
fn refused<T>(outcome: Result<T, Error>, text: &str) {
    match outcome {
        Ok(_) => panic!("expected {text:?}, got an answer"),
        Err(Error::GRpcStatus(status)) => assert_eq!(status.message(), text),
        Err(other) => panic!("expected {text:?}, got {other}"),
    }
}

/// Calls until the server, which ended, answers again.
async fn served<T>(mut call: impl AsyncFnMut() -> Result<T, Error>) -> T {
    let since = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(since.elapsed() < PATIENCE, "no answer within {PATIENCE:?}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut words = std::env::args().skip(1);
    let member = Member(words.next().expect("an endpoint"));
    for name in words {
        let since = Instant::now();
        let client = member.connect(ConnectOptions::new()).await?;
        match name.as_str() {
            "kv" => kv::kv(client).await?,
            "txn" => kv::txn(client).await?,
            "watch" => watch::watch(member.clone(), client).await?,
            "lease" => lease::lease(member.clone(), client).await?,
            "lock" => lock::lock(member.clone(), client).await?,
            "auth" => auth::auth(member.clone(), client).await?,
            _ => panic!("no part {name}"),
        }
        println!("{name} ok, {:.1} s", since.elapsed().as_secs_f32());
    }
    Ok(())
}
