//! etcd's feature gates and what turning each of them means here.

/// How finished etcd calls what is behind a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Alpha,
    Beta,
}
use Stage::{Alpha, Beta};

/// A switch for one feature.
struct Gate {
    name: &'static str,
    stage: Stage,
    default: bool,
    /// Why another value than the default changes nothing; `None` where both values can be had.
    idle: Option<&'static str>,
}

const fn gate(name: &'static str, stage: Stage, default: bool, idle: Option<&'static str>) -> Gate {
    Gate { name, stage, default, idle }
}

const GATES: [Gate; 9] = [
    gate("CompactHashCheck", Alpha, false, None),
    // What is committed is applied before a keepalive is answered, which waits for no more than that anyway.
    gate("FastLeaseKeepAlive", Beta, true, None),
    gate("InitialCorruptCheck", Alpha, false, None),
    gate("LeaseCheckpoint", Alpha, false, None),
    // As in a cluster of etcd 3.6 or newer, they persist whatever it says.
    gate("LeaseCheckpointPersist", Alpha, false, None),
    gate("PriorityRequest", Alpha, false, Some("revoking a lease waits in no other client's line here")),
    gate(
        "SetMemberLocalAddr",
        Alpha,
        false,
        Some("members connect from whichever address the machine takes"),
    ),
    // A defragmentation never stops the service here, so there is nothing to take clients away from.
    gate("StopGRPCServiceOnDefrag", Alpha, false, None),
    // A property of etcd's own storage engine: clients cannot tell the difference.
    gate("TxnModeWriteWithSharedBuffer", Beta, true, None),
];
/// Switches for all gates of a stage that are not set themselves.
const GROUPS: [(&str, Stage); 2] = [("AllAlpha", Alpha), ("AllBeta", Beta)];

/// A gate after all settings, as it is shown to operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// etcd's word: `ALPHA` or `BETA`.
    pub stage: &'static str,
    pub is_enabled: bool,
}

pub fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

pub fn names() -> impl Iterator<Item = &'static str> {
    GROUPS.into_iter().map(|(name, _)| name).chain(GATES.iter().map(|gate| gate.name))
}

/// The gates that were set to what they do not do, each with the reason.
pub fn idle(gates: &[(String, bool)]) -> impl Iterator<Item = (&'static str, bool, &'static str)> {
    GATES.iter().filter_map(|gate| {
        let value = value_of(gate, gates);
        (value != gate.default).then_some((gate.name, value, gate.idle?))
    })
}

/// The value of a gate after all settings.
pub fn is_enabled(gates: &[(String, bool)], name: &str) -> bool {
    GATES.iter().find(|gate| gate.name == name).is_some_and(|gate| value_of(gate, gates))
}

/// All of them.
pub fn features(gates: &[(String, bool)]) -> Vec<Feature> {
    let feature = |name, stage, is_enabled| Feature {
        name,
        stage: match stage {
            Alpha => "ALPHA",
            Beta => "BETA",
        },
        is_enabled,
    };
    let groups = GROUPS.iter().map(|(name, stage)| feature(*name, *stage, set(gates, name) == Some(true)));
    groups.chain(GATES.iter().map(|gate| feature(gate.name, gate.stage, value_of(gate, gates)))).collect()
}

/// Its own setting, else its group's where that one is on, else the default.
fn value_of(gate: &Gate, gates: &[(String, bool)]) -> bool {
    let by_group =
        || GROUPS.iter().find(|(_, stage)| *stage == gate.stage).and_then(|(name, _)| set(gates, name));
    set(gates, gate.name).or_else(by_group).unwrap_or(gate.default)
}

/// The last setting counts.
fn set(gates: &[(String, bool)], name: &str) -> Option<bool> {
    gates.iter().rev().find(|gate| gate.0 == name).map(|gate| gate.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates(set: &[(&str, bool)]) -> Vec<(String, bool)> {
        set.iter().map(|(name, value)| (name.to_string(), *value)).collect()
    }

    #[test]
    fn a_group_moves_what_is_not_set_itself() {
        let set = gates(&[("InitialCorruptCheck", false), ("AllAlpha", true)]);
        assert!(is_enabled(&set, "CompactHashCheck") && !is_enabled(&set, "InitialCorruptCheck"));
        assert!(is_enabled(&set, "FastLeaseKeepAlive"), "of another stage");
        assert!(!is_enabled(&gates(&[("AllBeta", false)]), "FastLeaseKeepAlive"));
        let idle: Vec<_> = idle(&set).map(|(name, value, _)| (name, value)).collect();
        assert!(
            idle.contains(&("SetMemberLocalAddr", true))
                && !idle.iter().any(|gate| gate.0 == "CompactHashCheck")
        );
    }

    #[test]
    fn all_are_shown() {
        let shown = features(&gates(&[("LeaseCheckpoint", true)]));
        assert_eq!(shown.len(), names().count());
        assert!(shown.contains(&Feature { name: "LeaseCheckpoint", stage: "ALPHA", is_enabled: true }));
        assert!(shown.contains(&Feature { name: "AllBeta", stage: "BETA", is_enabled: false }));
    }
}
