//! The files of the repository, or those of a case.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What is not the project's: built, fetched, recorded or others' work.
const PASSED_OVER: [&str; 8] =
    ["target", ".git", ".tools", "bin", "corpus", "artifacts", "node_modules", "third_party"];
const TEXTS: [&str; 8] = ["rs", "md", "toml", "sh", "proto", "go", "yml", "yaml"];

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// By their paths from the root; what is no text has none.
pub struct Files(BTreeMap<PathBuf, Option<String>>);

impl Files {
    pub fn of_the_repository() -> Self {
        let mut found = BTreeMap::new();
        let mut dirs = vec![PathBuf::new()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(root().join(&dir)).expect("a directory of the repository") {
                let entry = entry.expect("an entry of the repository");
                let (path, kind) = (dir.join(entry.file_name()), entry.file_type().expect("its kind"));
                let name = entry.file_name().to_string_lossy().into_owned();
                if kind.is_dir() && !PASSED_OVER.contains(&name.as_str()) && !name.ends_with(".etcd") {
                    dirs.push(path);
                } else if kind.is_file() && name != ".git" {
                    let text = is_text(&path).then(|| read(&path));
                    found.insert(path, text);
                }
            }
        }
        assert!(found.len() > 50, "the walk found almost nothing");
        Self(found)
    }

    /// Of a case: all of them texts.
    pub fn of<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(texts.into_iter().map(|(path, text)| (path.into(), Some(text.to_owned()))).collect())
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    pub fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    pub fn texts(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.0.iter().filter_map(|(path, text)| Some((path.as_path(), text.as_deref()?)))
    }

    pub fn text(&self, path: impl AsRef<Path>) -> &str {
        let path = path.as_ref();
        let text = self.0.get(path).and_then(Option::as_deref);
        text.unwrap_or_else(|| panic!("{} is no text of the repository", path.display()))
    }

    pub fn ending(&self, extension: &str) -> impl Iterator<Item = (&Path, &str)> {
        self.texts().filter(move |(path, _)| path.extension().is_some_and(|own| own == extension))
    }

    /// The Rust files below a folder.
    pub fn below(&self, folder: &str) -> impl Iterator<Item = (&Path, &str)> {
        self.ending("rs").filter(move |(path, _)| path.starts_with(folder))
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_text(path: &Path) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some(extension) => TEXTS.contains(&extension),
        // Scripts; beside the root's own, those say in their first line what they are.
        None if path.parent() == Some(Path::new("")) => true,
        None => fs::read(root().join(path))
            .is_ok_and(|bytes| bytes.starts_with(b"#!") || path.starts_with("scripts")),
    }
}
