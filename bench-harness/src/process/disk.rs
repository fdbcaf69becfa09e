//! What a directory takes of its disk.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Of `st_blocks`, whatever the block size of the file system (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The blocks allocated to all files below a directory, as `du` counts them. Files that go away meanwhile count as
/// nothing.
pub fn allocated_bytes(directory: &Path) -> io::Result<u64> {
    let mut total = 0;
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let Some(entries) = unless_gone(std::fs::read_dir(&directory))? else { continue };
        for entry in entries {
            let Some(entry) = unless_gone(entry)? else { continue };
            let Some(metadata) = unless_gone(entry.metadata())? else { continue };
            total += metadata.blocks() * BLOCK_BYTES;
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    Ok(total)
}

fn unless_gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(value) => Ok(Some(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_allocated_not_what_is_pretended() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap(); // a real disk
        let deep = directory.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let before = allocated_bytes(directory.path()).unwrap();
        let sparse = std::fs::File::create(deep.join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        let full = std::fs::File::create(deep.join("full")).unwrap();
        std::io::Write::write_all(&mut &full, &vec![1; 1 << 20]).unwrap();
        full.sync_all().unwrap();
        let grown = allocated_bytes(directory.path()).unwrap() - before;
        assert!((1 << 20..2 << 20).contains(&grown), "{grown}");
        assert_eq!(allocated_bytes(&directory.path().join("none")).unwrap(), 0);
    }
}
