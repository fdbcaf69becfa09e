//! The commands, in order: later ones see what earlier ones did.

mod auth;

use super::output::Shape;

pub struct Step {
    pub args: Vec<String>,
    pub stdin: &'static str,
    pub shape: Shape,
    /// Before the next one, `endpoint status` tells this storage version.
    pub settles: Option<&'static str>,
    /// Before the next one, the lease that came last has ended.
    pub outlives_lease: bool,
}

/// Stand for the ids of the member, and of the learner and the lease that came last.
pub const MEMBER: &str = "{member}";
pub const LEARNER: &str = "{learner}";
pub const LEASE: &str = "{lease}";

fn step(line: &str, shape: Shape) -> Step {
    // Quotes are not needed: an empty argument is written as ''.
    let args = line.split_whitespace().map(|word| if word == "''" { String::new() } else { word.to_owned() });
    Step { args: args.collect(), stdin: "", shape, settles: None, outlives_lease: false }
}

pub fn text(line: &str) -> Step {
    step(line, Shape::Text)
}

pub fn with_input(line: &str, stdin: &'static str, shape: Shape) -> Step {
    Step { stdin, ..step(line, shape) }
}

/// The same command in every output format that prints text.
fn every_format(line: &str, protobuf: Shape) -> Vec<Step> {
    vec![
        text(line),
        step(&format!("{line} -w json"), Shape::Json),
        text(&format!("{line} -w fields")),
        step(&format!("{line} -w table"), Shape::Table),
        step(&format!("{line} -w protobuf"), protobuf),
        step(&format!("{line} -w json --hex"), Shape::Json),
        text(&format!("{line} -w nonsense")),
    ]
}

pub fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(puts());
    steps.extend(gets());
    steps.extend(txns());
    steps.extend(hashes());
    steps.extend(compactions());
    steps.extend(hashes());
    steps.extend(deletes());
    steps.extend(hashes());
    steps.extend(space());
    steps.extend(auth::steps());
    // After every hash: a hash covers their ids, which are drawn.
    steps.extend(leases());
    steps.extend(locks());
    steps.extend(cluster());
    steps.extend(members());
    steps.extend(downgrades());
    steps
}

fn puts() -> Vec<Step> {
    let mut steps: Vec<Step> = ["a", "b", "app", "apple", "banana", "cherry", "k/1", "k/2", "k/3", "zz"]
        .iter()
        .zip(["7", "6", "5", "5", "4", "3", "2", "1", "0", "last"])
        .map(|(key, value)| text(&format!("put {key} {value}")))
        .collect();
    steps.extend(every_format("put a again --prev-kv", Shape::Put));
    steps.extend([
        text("put a ''"),
        text("put new first --prev-kv"),
        with_input("put piped", "a value from a pipe\nwith two lines", Shape::Text),
        text("put a --ignore-value"),
        text("put a x --ignore-lease"),
        text("put a x --ignore-value"),
        text("put none --ignore-value"),
        text("put none x --ignore-lease"),
        text("put a x --lease=1234"),
        text("put a x --lease=nonsense"),
        text("put"),
        text("put '' x"),
    ]);
    steps
}

fn gets() -> Vec<Step> {
    let mut steps = Vec::new();
    for line in ["get a", "get app --prefix", "get none", "get '' --prefix --limit=3"] {
        steps.extend(every_format(line, Shape::Range));
    }
    for options in [
        "a c",
        "a c --limit=2",
        "c a",
        "b --from-key",
        "'' --from-key",
        "'' --prefix",
        "k/ --prefix --rev=9",
        "'' --prefix --rev=5",
        "a --rev=2",
        "a --rev=1",
        "a --rev=-1",
        "a --rev=99999",
        "'' --prefix --keys-only",
        "'' --prefix --keys-only --limit=2 -w fields",
        "'' --prefix --count-only",
        "'' --prefix --count-only -w fields",
        "a --count-only -w json",
        "'' --prefix --print-value-only",
        "'' --prefix --order=DESCEND",
        "'' --prefix --order=ASCEND --limit=4",
        "'' --prefix --sort-by=KEY --order=DESCEND",
        "'' --prefix --sort-by=VALUE --limit=5",
        "k/ --prefix --sort-by=VALUE",
        "'' --prefix --sort-by=CREATE --order=DESCEND",
        "'' --prefix --sort-by=MODIFY --order=DESCEND",
        "k/ --prefix --sort-by=VERSION",
        "'' --prefix --sort-by=NONSENSE",
        "'' --prefix --order=NONSENSE",
        "'' --prefix --min-mod-rev=5 --max-mod-rev=8",
        "'' --prefix --min-create-rev=5 --max-create-rev=8 -w fields",
        "'' --prefix --consistency=s",
        "'' --prefix --consistency=nonsense",
        "'' --prefix --stream",
        "'' --prefix --stream --limit=4",
        "'' --prefix --stream --limit=4 -w json",
        "'' --prefix --stream --sort-by=VALUE",
        "''",
        "a b --prefix",
        "a --prefix --from-key",
        "a --hex",
    ] {
        let shape = if options.ends_with("json") { Shape::Json } else { Shape::Text };
        steps.push(step(&format!("get {options}"), shape));
    }
    steps
}

fn txns() -> Vec<Step> {
    // Compares, then what to do if they hold, then what to do if not; an empty line ends each part.
    let plain = "value(\"b\") = \"6\"\n\nput b 60\nget b\n\nget a\n\n";
    let all = "mod(\"b\") > \"0\"\ncreate(\"b\") < \"100\"\nversion(\"none\") = \"0\"\n\n\
               get \"\" --prefix --keys-only\nput \"two words\" \"a value\"\ndel k/1 --prev-kv\n\nput never 1\n\n";
    let failing = "value(\"b\") = \"nonsense\"\n\nput never 1\n\nget b\nput failed yes --prev-kv\n\n";
    let mut steps = Vec::new();
    for input in [plain, all, failing] {
        for line in ["txn", "txn -i", "txn -w fields"] {
            steps.push(with_input(line, input, Shape::Text));
        }
        steps.push(with_input("txn -w json", input, Shape::Json));
        steps.push(with_input("txn -w protobuf", input, Shape::Txn));
    }
    for input in [
        "\n\n\n",
        "\nput a 1\nput a 2\n\n\n",
        "\nput a 1\ndel a\n\n\n",
        "\nput a 1 --lease=1234\n\n\n",
        "\nget a --rev=99999\n\n\n",
        "nonsense\n\n\n\n",
        "\nnonsense a\n\n\n",
    ] {
        steps.push(with_input("txn", input, Shape::Text));
    }
    steps
}

fn compactions() -> Vec<Step> {
    [
        "compaction 5",
        "compaction 5",
        "compact 3",
        "compaction 99999",
        "compaction nonsense",
        "compaction",
        "get a --rev=4",
        "get a --rev=5",
        "compaction 12 --physical",
        "get '' --prefix --rev=12",
        "get '' --prefix --rev=11",
    ]
    .map(text)
    .into()
}

fn deletes() -> Vec<Step> {
    let mut steps = every_format("del apple --prev-kv", Shape::Delete);
    steps.extend(
        [
            "del none",
            "del app --prefix --prev-kv",
            "del a c --prev-kv",
            "del k/2 --range",
            "put r 1",
            "del r s",
            "del z --from-key",
            "del ''",
            "del",
            "del a --prefix --from-key",
            "get '' --prefix",
            "del '' --prefix",
            "get '' --prefix",
        ]
        .map(text),
    );
    steps.push(step("get '' --prefix -w json", Shape::Json));
    steps
}

fn cluster() -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(every_format("member list", Shape::Members));
    steps.push(text("member list --consistency=s"));
    steps.push(text("member list --hex -w fields"));
    for line in ["endpoint health", "endpoint health --cluster"] {
        steps.push(text(line));
        steps.push(step(&format!("{line} -w json"), Shape::Json));
        steps.push(text(&format!("{line} -w fields")));
        steps.push(step(&format!("{line} -w table"), Shape::Table));
    }
    for line in ["endpoint status", "endpoint status --cluster"] {
        steps.push(step(line, Shape::StatusLine));
        steps.push(step(&format!("{line} -w json"), Shape::Json));
        steps.push(text(&format!("{line} -w fields")));
        steps.push(step(&format!("{line} -w table"), Shape::Table));
    }
    steps
}

/// Those that come to an end by themselves; see `holding.rs` for the others.
fn locks() -> Vec<Step> {
    [
        "lock",
        "lock job -- echo held",
        "lock job --ttl=60 -- printenv ETCD_LOCK_REV",
        "lock job -- false",
        "lock job -- /no/such/program",
        "lock '' -- echo held",
        "lock job --ttl=nonsense -- echo held",
        "get job --prefix",
        "elect",
        "elect chosen one two",
        "elect --listen",
    ]
    .map(text)
    .into()
}

fn leases() -> Vec<Step> {
    let json = |line: &str| step(line, Shape::Json);
    let mut steps: Vec<_> = [
        "lease grant 1000",
        "lease grant 1000 -w fields",
        "lease grant 0",
        "lease grant -- -5",
        "lease grant 9000000000",
        "lease grant 9000000001",
        "lease grant nonsense",
        "lease grant",
        "lease nonsense",
        "lease list",
        "lease list -w fields",
        "lease timetolive 1234",
        "lease timetolive nonsense",
        "lease timetolive 1234 --keys -w fields",
        "lease keep-alive 1234",
        "lease keep-alive nonsense",
        "lease revoke 1234",
        "lease revoke nonsense",
    ]
    .map(text)
    .into();
    // They have the shortest time there is, which may be over at one server when another step asks.
    for step in steps.iter_mut().filter(|step| ["0", "-5"].contains(&&step.args[step.args.len() - 1][..])) {
        step.outlives_lease = true;
    }
    steps.push(json("lease grant 1000 -w json"));
    steps.extend(
        [
            "put l/a 1 --lease={lease}",
            "lease timetolive {lease}",
            "lease timetolive {lease} --keys",
            "put l/a 2",
            "lease timetolive {lease} --keys",
            "put l/a 3 --lease={lease}",
            "put l/a 4 --ignore-lease",
            "put l/a x --ignore-lease --lease={lease}",
            "get l/a -w fields",
            "lease keep-alive --once {lease}",
            "lease keep-alive --once {lease} -w fields",
        ]
        .map(text),
    );
    steps.extend(
        ["lease timetolive {lease} --keys -w json", "get l/a -w json", "lease list -w json"].map(json),
    );
    steps.extend(
        [
            "lease revoke {lease}",
            "get l/a",
            "lease revoke {lease}",
            "put l/a 1 --lease={lease}",
            "lease timetolive {lease}",
            "lease grant 5",
            "put l/b 1 --lease={lease}",
        ]
        .map(text),
    );
    steps.push(Step { outlives_lease: true, ..text("lease timetolive 1234") });
    steps.extend(
        ["get l/ --prefix -w fields", "lease timetolive {lease}", "lease keep-alive {lease}"].map(text),
    );
    steps
}

/// Hashes of the versions, which must be the same and not only look alike.
fn hashes() -> Vec<Step> {
    let line = "endpoint hashkv";
    vec![
        text(line),
        step(&format!("{line} -w json"), Shape::Json),
        text(&format!("{line} -w fields")),
        step(&format!("{line} -w table"), Shape::Table),
        text(&format!("{line} --cluster")),
        text(&format!("{line} --rev=20")),
        text(&format!("{line} --rev=14")),
        text(&format!("{line} --rev=3")),
        text(&format!("{line} --rev=99999")),
    ]
}

fn space() -> Vec<Step> {
    let mut steps = vec![text("defrag"), text("defrag --cluster"), text("defrag nonsense")];
    for line in ["alarm list", "alarm disarm"] {
        steps.push(text(line));
        steps.push(step(&format!("{line} -w json"), Shape::Json));
        steps.push(text(&format!("{line} -w fields")));
    }
    steps.extend([text("alarm"), text("alarm nonsense"), text("put after defrag"), text("endpoint hashkv")]);
    steps
}

/// Members come, change and go as far as one member alone can say.
fn members() -> Vec<Step> {
    let mut steps: Vec<Step> = [
        "member promote {member}",
        "member promote 1234",
        "member promote nonsense",
        "member remove 1234",
        "member remove {member}",
        "member update 1234 --peer-urls=http://127.0.0.1:11",
        "member update {member} --peer-urls=nonsense",
        "member update {member} --peer-urls=http://127.0.0.1:11",
        "member list",
        "member add x --peer-urls=http://127.0.0.1:11",
        "member add x --peer-urls=http://127.0.0.1:11 --learner",
        "member add x --peer-urls=ftp://127.0.0.1:12",
        "member add x --peer-urls=http://127.0.0.1:12/path --learner",
        "member add x",
    ]
    .map(text)
    .into();
    steps.extend(
        [
            "member add x --peer-urls=http://127.0.0.1:12,http://127.0.0.1:13 --learner",
            "member list -w fields",
        ]
        .map(|line| step(line, Shape::Sorted)),
    );
    let later = [
        "member add y --peer-urls=http://127.0.0.1:14 --learner",
        "member add y --peer-urls=http://127.0.0.1:13 --learner",
        "member promote {learner}",
        "member update {learner} --peer-urls=http://127.0.0.1:11",
        "member update {learner} --peer-urls=http://127.0.0.1:15",
        "member update {member} --peer-urls=http://127.0.0.1:15",
        "put with learner",
        "get with",
        "move-leader {learner}",
        "move-leader 77",
        "move-leader nonsense",
        "move-leader {member}",
        "move-leader",
        "member remove {learner}",
        "member remove {learner}",
        "member promote {learner}",
        "put without learner",
    ];
    steps.extend(later.map(text));
    steps.push(step("member list -w json", Shape::Json));
    steps.push(step("endpoint status -w json", Shape::Json));
    steps
}

fn downgrades() -> Vec<Step> {
    let settled = |line, version| Step { settles: Some(version), ..text(line) };
    let mut steps: Vec<Step> = [
        "downgrade validate 3.6",
        "downgrade validate 3.6.5",
        "downgrade validate 3.6.0-rc1",
        "downgrade validate 03.6",
        "downgrade validate 3.5",
        "downgrade validate 3.7",
        "downgrade validate 4.0",
        "downgrade validate 3",
        "downgrade validate v3.6",
        "downgrade validate 3.6.1.2",
        "downgrade validate",
        "downgrade cancel",
        "downgrade enable 3.5",
        "downgrade enable nonsense",
    ]
    .map(text)
    .into();
    steps.push(settled("downgrade enable 3.6", "3.6.0"));
    steps.extend(["downgrade validate 3.5", "downgrade enable 3.5", "downgrade validate 3.6"].map(text));
    steps.push(step("endpoint status -w json", Shape::Json));
    steps.push(step("endpoint status -w table", Shape::Table));
    steps.push(settled("downgrade cancel", "3.7.0"));
    steps.push(text("downgrade cancel"));
    steps.push(step("endpoint status", Shape::StatusLine));
    steps
}
