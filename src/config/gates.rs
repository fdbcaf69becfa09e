//! etcd's feature gates and what turning each of them means here.

/// Gate, etcd's default, and why another value than the default cannot be had yet; `None` where both
/// values can be had.
const GATES: [(&str, bool, Option<&str>); 9] = [
    // Compares members only: a single one has none to compare with.
    ("CompactHashCheck", false, None),
    ("FastLeaseKeepAlive", true, Some("leases")),
    ("InitialCorruptCheck", false, None),
    ("LeaseCheckpoint", false, Some("leases")),
    ("LeaseCheckpointPersist", false, Some("leases")),
    ("PriorityRequest", false, Some("leases")),
    ("SetMemberLocalAddr", false, Some("clusters of several members")),
    // A defragmentation never stops the service here, so there is nothing to take clients away from.
    ("StopGRPCServiceOnDefrag", false, None),
    // A property of etcd's own storage engine: clients cannot tell the difference.
    ("TxnModeWriteWithSharedBuffer", true, None),
];
/// Switches for whole groups; off changes nothing.
const GROUPS: [&str; 2] = ["AllAlpha", "AllBeta"];

pub fn is_known(name: &str) -> bool {
    GROUPS.contains(&name) || GATES.iter().any(|gate| gate.0 == name)
}

pub fn names() -> impl Iterator<Item = &'static str> {
    GROUPS.into_iter().chain(GATES.iter().map(|gate| gate.0))
}

/// The first gate that asks for something not built, with the part it belongs to.
pub fn first_unbuilt(gates: &[(String, bool)]) -> Option<(&str, bool, &'static str)> {
    gates.iter().find_map(|(name, value)| {
        if GROUPS.contains(&name.as_str()) {
            return value.then_some((name.as_str(), *value, "alpha and beta features"));
        }
        let (_, default, part) = GATES.iter().find(|gate| gate.0 == name)?;
        let part = (*part)?;
        (value != default).then_some((name.as_str(), *value, part))
    })
}

/// The value of a gate after all settings.
pub fn is_enabled(gates: &[(String, bool)], name: &str) -> bool {
    let default = GATES.iter().find(|gate| gate.0 == name).is_some_and(|gate| gate.1);
    gates.iter().rev().find(|gate| gate.0 == name).map_or(default, |gate| gate.1)
}
