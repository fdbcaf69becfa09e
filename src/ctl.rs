//! `pinion` called as `etcdutl`: the offline tool for backup files, with upstream's flags, output, texts and exit codes.
//!
//! A tool, not a server: it maps the file it is given, prints or makes a data directory, and ends. It never writes to
//! that file.

mod args;
mod numbers;
mod print;
mod restore;
mod usage;

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    path::Path,
};

use memmap2::Mmap;

use crate::{
    backup::bbolt,
    backup::{self, Backup, Digest, FileStatus},
    types,
};
use args::{Command, Snapshot};
use print::Format;

/// Upstream's `pkg/cobrautl`.
const FAILED: u8 = 1;
const BAD_FEATURE: u8 = 4;
const BAD_ARGUMENTS: u8 = 128;

/// Why the command failed, and the exit code.
#[derive(Debug, PartialEq, Eq)]
struct Exit {
    code: u8,
    error: String,
}

impl Exit {
    fn failed(error: impl ToString) -> Self {
        Self { code: FAILED, error: error.to_string() }
    }

    fn bad_arguments(error: &str) -> Self {
        Self { code: BAD_ARGUMENTS, error: error.to_string() }
    }
}

/// Runs the command that `args` ask for, the program's name first. Returns the exit code; an error is of the outputs.
pub fn run(args: &[OsString], out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let parsed = match args::parse(args) {
        Ok(parsed) => parsed,
        Err(args::Refused { error, usage }) => {
            // Upstream says it twice, once for the usage and once for the exit.
            writeln!(err, "Error: {error}\n{usage}\nError: {error}")?;
            return Ok(FAILED);
        }
    };
    let result = match parsed.command {
        Command::Usage(text) => {
            out.write_all(text.as_bytes())?;
            return Ok(0);
        }
        Command::Version => {
            let minor = types::ETCD_VERSION.rsplit_once('.').map_or(types::ETCD_VERSION, |(minor, _)| minor);
            writeln!(out, "etcdutl version: {}\nAPI version: {minor}", types::ETCD_VERSION)?;
            return Ok(0);
        }
        Command::HashKv { file, revision } => hash_kv(&file, revision, &parsed.format),
        Command::Snapshot(Snapshot::Status { files }) => status(&files, &parsed.format),
        Command::Snapshot(Snapshot::Restore(options)) => match restore::run(&options) {
            // As upstream's log of it: not on the output.
            Ok(done) => {
                err.write_all(done.as_bytes())?;
                return Ok(0);
            }
            refused => refused,
        },
    };
    match result {
        Ok(text) => {
            out.write_all(text.as_bytes())?;
            Ok(0)
        }
        Err(Exit { code, error }) => {
            writeln!(err, "Error: {error}")?;
            Ok(code)
        }
    }
}

fn status(files: &[OsString], format: &str) -> Result<String, Exit> {
    let [file] = files else {
        return Err(Exit::bad_arguments("snapshot status requires exactly one argument"));
    };
    exists(file)?;
    let format = Format::named(format)?;
    let bytes = map(file)?;
    let status = FileStatus::of(&bytes).map_err(|error| match error {
        backup::Error::File(error @ (bbolt::Error::Page { .. } | bbolt::Error::Truncated { .. })) => {
            Exit::failed(format!("snapshot file integrity check failed. 1 errors found.\n{error}"))
        }
        error => Exit::failed(error),
    })?;
    format.status(&status)
}

fn hash_kv(file: &OsString, revision: i64, format: &str) -> Result<String, Exit> {
    let format = Format::named(format)?;
    exists(file)?;
    let bytes = map(file)?;
    let backup = Backup::open(&bytes, Digest::Skipped).map_err(Exit::failed)?;
    format.hash_kv(&backup.hash_kv(revision).map_err(Exit::failed)?)
}

/// As Go names the call that failed.
fn go_error(call: &str, path: &OsString, error: &io::Error) -> Exit {
    let path = if path.is_empty() { "".into() } else { Path::new(path).display().to_string() };
    let text = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_string(),
        io::ErrorKind::PermissionDenied => "permission denied".to_string(),
        _ => error.to_string(),
    };
    Exit::failed(format!("{call} {path}: {text}"))
}

fn exists(path: &OsString) -> Result<(), Exit> {
    std::fs::metadata(path).map(drop).map_err(|error| go_error("stat", path, &error))
}

fn map(path: &OsString) -> Result<Mapped, Exit> {
    let open = |path: &OsString| -> io::Result<Option<Mmap>> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.len() == 0 {
            return Ok(None);
        }
        // SAFETY: the bytes are only read, as bytes, and every read of them is bounds-checked. A file that someone
        // truncates meanwhile ends this process by SIGBUS, which is all that is lost.
        unsafe { Mmap::map(&file) }.map(Some)
    };
    open(path).map(Mapped).map_err(|error| go_error("open", path, &error))
}

/// The bytes of a file; none if it is empty or not a plain file.
struct Mapped(Option<Mmap>);

impl std::ops::Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}
