//! One file per command: flags in, text or JSON out, the work itself is in the library.

mod load;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Puts load on a running server and prints throughput, latency percentiles and errors.
    Load(load::Arguments),
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Load(arguments) => load::run(arguments),
    }
}
