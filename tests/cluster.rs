//! Several members as real processes: how they find each other, who belongs to them, who joins and who leaves. The same
//! steps with upstream's members beside, where they show the same.
//!
//! `PINION_BIN` names another program to test than the one just built.

#[path = "cluster/links.rs"]
mod links;
#[path = "cluster/members.rs"]
mod members;
#[path = "cluster/membership.rs"]
mod membership;
#[path = "cluster/recovery.rs"]
mod recovery;

use members::{Cluster, Place, Run, get, initial, places, program, tool};

/// What operators and tools are told of a new cluster of three: ids, members, peers' view of it.
fn founded(program: &std::path::Path, places: &[Place]) -> Vec<String> {
    let cluster = Cluster::founded(program, places);
    let mut told = Vec::new();
    for member in &cluster.members {
        told.extend(cluster.list(&member.place.client_url()).into_iter().map(|member| member.join(" ")));
        let (head, members) = get(member.place.peer, "/members");
        let id = head.lines().find(|line| line.to_lowercase().starts_with("x-etcd-cluster-id"));
        told.push(id.expect("which cluster").to_lowercase());
        told.push(members);
        told.push(get(member.place.peer, "/downgrade/enabled").1);
    }
    told
}

#[test]
fn three_members_are_those_that_etcd_would_be() {
    let places = places::<3>();
    let upstream = founded(&tool("etcd"), &places);
    assert_eq!(founded(&program(), &places), upstream);
}

#[test]
fn what_one_member_is_told_all_of_them_know() {
    let places = places::<3>();
    let mut cluster = Cluster::founded(&program(), &places);
    for (at, place) in places.iter().enumerate() {
        let put = cluster.ctl(&place.client_url(), &format!("put k{at} v{at}"));
        assert_eq!((put.code, &put.output[..]), (Some(0), "OK\n"), "{put:?}");
    }
    let all = |cluster: &Cluster, place: Place| {
        let read = cluster.ctl_until_done(&place.client_url(), "get --prefix k --print-value-only");
        assert_eq!(read.output, "v0\nv1\nv2\n", "{read:?}");
    };
    places.iter().for_each(|place| all(&cluster, *place));
    // One is away and comes back, by whatever way it ends.
    for (at, place) in places.iter().enumerate() {
        if at % 2 == 0 {
            cluster.members[at].kill()
        } else {
            cluster.members[at].stop()
        }
        let others = places.iter().filter(|other| *other != place).map(|other| other.client_url());
        let put = cluster.ctl_until_done(&others.collect::<Vec<_>>().join(","), &format!("put away{at} x"));
        assert_eq!(put.output, "OK\n");
        cluster.launch(at, *place, &["--initial-cluster", &initial(&places)]).wait_until_ready(2);
        all(&cluster, *place);
        let read = cluster.ctl_until_done(&place.client_url(), &format!("get away{at} --print-value-only"));
        assert_eq!(read.output, "x\n");
    }
}

/// Clients of etcd go from member to member with each request, and have one token.
#[test]
fn who_logs_in_at_one_member_is_known_to_all() {
    let places = places::<3>();
    let cluster = Cluster::founded(&program(), &places);
    let all = cluster.endpoints();
    for args in ["user add root:secret", "user grant-role root root", "auth enable"] {
        cluster.ctl_until_done(&all, args);
    }
    for at in 0..12 {
        let put = cluster.ctl(&all, &format!("--user=root:secret put k{at} v"));
        assert_eq!((put.code, &put.output[..]), (Some(0), "OK\n"), "{put:?}");
        let others = cluster.ctl(&all, &format!("--user=root:wrong put k{at} x"));
        assert_ne!(others.code, Some(0), "{others:?}");
    }
    let read = cluster.ctl(&all, "--user=root:secret get --prefix k --count-only --write-out=fields");
    assert!(read.output.contains("\"Count\" : 12"), "{read:?}");
}

/// What a start that must not be says, and how it ends.
fn refused(program: &std::path::Path, places: &[Place; 3]) -> Vec<(Option<i32>, bool)> {
    let mut cluster = Cluster::founded(program, &places[..1]);
    let first = cluster.members[0].place;
    let others = [
        // Nobody announced it.
        (initial(&places[..2]), "existing", "member count is unequal"),
        (
            format!("m1={},x={}", first.peer_url(), places[1].peer_url()),
            "existing",
            "couldn't find local name",
        ),
        (format!("m2={}", places[1].peer_url()), "existing", "could not retrieve cluster information"),
        (format!("m1={},m2={}", first.peer_url(), places[2].peer_url()), "new", "but missing from"),
    ];
    let mut outcomes = Vec::new();
    for (initial, state, reason) in others {
        let args = ["--initial-cluster", &initial, "--initial-cluster-state", state];
        let member = cluster.launch(1, places[1], &args);
        let status = member.ended();
        outcomes.push((status.code(), member.log().contains(reason)));
    }
    // One that was announced, by another URL.
    let add = format!("member add m2 --peer-urls={}", places[2].peer_url());
    assert_eq!(cluster.ctl(&first.client_url(), &add).code, Some(0));
    let both = initial(&places[..2]);
    let args = ["--initial-cluster", &both, "--initial-cluster-state", "existing"];
    let member = cluster.launch(1, places[1], &args);
    let status = member.ended();
    outcomes.push((status.code(), member.log().contains("no match found for existing member")));
    outcomes
}

#[test]
fn who_is_not_expected_is_told_why() {
    let program = program();
    assert_eq!(refused(&program, &places()), [(Some(1), true); 5]);
    assert_eq!(refused(&tool("etcd"), &places()), [(Some(1), true); 5]);
}

/// A member whose data are lost must not begin again under its old name, whatever its flags say.
#[test]
fn a_founder_does_not_begin_twice() {
    let places = places::<3>();
    let mut cluster = Cluster::founded(&program(), &places);
    cluster.members[2].kill();
    std::fs::remove_dir_all(&cluster.members[2].dir).expect("it is there");
    let initial = initial(&places);
    for state in ["new", "existing"] {
        let args = ["--initial-cluster", &initial, "--initial-cluster-state", state];
        let member = cluster.launch(2, places[2], &args);
        assert_eq!(member.ended().code(), Some(1), "{state}");
        assert!(member.log().contains("has already been bootstrapped"), "{state}: {}", member.log());
    }
    let Run { code, .. } = cluster.ctl(&places[0].client_url(), "put a b");
    assert_eq!(code, Some(0));
}

/// Members of etcd and of this server do not replicate to each other, and both say so.
#[test]
fn members_of_another_kind_are_told_so() {
    let (ours, etcd) = (program(), tool("etcd"));
    for (first, second, reason) in
        [(&etcd, &ours, "replicates in another way"), (&ours, &etcd, "server version incompatibility")]
    {
        let places = places::<2>();
        let mut cluster = Cluster::founded(first, &places[..1]);
        let add = format!("member add m2 --learner --peer-urls={}", places[1].peer_url());
        cluster.ctl_until_done(&places[0].client_url(), &add);
        cluster.program = second.clone();
        let both = initial(&places);
        let args = ["--initial-cluster", &both, "--initial-cluster-state", "existing"];
        cluster.launch(1, places[1], &args).wait_for(reason);
        // A learner that is of no use takes nothing away.
        assert_eq!(cluster.ctl(&places[0].client_url(), "put a b").code, Some(0));
    }
}

/// What etcdctl shows of a cluster, and has it do, without what differs from run to run.
fn shown(program: &std::path::Path, places: &[Place; 3]) -> Vec<String> {
    let cluster = Cluster::founded(program, places);
    let any = places[1].client_url();
    let mut shown = Vec::new();
    let mut say = |step: &str, run: Run| {
        let text = format!("{}{}", run.output, run.error);
        let mut lines: Vec<String> =
            text.lines().map(|line| line.split(" took = ").next().unwrap_or(line).to_owned()).collect();
        lines.sort();
        shown.push(format!("{step}: {:?}", run.code));
        shown.extend(lines);
    };
    // Etcd's leader asks all members for their version first.
    cluster.ctl_until_done(&any, "downgrade validate 3.6");
    say("validate", cluster.ctl(&any, "downgrade validate 3.6"));
    say("validate another", cluster.ctl(&any, "downgrade validate 3.5"));
    say("health", cluster.ctl(&any, "endpoint health --cluster"));
    say("enable", cluster.ctl(&any, "downgrade enable 3.6"));
    say("enable again", cluster.ctl(&any, "downgrade enable 3.6"));
    let (_, told) = get(places[2].peer, "/downgrade/enabled");
    say("cancel", cluster.ctl(&any, "downgrade cancel"));
    let (_, ended) = get(places[0].peer, "/downgrade/enabled");

    let status = cluster.ctl(&cluster.endpoints(), "endpoint status").output;
    let fields = |line: &str| line.split(", ").map(str::to_owned).collect::<Vec<_>>();
    let members: Vec<_> = status.lines().map(fields).collect();
    // Endpoint and id lead a line; whether it leads stands before whether it is a learner.
    let leads = |member: &[String]| {
        let mut switches = member.iter().skip(2).filter(|field| ["true", "false"].contains(&field.as_str()));
        switches.next().is_some_and(|leads| leads == "true")
    };
    let leader = members.iter().find(|member| leads(member));
    let leader = leader.expect("one leads");
    let other = members.iter().find(|member| member[1] != leader[1]).expect("there are others");
    let moved = cluster.ctl(&leader[0], &format!("move-leader {}", other[1]));
    let text =
        format!("{}{}", moved.output, moved.error).replace(&leader[1], "LEADER").replace(&other[1], "OTHER");
    let again = cluster.ctl(&leader[0], &format!("move-leader {}", other[1]));
    shown.extend([told, ended, text, again.error.split("no leader").next().unwrap_or("").to_owned()]);
    shown
}

#[test]
fn etcdctl_shows_a_cluster_as_etcds() {
    let places = places();
    let upstream = shown(&tool("etcd"), &places);
    let ours = shown(&program(), &places);
    for (ours, upstream) in ours.iter().zip(&upstream) {
        assert_eq!(ours, upstream);
    }
    assert_eq!(ours.len(), upstream.len());
}
