//! What to run. The same value is parsed from flags and built by `compare` and by tests.

use std::net::SocketAddr;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Put one key.
    Put,
    /// Get one key, linearizable unless `--serializable`.
    Get,
    /// Compare the key's mod revision, then put, else get: how Kubernetes updates an object.
    Txn,
    /// Gets and puts, `--reads` of them gets.
    Mixed,
    /// All keys, at once or in pages of `--page`, as kube-apiserver does it.
    List,
}

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct Options {
    /// What every client does.
    #[arg(value_enum)]
    pub operation: Operation,
    /// Addresses of the servers (plain TCP), which the connections are spread over.
    #[arg(long = "endpoint", value_delimiter = ',', default_value = "127.0.0.1:2379")]
    pub endpoints: Vec<SocketAddr>,
    #[arg(long, default_value_t = 1)]
    pub connections: u32,
    /// Operations in flight at most, spread over the connections.
    #[arg(long, default_value_t = 1)]
    pub clients: u32,
    #[arg(long, default_value_t = 1)]
    pub threads: u32,
    /// Measured time, after the warm-up. With --total, an upper bound.
    #[arg(long, value_parser = seconds, default_value = "10")]
    pub duration: Duration,
    /// Runs first and is not measured.
    #[arg(long, value_parser = seconds, default_value = "0")]
    pub warm_up: Duration,
    /// Stop after this many measured operations.
    #[arg(long)]
    pub total: Option<u64>,
    /// Open loop: this many operations per second, latency from the intended start.
    #[arg(long)]
    pub rate: Option<f64>,
    #[arg(long, default_value_t = 8)]
    pub key_size: usize,
    #[arg(long, default_value_t = 256)]
    pub value_size: usize,
    /// Number of distinct keys.
    #[arg(long, default_value_t = 100_000)]
    pub key_space: u64,
    /// Take the keys in order, starting over at the end, instead of at random.
    #[arg(long)]
    pub sequential: bool,
    /// Skew of random keys: 0 is uniform, about 1 is usual for caches.
    #[arg(long, default_value_t = 0.0)]
    pub zipf: f64,
    /// Gets need not be linearizable.
    #[arg(long)]
    pub serializable: bool,
    /// For `mixed`: the part that is gets.
    #[arg(long, default_value_t = 0.8)]
    pub reads: f64,
    /// For `list`: keys per page, all pages of a list at the revision of the first; 0 is everything at once.
    #[arg(long, default_value_t = 0)]
    pub page: u64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long to wait at the end for what is still unanswered.
    #[arg(long, value_parser = seconds, default_value = "10")]
    pub drain: Duration,
    /// Keep every operation of an open loop in the summary.
    #[arg(skip)]
    #[serde(skip)]
    pub trace: bool,
    /// A connection that is lost is made anew, to the next of the servers, until it is there.
    #[arg(skip)]
    #[serde(skip)]
    pub reconnect: bool,
    /// What every request shows of who sends it.
    #[arg(skip)]
    #[serde(skip)]
    pub token: Option<String>,
}

impl Options {
    /// One client on one connection, uniform random keys of `benchmark`'s size.
    pub fn new(operation: Operation, endpoint: SocketAddr) -> Self {
        Self {
            operation,
            endpoints: vec![endpoint],
            connections: 1,
            clients: 1,
            threads: 1,
            duration: Duration::from_secs(10),
            warm_up: Duration::ZERO,
            total: None,
            rate: None,
            key_size: 8,
            value_size: 256,
            key_space: 100_000,
            sequential: false,
            zipf: 0.0,
            serializable: false,
            reads: 0.8,
            page: 0,
            seed: 1,
            drain: Duration::from_secs(10),
            trace: false,
            reconnect: false,
            token: None,
        }
    }

    /// What cannot be run, and why.
    pub fn check(&self) -> Result<(), String> {
        let digits = super::keys::key_digits(self.key_space);
        let refuse = |bad: bool, why: &str| if bad { Err(why.to_owned()) } else { Ok(()) };
        refuse(self.endpoints.is_empty(), "--endpoint must name a server")?;
        refuse(self.key_space == 0, "--key-space must be at least 1")?;
        refuse(
            self.key_size < digits,
            &format!("--key-size must be at least {digits} for this --key-space"),
        )?;
        refuse(self.threads == 0 || self.connections < self.threads, "--threads must be 1 to --connections")?;
        refuse(self.clients < self.connections, "--clients must be at least --connections")?;
        refuse(!(0.0..=1.0).contains(&self.reads), "--reads must be between 0 and 1")?;
        refuse(!(0.0..8.0).contains(&self.zipf), "--zipf must be between 0 and 8")?;
        refuse(self.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1e8)), "--rate must be positive")?;
        refuse(self.total == Some(0), "--total must be at least 1")?;
        refuse(self.duration.is_zero(), "--duration must be positive")?;
        refuse(self.value_size > 512 << 20, "--value-size is too large")
    }
}

/// Seconds, with a fraction if wanted.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.trim_end_matches('s').parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
