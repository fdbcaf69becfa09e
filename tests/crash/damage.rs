//! Changes bytes of a stopped server's log. `docs/log-format.md` draws what is there.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const MAGIC: &[u8] = b"PINIONWL";
/// Within the first segment's header, which a checksum covers.
const IN_HEADER: u64 = 20;
/// What the values of the crash test's writers are padded with: a byte of a payload, not of padding.
const PAYLOAD: u8 = b'x';
const FLIPPED_BYTES: usize = 3;

/// The oldest segment of the log below a data directory. A file of another name is no segment yet, or no longer.
pub fn first_segment(data_dir: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut directories = vec![data_dir.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("list a directory") {
            let path = entry.expect("read a directory entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "wal")
                && fs::read(&path).expect("read a file").starts_with(MAGIC)
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found.into_iter().next().unwrap_or_else(|| panic!("no log segment below {}", data_dir.display()))
}

/// Cuts every segment of the checkpoint to nothing while a server may be using it.
pub fn cut_checkpoint(data_dir: &Path) {
    let directory = data_dir.join("member/shard-0/snap");
    let mut cut = 0;
    for entry in fs::read_dir(&directory).expect("list the checkpoint's files") {
        let path = entry.expect("read a directory entry").path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            fs::File::options().write(true).open(&path).and_then(|file| file.set_len(0)).expect("cut a file");
            cut += 1;
        }
    }
    assert!(cut > 0, "no segments in {}", directory.display());
}

/// Offsets to damage: in the header, and in payloads early, in the middle and late, but before the last batch.
pub fn spots(segment: &Path) -> Vec<u64> {
    let bytes = fs::read(segment).expect("read the segment");
    let used = bytes.iter().rposition(|&byte| byte == PAYLOAD).expect("payloads in the segment");
    let payload_after = |offset: usize| {
        let within = bytes[offset..].iter().position(|&byte| byte == PAYLOAD).expect("payloads to the end");
        (offset + within) as u64
    };
    let mut spots = vec![IN_HEADER];
    spots.extend([used / 8, used / 2, used / 4 * 3].map(payload_after));
    spots
}

/// Changes a few bytes; call what it returns to change them back.
pub fn flip(segment: &Path, offset: u64) -> impl FnOnce() + use<> {
    let segment = segment.to_owned();
    let file = fs::File::options().read(true).write(true).open(&segment).expect("open the segment");
    let mut before = [0; FLIPPED_BYTES];
    file.read_exact_at(&mut before, offset).expect("read the spot");
    file.write_all_at(&before.map(|byte| !byte), offset).expect("damage the spot");
    move || file.write_all_at(&before, offset).expect("repair the spot")
}
