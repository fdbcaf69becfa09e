//! What to compare.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::Error;
use super::probe::ProbeOptions;
use super::scenario::Scenario;
use super::scenario::list_storm::ListStormOptions;
use super::scenario::load::LoadOptions;
use super::scenario::maintenance::MaintenanceOptions;
use super::scenario::overwrite::OverwriteOptions;
use crate::load::options_seconds as seconds;
use crate::oracle;
use crate::process::Kind;

/// `NAME=PATH`
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Peer {
    pub name: String,
    pub path: PathBuf,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('=').ok_or("expected NAME=PATH")?;
        Ok(Self { name: name.to_owned(), path: path.into() })
    }
}

/// A server under comparison.
#[derive(Clone, Debug)]
pub struct Subject {
    pub name: String,
    pub kind: Kind,
    pub program: PathBuf,
    pub args: Vec<String>,
}

/// The name Pinion goes by in every report.
pub const PINION: &str = "pinion";

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct Options {
    /// Pinion's binary.
    #[arg(long)]
    pub pinion: Option<PathBuf>,
    /// An upstream server as NAME=PATH, any number of times; without: both of tests/oracle/bin.
    #[arg(long)]
    pub peer: Vec<Peer>,
    /// Compare Pinion with nothing.
    #[arg(long)]
    pub no_peers: bool,
    /// An argument for Pinion, any number of times.
    #[arg(long, allow_hyphen_values = true)]
    pub pinion_arg: Vec<String>,
    /// An argument for every upstream server, any number of times.
    #[arg(long, allow_hyphen_values = true)]
    pub peer_arg: Vec<String>,
    #[arg(
        long = "scenario",
        value_enum,
        value_delimiter = ',',
        default_value = "put,put1,get,get-serializable,txn,mixed,open"
    )]
    pub scenarios: Vec<Scenario>,
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    #[arg(long, default_value_t = 256)]
    pub value_size: usize,
    /// Where the data directories are made: its disk is what is measured.
    #[arg(long, default_value = "target/compare")]
    pub work_dir: PathBuf,
    #[command(flatten)]
    pub load: LoadOptions,
    #[command(flatten)]
    pub stored: StoredOptions,
    #[command(flatten)]
    pub probe: ProbeOptions,
    #[command(flatten)]
    pub maintenance: MaintenanceOptions,
    #[command(flatten)]
    pub list_storm: ListStormOptions,
    #[command(flatten)]
    pub overwrite: OverwriteOptions,
}

/// Of the scenarios about stored state.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of restart, memory, maintenance, list-storm and overwrite")]
#[group(skip)]
pub struct StoredOptions {
    /// Keys that restart and memory put.
    #[arg(long, default_value_t = 1_000_000)]
    pub stored_keys: u64,
    #[arg(long, default_value_t = 24)]
    pub stored_key_size: usize,
    /// A server is at rest when its memory and disk have not changed for this long.
    #[arg(long, value_parser = seconds, default_value = "4")]
    pub rest: Duration,
}

impl Options {
    /// The servers in the order in which they take turns.
    pub fn subjects(&self) -> Result<Vec<Subject>, Error> {
        let mut subjects = Vec::new();
        if let Some(program) = &self.pinion {
            let program = program.canonicalize().map_err(super::io(program.display().to_string()))?;
            let args = self.pinion_arg.clone();
            subjects.push(Subject { name: PINION.to_owned(), kind: Kind::Pinion, program, args });
        }
        let peers = match self.peer.is_empty() {
            _ if self.no_peers => Vec::new(),
            true => ["etcd", "etcd-3.5"]
                .into_iter()
                .map(|name| Ok(Peer { name: name.to_owned(), path: oracle::program(name)? }))
                .collect::<Result<_, Error>>()?,
            false => self.peer.clone(),
        };
        for Peer { name, path } in peers {
            let program = path.canonicalize().map_err(super::io(path.display().to_string()))?;
            subjects.push(Subject { name, kind: Kind::Etcd, program, args: self.peer_arg.clone() });
        }
        let mut names = subjects.iter().map(|subject| &subject.name).collect::<Vec<_>>();
        names.sort();
        names.dedup();
        if names.len() < subjects.len() {
            return Err(Error::Options("two servers have the same name".to_owned()));
        }
        if subjects.is_empty() || self.rounds == 0 {
            return Err(Error::Options("nothing to run: give --pinion or a --peer, and --rounds".to_owned()));
        }
        Ok(subjects)
    }
}
