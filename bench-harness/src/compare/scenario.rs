//! The scenarios, as what each client does to the server.

use std::time::Duration;

use super::options::{Client, Options};
use crate::load::{self, Operation};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Puts from many clients, as fast as they go.
    Put,
    /// Puts from one client.
    Put1,
    /// Linearizable gets of one key each.
    Get,
    GetSerializable,
    /// Compare the key's revision and put (harness only).
    Txn,
    /// Gets and puts (harness only).
    Mixed,
    /// Puts at a fixed rate, latency from the intended start.
    Open,
    /// Puts with few and with many keys present (harness only).
    Keys,
}

/// One thing to measure.
#[derive(Clone, Debug)]
pub struct Load {
    pub name: String,
    /// Keys put before the measurement.
    pub preload: u64,
    /// For the harness; the endpoint is filled in when the server runs.
    pub harness: load::Options,
    /// For `benchmark`.
    pub upstream: Vec<String>,
}

/// How many operations `benchmark` is given per second of the wanted duration; it has no notion of time.
const PUTS_PER_SECOND: f64 = 12_000.0;
const PUTS_OF_ONE_PER_SECOND: f64 = 1_000.0;
const GETS_PER_SECOND: f64 = 20_000.0;

impl Scenario {
    /// The clients that can drive it, of those asked for.
    pub fn clients(self, asked: Client) -> Vec<Client> {
        let both = !matches!(self, Self::Txn | Self::Mixed | Self::Keys);
        match asked {
            Client::Both if both => vec![Client::Upstream, Client::Harness],
            Client::Upstream if both => vec![Client::Upstream],
            Client::Upstream => Vec::new(),
            Client::Both | Client::Harness => vec![Client::Harness],
        }
    }

    /// What is measured: one load, or two for `keys`.
    pub fn loads(self, options: &Options) -> Vec<Load> {
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let many = load::Options {
            connections: options.connections,
            clients: options.clients,
            threads: options.threads,
            duration: options.duration,
            warm_up: options.warm_up,
            key_size: options.key_size,
            value_size: options.value_size,
            key_space: options.key_space,
            reads: options.reads,
            ..load::Options::new(Operation::Put, nowhere)
        };
        let reading =
            load::Options { operation: Operation::Get, key_space: options.read_keys, ..many.clone() };
        let (name, preload, harness) = match self {
            Self::Put => ("put", 0, many),
            Self::Put1 => ("put1", 0, load::Options { connections: 1, clients: 1, threads: 1, ..many }),
            Self::Get => ("get", options.read_keys, reading),
            Self::GetSerializable => {
                ("get-serializable", options.read_keys, load::Options { serializable: true, ..reading })
            }
            Self::Txn => ("txn", 0, load::Options { operation: Operation::Txn, ..many }),
            Self::Mixed => {
                ("mixed", options.read_keys, load::Options { operation: Operation::Mixed, ..reading })
            }
            Self::Open => {
                let (rate, duration) = (Some(options.rate), options.open_duration);
                ("open", 0, load::Options { rate, duration, ..many })
            }
            Self::Keys => {
                let present = |keys| Load {
                    name: format!("keys-{keys}"),
                    preload: keys,
                    harness: load::Options { key_space: keys, ..many.clone() },
                    upstream: Vec::new(),
                };
                return vec![present(options.keys_few), present(options.keys_many)];
            }
        };
        let upstream = self.upstream(options);
        vec![Load { name: name.to_owned(), preload, harness, upstream }]
    }

    fn upstream(self, options: &Options) -> Vec<String> {
        let one = self == Self::Put1;
        let (connections, clients) = if one { (1, 1) } else { (options.connections, options.clients) };
        let total = |per_second: f64, duration: Duration| (per_second * duration.as_secs_f64()) as u64;
        let put = |total: u64| {
            vec![
                "put".to_owned(),
                format!("--key-size={}", options.key_size),
                format!("--val-size={}", options.value_size),
                format!("--key-space-size={}", options.key_space),
                format!("--total={total}"),
            ]
        };
        let range = |consistency: &str| {
            vec![
                "range".to_owned(),
                // The first of the preloaded keys.
                load::key(options.key_size, options.read_keys, 0),
                format!("--consistency={consistency}"),
                format!("--total={}", total(GETS_PER_SECOND, options.duration)),
            ]
        };
        let mut words = match self {
            Self::Put => put(total(PUTS_PER_SECOND, options.duration)),
            Self::Put1 => put(total(PUTS_OF_ONE_PER_SECOND, options.duration)),
            Self::Get => range("l"),
            Self::GetSerializable => range("s"),
            Self::Open => {
                let mut words = put(total(options.rate, options.open_duration));
                words.push(format!("--rate={}", options.rate));
                words
            }
            Self::Txn | Self::Mixed | Self::Keys => return Vec::new(),
        };
        words.extend([format!("--conns={connections}"), format!("--clients={clients}")]);
        words
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &[&str]) -> Options {
        Line::parse_from(["compare"].iter().chain(words)).options
    }

    #[test]
    fn both_clients_get_the_same_load() {
        let options = options(&["--duration", "5", "--clients", "50", "--connections", "7"]);
        let [load] = &Scenario::Put.loads(&options)[..] else { panic!() };
        assert_eq!((load.harness.clients, load.harness.connections, load.harness.rate), (50, 7, None));
        for word in
            ["--clients=50", "--conns=7", "--total=60000", "--val-size=256", "--key-space-size=100000"]
        {
            assert!(load.upstream.iter().any(|known| known == word), "{word} in {:?}", load.upstream);
        }
        let [one] = &Scenario::Put1.loads(&options)[..] else { panic!() };
        assert_eq!((one.harness.clients, one.harness.connections), (1, 1));
        assert!(one.upstream.contains(&"--clients=1".to_owned()));
    }

    #[test]
    fn every_harness_load_can_run() {
        let options = options(&["--scenario", "put,put1,get,get-serializable,txn,mixed,open,keys"]);
        assert_eq!(options.scenarios.len(), 8);
        for scenario in options.scenarios.clone() {
            for load in scenario.loads(&options) {
                assert_eq!(load.harness.check(), Ok(()), "{}", load.name);
            }
        }
    }

    #[test]
    fn what_benchmark_cannot_do_is_left_to_the_harness() {
        assert_eq!(Scenario::Txn.clients(Client::Both), [Client::Harness]);
        assert_eq!(Scenario::Txn.clients(Client::Upstream), []);
        assert_eq!(Scenario::Get.clients(Client::Both), [Client::Upstream, Client::Harness]);
    }
}
