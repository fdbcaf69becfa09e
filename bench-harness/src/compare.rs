//! Pinion and upstream etcd side by side: the same load on the same disk, one server at a time, runs interleaved
//! (A B C A B C ...), medians compared.
//!
//! | module     | what lives there                                                       |
//! |------------|------------------------------------------------------------------------|
//! | `options`  | what to compare: binaries, scenarios, clients, sizes                   |
//! | `scenario` | what each scenario loads a server with, by either client               |
//! | `measure`  | one run: fresh server, preload, warm-up, load, `/proc` and `/metrics`  |
//! | `upstream` | upstream's own `benchmark` as the client, and its output               |
//! | `report`   | medians and ratios; `table` prints them, `plot` draws them             |
//! | `machine`  | what it ran on                                                         |
//!
//! Everything is bounded in time, and all processes end with this one.

mod machine;
mod measure;
mod options;
mod plot;
mod report;
mod scenario;
mod table;
mod upstream;

pub use machine::Machine;
pub use measure::Sample;
pub use options::{Client, Options, Peer};
pub use report::{Cell, Report};
pub use scenario::Scenario;

use std::path::Path;

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
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("benchmark: {0}")]
    Benchmark(String),
    #[error("preload: {done} of {wanted} keys were put, {errors} failed")]
    Preload { done: u64, wanted: u64, errors: u64 },
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
    let subjects = options.subjects()?;
    let machine = Machine::describe(&options.work_dir).map_err(io("describe the machine"))?;
    let scratch =
        crate::process::scratch(&options.work_dir).map_err(io(options.work_dir.display().to_string()))?;

    let mut plan = Vec::new();
    for round in 0..options.rounds {
        for &scenario in &options.scenarios {
            for client in scenario.clients(options.client) {
                for load in scenario.loads(options) {
                    plan.extend(
                        subjects.iter().map(|subject| (round, scenario, client, load.clone(), subject)),
                    );
                }
            }
        }
    }
    let mut report = Report::new(machine, options, &subjects);
    for (done, (round, scenario, client, load, subject)) in plan.iter().enumerate() {
        let part = |inner: f64| (done as f64 + inner) / plan.len() as f64;
        let title = format!("{} {} {} (round {})", load.name, client.name(), subject.name, round + 1);
        progress(part(0.0), &title);
        let sample =
            measure::run(options, *scenario, *client, load, subject, scratch.path(), &mut |inner| {
                progress(part(inner), &title);
            })?;
        report.add(&load.name, *client, &subject.name, sample);
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
