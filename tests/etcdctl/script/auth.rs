//! Users and roles, and what each may while authentication is on.

use super::{Step, step, text, with_input};
use crate::etcdctl::output::Shape;

pub fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(before());
    steps.extend(while_enabled());
    steps.extend(after());
    steps
}

fn texts<const N: usize>(lines: [&str; N]) -> impl Iterator<Item = Step> + '_ {
    lines.into_iter().map(text)
}

fn before() -> Vec<Step> {
    let mut steps = vec![text("auth status"), step("auth status -w json", Shape::Json)];
    steps.extend(texts([
        "auth status -w fields",
        "auth disable",
        "auth enable",
        "--user=root:root-password get a",
        "user list",
        "user get root",
        "user add root:root-password",
        "user add root:root-password",
        "user add '' --no-password",
        "user add alice --new-user-password=alice-password",
        "user add certified --no-password",
        "user add",
        "user list",
        "user list -w fields",
        "user get alice",
        "user get alice --detail",
        "user get nobody",
        "user delete nobody",
        "user grant-role root root",
        "user grant-role root root",
        "user grant-role alice none",
        "user grant-role nobody root",
        "user revoke-role alice root",
        "role list",
        "role get r",
        "role add r",
        "role add r",
        "role add ''",
        "role grant-permission r read app apple",
        "role grant-permission r readwrite k/ --prefix",
        "role grant-permission r write secret",
        "role grant-permission r readwrite zz --from-key",
        "role grant-permission r nonsense k",
        "role grant-permission r read b a",
        "role grant-permission r read ''",
        "role grant-permission none read a",
        "role grant-permission r read gone",
        "role grant-permission r write gone",
        "role revoke-permission r gone",
        "role revoke-permission r gone",
        "role revoke-permission r k/ k1",
        "role get r",
        "role get r -w fields",
        "user grant-role alice r",
        "user get alice",
        "user get alice --detail",
        "user get root --detail",
        "user revoke-role alice none",
    ]));
    steps.push(with_input("user add bob --interactive=false", "bob-password\n", Shape::Text));
    steps.push(with_input("user passwd bob --interactive=false", "new-password\n", Shape::Text));
    steps.push(with_input("user passwd nobody --interactive=false", "new-password\n", Shape::Text));
    for line in ["user list", "user get alice", "role list", "role get r", "auth status"] {
        steps.push(step(&format!("{line} -w json"), Shape::Json));
    }
    steps.extend(texts(["auth status", "auth enable", "auth enable"]));
    steps
}

fn while_enabled() -> Vec<Step> {
    const ROOT: &str = "--user=root:root-password";
    const ALICE: &str = "--user=alice --password=alice-password";
    let mut steps: Vec<Step> = texts([
        "get a",
        "put a b",
        "del a",
        "user list",
        "role list",
        "auth status",
        "auth disable",
        "compaction 1",
        "member list",
        "endpoint status",
        "endpoint health",
        "alarm list",
        "defrag",
        "endpoint hashkv",
        "--user=root:wrong get a",
        "--user=nobody:wrong get a",
        "--user=certified:wrong get a",
        "--user=bob:bob-password get a",
        "--user=bob:new-password get a",
        "--user=root:root-password auth enable",
        "--user=root:root-password auth status",
    ])
    .collect();
    for line in [
        "put secret mine",
        "put secret mine --prev-kv",
        "put secret mine --ignore-value",
        "put k/7 x --prev-kv",
        "put a b",
        "get secret",
        "get k/ --prefix",
        "get k/7",
        "get app",
        "get app apple",
        "get app applf",
        "get ap --prefix",
        "get zz --from-key",
        "get zy --from-key",
        "get '' --prefix",
        "get k/ --prefix --stream",
        "get a --stream",
        "put zzz 1",
        "put app 1",
        "del zzz --prev-kv",
        "del zz --from-key",
        "del secret --prev-kv",
        "del secret",
        "del app apple",
        "compaction 2",
        "defrag",
        "alarm list",
        "alarm disarm",
        "member list",
        "member add other --peer-urls=http://127.0.0.1:1",
        "endpoint health",
        "endpoint hashkv",
        "snapshot save nowhere.db",
        "user get alice",
        "user get root",
        "user list",
        "user add carol:carol-password",
        "user delete alice",
        "role get r",
        "role get root",
        "role list",
        "role add s",
        "role grant-permission r read a",
        "user grant-role alice root",
        "auth status",
        "auth enable",
        "auth disable",
    ] {
        steps.push(text(&format!("{ALICE} {line}")));
    }
    for (input, shape) in [
        ("value(\"app\") = \"1\"\n\nput k/8 1\n\nget k/ --prefix\n\n", Shape::Text),
        ("value(\"a\") = \"1\"\n\nput k/8 1\n\n\n", Shape::Text),
        ("\nput k/8 1\n\nput a 1\n\n", Shape::Text),
        ("\nget a\n\n\n", Shape::Text),
        ("\ndel k/8 --prev-kv\nget app\n\n\n", Shape::Text),
        ("\ndel secret --prev-kv\n\n\n", Shape::Text),
        ("\n\n\n", Shape::Text),
    ] {
        steps.push(with_input(&format!("{ALICE} txn"), input, shape));
        steps.push(with_input("txn", input, shape));
    }
    for line in [
        "put a 1",
        "get a",
        "role revoke-permission r secret",
        "user get nobody",
        "user delete root",
        "role delete root",
        "user revoke-role root root",
        "compaction 99999",
        "defrag",
        "endpoint hashkv",
        "auth status",
        "role add root",
        "role get root",
        "role get r",
        "role delete r",
    ] {
        steps.push(text(&format!("{ROOT} {line}")));
    }
    steps.push(text(&format!("{ALICE} put secret mine")));
    steps.push(text(&format!("{ALICE} get k/7")));
    let (change, input) = (format!("{ROOT} user passwd alice --interactive=false"), "other-password\n");
    steps.push(with_input(&change, input, Shape::Text));
    steps.push(text(&format!("{ALICE} get k/7")));
    steps.push(text(&format!("{ROOT} user delete alice")));
    steps.push(text("--user=alice:other-password get k/7"));
    steps.push(step(&format!("{ROOT} auth status -w json"), Shape::Json));
    steps.push(text(&format!("{ROOT} auth disable")));
    steps
}

fn after() -> Vec<Step> {
    texts([
        "auth status",
        "get a",
        "put a 2",
        "user list",
        "user delete root",
        "auth enable",
        "auth status",
        "user delete bob",
        "user delete certified",
        "role delete root",
        "role list",
    ])
    .collect()
}
