//! A thread for what takes a processor long and nobody is in a hurry for: it is kept off the core, and steps back
//! behind whatever else wants to run on the others.
//!
//! One for a member, made before its executor and idle until there is something to do. It ends with the last handle.

use std::{io, sync::mpsc, thread};

use rustix::{
    process::setpriority_process,
    thread::{gettid, sched_getaffinity, sched_setaffinity},
};

use super::done::{Done, done};

/// A third of others' share of a processor: with the least there is, a login on a machine whose processors are all busy took
/// longer than clients wait.
const NICE: i32 = 5;

type Job = Box<dyn FnOnce() + Send>;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Aside(mpsc::Sender<Job>);

impl Aside {
    /// To be called by a thread that may still run anywhere.
    pub fn beside(core: usize) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        thread::Builder::new().name("pinion-aside".to_owned()).spawn(move || {
            if let Err(error) = step_aside(core) {
                tracing::warn!(%error, "a thread for long work runs as others do");
            }
            waiting.into_iter().for_each(|job| job());
        })?;
        Ok(Self(jobs))
    }

    /// One after another. Dropping the future does not recall the work.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Done<T> {
        let (teller, done) = done();
        let job = move || teller.tell(work());
        self.0.send(Box::new(job)).expect("the thread runs for as long as there is a handle");
        done
    }
}

/// Off the core, if there is another, and behind others.
fn step_aside(core: usize) -> io::Result<()> {
    let mut cores = sched_getaffinity(None)?;
    cores.unset(core);
    if cores.count() > 0 {
        sched_setaffinity(None, &cores)?;
    }
    Ok(setpriority_process(Some(gettid()), NICE)?)
}
