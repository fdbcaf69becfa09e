//! Pinion, another build of it and upstream etcd side by side: the same load on the same disk, one server at a time, runs interleaved
//! (A B C A B C ...), medians compared.
//!
//! | module     | what lives there                                                       |
//! |------------|------------------------------------------------------------------------|
//! | `options`  | what to compare, and how often                                         |
//! | `subject`  | the servers                                                            |
//! | `scenario` | a file per kind of scenario: its options, columns, charts and jobs     |
//! | `testbed`  | one server on a fresh directory: fill it, let it rest, look at it      |
//! | `probe`    | puts at a fixed rate while something else happens                      |
//! | `report`   | medians and ratios; `table` prints them, `plot` draws them             |
//! | `machine`  | what it ran on                                                         |
//!
//! Everything is bounded in time, and all processes end with this one.

mod machine;
mod options;
mod plot;
mod probe;
mod report;
mod scenario;
mod subject;
mod table;
mod testbed;

pub use machine::Machine;
pub use options::Options;
pub use report::{Cell, Group, Report, Sample, Section};
pub use scenario::Scenario;
pub use scenario::load::Client;
pub use subject::Peer;

use std::path::Path;
use std::rc::Rc;

use scenario::job::Job;
use testbed::Testbed;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Options(String),
    #[error(transparent)]
    Missing(#[from] crate::oracle::Missing),
    #[error(transparent)]
    Server(#[from] crate::process::Error),
    #[error(transparent)]
    Load(#[from] crate::load::Error),
    #[error(transparent)]
    Metrics(#[from] crate::prom::Error),
    #[error(transparent)]
    Watchers(#[from] crate::watchers::Error),
    #[error(transparent)]
    Admin(#[from] crate::admin::Error),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("benchmark: {0}")]
    Benchmark(String),
    #[error("preload: {done} of {wanted} keys were put, {errors} failed")]
    Preload { done: u64, wanted: u64, errors: u64 },
    #[error("after a restart the key {key} is not what was put")]
    Lost { key: String },
    #[error("plot: {0}")]
    Plot(String),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// Runs everything. `progress` is told the part done and what runs now.
pub fn run(options: &Options, progress: &mut dyn FnMut(f64, &str)) -> Result<Report, Error> {
    options.check().map_err(Error::Options)?;
    let subjects = options.subjects.find()?;
    let machine = Machine::describe(&options.work_dir).map_err(io("describe the machine"))?;
    let scratch =
        crate::process::scratch(&options.work_dir).map_err(io(options.work_dir.display().to_string()))?;

    let mut plan = Vec::new();
    for round in 0..options.rounds {
        for scenario in &options.scenarios {
            for job in scenario.jobs(&options.scenario) {
                let job: Rc<dyn Job> = job.into();
                plan.extend(subjects.iter().map(|subject| (round, Rc::clone(&job), subject)));
            }
        }
    }
    let expected = plan.iter().map(|(_, job, _)| job.expected().as_secs_f64()).sum::<f64>();
    let mut report = Report::new(machine, serde_json::to_value(options)?, &subjects);
    let mut done = 0.0;
    for (round, job, subject) in plan {
        let own = job.expected().as_secs_f64();
        let (members, rest) = (options.members as usize, options.scenario.stored.rest);
        let testbed = Testbed { members, rest, subject, scratch: scratch.path() };
        let title = format!("{}, {}, round {}", job.title(), subject.name, round + 1);
        progress(done / expected, &title);
        let mut part = 0.0_f64;
        let samples = job.run(&testbed, &mut |inner, step| {
            part = part.max(inner.clamp(0.0, 1.0));
            progress(((done + own * part) / expected).min(1.0), &format!("{title}: {step}"));
        })?;
        for (group, sample) in samples {
            report.add(job.layout(), &group, &subject.name, sample);
        }
        done += own;
    }
    report.finish();
    Ok(report)
}

/// Writes `compare.json`, `compare.md`, `compare.txt` and `compare.svg`.
pub fn write(report: &Report, directory: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(directory).map_err(io(format!("create {}", directory.display())))?;
    for (name, text) in [
        ("compare.json", serde_json::to_string_pretty(report)?),
        ("compare.md", report.markdown()),
        ("compare.txt", report.text()),
        ("compare.svg", plot::svg(report)?),
    ] {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(io(format!("write {}", path.display())))?;
    }
    Ok(())
}
