//! Where the upstream programs are that `tests/oracle/build` builds.
//!
//! A missing program is an error that says how to get it, never a reason to skip a test.

use std::path::PathBuf;

/// Set to a directory to use other builds of the upstream programs.
pub const DIRECTORY_VARIABLE: &str = "PINION_ORACLE_DIR";

#[derive(Debug, thiserror::Error)]
#[error("{} is missing: run tests/oracle/build (needs Go), or set {DIRECTORY_VARIABLE}", .0.display())]
pub struct Missing(pub PathBuf);

/// The directory with the upstream programs; it need not exist.
pub fn directory() -> PathBuf {
    match std::env::var_os(DIRECTORY_VARIABLE) {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/bin"),
    }
}

/// The path of `etcd`, `etcdctl`, `etcdutl`, `benchmark` (all 3.7), `etcd-3.5`, `etcdctl-3.5` or `etcd-3.6`.
pub fn program(name: &str) -> Result<PathBuf, Missing> {
    let path = directory().join(name);
    match path.canonicalize() {
        Ok(path) if path.is_file() => Ok(path),
        Ok(_) | Err(_) => Err(Missing(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_what_to_run() {
        let missing = program("no-such-program").unwrap_err();
        assert!(missing.to_string().contains("tests/oracle/build"), "{missing}");
    }
}
