//! Ranges of keys that somebody may read or write: the union of what was granted, in the order of the keys.
//!
//! Ranges that overlap or touch are one, so a question is a binary search, and the answer does not depend on how they were
//! granted.

use std::ops::Bound;

use bytes::Bytes;

use crate::pb::authpb::{Permission, permission::Type};

/// What a user may.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rights {
    pub read: Ranges,
    pub write: Ranges,
}

/// Disjoint, and apart from each other.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    start: Bytes,
    end: End,
}

/// Where a range ends, excluded. In this order: behind all keys is the last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Key(Bytes),
    None,
}

impl Rights {
    pub fn of<'a>(permissions: impl Iterator<Item = &'a Permission>) -> Self {
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for permission in permissions {
            let range = Range::of(permission);
            match Type::try_from(permission.perm_type) {
                Ok(Type::Read) => read.push(range),
                Ok(Type::Write) => write.push(range),
                Ok(Type::Readwrite) => {
                    read.push(range.clone());
                    write.push(range);
                }
                // Of a kind that nobody asks for.
                Err(_) => {}
            }
        }
        Self { read: Ranges::of(read), write: Ranges::of(write) }
    }
}

impl Range {
    fn of(permission: &Permission) -> Self {
        let start = permission.key.clone();
        let end = match &permission.range_end[..] {
            [] => End::Key([&start[..], &[0]].concat().into()),
            [0] => End::None,
            _ => End::Key(permission.range_end.clone()),
        };
        Self { start, end }
    }

    fn reaches(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Key(end) => key <= &end[..],
            End::None => true,
        }
    }
}

impl Ranges {
    fn of(mut ranges: Vec<Range>) -> Self {
        ranges.sort_by(|one, other| one.start.cmp(&other.start));
        let mut merged: Vec<Range> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if last.reaches(&range.start) => last.end = range.end.max(last.end.clone()),
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    /// Whether all keys of an ordered set are in them, of which `from` gives the first that is not before some key. So many
    /// are looked at as there are ranges, at most.
    pub fn contain_all<'a>(&self, from: impl Fn(&[u8]) -> Option<&'a [u8]>) -> bool {
        let mut beyond: &[u8] = &[];
        while let Some(key) = from(beyond) {
            match self.at(key) {
                Some(Range { end: End::None, .. }) => return true,
                Some(Range { end: End::Key(end), .. }) if *key < **end => beyond = end,
                _ => return false,
            }
        }
        true
    }

    /// The range that begins last among those that begin at the key or before.
    fn at(&self, key: &[u8]) -> Option<&Range> {
        let after = self.0.partition_point(|range| range.start[..] <= *key);
        self.0[..after].last()
    }

    /// Whether all keys that a request names are in them: one, those up to `range_end`, or with a zero byte there all from
    /// the key on. Where the end is not behind the key, which is the request for nothing, the key itself has to be.
    pub fn contain(&self, key: &[u8], range_end: &[u8]) -> bool {
        let until = match range_end {
            [0] => Bound::Unbounded,
            end if end > key => Bound::Excluded(end),
            _ => Bound::Included(key),
        };
        let Some(Range { end, .. }) = self.at(key) else { return false };
        match (end, until) {
            (End::None, _) => true,
            (End::Key(_), Bound::Unbounded) => false,
            (End::Key(end), Bound::Excluded(until)) => until <= &end[..],
            (End::Key(end), Bound::Included(key)) => key < &end[..],
        }
    }
}
