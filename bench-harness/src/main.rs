//! The command line of the load generator and the comparison.

mod commands;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(
    name = "bench-harness",
    about = "Load generator and side-by-side comparison with upstream etcd",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> anyhow::Result<()> {
    commands::run(Arguments::parse().command)
}
