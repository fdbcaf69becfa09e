//! What `--help`, `--version` and a bad command line print.

use std::fmt::Write;

use super::{
    flags::{SECTIONS, SPECIAL, State},
    gates,
    value::Kind,
};
use crate::types::ETCD_VERSION;

/// The first line is etcd's, so that scripts that read a version find one.
pub fn version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nPinion Version: {}\nOS/Arch: {}/{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

pub fn usage(program: &str) -> String {
    format!(
        "Usage:\n\n  {program} [flags]\n    Start the server.\n\n  {program} --version\n    Print the version.\n\n  \
         {program} -h | --help\n    Print all flags.\n\n  {program} --config-file PATH\n    Start with the settings \
         in a YAML file; other flags and the environment are then ignored.\n    Durations in the file are whole \
         nanoseconds.\n"
    )
}

/// Every flag with its default, by section.
pub fn flags() -> String {
    let mut text = String::new();
    let sections = SECTIONS.iter().copied().chain([("Other", SPECIAL)]);
    for (section, flags) in sections {
        // Writing to a String cannot fail.
        writeln!(text, "\n{section}:").expect("a String takes all");
        for flag in flags {
            let note = match flag.state {
                State::Built => "",
                State::Accepted(_) => " (No effect here.)",
                State::Roadmap { .. } => " (Not built yet: only the default is accepted.)",
            };
            writeln!(text, "  --{} '{}'\n    {}{note}", flag.name, flag.default, flag.help)
                .expect("a String takes all");
            if flag.kind == Kind::Gates {
                let names: Vec<_> = gates::names().collect();
                writeln!(text, "    Known: {}.", names.join(", ")).expect("a String takes all");
            }
        }
    }
    text
}
