//! Which modules a source names, and which it reaches through them: a name that one module re-exports from another leads
//! to both.
//!
//! It resolves names as the language does, as far as modules go: `crate`, `super`, `self`, children, names brought in by
//! `use`. An inline `mod x { .. }` counts as its file. Tests may use what they like.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::tokens::{Token, tokens};

/// `crate::a::b` as its names; empty for the crate.
pub type Module = Vec<String>;

/// More re-exports than that in a row are taken for a circle.
const HOPS_MAX: usize = 16;

#[derive(Default)]
struct Source {
    /// What a name means here that was brought in by `use`.
    bound: BTreeMap<String, Vec<String>>,
    /// Every path in it, those of `use` as well.
    paths: BTreeSet<Vec<String>>,
    /// `pub use x::*`
    everything: Vec<Vec<String>>,
}

/// The modules that each module names or reaches.
pub fn reached<'a>(files: impl Iterator<Item = (&'a Path, &'a str)>) -> BTreeMap<Module, BTreeSet<Module>> {
    let sources = sources(files);
    let mut all = BTreeMap::new();
    for (module, source) in &sources {
        let mut reached = BTreeSet::new();
        for path in &source.paths {
            follow(&sources, module, path, 0, &mut reached);
        }
        reached.remove(module);
        all.insert(module.clone(), reached);
    }
    all
}

/// Every path that a file names, whether of this crate or another.
pub fn named(path: &Path, text: &str) -> BTreeSet<Vec<String>> {
    source(&without_tests(path, text)).paths
}

/// Re-exports that do not say of what.
pub fn hidden<'a>(files: impl Iterator<Item = (&'a Path, &'a str)>) -> Vec<String> {
    let all = sources(files).into_iter().flat_map(|(module, source)| {
        source.everything.into_iter().map(move |path| (module.join("::"), path.join("::")))
    });
    all.map(|(module, path)| format!("crate::{module}: `pub use {path}::*` does not say what it hands on"))
        .collect()
}

fn sources<'a>(files: impl Iterator<Item = (&'a Path, &'a str)>) -> BTreeMap<Module, Source> {
    let sources =
        files.filter_map(|(path, text)| Some((module_of(path)?, source(&without_tests(path, text)))));
    sources.collect()
}

/// None for `main.rs`, which is another crate.
fn module_of(path: &Path) -> Option<Module> {
    let path = path.with_extension("");
    let names = path.iter().skip(1).map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>();
    match &names[..] {
        [only] if only == "main" => None,
        [only] if only == "lib" => Some(Vec::new()),
        _ => Some(names),
    }
}

fn without_tests(path: &Path, text: &str) -> String {
    if path.iter().any(|part| part == "tests" || part == "tests.rs") {
        return String::new();
    }
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].to_string()
}

fn source(text: &str) -> Source {
    let tokens = tokens(text);
    let mut source = Source::default();
    let mut at = 0;
    while at < tokens.len() {
        match (tokens[at], tokens.get(at + 1)) {
            // `+ use<'a>` is no import.
            (Token::Word("use"), next) if next != Some(&Token::Mark("<")) => {
                let public = at > 0 && matches!(tokens[at - 1], Token::Word("pub") | Token::Mark(")"));
                at += 1;
                let mut imports = Vec::new();
                import(&tokens, &mut at, Vec::new(), &mut imports);
                for (path, name) in imports {
                    match &name[..] {
                        "*" if public => source.everything.push(path.clone()),
                        "*" => {}
                        _ => drop(source.bound.insert(name, path.clone())),
                    }
                    source.paths.insert(path);
                }
            }
            (Token::Word(_), _) => {
                let path = written(&tokens, &mut at);
                if path.len() > 1 {
                    source.paths.insert(path);
                }
            }
            // What follows `<T>::` is no path of its own.
            (Token::Mark("::" | "."), Some(Token::Word(_))) => at += 2,
            _ => at += 1,
        }
    }
    source
}

/// `a::b::c` from `at` on, which is left behind it.
fn written(tokens: &[Token<'_>], at: &mut usize) -> Vec<String> {
    let mut path = Vec::new();
    while let Some(Token::Word(word)) = tokens.get(*at) {
        path.push((*word).to_owned());
        *at += 1;
        match (tokens.get(*at), tokens.get(*at + 1)) {
            (Some(Token::Mark("::")), Some(Token::Word(_))) => *at += 1,
            _ => break,
        }
    }
    path
}

/// One tree of a `use`: paths and the names they get here.
fn import(tokens: &[Token<'_>], at: &mut usize, before: Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
    if tokens.get(*at) == Some(&Token::Mark("::")) {
        *at += 1;
    }
    let mut path = before;
    path.extend(written(tokens, at));
    if tokens.get(*at) == Some(&Token::Mark("::")) {
        *at += 1;
    }
    match tokens.get(*at) {
        Some(Token::Mark("*")) => {
            *at += 1;
            found.push((path, "*".to_owned()));
        }
        Some(Token::Mark("{")) => {
            while !matches!(tokens.get(*at), None | Some(Token::Mark("}"))) {
                *at += 1;
                if tokens.get(*at) != Some(&Token::Mark("}")) {
                    import(tokens, at, path.clone(), found);
                }
            }
            *at += 1;
        }
        next => {
            if path.len() > 1 {
                path.pop_if(|last| last == "self");
            }
            let mut name = path.last().cloned().unwrap_or_default();
            if next == Some(&Token::Word("as"))
                && let Some(Token::Word(own)) = tokens.get(*at + 1)
            {
                name = (*own).to_owned();
                *at += 2;
            }
            found.push((path, name));
        }
    }
}

/// Adds the modules that `path`, written in `from`, leads to.
fn follow(
    sources: &BTreeMap<Module, Source>,
    from: &Module,
    path: &[String],
    hops: usize,
    reached: &mut BTreeSet<Module>,
) {
    if hops > HOPS_MAX {
        return;
    }
    let child = |module: &Module, name: &String| {
        let child = module.iter().chain([name]).cloned().collect::<Module>();
        sources.contains_key(&child).then_some(child)
    };
    let (mut here, mut rest) = match &path[0][..] {
        "crate" => (Vec::new(), &path[1..]),
        "self" => (from.clone(), &path[1..]),
        "super" => (from.clone(), path),
        _ if child(from, &path[0]).is_some() || sources[from].bound.contains_key(&path[0]) => {
            (from.clone(), path)
        }
        // Of another crate, or a type of this file.
        _ => return,
    };
    while let [name, after @ ..] = rest {
        if name == "super" {
            here.pop();
        } else if let Some(child) = child(&here, name) {
            here = child;
        } else {
            if let Some(target) = sources[&here].bound.get(name) {
                let target = target.iter().chain(after).cloned().collect::<Vec<_>>();
                follow(sources, &here, &target, hops + 1, reached);
            }
            break;
        }
        rest = after;
    }
    reached.insert(here);
}

#[test]
fn every_rule_can_fail() {
    let files = crate::files::Files::of([
        ("src/lib.rs", "pub mod a;"),
        ("src/a.rs", "pub use crate::b::{B, c::C as D}; pub use self::e::F; mod e;"),
        ("src/a/e.rs", "use super::super::f; fn f() -> f::G { super::B::new() }"),
        ("src/b.rs", "pub mod c; pub struct B;"),
        ("src/b/c.rs", "// crate::f::G\n#[cfg(test)]\nmod tests { use crate::f; }"),
        ("src/f.rs", "use crate::a::{self, D}; use std::a::b; const E: &str = \"crate::b::B\";"),
        ("src/g.rs", "use crate::a::e as h; fn g() { <X as Y>::b::c(); h::F::new(); crate::a::B::new() }"),
        ("src/h.rs", "pub use crate::b::*; pub(crate) use super::f::*; use crate::b::*;"),
        ("src/main.rs", "crate::h::x"),
    ]);
    let reached = reached(files.below("src"));
    let module = |name: &str| name.split("::").map(str::to_owned).collect::<Module>();
    for (name, expected) in [
        ("a", "a::e b b::c"),
        ("a::e", "a b f"),
        ("b", ""),
        ("b::c", ""),
        ("f", "a b::c"),
        ("g", "a a::e b"),
        ("h", "b f"),
    ] {
        let found = reached[&module(name)].iter().map(|module| module.join("::")).collect::<Vec<_>>();
        assert_eq!(found.join(" "), expected, "of {name}");
    }
    assert_eq!(hidden(files.below("src")).len(), 2);
}
