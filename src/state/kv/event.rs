//! A version as an event of a watch, encoded once for all who are told of it.

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::field;
use crate::state::mvcc::Record;

/// `WatchResponse.events` (etcd v3.7 rpc.proto).
const EVENTS: u32 = 11;
/// Fields of an event (kv.proto).
const TYPE: u32 = 1;
const KV: u32 = 2;
const PREV_KV: u32 = 3;
const DELETE: u64 = 1;

/// The field with tag, length and event: as it stands in every answer that has it. `prior` is what the key was before, where
/// that is wanted and known.
pub fn event(version: &Record<'_>, prior: Option<&Record<'_>>) -> Bytes {
    let len = len(version, prior);
    let mut bytes = Vec::with_capacity(1 + encoded_len_varint(len as u64) + len);
    encode_key(EVENTS, WireType::LengthDelimited, &mut bytes);
    encode_varint(len as u64, &mut bytes);
    if version.tombstone {
        encode_key(TYPE, WireType::Varint, &mut bytes);
        encode_varint(DELETE, &mut bytes);
    }
    let put_value = |value: &[u8], bytes: &mut Vec<u8>| bytes.extend_from_slice(value);
    field::encode(KV, version, &mut bytes, put_value);
    if let Some(prior) = prior {
        field::encode(PREV_KV, prior, &mut bytes, put_value);
    }
    bytes.into()
}

/// Length of what [`event`] gives.
pub fn event_len(version: &Record<'_>, prior: Option<&Record<'_>>) -> usize {
    let len = len(version, prior);
    1 + encoded_len_varint(len as u64) + len
}

fn len(version: &Record<'_>, prior: Option<&Record<'_>>) -> usize {
    let kind_len = if version.tombstone { 2 } else { 0 };
    kind_len + field::field_len(version) + prior.map_or(0, field::field_len)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::{
        etcdserverpb as pb,
        mvccpb::{Event, KeyValue, event::EventType},
    };

    fn kv(record: &Record<'_>) -> KeyValue {
        KeyValue {
            key: record.key.to_vec().into(),
            create_revision: record.create,
            mod_revision: record.main,
            version: record.version,
            value: record.value.to_vec().into(),
            lease: record.lease,
        }
    }

    #[test]
    fn an_event_is_encoded_as_by_the_library() {
        let old =
            Record { main: 7, create: 7, version: 1, lease: -3, key: b"k", value: b"", ..Record::default() };
        let long = [b'v'; 20_000];
        let put = Record { main: 300, sub: 5, version: 2, key: b"k", value: &long, ..old };
        let delete = Record { main: 301, tombstone: true, key: b"k", ..Record::default() };
        for (version, prior) in [(&put, None), (&put, Some(&old)), (&delete, None), (&delete, Some(&put))] {
            let kind = if version.tombstone { EventType::Delete } else { EventType::Put };
            let (kv, prev_kv) = (Some(kv(version)), prior.map(kv));
            let events = vec![Event { r#type: kind as i32, kv, prev_kv }];
            let answer = pb::WatchResponse { events, ..Default::default() };
            assert_eq!(event(version, prior), answer.encode_to_vec());
            assert_eq!(event_len(version, prior), answer.encoded_len());
        }
    }
}
