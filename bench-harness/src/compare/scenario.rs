//! The seam between the comparison and what is compared: a scenario gives jobs, a job takes one server through its
//! life and gives samples. A file per kind of scenario has its options, its layout and its jobs.

pub mod list_storm;
pub mod load;
pub mod maintenance;
pub mod memory;
pub mod overwrite;
pub mod restart;

use std::time::Duration;

use load::Pattern;

use super::Error;
use super::options::Options;
use super::place::{Fill, Place, Running};
use super::report::{Layout, Sample};

/// How much of a job is the fill, where nothing else takes long, and how long the rest takes.
const FILL_PART: f64 = 0.7;
const REST_EXPECTED: Duration = Duration::from_secs(20);

/// Told the part done and what is done now.
pub type Progress<'a> = dyn FnMut(f64, &str) + 'a;

/// One server from its start on a fresh directory to its end.
pub trait Job {
    /// For the progress.
    fn title(&self) -> &str;

    fn layout(&self) -> &'static Layout;

    /// About how long it takes, for the progress.
    fn expected(&self) -> Duration;

    /// A sample for each of the groups it has something to say in.
    fn run(&self, place: &Place<'_>, progress: &mut Progress<'_>) -> Result<Vec<(String, Sample)>, Error>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
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
    /// From the start on a directory with many keys to the first answer, after SIGTERM and after SIGKILL.
    Restart,
    /// Resident memory with many keys.
    Memory,
    /// Put latency while a compaction, a defragmentation, a snapshot or a checkpoint runs.
    Maintenance,
    /// Put latency while others list all keys.
    ListStorm,
    /// Disk use while few keys are overwritten very often and compacted.
    Overwrite,
}

impl Scenario {
    pub fn jobs(self, options: &Options) -> Vec<Box<dyn Job>> {
        match self {
            Self::Put => load::jobs(Pattern::Put, options),
            Self::Put1 => load::jobs(Pattern::Put1, options),
            Self::Get => load::jobs(Pattern::Get, options),
            Self::GetSerializable => load::jobs(Pattern::GetSerializable, options),
            Self::Txn => load::jobs(Pattern::Txn, options),
            Self::Mixed => load::jobs(Pattern::Mixed, options),
            Self::Open => load::jobs(Pattern::Open, options),
            Self::Keys => load::jobs(Pattern::Keys, options),
            Self::Restart => restart::jobs(options),
            Self::Memory => vec![Box::new(memory::Memory::new(options))],
            Self::Maintenance => vec![Box::new(maintenance::Maintenance::new(options))],
            Self::ListStorm => vec![Box::new(list_storm::ListStorm::new(options))],
            Self::Overwrite => vec![Box::new(overwrite::Overwrite::new(options))],
        }
    }
}

/// A server that was filled with many keys and is about to come to rest: where [`FILL_PART`] of a job is done.
fn start_filled(place: &Place<'_>, fill: Fill, progress: &mut Progress<'_>) -> Result<Running, Error> {
    let running = place.start_large()?;
    running.fill(fill, &mut step(progress, (0.0, FILL_PART), "fill"))?;
    progress(FILL_PART, "wait for rest");
    Ok(running)
}

/// How long a job takes that is little more than [`start_filled`].
fn filled_expected(fill: &Fill) -> Duration {
    fill.expected() + REST_EXPECTED
}

/// The part of a job from `from` to `to`, as a progress of its own with one step's name.
pub fn step<'a>(
    progress: &'a mut Progress<'_>,
    (from, to): (f64, f64),
    name: &'a str,
) -> impl FnMut(f64) + 'a {
    move |part| progress(from + (to - from) * part.clamp(0.0, 1.0), name)
}
