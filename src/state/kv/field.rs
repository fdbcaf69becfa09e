//! A pair as a field of an answer, encoded from where it lies.

use bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::{pb::mvccpb::KeyValue, state::mvcc::Record};

/// Tags of pairs in answers (etcd v3.7 rpc.proto).
pub const KVS: u32 = 2;
pub const PREV_KV: u32 = 2;
pub const PREV_KVS: u32 = 3;

/// Tags in a pair (kv.proto).
const KEY: u32 = 1;
const VALUE: u32 = 5;

/// The record as a list shows it; see `Range::build`.
pub fn shown(record: Record<'_>, keys_only: bool) -> Record<'_> {
    if keys_only { Record { value: &[], lease: 0, ..record } } else { record }
}

/// The pair as a record.
pub fn record(kv: &KeyValue) -> Record<'_> {
    Record {
        main: kv.mod_revision,
        create: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
        key: &kv.key,
        value: &kv.value,
        ..Record::default()
    }
}

fn numbers(record: &Record<'_>) -> [(u32, i64); 3] {
    [(2, record.create), (3, record.main), (4, record.version)]
}

/// Length of the record as a field. All tags take one byte.
pub fn field_len(record: &Record<'_>) -> usize {
    let len = pair_len(record);
    1 + encoded_len_varint(len as u64) + len
}

/// The same of a pair.
pub fn pair_field_len(kv: &KeyValue) -> usize {
    field_len(&record(kv))
}

fn pair_len(record: &Record<'_>) -> usize {
    let bytes = |part: &[u8]| {
        if part.is_empty() { 0 } else { 1 + encoded_len_varint(part.len() as u64) + part.len() }
    };
    let number = |number: i64| if number == 0 { 0 } else { 1 + encoded_len_varint(number as u64) };
    bytes(record.key)
        + numbers(record).iter().map(|(_, value)| number(*value)).sum::<usize>()
        + bytes(record.value)
        + number(record.lease)
}

pub fn encode(tag: u32, record: &Record<'_>, out: &mut Vec<u8>, put_value: impl FnOnce(&[u8], &mut Vec<u8>)) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(pair_len(record) as u64, out);
    let number = |tag: u32, number: i64, out: &mut Vec<u8>| {
        if number != 0 {
            encode_key(tag, WireType::Varint, out);
            encode_varint(number as u64, out);
        }
    };
    if !record.key.is_empty() {
        encode_key(KEY, WireType::LengthDelimited, out);
        encode_varint(record.key.len() as u64, out);
        out.put_slice(record.key);
    }
    for (tag, value) in numbers(record) {
        number(tag, value, out);
    }
    if !record.value.is_empty() {
        encode_key(VALUE, WireType::LengthDelimited, out);
        encode_varint(record.value.len() as u64, out);
        put_value(record.value, out);
    }
    number(6, record.lease, out);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::etcdserverpb as pb;

    #[test]
    fn a_pair_is_encoded_as_by_the_library() {
        for (key, value, lease) in
            [(&b"k"[..], &b"v"[..], 0), (&[1; 200], &[2; 20_000], i64::MAX), (b"k", b"", -1)]
        {
            let record =
                Record { main: 300, sub: 0, create: 7, version: 1, lease, tombstone: false, key, value };
            let encoded = |tag| {
                let mut bytes = Vec::new();
                encode(tag, &record, &mut bytes, |value, bytes| bytes.put_slice(value));
                assert_eq!(bytes.len(), field_len(&record));
                bytes
            };
            let kv = KeyValue {
                key: key.to_vec().into(),
                create_revision: 7,
                mod_revision: 300,
                version: 1,
                value: value.to_vec().into(),
                lease,
            };
            let kvs = vec![kv.clone()];
            assert_eq!(
                encoded(KVS),
                pb::RangeResponse { kvs: kvs.clone(), ..Default::default() }.encode_to_vec()
            );
            let prev_kv = Some(kv);
            assert_eq!(encoded(PREV_KV), pb::PutResponse { prev_kv, ..Default::default() }.encode_to_vec());
            assert_eq!(
                encoded(PREV_KVS),
                pb::DeleteRangeResponse { prev_kvs: kvs, ..Default::default() }.encode_to_vec()
            );
        }
    }
}
