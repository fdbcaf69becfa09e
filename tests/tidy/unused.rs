//! Files that nobody uses: sources outside every program, documents that no reader finds, scripts, protocols and images
//! that nothing names.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use crate::{
    files::Files,
    lines::{links, quoted},
    tokens::{Token, tokens},
};

/// Where a reader begins.
const FIRST_READ: [&str; 3] = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
/// Where cargo looks for programs by itself: each file is one.
const PROGRAMS: [&str; 4] = ["src/bin", "tests", "benches", "examples"];
const IMAGES: [&str; 4] = ["svg", "png", "jpg", "gif"];

/// Rust files that no target of a manifest reaches by `mod` lines.
pub fn sources(files: &Files) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut open =
        files.ending("toml").flat_map(|(path, text)| targets(files, path, text)).collect::<Vec<_>>();
    // A target's own modules lie beside it, those of others in a folder of their name.
    let roots = open.iter().cloned().collect::<BTreeSet<_>>();
    while let Some(path) = open.pop() {
        if files.has(&path) && reached.insert(path.clone()) {
            let dir = path.parent().expect("a file is in a folder");
            let below = if roots.contains(&path) { dir.to_owned() } else { path.with_extension("") };
            open.extend(modules(dir, &below, files.text(&path)));
        }
    }
    let unused = files.ending("rs").filter(|(path, _)| !reached.contains(*path));
    unused.map(|(path, _)| format!("{}: no target reaches it by `mod`", path.display())).collect()
}

/// The first files of what a manifest builds.
fn targets(files: &Files, manifest: &Path, text: &str) -> Vec<PathBuf> {
    if manifest.file_name().is_none_or(|name| name != "Cargo.toml") {
        return Vec::new();
    }
    let dir = manifest.parent().expect("a file is in a folder");
    let named = text.lines().filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"'));
    let known = ["src/lib.rs", "src/main.rs", "build.rs"].into_iter().chain(named).map(|path| dir.join(path));
    let found = files.ending("rs").map(|(path, _)| path).filter(|path| {
        PROGRAMS.iter().any(|programs| path.parent().is_some_and(|own| own == dir.join(programs)))
    });
    known.chain(found.map(Path::to_owned)).collect()
}

/// The files of the `mod x;` lines of a file in `dir` whose modules lie in `below`.
fn modules(dir: &Path, below: &Path, text: &str) -> Vec<PathBuf> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    // Of the blocks around: the name of an inline module, none of others.
    let mut around: Vec<Option<&str>> = Vec::new();
    let mut given = None;
    for (at, token) in tokens.iter().enumerate() {
        match (token, tokens.get(at + 1), tokens.get(at + 2)) {
            (Token::Word("path"), Some(Token::Mark("=")), Some(Token::Text(path))) => given = Some(*path),
            (Token::Word("mod"), Some(Token::Word(name)), Some(Token::Mark(";"))) => {
                let inside = || around.iter().flatten().fold(below.to_owned(), |dir, name| dir.join(name));
                found.push(match given.take() {
                    Some(path) => dir.join(path),
                    None => inside().join(format!("{name}.rs")),
                });
            }
            (Token::Mark("{"), ..) => {
                around.push(match tokens[..at] {
                    [.., Token::Word("mod"), Token::Word(name)] => Some(name),
                    _ => None,
                });
            }
            (Token::Mark("}"), ..) => drop(around.pop()),
            _ => {}
        }
    }
    found
}

/// Documents that no path of links leads to, from those that are read first. A folder that is named leads to all that
/// lies in it: its list is the link.
pub fn documents(files: &Files) -> Vec<String> {
    let documents = files.ending("md").map(|(path, _)| path).collect::<Vec<_>>();
    let mut reached = BTreeSet::new();
    let mut open = FIRST_READ.iter().map(PathBuf::from).collect::<Vec<_>>();
    while let Some(path) = open.pop() {
        if !documents.contains(&path.as_path()) || !reached.insert(path.clone()) {
            continue;
        }
        let text = files.text(&path);
        for named in links(&path, text).chain(quoted(text).map(PathBuf::from)) {
            let named = plain(&named);
            let inside = |path: &&&Path| named.components().count() > 1 && path.parent() == Some(&named);
            open.extend(documents.iter().filter(inside).map(|path| path.to_path_buf()));
            open.push(named);
        }
    }
    let unused = documents.iter().filter(|path| !reached.contains(**path));
    unused.map(|path| format!("{}: no link leads to it", path.display())).collect()
}

/// `docs/../x` as `x`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// Scripts, protocols and images whose name stands in no other file.
pub fn others(files: &Files) -> Vec<String> {
    let is_other = |path: &&Path| match path.extension().map(|extension| extension.to_string_lossy()) {
        Some(extension) => ["sh", "proto"].contains(&&*extension) || IMAGES.contains(&&*extension),
        // A machine's way in is called from outside.
        None => {
            path.components().count() > 1
                && files.texts().any(|(known, _)| known == *path)
                && !path.starts_with(".ci")
        }
    };
    let unused = files.paths().filter(is_other).filter(|path| {
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        // Words such as `test` stand everywhere: a script is named with its folder.
        let name = if path.extension().is_some() { name.into_owned() } else { format!("/{name}") };
        !files.texts().any(|(other, text)| other != *path && names(text, &name))
    });
    unused.map(|path| format!("{}: nothing names it", path.display())).collect()
}

/// Whether `name` stands in a text, and is not the beginning or end of a longer one.
fn names(text: &str, name: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || "_-".contains(c);
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + name.len()..].chars().next());
        (name.starts_with('/') || before.is_none_or(|c| !goes_on(c))) && after.is_none_or(|c| !goes_on(c))
    })
}

#[test]
fn every_rule_can_fail() {
    let manifest = "[package]\n[[bin]]\nname = \"f\"\npath = \"odd/f.rs\"\n";
    let sound = [
        ("Cargo.toml", manifest),
        ("src/lib.rs", "pub mod a;\n// mod none;"),
        ("src/a.rs", "mod b; #[path = \"c/d.rs\"]\nmod d; mod inner { mod e; }"),
        ("src/a/b.rs", ""),
        ("src/c/d.rs", ""),
        ("src/a/inner/e.rs", ""),
        ("odd/f.rs", ""),
        ("tests/g.rs", "mod inline { mod h; }"),
        ("tests/inline/h.rs", ""),
        ("README.md", "[docs](docs/x.md), `docs/records`, scripts/run"),
        ("docs/x.md", "![](x.svg) [y](y.md)"),
        ("docs/y.md", ""),
        ("docs/records/1.md", "[back](../x.md)"),
        ("docs/x.svg", ""),
        ("scripts/run", "#!/bin/sh"),
        ("proto/z.proto", ""),
        ("build.rs", "\"z.proto\""),
    ];
    let all = |files: &Files| {
        let complaints = sources(files).into_iter().chain(documents(files)).chain(others(files));
        complaints.collect::<Vec<_>>()
    };
    let with = |more: (&'static str, &'static str)| Files::of(sound.into_iter().chain([more]));
    assert_eq!(all(&Files::of(sound)), Vec::<String>::new());
    for unused in [
        ("src/none.rs", ""),
        ("src/b.rs", "mod b;"),
        ("tests/inline/deep/x.rs", ""),
        ("odd/src/lib.rs", ""),
        ("docs/lonely.md", "[y](y.md)"),
        ("docs/unnamed.svg", ""),
        ("scripts/runs", "#!/bin/sh"),
        ("proto/a-z.proto", ""),
    ] {
        let complaints = all(&with(unused));
        assert!(complaints.len() == 1 && complaints[0].starts_with(unused.0), "{unused:?}: {complaints:?}");
    }
}
