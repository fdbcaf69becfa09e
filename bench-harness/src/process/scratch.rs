//! Data directories that do not pile up.

use std::io;
use std::path::Path;

/// A directory for the data of this process's runs, removed with the value. What an interrupted run left behind is
/// removed first.
pub fn scratch(work_dir: &Path) -> io::Result<tempfile::TempDir> {
    std::fs::create_dir_all(work_dir)?;
    for entry in std::fs::read_dir(work_dir)? {
        let entry = entry?;
        let ended = |pid: u32| !Path::new(&format!("/proc/{pid}")).exists();
        if entry.file_name().to_str().and_then(owner).is_some_and(ended) {
            match std::fs::remove_dir_all(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {} // another process cleans up as well
            }
        }
    }
    tempfile::Builder::new().prefix(&format!("run-{}-", std::process::id())).tempdir_in(work_dir)
}

/// The pid in `run-PID-RANDOM`.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix("run-")?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ended_processes_left_is_removed() {
        let work = tempfile::tempdir().unwrap();
        for name in ["run-999999999-x", "other"] {
            std::fs::create_dir(work.path().join(name)).unwrap();
        }
        let first = scratch(work.path()).unwrap();
        let second = scratch(work.path()).unwrap();
        assert!(first.path().exists() && second.path().exists() && work.path().join("other").exists());
        assert!(!work.path().join("run-999999999-x").exists());
    }
}
