//! The bytes: page headers, elements and the meta page (bbolt's `internal/common`: `page.go`, `meta.go`, `bucket.go`).
//! All numbers are little-endian, as on every machine etcd runs on.
//!
//! ```text
//! page            id u64 | flags u16 | count u16 | overflow u32 | elements | keys and values
//! branch element  position u32 | key bytes u32 | page u64
//! leaf element    flags u32 | position u32 | key bytes u32 | value bytes u32
//! bucket          root page u64, 0 if its page follows here | sequence u64
//! meta            magic u32 | version u32 | page size u32 | flags u32 | root bucket | freelist u64 | pages u64
//!                 | transaction u64 | FNV-1a of what precedes u64
//! ```
//! A position counts from the start of its element to the key; the value follows the key.

/// Size of the pages we write; what most machines use.
pub const PAGE_BYTES: usize = 4096;
pub(super) const HEADER_BYTES: usize = 16;
pub(super) const ELEMENT_BYTES: usize = 16;
pub(super) const BUCKET_BYTES: usize = 16;
pub(super) const META_BYTES: usize = 64;

pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;
/// Flag of a leaf element whose value is a bucket.
pub(super) const IS_BUCKET: u32 = 0x01;
/// Instead of the freelist's page: it is not stored.
pub(super) const NO_FREELIST: u64 = u64::MAX;

/// bbolt's `MaxKeySize` and `MaxValueSize`.
pub(super) const KEY_BYTES_MAX: usize = 32_768;
pub(super) const VALUE_BYTES_MAX: usize = (1 << 31) - 2;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub id: u64,
    pub flags: u16,
    pub count: u16,
    pub overflow: u32,
}

impl Header {
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.flags.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..].copy_from_slice(&self.overflow.to_le_bytes());
        bytes
    }

    /// Nothing if there are too few bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub page_bytes: u32,
    pub root: u64,
    pub freelist: u64,
    /// Pages in use and free: the first page id that does not exist.
    pub pages: u64,
    pub transaction: u64,
}

/// Why 64 bytes are not a meta page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotMeta {
    Magic,
    Version,
    Checksum,
}

impl Meta {
    pub fn encode(self) -> [u8; META_BYTES] {
        let mut bytes = [0; META_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.page_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.root.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.freelist.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.pages.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.transaction.to_le_bytes());
        let checksum = fnv1a(&bytes[..56]);
        bytes[56..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, NotMeta> {
        let bytes: &[u8; META_BYTES] = bytes.first_chunk().ok_or(NotMeta::Magic)?;
        let u32 = |at| u32_at(bytes, at).expect("inside the meta page");
        let u64 = |at| u64_at(bytes, at).expect("inside the meta page");
        if u32(0) != MAGIC {
            return Err(NotMeta::Magic);
        }
        if u32(4) != VERSION {
            return Err(NotMeta::Version);
        }
        if u64(56) != fnv1a(&bytes[..56]) {
            return Err(NotMeta::Checksum);
        }
        Ok(Self {
            page_bytes: u32(8),
            root: u64(16),
            freelist: u64(32),
            pages: u64(40),
            transaction: u64(48),
        })
    }
}

/// A bucket as the value of its name: where its root page is.
pub(super) fn bucket_value(root: u64) -> [u8; BUCKET_BYTES] {
    let mut bytes = [0; BUCKET_BYTES];
    bytes[..8].copy_from_slice(&root.to_le_bytes());
    bytes
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
