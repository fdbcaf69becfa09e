//! Links between members as operators meet them: who is refused, who is missed, and who gets a checkpoint.

use std::{process::Command, thread, time::Duration};

use crate::members::{Cluster, Place, Run, get, initial, places, program, tool};

/// The value of a series that has this label, and 0 if there is none.
fn series(place: Place, name: &str, label: &str) -> f64 {
    let (_, text) = get(place.client, "/metrics");
    let is_it = |line: &&str| line.starts_with(name) && line.contains(label) && !line.starts_with('#');
    let line = text.lines().find(is_it);
    line.map_or(0.0, |line| line.rsplit(' ').next().expect("a value").parse().expect("a number"))
}

/// The id of the member at a place, as others tell it.
fn id(cluster: &Cluster, asked: Place, place: Place) -> String {
    let list = cluster.list(&asked.client_url());
    list.into_iter().find(|member| member[3] == place.peer_url()).expect("it is a member").swap_remove(0)
}

fn signal(cluster: &Cluster, at: usize, signal: &str) {
    let pid = cluster.members[at].pid().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
}

#[test]
fn a_member_of_another_cluster_is_refused_on_both_sides() {
    let places = places::<4>();
    let mut cluster = Cluster::founded(&program(), &places[..3]);
    // It takes the first of them for one of its own.
    let mut stranger = Cluster::new(&program());
    let wrong = format!("m1={},x={}", places[3].peer_url(), places[0].peer_url());
    stranger.launch(0, places[3], &["--initial-cluster", &wrong]);
    stranger.members[0].wait_for("request sent was ignored by remote peer due to cluster ID mismatch");
    cluster.members[0].wait_for("request cluster ID mismatch");
    let put = cluster.ctl(&places[0].client_url(), "put a b");
    assert_eq!(put.code, Some(0), "nothing is wrong with the cluster: {put:?}");
    cluster.members.iter_mut().for_each(|member| member.stop());
}

#[test]
fn a_member_that_stands_still_is_missed_and_welcome_again() {
    let places = places::<3>();
    let cluster = Cluster::founded(&program(), &places);
    let third = format!("Remote=\"{}\"", id(&cluster, places[0], places[2]));
    let active = || series(places[0], "etcd_network_active_peers", &third);
    assert_eq!(active(), 1.0);
    signal(&cluster, 2, "-STOP");
    cluster.members[0].wait_for("peer became inactive (message send to peer failed)");
    assert_eq!(active(), 0.0);
    assert_eq!(series(places[0], "etcd_network_disconnected_peers_total", &third), 1.0);
    let others = format!("{},{}", places[0].client_url(), places[1].client_url());
    assert_eq!(cluster.ctl_until_done(&others, "put a b").output, "OK\n");
    signal(&cluster, 2, "-CONT");
    let read = cluster.ctl_until_done(&places[2].client_url(), "get a --print-value-only");
    assert_eq!(read.output, "b\n");
    cluster.members[0].wait_until("an active third member", || active() == 1.0);
    let second = format!("To=\"{}\"", id(&cluster, places[0], places[1]));
    assert!(series(places[0], "etcd_network_peer_round_trip_time_seconds_count", &second) > 0.0);
}

#[test]
fn a_member_that_was_away_for_long_gets_a_checkpoint() {
    let places = places::<3>();
    let mut cluster = Cluster::new(&program());
    let founders = initial(&places);
    let args = ["--initial-cluster", &founders, "--snapshot-count=20", "--snapshot-catchup-entries=5"];
    for (at, place) in places.iter().enumerate() {
        cluster.launch(at, *place, &args);
    }
    cluster.members.iter_mut().for_each(|member| member.wait_until_ready(1));
    cluster.members[2].kill();
    let others = format!("{},{}", places[0].client_url(), places[1].client_url());
    // Some elections: for as long as it counts as present, the others keep what it lacks.
    thread::sleep(Duration::from_secs(5));
    // More than is kept for whoever is away.
    cluster.ctl_until_done(&others, "put a b");
    let mut load = Command::new(tool("benchmark"));
    load.env_clear().args(["--endpoints", &others, "put", "--total=100", "--val-size=1000000"]);
    let loaded = Run::of(&mut load);
    assert_eq!(loaded.code, Some(0), "{loaded:?}");
    cluster.launch(2, places[2], &args);
    cluster.members[2].wait_until_ready(2);
    let read = cluster.ctl_until_done(&places[2].client_url(), "get a --print-value-only");
    assert_eq!(read.output, "b\n");
    cluster.members[2].wait_for("received and saved database snapshot");
    let sent = || (0..2).any(|at| cluster.members[at].log().contains("sent database snapshot"));
    cluster.members[0].wait_until("a checkpoint that was sent", sent);
}
