//! A set of keys as the API names it.

/// One key, or all keys from a first one up to an excluded end or to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span<'a> {
    One(&'a [u8]),
    Between(&'a [u8], &'a [u8]),
    From(&'a [u8]),
}

impl<'a> Span<'a> {
    /// `range_end` absent: one key; a single zero byte: every key from `key` on; else `[key, range_end)`
    /// (etcd v3.7 rpc.proto, `mkGteRange` in etcdserver/txn/delete.go).
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::One(key),
            [0] => Self::From(key),
            end => Self::Between(key, end),
        }
    }

    pub fn start(&self) -> &'a [u8] {
        match self {
            Self::One(key) | Self::Between(key, _) | Self::From(key) => key,
        }
    }
}
