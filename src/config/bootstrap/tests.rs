use super::*;
use crate::config::tests::config;

fn founded(name: &str, advertised: &str, initial: &str) -> Result<Bootstrap, String> {
    let advertised = format!("--initial-advertise-peer-urls={advertised}");
    let (name, initial) = (format!("--name={name}"), format!("--initial-cluster={initial}"));
    let config = config(&[&name, &advertised, &initial, "--initial-cluster-token=tok"]);
    config.bootstrap().map_err(|error| error.to_string())
}

const THREE: &str = "c=http://127.0.0.1:3,a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:4";

#[test]
fn all_founders_come_to_the_same_list() {
    let own = [
        ("a", "http://127.0.0.1:1", 0x0b64_7f29_678b_82df),
        ("b", "http://127.0.0.1:2", 0xd1dd_0451_a6b7_4da3),
        ("c", "http://127.0.0.1:4,http://127.0.0.1:3", 0x4e05_a239_b87e_a433),
    ];
    let lists = own.map(|(name, url, _)| founded(name, url, THREE).expect("it founds"));
    for (list, (name, _, id)) in lists.iter().zip(own) {
        assert_eq!((list.member_id.0, list.cluster_id.0), (id, 0x138d_28e0_67bf_30f7), "{name}");
        assert_eq!(list.founders, lists[0].founders, "{name}");
        let is_own = |founder: &&Founder| founder.id == list.member_id;
        assert_eq!(list.founders.iter().find(is_own).map(|founder| &founder.name[..]), Some(name));
    }
    assert!(lists[0].founders.is_sorted_by_key(|founder| founder.id));
}

/// As upstream 3.7.1 refuses them.
#[test]
fn what_the_founders_cannot_agree_on_is_refused() {
    for (name, advertised, initial, refusal) in [
        (
            "d",
            "http://127.0.0.1:1",
            THREE,
            "couldn't find local name \"d\" in the initial cluster configuration",
        ),
        (
            "a",
            "http://127.0.0.1:1",
            "a=127.0.0.1:1",
            "error setting up initial cluster: parse \"127.0.0.1:1\"",
        ),
        (
            "a",
            "http://127.0.0.1:9",
            THREE,
            "--initial-cluster has a=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls=http://127.0.0.1:9 \
             (resolved urls: \"127.0.0.1:1\" != \"127.0.0.1:9\")",
        ),
        (
            "c",
            "http://127.0.0.1:3",
            THREE,
            "--initial-cluster has c=http://127.0.0.1:4 but missing from --initial-advertise-peer-urls=http://127.0.0.1:3 \
             (len([\"http://127.0.0.1:3\" \"http://127.0.0.1:4\"]) != len([\"http://127.0.0.1:3\"]))",
        ),
        (
            "a",
            "http://127.0.0.1:1,http://127.0.0.1:9",
            THREE,
            "--initial-advertise-peer-urls has http://127.0.0.1:9 but missing from \
             --initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:9",
        ),
        (
            "a",
            "http://127.0.0.1:1",
            "a=http://127.0.0.1:1,b=http://127.0.0.1:1",
            "initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url",
        ),
    ] {
        let refused = founded(name, advertised, initial).unwrap_err();
        assert!(refused.starts_with(refusal), "{refused}");
    }
}

#[test]
fn names_of_the_same_addresses_are_the_same() {
    founded("a", "http://localhost:1", "a=http://127.0.0.1:1,b=http://unknown.invalid:2").expect("it founds");
    let refused = founded("a", "http://unknown.invalid:1", "a=http://127.0.0.1:1").unwrap_err();
    assert!(refused.contains("failed to resolve \"http://unknown.invalid:1\""), "{refused}");
}

/// Who joins has told its URLs before, as the one that others know.
#[test]
fn who_joins_names_itself_and_everybody_once() {
    let joined = |name: &str, initial: &str| {
        let initial = format!("--initial-cluster={initial}");
        config(&["--name", name, &initial]).joined().map_err(|error| error.to_string())
    };
    assert_eq!(joined("a", THREE).expect("it joins").0["c"].len(), 2);
    assert!(joined("d", THREE).unwrap_err().starts_with("couldn't find local name"));
    assert!(joined("a", "a=http://b:1,b=http://b:1").unwrap_err().ends_with("has duplicate url"));
}
