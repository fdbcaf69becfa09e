//! The servers under comparison.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Error;
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

/// The name of the other build of it.
pub const BASELINE: &str = "baseline";

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[group(skip)]
pub struct SubjectOptions {
    /// Pinion's binary.
    #[arg(long)]
    pub pinion: Option<PathBuf>,
    /// Another build of Pinion's, such as that of the main branch, to see what a change costs. It takes its turn after
    /// `--pinion`, with the same arguments, and is no peer: every table has a row of ratios for it.
    #[arg(long, requires = "pinion")]
    pub baseline: Option<PathBuf>,
    /// An upstream server as NAME=PATH, any number of times; without: both of tests/oracle/bin.
    #[arg(long)]
    pub peer: Vec<Peer>,
    /// No upstream server: Pinion alone, or beside its baseline.
    #[arg(long)]
    pub no_peers: bool,
    /// An argument for Pinion and its baseline, any number of times.
    #[arg(long, allow_hyphen_values = true)]
    pub pinion_arg: Vec<String>,
    /// An argument for every upstream server, any number of times.
    #[arg(long, allow_hyphen_values = true)]
    pub peer_arg: Vec<String>,
}

impl SubjectOptions {
    /// The servers in the order in which they take turns.
    pub fn find(&self) -> Result<Vec<Subject>, Error> {
        let mut subjects = Vec::new();
        let builds = [(PINION, &self.pinion), (BASELINE, &self.baseline)];
        for (name, path) in builds.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?))) {
            let (program, args) = (program(&format!("--{name}"), path)?, self.pinion_arg.clone());
            subjects.push(Subject { name: name.to_owned(), kind: Kind::Pinion, program, args });
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
            let program = program(&format!("--peer {name}"), &path)?;
            subjects.push(Subject { name, kind: Kind::Etcd, program, args: self.peer_arg.clone() });
        }
        let mut names = subjects.iter().map(|subject| &subject.name).collect::<Vec<_>>();
        names.sort();
        names.dedup();
        if names.len() < subjects.len() {
            return Err(Error::Options("two servers have the same name".to_owned()));
        }
        if subjects.is_empty() {
            return Err(Error::Options("nothing to run: give --pinion or a --peer".to_owned()));
        }
        Ok(subjects)
    }
}

/// A file that can be run. It is looked at before anything starts: a wrong path must not show after an hour.
fn program(flag: &str, path: &Path) -> Result<PathBuf, Error> {
    let wrong = |what: &dyn std::fmt::Display| Error::Options(format!("{flag}: {}: {what}", path.display()));
    let found = path.canonicalize().map_err(|error| wrong(&error))?;
    let metadata = found.metadata().map_err(|error| wrong(&error))?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(wrong(&"is no program"));
    }
    Ok(found)
}
