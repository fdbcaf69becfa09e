//! Rules for one file by itself: its lines, its length, its name, what it says it refers to.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::files::root;

const LINES_MAX: usize = 800;
const FORBIDDEN_NAMES: [&str; 9] =
    ["util", "utils", "common", "manager", "helper", "helpers", "misc", "core", "impl"];
/// Written in two parts so that this file passes its own rules.
const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[ig", "nore"),
];
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/tmp/", "etcd"), concat!("/tmp/", "oracle"), concat!("/ro", "ot/")];
const SWALLOWED: [&str; 2] = [concat!("let ", "_ ="), concat!(".ok", "();")];

fn lines_with(path: &Path, text: &str, words: &[&str], why: &str) -> Vec<String> {
    let lines = text.lines().enumerate().filter(|(_, line)| words.iter().any(|word| line.contains(word)));
    lines.map(|(at, line)| format!("{}:{}: {why}: {}", path.display(), at + 1, line.trim())).collect()
}

pub fn unfinished(path: &Path, text: &str) -> Vec<String> {
    lines_with(path, text, &UNFINISHED, "unfinished")
}

pub fn machine_paths(path: &Path, text: &str) -> Vec<String> {
    lines_with(path, text, &MACHINE_PATHS, "a path of somebody's machine")
}

pub fn swallowed_errors(path: &Path, text: &str) -> Vec<String> {
    lines_with(path, text, &SWALLOWED, "swallows an error")
}

pub fn length(path: &Path, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines, at most {LINES_MAX}", path.display())]
}

pub fn names(path: &Path, _: &str) -> Vec<String> {
    let parts = path.with_extension("");
    let bad = parts
        .iter()
        .map(|part| part.to_string_lossy())
        .find(|part| FORBIDDEN_NAMES.contains(&part.as_ref()) || part == "mod");
    bad.map(|part| format!("{}: the name {part} says nothing", path.display())).into_iter().collect()
}

/// A test beside its module needs no explanation of what it is for.
pub fn module_docs(path: &Path, text: &str) -> Vec<String> {
    let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
    if is_tests || !path.starts_with("src") || text.starts_with("//!") {
        return Vec::new();
    }
    vec![format!("{}: does not begin with what it is for (`//!`)", path.display())]
}

/// Paths in backticks and link targets that look like files of this repository.
pub fn missing_files(path: &Path, text: &str) -> Vec<String> {
    let top: BTreeSet<String> = fs::read_dir(root())
        .expect("the repository")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let quoted = quoted(text).filter(|word| {
        let first = word.split('/').next().unwrap_or_default();
        word.contains('/') && top.contains(first) && !word.contains([' ', '*', '<', '{', '\n'])
    });
    let named = quoted.map(|word| PathBuf::from(word.split(':').next().unwrap_or(word)));
    let missing = named
        .chain(links(path, text))
        .map(|file| root().join(file))
        .filter(|file| !file.starts_with(root().join("target")) && !file.exists());
    missing
        .map(|file| format!("{}: names {}, which does not exist", path.display(), file.display()))
        .collect()
}

/// What stands in backticks.
pub fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The files that a document links to, from the root.
pub fn links(path: &Path, text: &str) -> impl Iterator<Item = PathBuf> {
    let here = path.parent().unwrap_or(Path::new("")).to_owned();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
    links.map(move |link| here.join(link.split('#').next().unwrap_or(link)))
}

#[test]
fn every_rule_can_fail() {
    let path = Path::new("src/a/b.rs");
    assert_eq!(length(path, &"x\n".repeat(LINES_MAX + 1)).len(), 1);
    assert_eq!(length(path, &"x\n".repeat(LINES_MAX)).len(), 0);
    for word in UNFINISHED {
        assert_eq!(unfinished(path, &format!("a\n// {word}")).len(), 1, "{word}");
    }
    for word in MACHINE_PATHS {
        assert_eq!(machine_paths(path, &format!("\"{word}x\"")).len(), 1, "{word}");
    }
    for word in SWALLOWED {
        assert_eq!(swallowed_errors(path, &format!("    x{word} y")).len(), 1, "{word}");
    }
    for name in ["src/util.rs", "src/core/a.rs", "src/a/mod.rs"] {
        assert_eq!(names(Path::new(name), "").len(), 1, "{name}");
    }
    assert_eq!(module_docs(path, "use a;").len(), 1);
    assert_eq!(missing_files(Path::new("README.md"), "see `src/lib.rs`, [it](docs/none.md)").len(), 1);
    assert_eq!(missing_files(Path::new("docs/x.md"), "`src/none.rs` and `tests/tidy.rs`").len(), 1);
}
