//! House rules that a compiler does not check, over every file of the repository.
//!
//! A rule is a function from text to complaints; `every_rule_can_fail` feeds each one what it must
//! refuse.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

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

#[test]
fn the_table_in_lib_matches_the_sources() {
    let sources = rust_files("src");
    let lib = read(&root().join("src/lib.rs"));
    let uses = sources.iter().filter_map(|path| {
        let module = module_of(path)?;
        Some((module, used_modules(&without_tests(path, &read(&root().join(path))))))
    });
    complain(table(&lib, uses.collect()));
}

#[test]
fn sources_keep_the_house_rules() {
    let mut complaints = Vec::new();
    for path in files() {
        let text = read(&root().join(&path));
        let mut rules: Vec<fn(&Path, &str) -> Vec<String>> = vec![unfinished, machine_paths];
        if path.extension().is_some_and(|extension| extension == "rs") {
            rules.extend([length as fn(&Path, &str) -> Vec<String>, names, module_docs]);
            if path.starts_with("src") {
                rules.push(swallowed_errors);
            }
        }
        complaints.extend(rules.iter().flat_map(|rule| rule(&path, &text)));
    }
    complain(complaints);
}

#[test]
fn documents_name_only_files_that_exist() {
    let documents = files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "md"));
    complain(documents.flat_map(|path| missing_files(&path, &read(&root().join(&path)))).collect());
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

    let lib = "//! | folder | what | may use |\n//! |---|---|---|\n//! | a | x | b |\n//! | b | x | |\n\
               pub mod a;\npub mod b;\n";
    let uses = |text: &str| vec![("a".to_string(), used_modules(text)), ("b".to_string(), BTreeSet::new())];
    assert_eq!(table(lib, uses("use crate::b::c;")), Vec::<String>::new());
    assert_eq!(table(lib, uses("use crate::{\n    a::x,\n    b::{c, d},\n    e,\n};")).len(), 1);
    assert_eq!(table(lib, uses("// crate::e")).len(), 1, "an edge the table claims but nobody uses");
    assert_eq!(table(&lib.replace("pub mod b;", "pub mod b;\npub mod c;"), uses("crate::b::x()")).len(), 1);
    assert_eq!(table(&lib.replace("pub mod b;\n", ""), uses("crate::b::x()")).len(), 1);
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn complain(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every text file that belongs to the project, relative to its root.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        let entries = fs::read_dir(root().join(&dir)).expect("a directory of the repository");
        for entry in entries {
            let entry = entry.expect("an entry of the repository");
            let path = dir.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().expect("the kind of an entry");
            if kind.is_dir() {
                if !["target", ".git", ".tools", "bin", "corpus", "artifacts", "node_modules"]
                    .contains(&name.as_str())
                    && !name.ends_with(".etcd")
                {
                    dirs.push(path);
                }
            } else if kind.is_file() && name != ".git" && is_text(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "the walk found almost nothing");
    found
}

fn is_text(path: &Path) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some(extension) => ["rs", "md", "toml", "sh", "proto", "go", "yml", "yaml"].contains(&extension),
        None => {
            path.starts_with("scripts") || path.starts_with(".ci") || path.parent() == Some(Path::new(""))
        }
    }
}

fn rust_files(dir: &str) -> Vec<PathBuf> {
    let is_rust = |path: &PathBuf| path.starts_with(dir) && path.extension().is_some_and(|e| e == "rs");
    files().into_iter().filter(is_rust).collect()
}

fn lines_with(path: &Path, text: &str, words: &[&str], why: &str) -> Vec<String> {
    let lines = text.lines().enumerate().filter(|(_, line)| words.iter().any(|word| line.contains(word)));
    lines.map(|(at, line)| format!("{}:{}: {why}: {}", path.display(), at + 1, line.trim())).collect()
}

fn unfinished(path: &Path, text: &str) -> Vec<String> {
    lines_with(path, text, &UNFINISHED, "unfinished")
}

fn machine_paths(path: &Path, text: &str) -> Vec<String> {
    lines_with(path, text, &MACHINE_PATHS, "a path of somebody's machine")
}

fn swallowed_errors(path: &Path, text: &str) -> Vec<String> {
    lines_with(path, text, &SWALLOWED, "swallows an error")
}

fn length(path: &Path, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines, at most {LINES_MAX}", path.display())]
}

fn names(path: &Path, _: &str) -> Vec<String> {
    let parts = path.with_extension("");
    let bad = parts
        .iter()
        .map(|part| part.to_string_lossy())
        .find(|part| FORBIDDEN_NAMES.contains(&part.as_ref()) || part == "mod");
    bad.map(|part| format!("{}: the name {part} says nothing", path.display())).into_iter().collect()
}

/// A test beside its module needs no explanation of what it is for.
fn module_docs(path: &Path, text: &str) -> Vec<String> {
    let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
    if is_tests || !path.starts_with("src") || text.starts_with("//!") {
        return Vec::new();
    }
    vec![format!("{}: does not begin with what it is for (`//!`)", path.display())]
}

/// The top-level module a source file belongs to; none for the crate's own two files.
fn module_of(path: &Path) -> Option<String> {
    let first = path.iter().nth(1)?.to_string_lossy().trim_end_matches(".rs").to_string();
    (first != "lib" && first != "main").then_some(first)
}

/// Tests may use what they like.
fn without_tests(path: &Path, text: &str) -> String {
    if path.iter().any(|part| part == "tests" || part == "tests.rs") {
        return String::new();
    }
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].to_string()
}

/// Every `x` in `crate::x` and `use crate::{x, y::z}` outside comments.
fn used_modules(text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut used = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(group) => used.extend(group_heads(group)),
            None => used.extend(head(rest)),
        }
    }
    used
}

fn head(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// The first names of the members of a `{...}` group whose opening brace is consumed.
fn group_heads(text: &str) -> Vec<String> {
    let (mut depth, mut expects, mut heads) = (0, true, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expects = true,
            c if c.is_whitespace() => {}
            _ if depth == 0 && expects => {
                heads.extend(head(&text[at..]));
                expects = false;
            }
            _ => {}
        }
    }
    heads
}

/// Compares the table, the `pub mod` lines and the real edges.
fn table(lib: &str, uses: Vec<(String, BTreeSet<String>)>) -> Vec<String> {
    let mut rows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("//! |")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [name, _, may_use, ..] = cells[..]
            && name != "folder"
            && !name.starts_with('-')
        {
            let may_use = may_use.split(',').map(str::trim).filter(|name| !name.is_empty());
            rows.insert(name.to_string(), may_use.map(str::to_string).collect());
        }
    }
    let declared: BTreeSet<String> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_string))
        .collect();
    let mut real: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, used) in uses {
        let own = module.clone();
        real.entry(module).or_default().extend(used.into_iter().filter(|name| *name != own));
    }
    let mut complaints = Vec::new();
    for name in declared.iter().filter(|name| !rows.contains_key(*name)) {
        complaints.push(format!("src/lib.rs: module {name} has no row in the table"));
    }
    for name in rows.keys().filter(|name| !declared.contains(*name)) {
        complaints.push(format!("src/lib.rs: the table names {name}, which is no module"));
    }
    for (name, may_use) in &rows {
        let used = real.get(name).cloned().unwrap_or_default();
        for other in used.difference(may_use) {
            complaints.push(format!("src/lib.rs: {name} uses {other}, which the table does not allow"));
        }
        for other in may_use.difference(&used) {
            complaints.push(format!("src/lib.rs: {name} may use {other} and does not"));
        }
    }
    complaints
}

/// Paths in backticks and link targets that look like files of this repository.
fn missing_files(path: &Path, text: &str) -> Vec<String> {
    let top: BTreeSet<String> = fs::read_dir(root())
        .expect("the repository")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let quoted = text.split('`').skip(1).step_by(2).filter(|word| {
        let first = word.split('/').next().unwrap_or_default();
        word.contains('/') && top.contains(first) && !word.contains([' ', '*', '<', '{', '\n'])
    });
    let quoted = quoted.map(|word| root().join(word.split(':').next().unwrap_or(word)));
    let here = root().join(path.parent().unwrap_or(Path::new("")));
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
    let links = links.map(|link| here.join(link.split('#').next().unwrap_or(link)));
    let missing =
        quoted.chain(links).filter(|file| !file.starts_with(root().join("target")) && !file.exists());
    missing
        .map(|file| format!("{}: names {}, which does not exist", path.display(), file.display()))
        .collect()
}
