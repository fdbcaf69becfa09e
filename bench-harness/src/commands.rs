//! One file per command: flags in, text or JSON out, the work itself is in the library.

mod compare;
mod flamegraph;
mod load;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Puts load on a running server and prints throughput, latency percentiles and errors.
    Load(load::Arguments),
    /// Starts Pinion, another build of it and upstream etcd in turn, loads each in the same ways and prints what each took.
    Compare(Box<compare::Arguments>),
    /// Records a server under load with perf and draws a flame graph.
    Flamegraph(bench_harness::flamegraph::Options),
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Load(arguments) => load::run(arguments),
        Command::Compare(arguments) => compare::run(*arguments),
        Command::Flamegraph(options) => flamegraph::run(options),
    }
}
