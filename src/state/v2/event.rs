//! What happened to a node, as whoever asked for it and whoever waits for it is told, and as it is stored.

use bytes::Bytes;
use prost::{Enumeration, Message};

/// etcd's word for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Action {
    Set = 0,
    Create = 1,
    Update = 2,
    CompareAndSwap = 3,
    Delete = 4,
    CompareAndDelete = 5,
    Expire = 6,
}

/// A node at one time.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Shown {
    /// Empty for the root.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// A file's, if it is there and told of.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub value: Option<Bytes>,
    #[prost(bool, tag = "3")]
    pub dir: bool,
    #[prost(sfixed64, optional, tag = "4")]
    pub expires: Option<i64>,
    /// Seconds that were left then.
    #[prost(sint64, tag = "5")]
    pub ttl: i64,
    #[prost(uint64, tag = "6")]
    pub modified: u64,
    #[prost(uint64, tag = "7")]
    pub created: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Event {
    #[prost(enumeration = "Action", tag = "1")]
    pub action: i32,
    #[prost(message, required, tag = "2")]
    pub node: Shown,
    /// What was there before.
    #[prost(message, optional, tag = "3")]
    pub before: Option<Shown>,
    /// It gave the node more time and nothing else: nobody is told.
    #[prost(bool, tag = "4")]
    pub refresh: bool,
}

impl Event {
    /// The tree's index with it.
    pub fn index(&self) -> u64 {
        self.node.modified
    }

    /// Whether there was nothing in its place before.
    pub fn is_created(&self) -> bool {
        match self.action() {
            Action::Create => true,
            Action::Set => self.before.is_none(),
            _ => false,
        }
    }

    /// Whether everything below is gone with it.
    pub fn ends_directory(&self) -> bool {
        self.node.dir && matches!(self.action(), Action::Delete | Action::Expire)
    }

    /// Whether it concerns who waits for what happens at a key, or `recursive` at that and below.
    pub fn concerns(&self, key: &[u8], recursive: bool) -> bool {
        let own: &[u8] = &self.node.key;
        if self.refresh {
            false
        } else if own == key {
            true
        } else if is_below(own, key) {
            recursive && !super::is_hidden_below(key, own)
        } else {
            self.ends_directory() && is_below(key, own)
        }
    }
}

fn is_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Whole seconds from `now` to then, begun ones included (Go's division, which goes towards zero).
pub fn seconds_left(expires: i64, now: i64) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    let left = expires.saturating_sub(now);
    left / SECOND + i64::from(left % SECOND > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_while_some_are_left() {
        for (left, seconds) in
            [(1, 1), (1_000_000_000, 1), (1_000_000_001, 2), (0, 0), (-1, 0), (-1_500_000_000, -1)]
        {
            assert_eq!(seconds_left(5_000_000_000 + left, 5_000_000_000), seconds, "{left}");
        }
    }

    #[test]
    fn who_waits_hears_of_the_key_of_what_is_below_and_of_the_end_of_what_is_above() {
        let node = Shown { key: "/a/b".into(), dir: true, ..Shown::default() };
        let mut event = Event { action: Action::Set as i32, node, ..Event::default() };
        let told = |event: &Event| {
            ["", "/a", "/a/b", "/a/b/c", "/a/bc", "/a/x"]
                .map(|key| (event.concerns(key.as_bytes(), true), event.concerns(key.as_bytes(), false)))
        };
        let (both, deep, none) = ((true, true), (true, false), (false, false));
        assert_eq!(told(&event), [deep, deep, both, none, none, none]);
        event.action = Action::Delete as i32;
        assert_eq!(told(&event), [deep, deep, both, both, none, none]);
        event.refresh = true;
        assert_eq!(told(&event), [none; 6]);
    }
}
