//! The same command lines to upstream's etcdutl and to ours.

use std::{fs, path::Path};

use pinion::backup::Metadata;

use super::{
    file,
    upstream::{Run, etcdutl, oracle},
    workload,
};

const STATUS: &str = "snapshot status";

/// Command lines that must have the same output, errors and exit code.
const SAME: &[&str] = &[
    "version",
    "version extra",
    "version -h",
    "vers",
    "snapshot",
    "snapshot -h",
    "snapshot save x",
    "help snapshot",
    "help snapshot status",
    "hashkv --help",
    "unknown",
    STATUS,
    "snapshot status a b",
    "snapshot status none.db",
    "snapshot status none.db -w xml",
    "snapshot status small.db -w xml",
    "snapshot status -w small.db",
    "snapshot status --bad small.db",
    "snapshot status -x small.db",
    "snapshot status small.db --write-out",
    "snapshot status small.db -w",
    "snapshot status text",
    "snapshot status .",
    "snap stat small.db",
    "snapshot status small.db",
    "snapshot status small.db -w simple",
    "snapshot status small.db -wtable",
    "snapshot status --write-out=json small.db",
    "snapshot status small.db -w fields",
    "snapshot status small.db -w json -w simple",
    "snapshot status large.db -w table",
    "snapshot status large.db -w simple",
    "--write-out table hashkv large.db",
    "hashkv",
    "hashkv a b",
    "hashkv none.db",
    "hashkv none.db -w xml",
    "hashkv small.db --rev x",
    "hashkv small.db --rev=99999999999999999999",
    "hashkv small.db --rev 99",
    "hashkv small.db --rev -1 -w json",
    "hashkv large.db",
    "hashkv large.db --rev 700 -w fields",
    "hashkv large.db --rev 0x100 -w json",
    "snapshot restore",
    "snapshot restore --help",
    "snapshot restore a b",
    "snapshot restore small.db --mark-compacted",
    "snapshot restore small.db --bump-revision 5",
    "snapshot restore small.db --bump-revision -5",
    "snapshot restore small.db --skip-hash-check=maybe",
    "snapshot restore small.db --name",
    "snapshot restore small.db --name other",
    "snapshot restore small.db --initial-cluster default=there",
    "snapshot restore small.db --initial-cluster default",
    "snapshot restore small.db --initial-advertise-peer-urls here",
    "snapshot restore small.db --data-dir .",
    "snapshot restore small.db --data-dir new --wal-dir .",
];

/// Command lines whose errors must have the same last line; upstream logs what it begins.
const SAME_END: &[&str] = &[
    "snapshot restore none.db --data-dir one",
    "snapshot restore damaged.db --data-dir two",
    "snapshot restore plain.db --data-dir three",
];

pub fn compare(directory: &Path) {
    let metadata = |versions: &[file::Owned]| Metadata {
        revision: versions.last().map_or(1, |version| version.main),
        storage_version: Some("3.7.0".into()),
        ..Metadata::default()
    };
    let (small, large) = (workload::generated(20), workload::generated(2_000));
    let mut bytes = file::write(&metadata(&small), &small);
    let write = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).expect("a file");
    write("small.db", &bytes);
    write("plain.db", &bytes[..bytes.len() - 32]);
    bytes[5_000] ^= 1;
    write("damaged.db", &bytes);
    write("large.db", &file::write(&metadata(&large), &large));
    write("text", b"root:x:0:0");

    let ours = Path::new(env!("CARGO_BIN_EXE_pinion"));
    let theirs = oracle("etcdutl");
    let run = |program: &Path, line: &str| {
        // Upstream opens the files it hashes to write.
        let args: Vec<&str> = line.split(' ').collect();
        etcdutl(program, &args, Some(directory))
    };
    let mut complaints = Vec::new();
    for line in SAME {
        let pair = (run(ours, line), run(&theirs, line));
        if pair.0 != pair.1 {
            complaints.push(format!("etcdutl {line}\nours {:#?}\ntheirs {:#?}", pair.0, pair.1));
        }
    }
    let end = |run: Run| (run.code, run.errors.lines().last().map(str::to_owned));
    for line in SAME_END {
        let pair = (end(run(ours, line)), end(run(&theirs, line)));
        if pair.0 != pair.1 {
            complaints.push(format!("etcdutl {line}\nours {:#?}\ntheirs {:#?}", pair.0, pair.1));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    for begun in ["one", "two", "three"] {
        let refused = directory.join(format!("ours-{begun}"));
        run(ours, &format!("snapshot restore damaged.db --data-dir {}", refused.display()));
        assert!(!refused.exists(), "a refused restore leaves nothing behind");
    }
}
