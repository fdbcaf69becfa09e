//! The few messages of the hot path, written and read without intermediate values.
//!
//! Requests are written with their gRPC prefix (one byte "not compressed", four bytes length) into a buffer that
//! is reused. Replies are walked field by field. The tests hold both against the generated types.

/// Bytes of the gRPC message prefix.
pub const PREFIX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed reply")]
pub struct Malformed;

/// What a good reply told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Done,
    /// A get of a key that does not exist.
    NotFound,
    /// A txn whose compare failed.
    Conflict,
    /// Of a list; `last` when it has reached its end.
    Page {
        keys: u64,
        bytes: u64,
        last: bool,
    },
}

pub fn put(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    framed(out, |out| put_fields(out, key, value));
}

pub fn range(out: &mut Vec<u8>, key: &[u8], serializable: bool) {
    framed(out, |out| {
        bytes(out, 1, key);
        if serializable {
            varint_field(out, 7, 1);
        }
    });
}

/// Keys from `from` on in order, at most `limit` of them, at `revision`; 0 is all and the newest.
pub fn range_from(out: &mut Vec<u8>, from: &[u8], limit: u64, revision: u64) {
    framed(out, |out| {
        bytes(out, 1, from);
        bytes(out, 2, &[0]);
        if limit > 0 {
            varint_field(out, 3, limit);
        }
        if revision > 0 {
            varint_field(out, 4, revision);
        }
    });
}

#[derive(Debug, PartialEq, Eq)]
pub struct RangeReply<'a> {
    /// Of the response header.
    pub revision: u64,
    pub keys: u64,
    pub last_key: Option<&'a [u8]>,
    pub more: bool,
}

pub fn range_reply(message: &[u8]) -> Result<RangeReply<'_>, Malformed> {
    let mut reply = RangeReply { revision: 0, keys: 0, last_key: None, more: false };
    let mut last = None;
    for field in Fields(message) {
        match field? {
            (1, Value::Bytes(header)) => reply.revision = number(header, 3)?,
            (2, Value::Bytes(kv)) => {
                reply.keys += 1;
                last = Some(kv);
            }
            (3, Value::Number(more)) => reply.more = more != 0,
            _ => {}
        }
    }
    if let Some(kv) = last {
        reply.last_key = nested(kv, 1)?;
    }
    Ok(reply)
}

/// If the key's mod revision is `revision` (0: it does not exist) put it, else get it.
pub fn compare_and_put(out: &mut Vec<u8>, key: &[u8], revision: u64, value: &[u8]) {
    const MOD: u64 = 2;
    framed(out, |out| {
        // Compare { result: EQUAL (0, left out), target: MOD, key, mod_revision }
        let compare = 2 + sized(key.len()) + 1 + varint_size(revision);
        header(out, 1, compare);
        varint_field(out, 2, MOD);
        bytes(out, 3, key);
        varint_field(out, 6, revision);
        // success: RequestOp { request_put }
        let put = sized(key.len()) + sized(value.len());
        header(out, 2, sized(put));
        header(out, 2, put);
        put_fields(out, key, value);
        // failure: RequestOp { request_range { key } }
        let get = sized(key.len());
        header(out, 3, sized(get));
        header(out, 1, get);
        bytes(out, 1, key);
    });
}

#[derive(Debug, PartialEq, Eq)]
pub struct TxnReply {
    pub succeeded: bool,
    /// Of the response header: the key's mod revision if the put happened.
    pub revision: u64,
    /// The key's mod revision, from the get of the failure branch.
    pub current: Option<u64>,
}

pub fn txn_reply(message: &[u8]) -> Result<TxnReply, Malformed> {
    let mut reply = TxnReply { succeeded: false, revision: 0, current: None };
    for field in Fields(message) {
        match field? {
            (1, Value::Bytes(header)) => reply.revision = number(header, 3)?,
            (2, Value::Number(succeeded)) => reply.succeeded = succeeded != 0,
            // ResponseOp { response_range: RangeResponse { kvs: [KeyValue { mod_revision }] } }
            (3, Value::Bytes(operation)) => {
                if let Some(range) = nested(operation, 1)?
                    && let Some(kv) = nested(range, 2)?
                {
                    reply.current = Some(number(kv, 3)?);
                }
            }
            _ => {}
        }
    }
    Ok(reply)
}

/// How many keys a RangeResponse counted.
pub fn range_count(message: &[u8]) -> Result<u64, Malformed> {
    number(message, 4)
}

fn put_fields(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    bytes(out, 1, key);
    bytes(out, 2, value);
}

fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    write(out);
    let length = u32::try_from(out.len() - start - PREFIX).expect("a message is below 4 GiB");
    out[start + 1..start + PREFIX].copy_from_slice(&length.to_be_bytes());
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_size(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Size of a length-delimited field with a one-byte tag.
fn sized(length: usize) -> usize {
    1 + varint_size(length as u64) + length
}

fn header(out: &mut Vec<u8>, field: u8, length: usize) {
    out.push(field << 3 | 2);
    varint(out, length as u64);
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    header(out, field, value.len());
    out.extend_from_slice(value);
}

fn varint_field(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (index, &byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.0 = &self.0[index + 1..];
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return Err(Malformed),
        };
        Ok((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// A number field; 0 when it is absent, as proto3 says.
fn number(message: &[u8], wanted: u64) -> Result<u64, Malformed> {
    for field in Fields(message) {
        if let (field, Value::Number(value)) = field?
            && field == wanted
        {
            return Ok(value);
        }
    }
    Ok(0)
}

fn nested(message: &[u8], wanted: u64) -> Result<Option<&[u8]>, Malformed> {
    for field in Fields(message) {
        if let (field, Value::Bytes(value)) = field?
            && field == wanted
        {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;
    use crate::pb::etcdserverpb as pb;
    use crate::pb::mvccpb::KeyValue;

    fn unframed(out: &[u8]) -> &[u8] {
        assert_eq!(out[0], 0);
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize, out.len() - PREFIX);
        &out[PREFIX..]
    }

    #[test]
    fn requests_are_what_the_generated_types_read() {
        for (key, value, revision) in [
            (vec![7; 8], vec![9; 256], 0),
            (vec![1; 127], vec![2; 128], 127),
            (vec![1; 300], vec![], u64::MAX / 2),
        ] {
            let mut out = Vec::new();
            put(&mut out, &key, &value);
            let request = pb::PutRequest::decode(unframed(&out)).unwrap();
            assert_eq!((&request.key[..], &request.value[..]), (&key[..], &value[..]));

            let mut out = Vec::new();
            range(&mut out, &key, true);
            let request = pb::RangeRequest::decode(unframed(&out)).unwrap();
            assert_eq!((&request.key[..], request.serializable), (&key[..], true));

            let mut out = Vec::new();
            compare_and_put(&mut out, &key, revision, &value);
            let request = pb::TxnRequest::decode(unframed(&out)).unwrap();
            let [compare] = &request.compare[..] else { panic!("{request:?}") };
            assert_eq!(compare.result(), pb::compare::CompareResult::Equal);
            assert_eq!(compare.target(), pb::compare::CompareTarget::Mod);
            let union = pb::compare::TargetUnion::ModRevision(revision as i64);
            assert_eq!((&compare.key[..], compare.target_union.clone()), (&key[..], Some(union)));
            let then = pb::request_op::Request::RequestPut(pb::PutRequest {
                key: key.clone().into(),
                value: value.clone().into(),
                ..Default::default()
            });
            let otherwise = pb::request_op::Request::RequestRange(pb::RangeRequest {
                key: key.clone().into(),
                ..Default::default()
            });
            assert_eq!(request.success, vec![pb::RequestOp { request: Some(then) }]);
            assert_eq!(request.failure, vec![pb::RequestOp { request: Some(otherwise) }]);
        }
    }

    #[test]
    fn replies_are_read_as_the_generated_types_write_them() {
        let header = pb::ResponseHeader { cluster_id: u64::MAX, member_id: 2, revision: 300, raft_term: 4 };
        let kv =
            KeyValue { key: Bytes::from_static(b"k"), mod_revision: 299, version: 3, ..Default::default() };
        let range = pb::RangeResponse { header: Some(header), kvs: vec![kv], more: false, count: 1 };
        assert_eq!(range_count(&range.encode_to_vec()), Ok(1));
        assert_eq!(range_count(&[]), Ok(0));

        let failed = pb::TxnResponse {
            header: Some(header),
            succeeded: false,
            responses: vec![pb::ResponseOp {
                response: Some(pb::response_op::Response::ResponseRange(range)),
            }],
        };
        let reply = txn_reply(&failed.encode_to_vec()).unwrap();
        assert_eq!(reply, TxnReply { succeeded: false, revision: 300, current: Some(299) });

        let done = pb::TxnResponse { header: Some(header), succeeded: true, responses: vec![] };
        let reply = txn_reply(&done.encode_to_vec()).unwrap();
        assert_eq!(reply, TxnReply { succeeded: true, revision: 300, current: None });
    }

    #[test]
    fn a_reply_that_is_cut_short_is_an_error() {
        let header = pb::ResponseHeader { revision: 300, ..Default::default() };
        let whole =
            pb::TxnResponse { header: Some(header), succeeded: true, responses: vec![] }.encode_to_vec();
        assert_eq!(txn_reply(&whole[..2]), Err(Malformed));
        assert_eq!(range_count(&[0xff; 11]), Err(Malformed));
    }
}
