//! Medians of the runs, and Pinion's ratio to the better peer.

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::measure::Sample;
use super::options::{Client, Options, PINION, Subject};

/// All runs of one subject under one load by one client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    pub load: String,
    pub client: Client,
    pub subject: String,
    pub median: Sample,
    pub runs: Vec<Sample>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    /// How this comparison was started.
    pub command: String,
    pub subjects: Vec<String>,
    pub options: serde_json::Value,
    pub cells: Vec<Cell>,
}

/// A number of a sample that is compared.
pub struct Metric {
    pub title: &'static str,
    pub get: fn(&Sample) -> Option<f64>,
    set: fn(&mut Sample, Option<f64>),
    pub higher_is_better: bool,
    pub decimals: usize,
}

macro_rules! metric {
    ($title:literal, $field:ident, $factor:literal, $decimals:literal) => {
        Metric {
            title: $title,
            get: |sample| Some(sample.$field / $factor),
            set: |sample, value| sample.$field = value.unwrap_or(0.0) * $factor,
            higher_is_better: false,
            decimals: $decimals,
        }
    };
    ($title:literal, optional $field:ident, $factor:literal, $decimals:literal) => {
        Metric {
            title: $title,
            get: |sample| sample.$field.map(|value| value / $factor),
            set: |sample, value| sample.$field = value.map(|value| value * $factor),
            higher_is_better: false,
            decimals: $decimals,
        }
    };
}

pub const METRICS: [Metric; 11] = [
    Metric { higher_is_better: true, ..metric!("op/s", per_second, 1.0, 0) },
    metric!("p50 ms", p50_us, 1e3, 2),
    metric!("p99 ms", p99_us, 1e3, 2),
    metric!("p99.9 ms", optional p999_us, 1e3, 2),
    metric!("max ms", max_us, 1e3, 1),
    metric!("CPU us/op", server_cpu_us, 1.0, 1),
    metric!("RSS MiB", rss_mib, 1.0, 0),
    metric!("fsync p99 ms", optional fsync_p99_ms, 1.0, 2),
    metric!("commit p99 ms", optional commit_p99_ms, 1.0, 2),
    metric!("client CPU us/op", client_cpu_us, 1.0, 1),
    metric!("errors", errors, 1.0, 0),
];

impl Report {
    pub fn new(machine: Machine, options: &Options, subjects: &[Subject]) -> Self {
        Self {
            machine,
            command: command(std::env::args()),
            subjects: subjects.iter().map(|subject| subject.name.clone()).collect(),
            options: serde_json::to_value(options).expect("options are plain data"),
            cells: Vec::new(),
        }
    }

    pub fn add(&mut self, load: &str, client: Client, subject: &str, sample: Sample) {
        let same = |cell: &&mut Cell| cell.load == load && cell.client == client && cell.subject == subject;
        match self.cells.iter_mut().find(same) {
            Some(cell) => cell.runs.push(sample),
            None => self.cells.push(Cell {
                load: load.to_owned(),
                client,
                subject: subject.to_owned(),
                median: Sample::default(),
                runs: vec![sample],
            }),
        }
    }

    pub fn finish(&mut self) {
        for cell in &mut self.cells {
            for metric in &METRICS {
                (metric.set)(&mut cell.median, median(cell.runs.iter().filter_map(metric.get).collect()));
            }
            // An error in any run must be seen.
            cell.median.errors = cell.runs.iter().map(|run| run.errors).sum();
        }
    }

    /// The loads in the order in which they ran, each with its cells.
    pub fn groups(&self) -> Vec<(&str, Client, Vec<&Cell>)> {
        let mut groups: Vec<(&str, Client, Vec<&Cell>)> = Vec::new();
        for cell in &self.cells {
            match groups.iter_mut().find(|(load, client, _)| *load == cell.load && *client == cell.client) {
                Some((_, _, cells)) => cells.push(cell),
                None => groups.push((&cell.load, cell.client, vec![cell])),
            }
        }
        groups
    }
}

/// Pinion's value over the better peer's, for one metric of one group.
pub fn ratio(metric: &Metric, cells: &[&Cell]) -> Option<f64> {
    let value = |cell: &&&Cell| (metric.get)(&cell.median);
    let own = cells.iter().find(|cell| cell.subject == PINION).as_ref().and_then(value)?;
    let peers = cells.iter().filter(|cell| cell.subject != PINION).filter_map(|cell| value(&cell));
    let best = if metric.higher_is_better { peers.reduce(f64::max) } else { peers.reduce(f64::min) }?;
    (best > 0.0 && metric.title != "errors").then(|| own / best)
}

/// The middle one, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// The command line with the program by its name: where it was built says nothing.
fn command(mut words: impl Iterator<Item = String>) -> String {
    let program = words.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    let quoted = |word: String| if word.contains([' ', '"', '\'']) { format!("{word:?}") } else { word };
    std::iter::once(name).chain(words.map(quoted)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two loads, three subjects, three runs each.
    pub fn example() -> Report {
        let machine = Machine {
            date: "2026-01-02".into(),
            cpu: "A CPU & more".into(),
            cores: 2,
            memory_gib: 8,
            kernel: "6.1".into(),
            file_system: "ext4 on /dev/vda".into(),
        };
        let subjects = [PINION, "etcd", "etcd-3.5"].map(str::to_owned).to_vec();
        let command = "bench-harness compare".to_owned();
        let mut report = Report {
            machine,
            command,
            subjects: subjects.clone(),
            options: serde_json::Value::Null,
            cells: vec![],
        };
        for run in [1.0, 9.0, 2.0] {
            for (load, scale) in [("put", 1.0), ("get", 2.0)] {
                for (subject, factor) in subjects.iter().zip([3.0, 1.0, 1.5]) {
                    let sample = Sample {
                        per_second: run * factor * 1000.0 * scale,
                        p50_us: run * 900.0 / factor,
                        p99_us: run * 3000.0 / factor,
                        p999_us: (subject != "etcd").then_some(run * 9000.0 / factor),
                        max_us: 20_000.0,
                        server_cpu_us: run * 60.0 / factor,
                        client_cpu_us: 5.0,
                        rss_mib: 100.0,
                        fsync_p99_ms: Some(run),
                        commit_p99_ms: (subject != PINION).then_some(run),
                        errors: if run == 9.0 && subject == "etcd" { 4.0 } else { 0.0 },
                    };
                    report.add(load, Client::Harness, subject, sample);
                }
            }
        }
        report.finish();
        report
    }

    fn metric(title: &str) -> &'static Metric {
        const ALL: &[Metric] = &METRICS;
        ALL.iter().find(|metric| metric.title == title).unwrap()
    }

    #[test]
    fn medians_are_per_metric_and_errors_add_up() {
        let report = example();
        let (load, _, cells) = &report.groups()[0];
        assert_eq!((*load, cells.len()), ("put", 3));
        assert_eq!(cells[0].median.per_second, 6000.0);
        assert_eq!(cells[1].median.errors, 4.0);
        assert_eq!(cells[1].median.p999_us, None);
    }

    #[test]
    fn ratios_are_to_the_better_peer() {
        let report = example();
        let (_, _, cells) = &report.groups()[0];
        assert_eq!(ratio(metric("op/s"), cells), Some(2.0));
        assert_eq!(ratio(metric("CPU us/op"), cells), Some(0.5));
        assert_eq!(ratio(metric("p99.9 ms"), cells), Some(0.5));
        assert_eq!(ratio(metric("commit p99 ms"), cells), None);
        assert_eq!(ratio(metric("op/s"), &cells[1..]), None);
    }

    #[test]
    fn medians_of_even_and_odd_counts() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn the_command_is_without_the_build_directory() {
        let words = ["/a/b/bench-harness", "compare", "--peer", "x=/p q"].map(str::to_owned);
        assert_eq!(command(words.into_iter()), "bench-harness compare --peer \"x=/p q\"");
    }
}
