//! A cluster out of a backup, out of the one member that is left, and members whose data are not the same.

use std::{path::Path, process::Command};

use crate::members::{Cluster, Place, Run, initial, places, program};

/// `pinion` under etcdutl's name.
fn restore(cluster: &Cluster, at: usize, places: &[Place], backup: &Path) {
    let link = cluster.root.path().join("etcdutl");
    if !link.exists() {
        std::os::unix::fs::symlink(program(), &link).expect("a link");
    }
    let name = format!("m{}", at + 1);
    let mut command = Command::new(link);
    command.env_clear().args(["snapshot", "restore"]).arg(backup);
    command.arg("--data-dir").arg(cluster.root.path().join(&name)).args(["--name", &name]);
    command.args(["--initial-cluster", &initial(places), "--initial-cluster-token", "token"]);
    command.args(["--initial-advertise-peer-urls", &places[at].peer_url()]);
    let run = Run::of(&mut command);
    assert_eq!(run.code, Some(0), "{run:?}");
}

/// A backup of one member that was told this.
fn backup(told: &str) -> (Cluster, std::path::PathBuf) {
    let places = places::<1>();
    let cluster = Cluster::founded(&program(), &places);
    let endpoint = places[0].client_url();
    assert_eq!(cluster.ctl(&endpoint, &format!("put a {told}")).code, Some(0));
    let path = cluster.root.path().join("backup.db");
    let run = cluster.ctl(&endpoint, &format!("snapshot save {}", path.display()));
    assert_eq!(run.code, Some(0), "{run:?}");
    (cluster, path)
}

#[test]
fn three_members_begin_with_a_backup() {
    let (_one, path) = backup("one");
    let places = places::<3>();
    let mut cluster = Cluster::new(&program());
    for at in 0..3 {
        restore(&cluster, at, &places, &path);
        cluster.launch(at, places[at], &[]);
    }
    cluster.members.iter_mut().for_each(|member| member.wait_until_ready(1));
    for place in places {
        let read = cluster.ctl_until_done(&place.client_url(), "get a --print-value-only");
        assert_eq!(read.output, "one\n");
    }
    assert_eq!(cluster.list(&places[1].client_url()).len(), 3);
    let health = cluster.ctl_until_done(&cluster.endpoints(), "endpoint health");
    assert_eq!(health.code, Some(0));
}

/// Whoever begins with other data than the others is found before it serves, and the leader finds it while it does.
#[test]
fn other_data_than_the_others_have_are_found() {
    let (_one, first) = backup("one");
    let (_other, second) = backup("other");
    let places = places::<3>();
    let mut cluster = Cluster::new(&program());
    for (at, path) in [&first, &first, &second].into_iter().enumerate() {
        restore(&cluster, at, &places, path);
        let args: &[&str] = match at {
            2 => &["--feature-gates=InitialCorruptCheck=true"],
            _ => &["--corrupt-check-time=1s"],
        };
        cluster.launch(at, places[at], args);
    }
    assert_eq!(cluster.members[2].ended().code(), Some(1));
    let log = cluster.members[2].log();
    assert!(log.contains("found data inconsistency with peers"), "{log}");

    // Without looking first.
    cluster.launch(2, places[2], &["--corrupt-check-time=1s"]);
    let list = cluster.list(&places[0].client_url());
    let third = list.iter().find(|member| member[3] == places[2].peer_url()).expect("it is there");
    let id = u64::from_str_radix(&third[0], 16).expect("an id");
    let began = std::time::Instant::now();
    loop {
        let alarms = cluster.ctl_until_done(&places[0].client_url(), "alarm list").output;
        if alarms.contains("CORRUPT") {
            // Whoever leads blames the others.
            let blames_it = alarms.contains(&format!("memberID:{id} "));
            assert!(blames_it || cluster.members[2].log().contains("hashes must match"), "{alarms}");
            break;
        }
        assert!(began.elapsed() < crate::members::PATIENCE, "nobody noticed");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

#[test]
fn one_member_goes_on_when_the_others_are_lost() {
    let places = places::<3>();
    let mut cluster = Cluster::founded(&program(), &places);
    assert_eq!(cluster.ctl(&places[0].client_url(), "put a b").code, Some(0));
    let endpoint = places[1].client_url();
    cluster.ctl_until_prints(&endpoint, "get a --consistency=s --print-value-only", "b\n");
    cluster.members.iter_mut().for_each(|member| member.kill());
    cluster.launch(1, places[1], &["--force-new-cluster"]).wait_until_ready(2);
    assert_eq!(cluster.list(&endpoint).len(), 1);
    assert_eq!(cluster.ctl(&endpoint, "get a --print-value-only").output, "b\n");
    assert_eq!(cluster.ctl(&endpoint, "put a c").code, Some(0));
    // And stays alone, until others are added anew.
    cluster.members[1].stop();
    cluster.launch(1, places[1], &[]).wait_until_ready(3);
    assert_eq!(cluster.ctl(&endpoint, "get a --print-value-only").output, "c\n");
    // Those that were lost are not let in again.
    let all = initial(&places);
    let member = cluster.launch(0, places[0], &["--initial-cluster", &all]);
    member.wait_for("permanently removed");
}
