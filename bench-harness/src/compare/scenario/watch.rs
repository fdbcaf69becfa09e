//! `watch`: what it costs to tell watches. Many of one key, told at a fixed rate of events; and many of distinct prefixes
//! beside puts as fast as they go, each of which one of them is told of.

use std::sync::mpsc;
use std::time::Duration;

use super::job::{Job, Progress, step};
use crate::compare::Error;
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Running, Testbed, mib};
use crate::load::{self, Operation, Phase, options_seconds as seconds};
use crate::watchers::{Plan, Seen, Watchers, put_marked};

static LAYOUT: Layout = Layout {
    name: "watch",
    columns: &[
        Column::higher("events/s", 0),
        Column::lower("server CPU us/event", 2),
        Column::lower("lag p50 ms", 2),
        Column::lower("lag p99 ms", 2),
        Column::higher("puts/s", 0),
        Column::lower("server CPU us/put", 2),
        Column::plain("CPU per put / none", 2),
        Column::lower("put p99 ms", 2),
        Column::plain("server CPU %", 0),
        Column::lower("RSS MiB", 0),
    ],
    panels: &[
        Panel::Bars {
            caption: "Watch: server CPU in microseconds for each event",
            columns: &["server CPU us/event"],
            logarithmic: true,
        },
        Panel::Bars { caption: "Watch: delivery lag p99 in ms", columns: &["lag p99 ms"], logarithmic: true },
    ],
};

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of watch")]
#[group(skip)]
pub struct WatchOptions {
    /// Numbers of watches.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    pub watches: Vec<u32>,
    #[arg(long, default_value_t = 10)]
    pub watch_connections: u32,
    /// Of each connection.
    #[arg(long, default_value_t = 10)]
    pub watch_streams: u32,
    /// Events per second that watches of one key are told.
    #[arg(long, default_value_t = 20_000.0)]
    pub watch_events: f64,
    /// Clients that put to distinct prefixes, over 10 connections.
    #[arg(long, default_value_t = 100)]
    pub watch_putters: u32,
    #[arg(long, value_parser = seconds, default_value = "15")]
    pub watch_duration: Duration,
    /// Runs first and is not measured.
    #[arg(long, value_parser = seconds, default_value = "2")]
    pub watch_warm_up: Duration,
}

/// Distinct prefixes: as many whatever the number of watches.
const PREFIXES: u64 = 10_000;
const KEY_SIZE: usize = 16;
/// Beside puts as fast as they go, a few that tell how late events are.
const MARKED_RATE: f64 = 50.0;

#[derive(Debug)]
pub struct Watch {
    options: WatchOptions,
    value_size: usize,
}

/// Who watches.
#[derive(Clone, Copy, Debug)]
enum Who {
    OneKey(u32),
    Prefixes(u32),
}

pub fn jobs(options: &WatchOptions, value_size: usize) -> Vec<Box<dyn Job>> {
    vec![Box::new(Watch { options: options.clone(), value_size })]
}

fn key(index: u64) -> String {
    load::key(KEY_SIZE, PREFIXES, index)
}

/// All keys that begin with this one.
fn prefix(key: &str) -> (String, String) {
    let (head, last) = key.split_at(key.len() - 1);
    let after = char::from(last.as_bytes()[0] + 1);
    (key.to_owned(), format!("{head}{after}"))
}

impl Watch {
    fn watchers(&self, running: &Running, who: Who) -> Result<Option<Watchers>, Error> {
        let ranges = match who {
            Who::OneKey(count) => vec![("watched".to_owned(), String::new()); count as usize],
            Who::Prefixes(0) => return Ok(None),
            Who::Prefixes(count) => {
                (0..u64::from(count)).map(|index| prefix(&key(index % PREFIXES))).collect()
            }
        };
        let plan = Plan {
            connections: self.options.watch_connections,
            streams: self.options.watch_streams,
            ranges,
            start_revision: 0,
        };
        Ok(Some(Watchers::start(running.server.addr(), plan)?))
    }

    /// Events come at a fixed rate.
    fn one_key(&self, running: &Running, count: u32, progress: &mut dyn FnMut(f64)) -> Result<Sample, Error> {
        let watchers = self.watchers(running, Who::OneKey(count))?.expect("there are some");
        let rate = (self.options.watch_events / f64::from(count)).max(1.0);
        let (addr, size) = (running.server.addr(), self.value_size);
        let (stop, stopped) = mpsc::channel();
        std::thread::scope(|scope| {
            let putting =
                scope.spawn(move || put_marked(addr, &["watched".to_owned()], (rate, size), &stopped));
            std::thread::sleep(self.options.watch_warm_up);
            progress(0.1);
            drop(watchers.take());
            let (before, since) = (running.server.usage()?, std::time::Instant::now());
            std::thread::sleep(self.options.watch_duration);
            let (seen, after, elapsed) = (watchers.take(), running.server.usage()?, since.elapsed());
            progress(0.9);
            drop(stop);
            putting.join().expect("putting does not panic")?;
            watchers.stop()?;
            let cpu = after.cpu.saturating_sub(before.cpu);
            let sample = Sample::default()
                .with("events/s", seen.events as f64 / elapsed.as_secs_f64())
                .with("puts/s", rate)
                .with("server CPU us/event", per(cpu, seen.events))
                .with("server CPU %", cpu.as_secs_f64() / elapsed.as_secs_f64() * 100.0)
                .with("RSS MiB", mib(after.rss_bytes));
            Ok(with_lag(sample, &seen))
        })
    }

    /// Puts as fast as they go, to all prefixes.
    fn prefixes(
        &self,
        running: &Running,
        count: u32,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Sample, Error> {
        let watchers = self.watchers(running, Who::Prefixes(count))?;
        let options = load::Options {
            connections: self.options.watch_putters.min(10),
            clients: self.options.watch_putters,
            warm_up: self.options.watch_warm_up,
            duration: self.options.watch_duration,
            key_size: KEY_SIZE,
            key_space: PREFIXES,
            value_size: self.value_size,
            ..load::Options::new(Operation::Put, running.server.addr())
        };
        let (addr, size) = (running.server.addr(), self.value_size);
        let keys: Vec<_> = (0..PREFIXES).map(key).collect();
        let (stop, stopped) = mpsc::channel();
        std::thread::scope(|scope| {
            let putting = scope.spawn(move || put_marked(addr, &keys, (MARKED_RATE, size), &stopped));
            let (mut before, mut after) = (None, None);
            let mut seen = None;
            let summary = load::run(&options, &mut |phase| match phase {
                Phase::Started(_) => {
                    watchers.iter().for_each(|watchers| drop(watchers.take()));
                    before = Some(running.server.usage());
                }
                Phase::Progress { part, .. } => progress(part),
                Phase::Ended(_) => {
                    after = Some(running.server.usage());
                    seen = watchers.as_ref().map(Watchers::take);
                }
            })?;
            drop(stop);
            putting.join().expect("putting does not panic")?;
            let (before, after) = (before.expect("every run starts")?, after.expect("every run ends")?);
            let cpu = after.cpu.saturating_sub(before.cpu);
            let mut sample = Sample::default()
                .with("puts/s", summary.completed as f64 / summary.measured_seconds)
                .with("server CPU us/put", per(cpu, summary.completed))
                .with("put p99 ms", summary.latency.p99_us / 1e3)
                .with("server CPU %", cpu.as_secs_f64() / summary.measured_seconds * 100.0)
                .with("RSS MiB", mib(after.rss_bytes));
            sample.errors = summary.errors;
            if let Some(seen) = seen {
                sample =
                    with_lag(sample.with("events/s", seen.events as f64 / summary.measured_seconds), &seen);
            }
            if let Some(watchers) = watchers {
                watchers.stop()?;
            }
            Ok(sample)
        })
    }
}

/// Microseconds for each.
fn per(cpu: Duration, count: u64) -> Option<f64> {
    (count > 0).then(|| cpu.as_secs_f64() * 1e6 / count as f64)
}

fn with_lag(sample: Sample, seen: &Seen) -> Sample {
    if seen.lag_us.is_empty() {
        return sample;
    }
    let millis = |quantile| seen.lag_us.value_at_quantile(quantile) as f64 / 1e3;
    sample.with("lag p50 ms", millis(0.5)).with("lag p99 ms", millis(0.99))
}

impl Job for Watch {
    fn title(&self) -> &str {
        "watch"
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        let WatchOptions { watches, watch_duration, watch_warm_up, .. } = &self.options;
        (*watch_duration + *watch_warm_up) * (2 * watches.len() as u32 + 1)
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let mut running = testbed.start()?;
        let mut phases: Vec<_> = self.options.watches.iter().map(|count| Who::OneKey(*count)).collect();
        phases.push(Who::Prefixes(0));
        phases.extend(self.options.watches.iter().map(|count| Who::Prefixes(*count)));
        let count = phases.len() as f64;
        let (mut samples, mut none) = (Vec::new(), None);
        for (index, who) in phases.into_iter().enumerate() {
            let group = match who {
                Who::OneKey(watches) => format!("watch: {watches} watches of one key"),
                Who::Prefixes(0) => "watch: puts without watches".to_owned(),
                Who::Prefixes(watches) => format!("watch: {watches} watches of distinct prefixes"),
            };
            let from = index as f64 / count;
            let mut sample = {
                let mut progress = step(progress, (from, from + 1.0 / count), &group);
                match who {
                    Who::OneKey(watches) => self.one_key(&running, watches, &mut progress)?,
                    Who::Prefixes(watches) => self.prefixes(&running, watches, &mut progress)?,
                }
            };
            let per_put = sample.value("server CPU us/put");
            if let (Some(none), Some(per_put)) = (none, per_put) {
                sample = sample.with("CPU per put / none", per_put / none);
            }
            none = none.or(per_put);
            samples.push((group, sample));
        }
        running.stop()?;
        Ok(samples)
    }
}
