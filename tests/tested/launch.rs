//! The program under test, and how to start it. Part of several test binaries.

use std::path::{Path, PathBuf};

use bench_harness::process::{Kind, Launch};

/// Set to another program to test that one; a path that ends in `etcd` is started as upstream is.
const PROGRAM_VARIABLE: &str = "PINION_BIN";

pub fn program() -> PathBuf {
    std::env::var_os(PROGRAM_VARIABLE).map_or_else(|| env!("CARGO_BIN_EXE_pinion").into(), PathBuf::from)
}

pub fn kind(program: &Path) -> Kind {
    if program.ends_with("etcd") { Kind::Etcd } else { Kind::Pinion }
}

pub fn launch(program: PathBuf, data_dir: &Path) -> Launch {
    Launch::new(kind(&program), program, data_dir.to_owned())
}
