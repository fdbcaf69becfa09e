//! A revision as a key (`server/storage/mvcc/revision.go` in etcd).

const REVISION_BYTES: usize = 17;
const SEPARATOR: u8 = b'_';
const TOMBSTONE: u8 = b't';

/// Key of a version: `main u64 BE | '_' | sub u64 BE | 't' if it is a tombstone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevisionKey {
    bytes: [u8; REVISION_BYTES + 1],
    len: usize,
}

impl RevisionKey {
    pub fn new(main: i64, sub: i64, tombstone: bool) -> Self {
        let mut bytes = [TOMBSTONE; REVISION_BYTES + 1];
        bytes[..8].copy_from_slice(&main.to_be_bytes());
        bytes[8] = SEPARATOR;
        bytes[9..REVISION_BYTES].copy_from_slice(&sub.to_be_bytes());
        Self { bytes, len: REVISION_BYTES + usize::from(tombstone) }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Main and sub revision, and whether it is a tombstone.
    pub fn decode(bytes: &[u8]) -> Option<(i64, i64, bool)> {
        let tombstone = match bytes.get(REVISION_BYTES..)? {
            [] => false,
            [TOMBSTONE] => true,
            _ => return None,
        };
        let main = i64::from_be_bytes(*bytes.first_chunk()?);
        let sub = i64::from_be_bytes(*bytes[9..].first_chunk()?);
        (bytes[8] == SEPARATOR && main >= 0 && sub >= 0).then_some((main, sub, tombstone))
    }
}
