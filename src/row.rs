//! One version of one key, and its row in etcd's bucket `key`: `mvccpb.KeyValue` under its revision. It is what backups
//! are made of, and what members hash to compare themselves.
//!
//! Encoded and decoded by hand, because the bytes borrow from the store and from the file, and because their length must
//! be known without them. Pure.

mod hash;
mod key;

use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

pub use hash::Hasher;
pub use key::RevisionKey;

/// Name of the bucket.
pub const KEY_BUCKET: &[u8] = b"key";

/// A tombstone has a key and nothing else. The version without a key is a mark that the revision was reached, which
/// `etcdutl snapshot restore --bump-revision` leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    pub main: i64,
    pub sub: i64,
    pub create: i64,
    /// 1 for the version that created the key.
    pub version: i64,
    pub lease: i64,
    pub tombstone: bool,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

const KEY: u64 = 1;
const CREATE_REVISION: u64 = 2;
const MOD_REVISION: u64 = 3;
const VERSION: u64 = 4;
const VALUE: u64 = 5;
const LEASE: u64 = 6;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

impl<'a> Record<'a> {
    /// The mark of a revision that no key carries.
    pub fn mark(main: i64) -> Self {
        Self { main, ..Self::default() }
    }

    pub fn is_mark(&self) -> bool {
        self.key.is_empty()
    }

    pub fn row_key(&self) -> RevisionKey {
        RevisionKey::new(self.main, self.sub, self.tombstone)
    }

    /// Zero fields take no bytes, so that the fields of a tombstone and of a mark need no exception.
    fn numbers(&self) -> [(u64, i64); 4] {
        let modified = if self.tombstone || self.is_mark() { 0 } else { self.main };
        [
            (CREATE_REVISION, self.create),
            (MOD_REVISION, modified),
            (VERSION, self.version),
            (LEASE, self.lease),
        ]
    }

    pub fn row_value_bytes(&self) -> usize {
        let numbers = self.numbers().into_iter().filter(|(_, number)| *number != 0);
        let texts = [self.key, self.value].into_iter().filter(|text| !text.is_empty());
        numbers.map(|(_, number)| 1 + encoded_len_varint(number as u64)).sum::<usize>()
            + texts.map(|text| 1 + encoded_len_varint(text.len() as u64) + text.len()).sum::<usize>()
    }

    /// Hands out the bytes of the row, key and value where they lie.
    pub fn row_value(&self, mut take: impl FnMut(&[u8])) {
        let [create, modified, version, lease] = self.numbers();
        let mut before = Short::default();
        before.length(KEY, self.key);
        take(before.as_slice());
        take(self.key);
        let mut between = Short::default();
        [create, modified, version].into_iter().for_each(|(field, number)| between.number(field, number));
        between.length(VALUE, self.value);
        take(between.as_slice());
        take(self.value);
        let mut after = Short::default();
        after.number(lease.0, lease.1);
        take(after.as_slice());
    }

    /// A row of the bucket `key`, or what is wrong with it.
    pub fn from_row(row_key: &[u8], row: &'a [u8]) -> Result<Self, &'static str> {
        let (main, sub, tombstone) = RevisionKey::decode(row_key).ok_or("its key is not a revision")?;
        let mut version = Self { main, sub, tombstone, ..Self::default() };
        let mut modified = 0;
        let mut rest = row;
        while !rest.is_empty() {
            let tag = decode_varint(&mut rest).map_err(|_| CUT)?;
            match (tag >> 3, tag & 7) {
                (KEY, BYTES) => version.key = take_bytes(&mut rest)?,
                (VALUE, BYTES) => version.value = take_bytes(&mut rest)?,
                (CREATE_REVISION, VARINT) => version.create = take_number(&mut rest)?,
                (MOD_REVISION, VARINT) => modified = take_number(&mut rest)?,
                (VERSION, VARINT) => version.version = take_number(&mut rest)?,
                (LEASE, VARINT) => version.lease = take_number(&mut rest)?,
                (KEY..=LEASE, _) => return Err("a field has the wrong type"),
                (_, VARINT) => drop(take_number(&mut rest)?),
                (_, BYTES) => drop(take_bytes(&mut rest)?),
                (_, FIXED64) => rest = rest.get(8..).ok_or(CUT)?,
                (_, FIXED32) => rest = rest.get(4..).ok_or(CUT)?,
                _ => return Err("it is not a message"),
            }
        }
        version.check(modified).map(|()| version)
    }

    fn check(&self, modified: i64) -> Result<(), &'static str> {
        let bare = self.create == 0
            && modified == 0
            && self.version == 0
            && self.lease == 0
            && self.value.is_empty();
        if self.main < 1 {
            return Err("its revision is 0");
        }
        if self.tombstone {
            return match (self.is_mark(), bare) {
                (true, _) => Err("a tombstone without a key"),
                (_, false) => Err("a tombstone with more than a key"),
                (false, true) => Ok(()),
            };
        }
        match self.is_mark() {
            true if bare => Ok(()),
            true => Err("a version without a key"),
            false if modified != self.main => Err("its revision is not the one it is filed under"),
            false if !(1..=self.main).contains(&self.create) => {
                Err("it was created at another time than it says")
            }
            false if self.version < 1 => Err("its version is not positive"),
            false => Ok(()),
        }
    }
}

const CUT: &str = "it is cut short";

/// A few fields, without the heap: at most three numbers, a tag and a length.
struct Short {
    bytes: [u8; SHORT_BYTES],
    len: usize,
}

const SHORT_BYTES: usize = 4 * (1 + VARINT_BYTES_MAX);
const VARINT_BYTES_MAX: usize = 10;

impl Default for Short {
    fn default() -> Self {
        Self { bytes: [0; SHORT_BYTES], len: 0 }
    }
}

impl Short {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn number(&mut self, field: u64, number: i64) {
        if number != 0 {
            self.varint(field << 3 | VARINT);
            self.varint(number as u64);
        }
    }

    /// What comes before bytes, which are left out where there are none.
    fn length(&mut self, field: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.varint(field << 3 | BYTES);
            self.varint(bytes.len() as u64);
        }
    }

    fn varint(&mut self, value: u64) {
        let mut free = &mut self.bytes[self.len..];
        encode_varint(value, &mut free);
        self.len = SHORT_BYTES - free.len();
    }
}

fn take_number(rest: &mut &[u8]) -> Result<i64, &'static str> {
    decode_varint(rest).map(|number| number as i64).map_err(|_| CUT)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let len = decode_varint(rest).map_err(|_| CUT)?;
    let (bytes, after) = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len)).ok_or(CUT)?;
    *rest = after;
    Ok(bytes)
}
