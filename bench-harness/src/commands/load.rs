//! `bench-harness load`.

use bench_harness::load::{self, Phase};
use indicatif::{ProgressBar, ProgressStyle};

/// Of the progress bar.
const STEPS: u64 = 1000;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: load::Options,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Drawn on standard error, and not at all when that is not a terminal.
    let bar = ProgressBar::new(STEPS);
    bar.set_style(ProgressStyle::with_template("{bar:40} {percent:>3}% {msg}")?);
    let summary = load::run(&arguments.options, &mut |phase| match phase {
        Phase::Started(_) => bar.set_message("measuring"),
        Phase::Progress { part, live } => {
            bar.set_position((part * STEPS as f64) as u64);
            bar.set_message(format!("{} done", live.completed()));
        }
        Phase::Ended(_) => bar.set_message("waiting for the last replies"),
    })?;
    bar.finish_and_clear();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        println!("{summary}");
    }
    anyhow::ensure!(summary.errors == 0, "{} operations failed", summary.errors);
    Ok(())
}
