//! `bench-harness compare`.

use std::path::PathBuf;

use bench_harness::compare;
use indicatif::{ProgressBar, ProgressStyle};

/// Of the progress bar.
const STEPS: u64 = 10_000;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: compare::Options,
    /// Write compare.json, compare.md, compare.txt and compare.svg into this directory.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print the result as JSON instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Drawn on standard error, and not at all when that is not a terminal.
    let bar = ProgressBar::new(STEPS);
    bar.set_style(ProgressStyle::with_template(
        "{bar:30} {percent:>3}% {elapsed} of about {duration} {msg}",
    )?);
    let report = compare::run(&arguments.options, &mut |part, title| {
        bar.set_position((part * STEPS as f64) as u64);
        bar.set_message(title.to_owned());
    })?;
    bar.finish_and_clear();
    if let Some(directory) = &arguments.out {
        compare::write(&report, directory)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    let errors = report.errors();
    anyhow::ensure!(errors == 0, "{errors} operations failed");
    Ok(())
}
