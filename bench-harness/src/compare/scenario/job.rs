//! What a scenario is made of: a job takes one server through its life and gives samples.

use std::time::Duration;

use crate::compare::Error;
use crate::compare::report::{Layout, Sample};
use crate::compare::testbed::{Fill, Running, Testbed};

/// How much of a job is the fill, where nothing else takes long, and how long the rest takes.
pub const FILL_PART: f64 = 0.7;
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
    fn run(&self, testbed: &Testbed<'_>, progress: &mut Progress<'_>)
    -> Result<Vec<(String, Sample)>, Error>;
}

/// A server that was filled with many keys and is about to come to rest: where [`FILL_PART`] of a job is done.
pub fn start_filled(
    testbed: &Testbed<'_>,
    fill: Fill,
    progress: &mut Progress<'_>,
) -> Result<Running, Error> {
    let running = testbed.start_large()?;
    running.fill(fill, &mut step(progress, (0.0, FILL_PART), "fill"))?;
    progress(FILL_PART, "wait for rest");
    Ok(running)
}

/// How long a job takes that is little more than [`start_filled`].
pub fn filled_expected(fill: &Fill) -> Duration {
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
