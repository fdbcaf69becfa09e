//! The command line: what upstream's accepts, and its words for what it does not.

use std::ffi::{OsStr, OsString};

use clap::{
    Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{numbers, restore, usage};

#[derive(Parser, Debug)]
#[command(
    name = "etcdutl",
    infer_subcommands = true,
    disable_help_subcommand = true,
    args_override_self = true,
    override_help = usage::ROOT
)]
struct Cli {
    #[arg(short, long, global = true, default_value = "simple", allow_hyphen_values = true)]
    write_out: String,
    /// Files are only read here, and without a lock.
    #[arg(long, global = true, default_value = "10s", allow_hyphen_values = true, value_parser = numbers::duration)]
    timeout: i64,
    #[command(subcommand)]
    command: Option<Root>,
}

#[derive(Subcommand, Debug)]
enum Root {
    #[command(args_override_self = true, override_help = usage::HASHKV)]
    Hashkv {
        files: Vec<OsString>,
        #[arg(long, default_value = "0", allow_hyphen_values = true, value_parser = numbers::int)]
        rev: i64,
    },
    Help {
        topics: Vec<String>,
    },
    #[command(infer_subcommands = true, disable_help_subcommand = true, override_help = usage::SNAPSHOT)]
    Snapshot {
        #[command(subcommand)]
        command: Option<Nested>,
    },
    #[command(override_help = usage::VERSION)]
    Version {
        #[arg(hide = true)]
        ignored: Vec<OsString>,
    },
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

#[derive(Subcommand, Debug)]
enum Nested {
    #[command(args_override_self = true, override_help = usage::STATUS)]
    Status { files: Vec<OsString> },
    #[command(args_override_self = true, override_help = usage::RESTORE)]
    Restore(restore::Options),
    /// Upstream shows the help, whatever the words.
    #[command(external_subcommand)]
    Other(#[expect(dead_code, reason = "clap wants a place for the words")] Vec<OsString>),
}

/// What to do.
#[derive(Debug)]
pub struct Parsed {
    pub command: Command,
    /// Not checked: upstream does that after the arguments.
    pub format: String,
}

#[derive(Debug)]
pub enum Command {
    Usage(&'static str),
    Version,
    HashKv { file: OsString, revision: i64 },
    Snapshot(Snapshot),
}

#[derive(Debug)]
pub enum Snapshot {
    /// Exactly one, if the command line is right.
    Status {
        files: Vec<OsString>,
    },
    Restore(restore::Options),
}

/// What is wrong, and what would have been right.
#[derive(Debug)]
pub struct Refused {
    pub error: String,
    pub usage: &'static str,
}

pub fn parse(args: &[OsString]) -> Result<Parsed, Refused> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Parsed { command: Command::Usage(usage_of(args)), format: String::new() });
        }
        Err(error) => return Err(Refused { error: text(&error, args), usage: usage_of(args) }),
    };
    let command = match cli.command {
        None | Some(Root::Help { .. }) => Command::Usage(usage_of(args)),
        Some(Root::Version { .. }) => Command::Version,
        Some(Root::Hashkv { files, rev }) => {
            let count = files.len();
            let [file] = <[OsString; 1]>::try_from(files).map_err(|_| Refused {
                error: format!("accepts 1 arg(s), received {count}"),
                usage: usage::HASHKV,
            })?;
            Command::HashKv { file, revision: rev }
        }
        Some(Root::Snapshot { command }) => match command {
            None | Some(Nested::Other(_)) => Command::Usage(usage::SNAPSHOT),
            Some(Nested::Status { files }) => Command::Snapshot(Snapshot::Status { files }),
            Some(Nested::Restore(options)) => Command::Snapshot(Snapshot::Restore(options)),
        },
        Some(Root::Other(words)) => {
            let word = words.first().map(|word| word.display().to_string()).unwrap_or_default();
            let error = format!("unknown command {word:?} for \"etcdutl\"");
            return Err(Refused { error, usage: "Run 'etcdutl --help' for usage." });
        }
    };
    Ok(Parsed { command, format: cli.write_out })
}

/// Upstream's words for what clap found.
fn text(error: &clap::Error, args: &[OsString]) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // As in `--rev <REV>` and `--skip-hash-check[=<SKIP_HASH_CHECK>]`.
    let flag = context(ContextKind::InvalidArg).split([' ', '[']).next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with("--") => format!("unknown flag: {flag}"),
        ErrorKind::UnknownArgument => {
            let letter = flag.trim_start_matches('-');
            let is_given = |arg: &&OsStr| {
                arg.to_str()
                    .is_some_and(|arg| !arg.starts_with("--") && arg.starts_with('-') && arg.contains(letter))
            };
            let given = args.iter().map(OsString::as_os_str).find(is_given).unwrap_or(OsStr::new(flag));
            format!("unknown shorthand flag: '{letter}' in {}", given.display())
        }
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() => {
            match args.last().and_then(|arg| arg.to_str()).filter(|arg| !arg.starts_with("--")) {
                Some(short) => {
                    format!("flag needs an argument: '{}' in {short}", short.trim_start_matches('-'))
                }
                None => format!("flag needs an argument: {flag}"),
            }
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("invalid argument {:?} for {flag:?} flag: {why}", context(ContextKind::InvalidValue))
        }
        _ => error.kind().to_string(),
    }
}

/// The help of the command that the words between the flags name.
fn usage_of(args: &[OsString]) -> &'static str {
    let mut words =
        args.iter().skip(1).filter_map(|arg| arg.to_str()).filter(|word| !word.starts_with('-')).peekable();
    words.next_if(|word| "help".starts_with(word));
    let names =
        |word: Option<&str>, name: &str| word.is_some_and(|word| !word.is_empty() && name.starts_with(word));
    while let Some(word) = words.next() {
        if names(Some(word), "hashkv") {
            return usage::HASHKV;
        }
        if names(Some(word), "version") {
            return usage::VERSION;
        }
        if names(Some(word), "snapshot") {
            let next = words.next();
            return match (names(next, "status"), names(next, "restore")) {
                (true, _) => usage::STATUS,
                (_, true) => usage::RESTORE,
                _ => usage::SNAPSHOT,
            };
        }
    }
    usage::ROOT
}
