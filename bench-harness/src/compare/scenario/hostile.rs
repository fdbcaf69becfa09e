//! `hostile`: what one client that means harm does to others and to the server: latencies beside it, memory, whether the
//! server dies, how long it takes to stop in the middle of it and to start after it.
//!
//! Attacks that need the same keys and leave them as they were share a server, one after the other, each on a process
//! that was started anew after the one before.

mod prober;
mod siege;

use std::time::Duration;

use super::job::{Job, Progress, step};
use crate::compare::Error;
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Fill, Running, Testbed};
use crate::hostile::{ATTACKS, Attack, Stored};
use crate::load::options_seconds as seconds;
use siege::Siege;

static LAYOUT: Layout = Layout {
    name: "hostile",
    columns: &[
        Column::lower("put p50 ms", 2),
        Column::lower("put p99 ms", 2),
        Column::lower("put p99.9 ms", 2),
        Column::lower("put max ms", 1),
        Column::plain("put p99 - idle ms", 2),
        Column::lower("get p50 ms", 2),
        Column::lower("get p99 ms", 2),
        Column::lower("get p99.9 ms", 2),
        Column::lower("get max ms", 1),
        Column::lower("livez p99 ms", 1),
        Column::lower("livez max ms", 1),
        Column::lower("failed", 0),
        Column::lower("RSS max MiB", 0),
        Column::lower("growth MiB", 0),
        Column::lower("died", 0),
        Column::lower("stop s", 3),
        Column::lower("ready s", 3),
    ],
    panels: &[
        Panel::Bars {
            caption: "Hostile clients: latency of others' puts in ms (log scale): p50, p99, max from left to right",
            columns: &["put p50 ms", "put p99 ms", "put max ms"],
            logarithmic: true,
        },
        Panel::Bars {
            caption: "Hostile clients: growth of resident memory in MiB (log scale)",
            columns: &["growth MiB"],
            logarithmic: true,
        },
    ],
};

/// Of an attack, besides its own time.
const AROUND: Duration = Duration::from_secs(5);
const LONG_VALUE_BYTES: usize = 3_000;
const LONG_KEYS: u64 = 100_000;
const KEY_BYTES: usize = 24;
/// Sets of attacks by a name of their own.
const USUAL: &str = "usual";
const ALL: &str = "all";

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of hostile")]
#[group(skip)]
pub struct HostileOptions {
    /// Which attacks; `usual` are those that show most in a few minutes.
    #[arg(long = "attack", value_delimiter = ',', default_value = USUAL, value_parser = names())]
    pub attacks: Vec<String>,
    /// Keys where an attack needs many, and more.
    #[arg(long, default_value_t = 300_000)]
    pub attacked_keys: u64,
    #[arg(long, default_value_t = 1_000_000)]
    pub attacked_more_keys: u64,
    #[arg(long, default_value_t = 50)]
    pub attacked_value_size: usize,
    /// Others are measured so long before, and at least so long during an attack.
    #[arg(long, value_parser = seconds, default_value = "4")]
    pub attack_lead: Duration,
    #[arg(long, value_parser = seconds, default_value = "5")]
    pub attack_duration: Duration,
    /// An attack that was not answered by then is not waited for; the server then has as long to stop, and to be ready.
    #[arg(long, value_parser = seconds, default_value = "60")]
    pub attack_max: Duration,
    /// Puts per second of others, and as many gets.
    #[arg(long, default_value_t = 200.0)]
    pub others_rate: f64,
    /// A server that has allocated more is killed, as on a machine that has no more.
    #[arg(long, default_value_t = 2_048)]
    pub memory_max_mib: u64,
}

fn names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(
        [USUAL, ALL].into_iter().chain(ATTACKS.iter().map(|attack| attack.name)),
    )
}

impl HostileOptions {
    fn chosen(&self) -> impl Iterator<Item = &'static Attack> {
        let wanted = |attack: &&Attack| {
            self.attacks.iter().any(|name| match &name[..] {
                ALL => true,
                USUAL => attack.usual,
                name => name == attack.name,
            })
        };
        ATTACKS.iter().filter(wanted)
    }

    fn fill(&self, stored: Stored) -> Fill {
        let (keys, value_size) = match stored {
            Stored::Few => (prober::KEYS, self.attacked_value_size),
            Stored::Many => (self.attacked_keys, self.attacked_value_size),
            Stored::More => (self.attacked_more_keys, self.attacked_value_size),
            Stored::Long => (LONG_KEYS.min(self.attacked_keys), LONG_VALUE_BYTES),
        };
        Fill::once(keys, KEY_BYTES, value_size)
    }
}

/// One server after the other on the same data, under one attack each.
struct Hostile {
    title: String,
    attacks: Vec<&'static Attack>,
    fill: Fill,
    options: HostileOptions,
}

pub fn jobs(options: &HostileOptions) -> Vec<Box<dyn Job>> {
    let mut jobs: Vec<Hostile> = Vec::new();
    for attack in options.chosen() {
        let shares = |job: &&mut Hostile| {
            let first = job.attacks[0];
            !attack.spoils
                && !first.spoils
                && (first.stored, first.descriptors) == (attack.stored, attack.descriptors)
        };
        if let Some(job) = jobs.iter_mut().find(shares) {
            job.attacks.push(attack);
            continue;
        }
        let fill = options.fill(attack.stored);
        let title = format!("hostile with {} keys", fill.keys);
        jobs.push(Hostile { title, attacks: vec![attack], fill, options: options.clone() });
    }
    jobs.into_iter().map(|job| -> Box<dyn Job> { Box::new(job) }).collect()
}

impl Hostile {
    fn start(&self, testbed: &Testbed<'_>, progress: &mut dyn FnMut(f64)) -> Result<Running, Error> {
        let descriptors = self.attacks[0].descriptors;
        let running = testbed.start_with(|launch| match descriptors {
            Some(limit) => launch.wrapper(["prlimit".to_owned(), format!("--nofile={limit}:{limit}")]),
            None => launch,
        })?;
        running.fill(self.fill, progress)?;
        running.settle()?;
        Ok(running)
    }
}

impl Job for Hostile {
    fn title(&self) -> &str {
        &self.title
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        let one = self.options.attack_lead + self.options.attack_duration + AROUND;
        self.fill.expected() + AROUND + one * self.attacks.len() as u32
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let filled = (self.fill.expected() + AROUND).div_duration_f64(self.expected());
        let mut serving = None;
        let mut samples = Vec::new();
        for (index, attack) in self.attacks.iter().enumerate() {
            let part = |index: usize| filled + (1.0 - filled) * index as f64 / self.attacks.len() as f64;
            let mut running = match serving.take() {
                Some(running) => running,
                None => {
                    self.start(testbed, &mut step(progress, (part(index) - filled, part(index)), "fill"))?
                }
            };
            let mut attacking = step(progress, (part(index), part(index + 1)), attack.name);
            let siege = Siege { attack, options: &self.options };
            let outcome = siege.lay(&mut running, &mut attacking)?;
            samples.push((format!("hostile: {}, before", attack.name), outcome.before));
            samples.push((format!("hostile: {}", attack.name), outcome.during));
            serving = outcome.serves.then_some(running);
        }
        if let Some(mut running) = serving {
            running.stop()?;
        }
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: HostileOptions,
    }

    fn options(words: &[&str]) -> HostileOptions {
        Line::parse_from(["compare"].iter().chain(words)).options
    }

    #[test]
    fn attacks_are_chosen_by_name_or_by_set() {
        let names = |words: &[&str]| options(words).chosen().map(|attack| attack.name).collect::<Vec<_>>();
        assert_eq!(names(&["--attack", "pings,silent"]), ["silent", "pings"]);
        assert_eq!(names(&["--attack", "all"]).len(), ATTACKS.len());
        let usual = names(&[]);
        assert!(usual.len() < ATTACKS.len() && usual.contains(&"poison"), "{usual:?}");
        assert!(Line::try_parse_from(["compare", "--attack", "nothing"]).is_err());
    }

    #[test]
    fn only_what_leaves_the_store_alone_shares_a_server() {
        let jobs = jobs(&options(&[
            "--attack",
            "silent,pings,descriptors,sorted-ranges,poison,delete-all,read-txn",
        ]));
        let titles = jobs.iter().map(|job| job.title()).collect::<Vec<_>>();
        let [few, many] = ["hostile with 1000 keys", "hostile with 300000 keys"];
        assert_eq!(titles, [few, few, many, many, many]);
    }
}
