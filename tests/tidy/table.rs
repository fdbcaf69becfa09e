//! The table in `lib.rs` against the real edges. A row is a folder, or a part of one that has rules of its own
//! (`storage/wal`): the longest row that fits owns a file, and an edge goes from row to row.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::paths::{Module, reached};

pub fn compare<'a>(lib: &str, files: impl Iterator<Item = (&'a Path, &'a str)>) -> Vec<String> {
    let rows = rows(lib);
    let edges = reached(files);
    let declared = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let mut complaints = Vec::new();
    for name in declared.filter(|name| !rows.contains_key(*name)) {
        complaints.push(format!("src/lib.rs: module {name} has no row in the table"));
    }
    for name in rows.keys() {
        let module = name.split('/').map(str::to_owned).collect::<Module>();
        if !edges.contains_key(&module) {
            complaints.push(format!("src/lib.rs: the table names {name}, which is no module"));
        }
    }
    let mut used: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for (module, others) in &edges {
        for other in others {
            if let (Some(from), Some(to)) = (owner(&rows, module), owner(&rows, other))
                && from != to
            {
                let example = format!("{} names {}", module.join("::"), other.join("::"));
                used.entry(from).or_default().entry(to).or_insert(example);
            }
        }
    }
    for (name, may_use) in &rows {
        let used = used.remove(&name[..]).unwrap_or_default();
        for (other, example) in used.iter().filter(|(other, _)| !may_use.contains(**other)) {
            complaints
                .push(format!("src/lib.rs: {name} uses {other}, which the table does not allow: {example}"));
        }
        for other in may_use.iter().filter(|other| !used.contains_key(&other[..])) {
            complaints.push(format!("src/lib.rs: {name} may use {other} and does not"));
        }
    }
    complaints
}

/// What each row may use.
fn rows(lib: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut rows = BTreeMap::new();
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
    rows
}

/// The longest row that a module is in.
fn owner<'a>(rows: &'a BTreeMap<String, BTreeSet<String>>, module: &Module) -> Option<&'a str> {
    let names = (1..=module.len()).rev().map(|length| module[..length].join("/"));
    names.into_iter().find_map(|name| rows.get_key_value(&name)).map(|(name, _)| &name[..])
}

#[test]
fn every_rule_can_fail() {
    const LIB: &str = "//! | folder | what | may use |\n//! |---|---|---|\n//! | a | x | b |\n//! | b | x | |\n\
                       //! | b/c | x | |\n//! | b/d | x | b |\npub mod a;\npub mod b;\n";
    let complaints = |lib: &str, a: &str, d: &str| {
        let files = [
            ("src/lib.rs", lib),
            ("src/a.rs", a),
            ("src/b.rs", "mod c; mod d; mod e; pub struct B;"),
            ("src/b/c.rs", ""),
            ("src/b/d.rs", d),
            ("src/b/e.rs", ""),
        ];
        compare(lib, crate::files::Files::of(files).below("src")).join("\n")
    };
    let (a, d) = ("use crate::b::B;", "use super::B; use crate::b::e::x;");
    assert_eq!(complaints(LIB, a, d), "");
    // Edges that the table does not allow, also between parts of one folder and through what is handed on.
    assert!(complaints(LIB, "use crate::{b::{B, c::X}};", d).contains("a uses b/c, which"));
    assert!(complaints(LIB, a, "use super::{B, c::X};").contains("b/d uses b/c, which"));
    assert!(
        complaints(LIB, a, "use crate::b; fn x() { b::c::y(); b::B::z() }").contains("b/d uses b/c, which")
    );
    assert!(complaints(LIB, "pub use crate::b::B;", "use crate::a::B;").contains("b/d uses a, which"));
    assert!(complaints(LIB, "// crate::b", d).contains("a may use b and does not"));
    assert!(complaints(LIB, a, "").contains("b/d may use b and does not"));
    // Rows and modules that do not fit.
    assert!(complaints(&LIB.replace("pub mod b;", "pub mod b;\npub mod f;"), a, d).contains("f has no row"));
    assert!(complaints(&LIB.replace("b/c", "b/f"), a, d).contains("names b/f, which is no module"));
}
