//! The servers under comparison.

use std::path::PathBuf;
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

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[group(skip)]
pub struct SubjectOptions {
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
}

impl SubjectOptions {
    /// The servers in the order in which they take turns.
    pub fn find(&self) -> Result<Vec<Subject>, Error> {
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
        if subjects.is_empty() {
            return Err(Error::Options("nothing to run: give --pinion or a --peer".to_owned()));
        }
        Ok(subjects)
    }
}
