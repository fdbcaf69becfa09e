//! Load as usual: puts, gets, transactions, as what each client does to the server.

mod measure;
mod upstream;

use std::time::Duration;

use super::job::{Job, Progress, step};
use crate::compare::Error;
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Fill, Testbed};
use crate::load::{self, Operation, options_seconds as seconds};

pub static LAYOUT: Layout = Layout {
    name: "load",
    columns: &[
        Column::higher("op/s", 0),
        Column::lower("p50 ms", 2),
        Column::lower("p99 ms", 2),
        Column::lower("p99.9 ms", 2),
        Column::lower("max ms", 1),
        Column::lower("CPU us/op", 1),
        Column::lower("RSS MiB", 0),
        Column::lower("fsync p99 ms", 2),
        Column::lower("commit p99 ms", 2),
        Column::lower("client CPU us/op", 1),
    ],
    panels: &[
        Panel::Bars {
            caption: "Latency in ms (log scale): p50, p99, p99.9 from left to right in each group",
            columns: &["p50 ms", "p99 ms", "p99.9 ms"],
            logarithmic: true,
        },
        Panel::Bars {
            caption: "Server CPU per operation in us",
            columns: &["CPU us/op"],
            logarithmic: false,
        },
    ],
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// Upstream's `benchmark`.
    Upstream,
    /// This load generator.
    Harness,
    Both,
}

impl Client {
    pub fn name(self) -> &'static str {
        match self {
            Self::Upstream => "benchmark",
            Self::Harness => "harness",
            Self::Both => "both",
        }
    }
}

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of put to keys and auth; connections, clients and threads also of overwrite")]
#[group(skip)]
pub struct LoadOptions {
    #[arg(long, value_enum, default_value = "both")]
    pub client: Client,
    /// Of each run; with the `benchmark` client, about that.
    #[arg(long, value_parser = seconds, default_value = "10")]
    pub duration: Duration,
    #[arg(long, value_parser = seconds, default_value = "2")]
    pub warm_up: Duration,
    #[arg(long, default_value_t = 100)]
    pub connections: u32,
    #[arg(long, default_value_t = 1000)]
    pub clients: u32,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1)]
    pub threads: u32,
    #[arg(long, default_value_t = 8)]
    pub key_size: usize,
    /// Distinct keys that are written.
    #[arg(long, default_value_t = 100_000)]
    pub key_space: u64,
    /// Keys that are there before get and mixed.
    #[arg(long, default_value_t = 10_000)]
    pub read_keys: u64,
    /// Of `mixed`: the part that is gets.
    #[arg(long, default_value_t = 0.8)]
    pub reads: f64,
    /// Of `open`: writes per second.
    #[arg(long, default_value_t = 10_000.0)]
    pub rate: f64,
    #[arg(long, value_parser = seconds, default_value = "60")]
    pub open_duration: Duration,
    /// Of `keys`: keys present, few and many.
    #[arg(long, default_value_t = 10_000)]
    pub keys_few: u64,
    #[arg(long, default_value_t = 10_000_000)]
    pub keys_many: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    Put,
    Put1,
    Get,
    GetSerializable,
    Txn,
    Mixed,
    Open,
    Keys,
}

/// One load by one client.
#[derive(Debug)]
struct LoadJob {
    client: Client,
    load: Load,
    /// What is put before it.
    fill: Option<Fill>,
    group: String,
}

pub fn jobs(pattern: Pattern, options: &LoadOptions, value_size: usize) -> Vec<Box<dyn Job>> {
    let mut jobs: Vec<Box<dyn Job>> = Vec::new();
    for client in pattern.clients(options.client) {
        for load in pattern.loads(options, value_size) {
            let key_size = options.key_size;
            let (count, keys) = (load.preload, load.preload);
            let fill = (count > 0).then_some(Fill { count, keys, key_size, value_size });
            let group = format!("{} ({})", load.name, client.name());
            jobs.push(Box::new(LoadJob { client, load, fill, group }));
        }
    }
    jobs
}

impl Job for LoadJob {
    fn title(&self) -> &str {
        &self.group
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        let fill = self.fill.map_or(Duration::ZERO, |fill| fill.expected());
        fill + self.load.harness.warm_up + self.load.harness.duration
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let mut running = if self.load.many { testbed.start_large()? } else { testbed.start()? };
        let filled = match self.fill {
            Some(fill) => {
                let part = fill.expected().div_duration_f64(self.expected());
                running.fill(fill, &mut step(progress, (0.0, part), "fill"))?;
                part
            }
            None => 0.0,
        };
        let mut measuring = step(progress, (filled, 1.0), "measure");
        let sample = match self.client {
            Client::Harness => measure::by_harness(&self.load, &running, &mut measuring)?,
            Client::Upstream => measure::by_upstream(&self.load, &running, &mut measuring)?,
            Client::Both => unreachable!("a scenario names its clients one by one"),
        };
        running.stop()?;
        let group = match testbed.members {
            1 => self.group.clone(),
            members => format!("{}, {members} members", self.group),
        };
        Ok(vec![(group, sample)])
    }
}

/// One thing to measure.
#[derive(Clone, Debug)]
pub struct Load {
    pub name: String,
    /// Keys put before the measurement.
    pub preload: u64,
    /// More than a server has room for by default.
    pub many: bool,
    /// For the harness; the endpoint is filled in when the server runs.
    pub harness: load::Options,
    /// For `benchmark`; empty when it cannot do this.
    pub upstream: Vec<String>,
}

/// How many operations `benchmark` is given per second of the wanted duration; it has no notion of time.
const PUTS_PER_SECOND: f64 = 12_000.0;
const PUTS_OF_ONE_PER_SECOND: f64 = 1_000.0;
const GETS_PER_SECOND: f64 = 20_000.0;

impl Pattern {
    /// The clients that can drive it, of those asked for.
    fn clients(self, asked: Client) -> Vec<Client> {
        let both = !matches!(self, Self::Txn | Self::Mixed | Self::Keys);
        match asked {
            Client::Both if both => vec![Client::Upstream, Client::Harness],
            Client::Upstream if both => vec![Client::Upstream],
            Client::Upstream => Vec::new(),
            Client::Both | Client::Harness => vec![Client::Harness],
        }
    }

    /// What is measured: one load, or two for `keys`.
    fn loads(self, options: &LoadOptions, value_size: usize) -> Vec<Load> {
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let many = load::Options {
            connections: options.connections,
            clients: options.clients,
            threads: options.threads,
            duration: options.duration,
            warm_up: options.warm_up,
            key_size: options.key_size,
            value_size,
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
                    many: true,
                    harness: load::Options { key_space: keys, ..many.clone() },
                    upstream: Vec::new(),
                };
                return vec![present(options.keys_few), present(options.keys_many)];
            }
        };
        let upstream = self.upstream(options, value_size);
        vec![Load { name: name.to_owned(), preload, many: false, harness, upstream }]
    }

    fn upstream(self, options: &LoadOptions, value_size: usize) -> Vec<String> {
        let one = self == Self::Put1;
        let (connections, clients) = if one { (1, 1) } else { (options.connections, options.clients) };
        let total = |per_second: f64, duration: Duration| (per_second * duration.as_secs_f64()) as u64;
        let put = |total: u64| {
            vec![
                "put".to_owned(),
                format!("--key-size={}", options.key_size),
                format!("--val-size={value_size}"),
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
        options: LoadOptions,
    }

    fn options(words: &[&str]) -> LoadOptions {
        Line::parse_from(["compare"].iter().chain(words)).options
    }

    #[test]
    fn both_clients_get_the_same_load() {
        let options = options(&["--duration", "5", "--clients", "50", "--connections", "7"]);
        let [load] = &Pattern::Put.loads(&options, 256)[..] else { panic!() };
        assert_eq!((load.harness.clients, load.harness.connections, load.harness.rate), (50, 7, None));
        for word in
            ["--clients=50", "--conns=7", "--total=60000", "--val-size=256", "--key-space-size=100000"]
        {
            assert!(load.upstream.iter().any(|known| known == word), "{word} in {:?}", load.upstream);
        }
        let [one] = &Pattern::Put1.loads(&options, 256)[..] else { panic!() };
        assert_eq!((one.harness.clients, one.harness.connections), (1, 1));
        assert!(one.upstream.contains(&"--clients=1".to_owned()));
    }

    #[test]
    fn every_harness_load_can_run() {
        use Pattern::*;
        let options = options(&[]);
        for pattern in [Put, Put1, Get, GetSerializable, Txn, Mixed, Open, Keys] {
            for load in pattern.loads(&options, 256) {
                assert_eq!(load.harness.check(), Ok(()), "{}", load.name);
            }
        }
    }

    #[test]
    fn what_benchmark_cannot_do_is_left_to_the_harness() {
        assert_eq!(Pattern::Txn.clients(Client::Both), [Client::Harness]);
        assert_eq!(Pattern::Txn.clients(Client::Upstream), []);
        assert_eq!(Pattern::Get.clients(Client::Both), [Client::Upstream, Client::Harness]);
    }
}
