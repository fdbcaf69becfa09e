//! Why the tree does not do as it was asked, with etcd's numbers (`v2error`).

use bytes::Bytes;

/// What is wrong. Others than these are told before a request gets this far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    KeyNotFound = 100,
    TestFailed = 101,
    NotFile = 102,
    NotDir = 104,
    NodeExists = 105,
    RootReadOnly = 107,
    DirNotEmpty = 108,
    EventIndexCleared = 401,
}

/// A refusal. It changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: Code,
    pub cause: Bytes,
    /// The tree's at that time.
    pub index: u64,
}
