//! Who joins, who votes, who leaves: etcdctl's steps at both clusters, and what comes of them.

use std::{path::Path, thread, time::Duration};

use crate::members::{Cluster, Place, Run, get, initial, places, program, tool};

/// What was printed, with the ids of members that joined, which nobody can foresee, as their names.
struct Told {
    lines: Vec<String>,
    names: Vec<(String, String)>,
}

impl Told {
    fn say(&mut self, step: &str, run: Run) {
        assert!(run.code.is_some(), "{step} was killed");
        // A line of its own: who comes first depends on ids.
        let mut text = format!("{step}: {:?}\n{}{}", run.code, run.output, run.error);
        for (id, name) in &self.names {
            text = text.replace(id, name);
        }
        // In order of ids.
        let mut lines: Vec<String> = text.lines().map(sorted).collect();
        lines.sort();
        self.lines.extend(lines);
    }

    fn name(&mut self, members: &[Vec<String>], place: Place, name: &str) -> String {
        let is_it = |member: &&Vec<String>| member[3] == place.peer_url();
        let id = members.iter().find(is_it).expect("it was added")[0].clone();
        self.names.push((id.clone(), name.to_owned()));
        id
    }
}

/// `ETCD_INITIAL_CLUSTER` lists members by id.
fn sorted(line: &str) -> String {
    let Some((head, list)) = line.split_once("CLUSTER=\"") else { return line.to_owned() };
    let mut members: Vec<_> = list.trim_end_matches('"').split(',').collect();
    members.sort_unstable();
    format!("{head}CLUSTER=\"{}\"", members.join(","))
}

fn existing(places: &[Place]) -> [String; 4] {
    let names = ["--initial-cluster", &initial(places), "--initial-cluster-state", "existing"];
    names.map(str::to_owned)
}

/// A learner joins three members, is promoted through a member that does not lead, moves, and leaves; then a founder does.
fn steps(program: &Path, places: &[Place; 4]) -> Vec<String> {
    let mut cluster = Cluster::founded(program, &places[..3]);
    let mut told = Told { lines: Vec::new(), names: Vec::new() };
    let [a, b, _, d] = places.map(Place::client_url);
    let peer = places[3].peer_url();

    // Connections have to hold for a while before they count.
    let added = cluster.ctl_until_done(&a, &format!("member add m4 --learner --peer-urls={peer}"));
    let id = told.name(&cluster.list(&a), places[3], "m4");
    told.say("add", added);
    // Within a second of the first, etcd's would have the same id.
    thread::sleep(Duration::from_millis(1_100));
    told.say("add again", cluster.ctl(&b, &format!("member add m4 --learner --peer-urls={peer}")));
    told.say("add another", cluster.ctl(&b, "member add m5 --learner --peer-urls=http://127.0.0.1:1"));
    told.say("add nonsense", cluster.ctl(&b, "member add m5 --peer-urls=127.0.0.1"));
    told.say("promote too early", cluster.ctl(&a, &format!("member promote {id}")));
    told.say("promote nobody", cluster.ctl(&a, "member promote 1"));
    told.say("remove nobody", cluster.ctl(&a, "member remove 1"));
    told.say("list", cluster.ctl(&b, "member list"));

    let args = existing(places);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    cluster.launch(3, places[3], &args).wait_until_ready(1);
    told.say("a learner reads what it has", cluster.ctl(&d, "get --consistency=s a"));
    told.say("and no more", cluster.ctl(&d, "get a"));
    told.say("nor does it write", cluster.ctl(&d, "put a b"));
    told.say("list with it", cluster.ctl(&b, "member list"));

    // Whoever does not lead passes it on.
    for place in &places[..3] {
        let run = cluster.ctl_until_done_or(
            &place.client_url(),
            &format!("member promote {id}"),
            "can only promote a learner member",
        );
        let promoted = run.code == Some(0);
        if promoted {
            told.say("promote", run);
        }
    }
    told.say("promote again", cluster.ctl(&b, &format!("member promote {id}")));
    let put = cluster.ctl_until_done(&d, "put a b");
    told.say("it takes writes", put);

    // Somewhere else, and back.
    let elsewhere = "http://127.0.0.1:9";
    told.say("update", cluster.ctl_until_done(&a, &format!("member update {id} --peer-urls={elsewhere}")));
    told.say("list elsewhere", cluster.ctl(&b, "member list"));
    told.say("update back", cluster.ctl_until_done(&a, &format!("member update {id} --peer-urls={peer}")));
    told.say(
        "update taken",
        cluster.ctl(&a, &format!("member update {id} --peer-urls={}", places[0].peer_url())),
    );

    told.say("remove", cluster.ctl_until_done(&a, &format!("member remove {id}")));
    let status = cluster.members[3].ended();
    let log = cluster.members[3].log();
    told.lines.push(format!("ended with {:?}", status.code()));
    for line in [
        "the member has been permanently removed from the cluster",
        "data-dir used by this member must be removed",
    ] {
        assert!(log.contains(line), "{log}");
    }
    // It does not come back.
    cluster.launch(3, places[3], &args);
    let status = cluster.members[3].ended();
    // Upstream's may be told by the others or fail before.
    assert!(status.code() == Some(0) || program != crate::members::program(), "{}", cluster.members[3].log());
    told.say("remove again", cluster.ctl(&a, &format!("member remove {id}")));
    told.say("list without it", cluster.ctl(&b, "member list"));
    told.lines.push(get(places[1].peer, "/members").1);
    told.lines
}

#[test]
fn members_come_and_go_as_with_etcd() {
    let places = places();
    let upstream = steps(&tool("etcd"), &places);
    let ours = steps(&program(), &places);
    for (ours, upstream) in ours.iter().zip(&upstream) {
        assert_eq!(ours, upstream);
    }
    assert_eq!(ours.len(), upstream.len());
}

/// From one member to three and back to one, each with a vote at once.
#[test]
fn a_cluster_grows_from_one_member_and_shrinks_again() {
    let places = places::<3>();
    let mut cluster = Cluster::founded(&program(), &places[..1]);
    let first = places[0].client_url();
    assert_eq!(cluster.ctl(&first, "put a 1").code, Some(0));
    for count in 2..=3 {
        let peer = places[count - 1].peer_url();
        cluster.ctl_until_done(&first, &format!("member add m{count} --peer-urls={peer}"));
        let args = existing(&places[..count]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        cluster.launch(count - 1, places[count - 1], &args).wait_until_ready(1);
    }
    for place in places {
        let read = cluster.ctl_until_done(&place.client_url(), "get a --print-value-only");
        assert_eq!(read.output, "1\n");
    }
    // The leader is among those that leave: the others choose another one.
    for left in (1..3).rev() {
        let endpoint = places[0].client_url();
        let list = cluster.list(&endpoint);
        let peer = places[left].peer_url();
        let id = &list.iter().find(|member| member[3] == peer).expect("it is there")[0];
        cluster.ctl_until_done(&endpoint, &format!("member remove {id}"));
        assert_eq!(cluster.members[left].ended().code(), Some(0));
        cluster.ctl_until_done(&endpoint, "put a 2");
    }
    assert_eq!(cluster.list(&first).len(), 1);
}

/// A member that moves is announced where it will be, and found there.
#[test]
fn a_member_moves() {
    let [a, b, c, elsewhere] = places();
    let mut cluster = Cluster::founded(&program(), &[a, b, c]);
    let all = initial(&[a, b, c]);
    let peer = b.peer_url();
    let list = cluster.list(&a.client_url());
    let id = &list.iter().find(|member| member[3] == peer).expect("it is there")[0];
    cluster.members[1].stop();
    let update = format!("member update {id} --peer-urls={}", elsewhere.peer_url());
    cluster.ctl_until_done(&a.client_url(), &update);
    cluster.launch(1, elsewhere, &["--initial-cluster", &all]).wait_until_ready(2);
    // It is needed: one of the others goes.
    cluster.members[2].kill();
    cluster.ctl_until_done(&elsewhere.client_url(), "put a b");
    let list = cluster.list(&elsewhere.client_url());
    let moved = list.iter().find(|member| member[0] == *id).expect("it is there");
    assert_eq!((&moved[3], &moved[4]), (&elsewhere.peer_url(), &elsewhere.client_url()));
}
