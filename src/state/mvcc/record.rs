//! One version of one key, packed: the fields most versions do not need take no byte.
//!
//! ```text
//! flags u8 | main - base varint | [sub varint] | [main - create varint, version varint] | [lease 8 bytes LE]
//!          | key length varint | [value length varint] | key | value
//! ```
//! Numbers in brackets are present only where the flags say so.

use crate::row::Record;

const TOMBSTONE: u8 = 1;
/// Not the first version of its key: creation revision and version follow.
const REVISED: u8 = 1 << 1;
const LEASED: u8 = 1 << 2;
const SUB: u8 = 1 << 3;

impl<'a> Record<'a> {
    /// Most bytes the record can take.
    pub fn len_max(&self) -> usize {
        1 + 6 * 10 + 8 + self.key.len() + self.value.len()
    }

    /// Appends the record; `base` is at or below its main revision and is given to [`Record::decode`] again.
    pub fn encode(&self, base: i64, into: &mut Vec<u8>) {
        assert!(self.main >= base, "a record never lies before its chunk");
        debug_assert!(!self.tombstone || (self.version == 0 && self.lease == 0 && self.value.is_empty()));
        let revised = !self.tombstone && (self.create != self.main || self.version != 1);
        let mut flags = 0;
        flags |= if self.tombstone { TOMBSTONE } else { 0 };
        flags |= if revised { REVISED } else { 0 };
        flags |= if self.lease != 0 { LEASED } else { 0 };
        flags |= if self.sub != 0 { SUB } else { 0 };
        into.push(flags);
        put_varint(into, (self.main - base) as u64);
        if self.sub != 0 {
            put_varint(into, self.sub as u64);
        }
        if revised {
            put_varint(into, (self.main - self.create) as u64);
            put_varint(into, self.version as u64);
        }
        if self.lease != 0 {
            into.extend_from_slice(&self.lease.to_le_bytes());
        }
        put_varint(into, self.key.len() as u64);
        if !self.tombstone {
            put_varint(into, self.value.len() as u64);
        }
        into.extend_from_slice(self.key);
        into.extend_from_slice(self.value);
    }

    /// The record at the start of `bytes` and the bytes it takes.
    #[inline]
    pub fn decode(bytes: &'a [u8], base: i64) -> (Self, usize) {
        let flags = bytes[0];
        let mut at = 1;
        let main = base + varint(bytes, &mut at) as i64;
        let sub = if flags & SUB != 0 { varint(bytes, &mut at) as i64 } else { 0 };
        let tombstone = flags & TOMBSTONE != 0;
        let (create, version) = if flags & REVISED != 0 {
            (main - varint(bytes, &mut at) as i64, varint(bytes, &mut at) as i64)
        } else if tombstone {
            (0, 0)
        } else {
            (main, 1)
        };
        let lease = if flags & LEASED != 0 {
            let (lease, _) = bytes[at..].split_first_chunk::<8>().expect("a lease takes eight bytes");
            at += 8;
            i64::from_le_bytes(*lease)
        } else {
            0
        };
        let key_len = varint(bytes, &mut at) as usize;
        let value_len = if tombstone { 0 } else { varint(bytes, &mut at) as usize };
        let key = &bytes[at..at + key_len];
        let value = &bytes[at + key_len..at + key_len + value_len];
        (Self { main, sub, create, version, lease, tombstone, key, value }, at + key_len + value_len)
    }

    /// Whether the record at the start of `bytes` names a lease.
    #[inline]
    pub fn is_leased(bytes: &[u8]) -> bool {
        bytes[0] & LEASED != 0
    }

    /// The key of the record at the start of `bytes`.
    #[inline]
    pub fn key_at(bytes: &[u8]) -> &[u8] {
        let flags = bytes[0];
        let revised = if flags & REVISED != 0 { 2 } else { 0 };
        let mut at = 1;
        for _ in 0..1 + u8::from(flags & SUB != 0) + revised {
            while bytes[at] >= 0x80 {
                at += 1;
            }
            at += 1;
        }
        at += if flags & LEASED != 0 { 8 } else { 0 };
        let key_len = varint(bytes, &mut at) as usize;
        if flags & TOMBSTONE == 0 {
            varint(bytes, &mut at);
        }
        &bytes[at..at + key_len]
    }
}

fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

#[inline]
fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let mut value = 0;
    let mut shift = 0;
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            base in 0i64..1 << 40, delta in 0i64..1 << 40, sub in 0i64..1000, back in 0i64..1000, version in 1i64..1 << 40,
            lease in any::<i64>(), tombstone in any::<bool>(),
            key in prop::collection::vec(any::<u8>(), 0..300), value in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let main = base + delta;
            let record = if tombstone {
                Record { main, sub, tombstone, key: &key, ..Record::default() }
            } else {
                Record { main, sub, create: main - back, version, lease, tombstone, key: &key, value: &value }
            };
            let mut bytes = Vec::new();
            record.encode(base, &mut bytes);
            prop_assert!(bytes.len() <= record.len_max());
            let len = bytes.len();
            bytes.push(0xff);
            prop_assert_eq!(Record::decode(&bytes, base), (record, len));
            prop_assert_eq!(Record::key_at(&bytes), &key);
        }
    }
}
