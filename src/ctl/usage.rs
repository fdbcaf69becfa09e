//! What the help says, in upstream's words, of the commands that are here.

pub const ROOT: &str = "\
Usage:
  etcdutl [command]

Available Commands:
  hashkv      Prints the KV history hash of a given file
  help        Help about any command
  snapshot    Manages etcd node snapshots
  version     Prints the version of etcdutl

Flags:
  -h, --help               help for etcdutl
      --timeout duration   time to wait to obtain a file lock on db file, 0 to block indefinitely (default 10s)
  -w, --write-out string   set the output format (fields, json, protobuf, simple, table) (default \"simple\")

Use \"etcdutl [command] --help\" for more information about a command.
";

macro_rules! global {
    () => {
        "
Global Flags:
      --timeout duration   time to wait to obtain a file lock on db file, 0 to block indefinitely (default 10s)
  -w, --write-out string   set the output format (fields, json, protobuf, simple, table) (default \"simple\")
"
    };
}

pub const SNAPSHOT: &str = concat!(
    "\
Usage:
  etcdutl snapshot [command]

Available Commands:
  restore     Restores an etcd member snapshot to an etcd directory
  status      Gets backend snapshot status of a given file

Flags:
  -h, --help   help for snapshot
",
    global!(),
    "
Use \"etcdutl snapshot [command] --help\" for more information about a command.
"
);

pub const STATUS: &str = concat!(
    "\
Usage:
  etcdutl snapshot status <filename> [flags]

Flags:
  -h, --help   help for status
",
    global!()
);

pub const RESTORE: &str = concat!(
    "\
Usage:
  etcdutl snapshot restore <filename> --data-dir {output dir} [options] [flags]

Flags:
      --bump-revision uint                   How much to increase the latest revision after restore
      --data-dir string                      Path to the output data directory
  -h, --help                                 help for restore
      --initial-advertise-peer-urls string   List of this member's peer URLs to advertise to the rest of the cluster (default \"http://localhost:2380\")
      --initial-cluster string               Initial cluster configuration for restore bootstrap (default \"default=http://localhost:2380\")
      --initial-cluster-token string         Initial cluster token for the etcd cluster during restore bootstrap (default \"etcd-cluster\")
      --initial-memory-map-size uint         Initial memory map size of the database in bytes. It uses the default value if not defined or defined to 0 (default 10737418240)
      --mark-compacted                       Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, disallowed otherwise)
      --name string                          Human-readable name for this member (default \"default\")
      --skip-hash-check                      Ignore snapshot integrity hash value (required if copied from data directory)
      --wal-dir string                       Path to the WAL directory (use --data-dir if none given)
",
    global!()
);

pub const HASHKV: &str = concat!(
    "\
Usage:
  etcdutl hashkv <filename> [flags]

Flags:
  -h, --help      help for hashkv
      --rev int   maximum revision to hash (default: latest revision)
",
    global!()
);

pub const VERSION: &str = concat!(
    "\
Usage:
  etcdutl version [flags]

Flags:
  -h, --help   help for version
",
    global!()
);
