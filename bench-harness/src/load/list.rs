//! Where each client's list stands. A client that got a page asks for the next one at the same revision, from the
//! first possible key after the last one it got; at the end it starts over.

use super::message::{self, Malformed, Told};

/// Below every key.
const FIRST: &[u8] = &[0];

#[derive(Debug, Default)]
struct Cursor {
    /// Where the next page starts.
    from: Vec<u8>,
    /// Of the first page; 0 before it.
    revision: u64,
}

/// One cursor per call in flight.
#[derive(Debug)]
pub struct Lists {
    page: u64,
    cursors: Vec<Cursor>,
    idle: Vec<usize>,
}

impl Lists {
    /// `page` keys at a time, or all with 0.
    pub fn new(page: u64) -> Self {
        Self { page, cursors: Vec::new(), idle: Vec::new() }
    }

    /// Appends the next request to `out`; the number comes back with the reply.
    pub fn next(&mut self, out: &mut Vec<u8>) -> u64 {
        let index = self.idle.pop().unwrap_or_else(|| {
            self.cursors.push(Cursor { from: FIRST.to_vec(), revision: 0 });
            self.cursors.len() - 1
        });
        let cursor = &self.cursors[index];
        message::range_from(out, &cursor.from, self.page, cursor.revision);
        index as u64
    }

    pub fn reply(&mut self, index: u64, message: &[u8]) -> Result<Told, Malformed> {
        let outcome = message::range_reply(message);
        let Ok(message::RangeReply { revision, keys, last_key: Some(last_key), more: true }) = outcome else {
            self.failed(index);
            return outcome.map(|reply| told(reply.keys, message, true));
        };
        let index = index_of(index);
        let cursor = &mut self.cursors[index];
        cursor.from.clear();
        cursor.from.extend_from_slice(last_key);
        cursor.from.push(0);
        if cursor.revision == 0 {
            cursor.revision = revision;
        }
        self.idle.push(index);
        Ok(told(keys, message, false))
    }

    /// Starts over.
    pub fn failed(&mut self, index: u64) {
        let index = index_of(index);
        self.cursors[index] = Cursor { from: FIRST.to_vec(), revision: 0 };
        self.idle.push(index);
    }
}

fn index_of(index: u64) -> usize {
    usize::try_from(index).expect("given out by next")
}

fn told(keys: u64, message: &[u8], last: bool) -> Told {
    Told::Page { keys, bytes: message.len() as u64, last }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::{etcdserverpb as pb, mvccpb};

    fn request(lists: &mut Lists) -> (u64, pb::RangeRequest) {
        let mut out = Vec::new();
        let index = lists.next(&mut out);
        (index, pb::RangeRequest::decode(&out[message::PREFIX..]).unwrap())
    }

    fn reply(revision: i64, keys: &[&str], more: bool) -> Vec<u8> {
        let header = Some(pb::ResponseHeader { revision, ..Default::default() });
        let kv = |key: &&str| mvccpb::KeyValue {
            key: key.to_string().into(),
            value: vec![7; 300].into(),
            ..Default::default()
        };
        pb::RangeResponse { header, kvs: keys.iter().map(kv).collect(), more, count: 9 }.encode_to_vec()
    }

    #[test]
    fn pages_follow_each_other_at_one_revision_and_clients_do_not_mix() {
        let mut lists = Lists::new(2);
        let (one, first) = request(&mut lists);
        assert_eq!((&first.key[..], &first.range_end[..]), (FIRST, FIRST));
        assert_eq!((first.limit, first.revision, first.serializable), (2, 0, false));
        let (two, other) = request(&mut lists);
        assert!(one != two && other == first);

        let page = reply(40, &["a", "b"], true);
        let bytes = page.len() as u64;
        assert_eq!(lists.reply(one, &page), Ok(Told::Page { keys: 2, bytes, last: false }));
        let (again, second) = request(&mut lists);
        assert_eq!((again, &second.key[..], second.revision), (one, &b"b\0"[..], 40));
        let told = lists.reply(one, &reply(99, &["c"], false)).unwrap();
        assert!(matches!(told, Told::Page { keys: 1, last: true, .. }), "{told:?}");
        assert_eq!(request(&mut lists).1, first, "starts over");

        lists.failed(two);
        assert_eq!(request(&mut lists), (two, first));
    }

    #[test]
    fn everything_at_once_has_no_limit_and_an_empty_store_is_a_whole_list() {
        let mut lists = Lists::new(0);
        let (index, request) = request(&mut lists);
        assert_eq!(request.limit, 0);
        let told = lists.reply(index, &reply(1, &[], false)).unwrap();
        assert!(matches!(told, Told::Page { keys: 0, last: true, .. }), "{told:?}");
        assert_eq!(lists.reply(0, b"\xff"), Err(Malformed));
    }
}
