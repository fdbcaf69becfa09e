//! `TxnRequest`, the one message that may hold others of its kind, and how deep they may lie.
//!
//! The library that decodes gives up after about 50 levels, while etcd goes as deep as `--max-txn-ops` allows. So each
//! transaction is decoded with a fresh count, and how deep they lie is looked up before, without recursion. Everything
//! that follows nested transactions, decoding included, relies on that bound for its stack.

use bytes::{Buf, BufMut};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};
use smallvec::{SmallVec, smallvec};

use super::etcdserverpb::{Compare, RequestOp};
use crate::limits;

/// Fewest bytes that a level takes: key and length of an operation, and of the transaction in it.
const LEVEL_BYTES: usize = 4;

/// As generated, but for decoding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TxnRequest {
    pub compare: Vec<Compare>,
    pub success: Vec<RequestOp>,
    pub failure: Vec<RequestOp>,
}

const COMPARE: u32 = 1;
const SUCCESS: u32 = 2;
const FAILURE: u32 = 3;
/// Of `RequestOp`.
const REQUEST_TXN: u32 = 4;

impl Message for TxnRequest {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        encoding::message::encode_repeated(COMPARE, &self.compare, buf);
        encoding::message::encode_repeated(SUCCESS, &self.success, buf);
        encoding::message::encode_repeated(FAILURE, &self.failure, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        use encoding::message::merge_repeated;
        match tag {
            COMPARE => merge_repeated(wire_type, &mut self.compare, buf, context),
            // Counted before.
            SUCCESS => merge_repeated(wire_type, &mut self.success, buf, DecodeContext::default()),
            FAILURE => merge_repeated(wire_type, &mut self.failure, buf, DecodeContext::default()),
            _ => encoding::skip_field(wire_type, tag, buf, context),
        }
    }

    fn encoded_len(&self) -> usize {
        encoding::message::encoded_len_repeated(COMPARE, &self.compare)
            + encoding::message::encoded_len_repeated(SUCCESS, &self.success)
            + encoding::message::encoded_len_repeated(FAILURE, &self.failure)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// Of the outermost transaction; those in it are merged field by field.
    fn merge(&mut self, mut buf: impl Buf) -> Result<(), DecodeError> {
        let mut bytes = buf.copy_to_bytes(buf.remaining());
        if nests_deeper_than(limits::TXN_NESTING_MAX, &bytes) {
            // What an implementation is to say it with.
            #[expect(deprecated)]
            return Err(DecodeError::new("transactions are nested too deep"));
        }
        while bytes.has_remaining() {
            let (tag, wire_type) = encoding::decode_key(&mut bytes)?;
            self.merge_field(tag, wire_type, &mut bytes, DecodeContext::default())?;
        }
        Ok(())
    }
}

/// Whether an encoded transaction holds others in more than `levels` levels. Of unsound bytes it follows at least as
/// much as a decoder does before it gives up.
pub fn nests_deeper_than(levels: usize, bytes: &[u8]) -> bool {
    if bytes.len() <= levels * LEVEL_BYTES {
        return false;
    }
    // Where each message ends that encloses what comes next: a transaction, an operation, a transaction, and so on.
    let mut ends: SmallVec<[usize; 8]> = smallvec![bytes.len()];
    let mut at = 0;
    while let Some(end) = ends.last() {
        if at >= *end {
            ends.pop();
            continue;
        }
        let Some(key) = varint(bytes, &mut at) else { return false };
        match WireType::try_from(key & 7) {
            Ok(WireType::LengthDelimited) => {
                let Some(length) = varint(bytes, &mut at) else { return false };
                let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length));
                let Some(end) = end.filter(|end| *end <= bytes.len()) else { return false };
                let tag = u32::try_from(key >> 3).unwrap_or(0);
                let in_txn = ends.len() % 2 == 1;
                if in_txn && (tag == SUCCESS || tag == FAILURE) {
                    ends.push(end);
                } else if !in_txn && tag == REQUEST_TXN {
                    ends.push(end);
                    if ends.len() / 2 > levels {
                        return true;
                    }
                } else {
                    at = end;
                }
            }
            Ok(WireType::Varint) => {
                if varint(bytes, &mut at).is_none() {
                    return false;
                }
            }
            Ok(WireType::SixtyFourBit) => at += 8,
            Ok(WireType::ThirtyTwoBit) => at += 4,
            // What is in a group is taken for fields beside it, which finds too much rather than too little.
            Ok(WireType::StartGroup | WireType::EndGroup) => {}
            Err(_) => return false,
        }
    }
    false
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut rest = bytes.get(*at..)?;
    let before = rest.len();
    let number = encoding::decode_varint(&mut rest).ok()?;
    *at += before - rest.len();
    Some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pb::etcdserverpb::{PutRequest, RangeRequest, request_op::Request as Op};

    fn op(request: Op) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    /// So many transactions in one another, in both branches in turn.
    fn nested(levels: usize) -> TxnRequest {
        let mut txn = TxnRequest::default();
        for level in 0..levels {
            let inner = op(Op::RequestTxn(txn));
            txn = match level % 2 {
                0 => TxnRequest { success: vec![inner], ..Default::default() },
                _ => TxnRequest { failure: vec![inner], ..Default::default() },
            };
        }
        txn
    }

    #[test]
    fn the_deepest_is_decoded_and_one_deeper_is_refused() {
        let deepest = nested(limits::TXN_NESTING_MAX);
        assert_eq!(TxnRequest::decode(&deepest.encode_to_vec()[..]).as_ref(), Ok(&deepest));
        let deeper = nested(limits::TXN_NESTING_MAX + 1).encode_to_vec();
        assert!(TxnRequest::decode(&deeper[..]).is_err());
    }

    #[test]
    fn a_hundred_thousand_levels_need_no_stack() {
        let mut bytes = Vec::new();
        let (mut len, mut heads) = (0, Vec::new());
        for _ in 0..100_000 {
            for tag in [REQUEST_TXN, SUCCESS] {
                let mut head = Vec::new();
                encoding::encode_key(tag, WireType::LengthDelimited, &mut head);
                encoding::encode_varint(len, &mut head);
                len += head.len() as u64;
                heads.push(head);
            }
        }
        heads.iter().rev().for_each(|head| bytes.extend_from_slice(head));
        assert!(nests_deeper_than(99_999, &bytes) && !nests_deeper_than(100_000, &bytes));
        assert!(TxnRequest::decode(&bytes[..]).is_err());
    }

    #[test]
    fn what_lies_beside_does_not_count() {
        let flat = vec![op(Op::RequestTxn(nested(3))); 1000];
        let bytes = TxnRequest { success: flat.clone(), failure: flat, ..Default::default() }.encode_to_vec();
        assert!(nests_deeper_than(3, &bytes) && !nests_deeper_than(4, &bytes));
        // A value that looks like nested transactions is a value.
        let value = nested(20).encode_to_vec().into();
        let put = op(Op::RequestPut(PutRequest { value, ..Default::default() }));
        let bytes = TxnRequest { success: vec![put], ..Default::default() }.encode_to_vec();
        assert!(!nests_deeper_than(0, &bytes));
    }

    fn depth(txn: &TxnRequest) -> usize {
        let below = |op: &RequestOp| match &op.request {
            Some(Op::RequestTxn(nested)) => 1 + depth(nested),
            _ => 0,
        };
        txn.success.iter().chain(&txn.failure).map(below).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn depth_is_found_and_messages_come_back(
            shape in prop::collection::vec((0u8..4, any::<bool>()), 0..60), levels in 0usize..30,
        ) {
            let mut txn = TxnRequest::default();
            for (what, success) in shape {
                let op = match what {
                    0 => op(Op::RequestRange(RangeRequest { key: "k".into(), ..Default::default() })),
                    1 => op(Op::RequestPut(PutRequest { key: "k".into(), ..Default::default() })),
                    _ => op(Op::RequestTxn(std::mem::take(&mut txn))),
                };
                if success { txn.success.push(op) } else { txn.failure.push(op) }
            }
            let bytes = txn.encode_to_vec();
            prop_assert_eq!(nests_deeper_than(levels, &bytes), depth(&txn) > levels);
            prop_assert_eq!(bytes.len(), txn.encoded_len());
            prop_assert_eq!(TxnRequest::decode(&bytes[..]), Ok(txn));
        }

        #[test]
        fn whatever_comes_is_looked_through(bytes in prop::collection::vec(any::<u8>(), 0..200), levels in 0usize..3) {
            nests_deeper_than(levels, &bytes);
            drop(TxnRequest::decode(&bytes[..]));
        }
    }
}
