//! House rules that a compiler does not check, over every file of the repository.
//!
//! A rule is a function from text to complaints. Beside the rules of each kind stands `every_rule_can_fail`, which feeds
//! each one what it must refuse.

#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/lines.rs"]
mod lines;
#[path = "tidy/machine.rs"]
mod machine;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/table.rs"]
mod table;
#[path = "tidy/tokens.rs"]
mod tokens;
#[path = "tidy/unused.rs"]
mod unused;

use std::path::Path;

use files::Files;

#[test]
fn the_table_in_lib_matches_the_sources() {
    let files = Files::of_the_repository();
    let complaints = paths::hidden(files.below("src"));
    complain(complaints.into_iter().chain(table::compare(files.text("src/lib.rs"), files.below("src"))));
}

#[test]
fn sources_keep_the_house_rules() {
    let files = Files::of_the_repository();
    let complaints = files.texts().flat_map(|(path, text)| {
        let mut rules: Vec<fn(&Path, &str) -> Vec<String>> = vec![lines::unfinished, lines::machine_paths];
        if path.extension().is_some_and(|extension| extension == "rs") {
            rules.extend([lines::length as fn(&Path, &str) -> Vec<String>, lines::names, lines::module_docs]);
            if path.starts_with("src") {
                rules.extend([
                    lines::swallowed_errors as fn(&Path, &str) -> Vec<String>,
                    machine::named_outside_env,
                ]);
            }
        }
        rules.into_iter().flat_map(|rule| rule(path, text)).collect::<Vec<_>>()
    });
    complain(complaints);
}

#[test]
fn documents_name_only_files_that_exist() {
    let files = Files::of_the_repository();
    complain(files.ending("md").flat_map(|(path, text)| lines::missing_files(path, text)));
}

#[test]
fn every_file_is_used() {
    let files = Files::of_the_repository();
    complain(
        unused::sources(&files).into_iter().chain(unused::documents(&files)).chain(unused::others(&files)),
    );
}

fn complain(complaints: impl IntoIterator<Item = String>) {
    let complaints = complaints.into_iter().collect::<Vec<_>>();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
