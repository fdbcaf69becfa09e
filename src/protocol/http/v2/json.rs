//! Answers as etcd's JSON has them, field by field in its order (`encoding/json` of Go).

use bytes::Bytes;

use super::time;
use crate::{
    shard::Listing,
    state::v2::{Action, Event, Node, NodeId, Shown, Tree, Visit},
};

/// An event in one line.
pub(super) fn event(event: &Event) -> Bytes {
    let mut out = begin(action(event.action()));
    out.extend_from_slice(b",\"node\":");
    shown(&event.node, &mut out);
    if let Some(before) = &event.before {
        out.extend_from_slice(b",\"prevNode\":");
        shown(before, &mut out);
    }
    out.extend_from_slice(b"}\n");
    out.into()
}

/// The event without nodes, for who does not want to see them.
pub(super) fn bare(event: &Event) -> Bytes {
    let mut out = begin(action(event.action()));
    out.extend_from_slice(b"}\n");
    out.into()
}

pub(super) fn error(code: u16, message: &str, cause: &[u8], index: u64) -> Bytes {
    let mut out = format!("{{\"errorCode\":{code},\"message\":").into_bytes();
    string(message.as_bytes(), &mut out);
    if !cause.is_empty() {
        out.extend_from_slice(b",\"cause\":");
        string(cause, &mut out);
    }
    out.extend_from_slice(format!(",\"index\":{index}}}\n").as_bytes());
    out.into()
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Set => "set",
        Action::Create => "create",
        Action::Update => "update",
        Action::CompareAndSwap => "compareAndSwap",
        Action::Delete => "delete",
        Action::CompareAndDelete => "compareAndDelete",
        Action::Expire => "expire",
    }
}

fn begin(action: &str) -> Vec<u8> {
    format!("{{\"action\":\"{action}\"").into_bytes()
}

fn shown(node: &Shown, out: &mut Vec<u8>) {
    let Shown { key, value, dir, expires, ttl, modified, created } = node;
    open(key, (value.as_deref(), *dir), (*expires, *ttl), out);
    close(*modified, *created, out);
}

/// A node up to what is in it.
fn open(
    key: &[u8],
    (value, dir): (Option<&[u8]>, bool),
    (expires, ttl): (Option<i64>, i64),
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    if !key.is_empty() {
        name("key", out);
        string(key, out);
    }
    if let Some(value) = value {
        name("value", out);
        string(value, out);
    }
    if dir {
        name("dir", out);
        out.extend_from_slice(b"true");
    }
    if let Some(expires) = expires {
        name("expiration", out);
        out.push(b'"');
        time::write(expires, out);
        out.push(b'"');
    }
    if ttl != 0 {
        name("ttl", out);
        out.extend_from_slice(ttl.to_string().as_bytes());
    }
}

fn close(modified: u64, created: u64, out: &mut Vec<u8>) {
    for (field, index) in [("modifiedIndex", modified), ("createdIndex", created)] {
        if index != 0 {
            name(field, out);
            out.extend_from_slice(index.to_string().as_bytes());
        }
    }
    out.push(b'}');
}

fn name(name: &str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// What is not UTF-8 becomes the sign for that, and what HTML would take for its own is escaped.
fn string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        let text = chunk.valid();
        let mut plain = 0;
        for (at, sign) in text.char_indices() {
            let escaped: &[u8] = match sign {
                '"' => b"\\\"",
                '\\' => b"\\\\",
                '\n' => b"\\n",
                '\r' => b"\\r",
                '\t' => b"\\t",
                '\0'..='\x1f' | '<' | '>' | '&' => &[],
                '\u{2028}' => b"\\u2028",
                '\u{2029}' => b"\\u2029",
                _ => continue,
            };
            out.extend_from_slice(&text.as_bytes()[plain..at]);
            plain = at + sign.len_utf8();
            match escaped.is_empty() {
                true => out.extend_from_slice(format!("\\u{:04x}", u32::from(sign)).as_bytes()),
                false => out.extend_from_slice(escaped),
            }
        }
        out.extend_from_slice(&text.as_bytes()[plain..]);
        // A sign for each byte, as in Go.
        chunk.invalid().iter().for_each(|_| out.extend_from_slice(b"\\ufffd"));
    }
    out.push(b'"');
}

/// What a GET answers, made while the tree is gone through.
pub(super) struct Got {
    out: Vec<u8>,
    path: Vec<u8>,
    /// Indices of the node that was asked for, and whether it is a directory.
    ends: (u64, u64),
    now: i64,
    pub(super) index: u64,
}

impl Got {
    pub(super) fn new(now: i64) -> Self {
        Self { out: Vec::new(), path: Vec::new(), ends: (0, 0), now, index: 0 }
    }

    pub(super) fn finish(mut self) -> Bytes {
        self.end_nodes();
        close(self.ends.0, self.ends.1, &mut self.out);
        self.out.extend_from_slice(b"}\n");
        self.out.into()
    }

    fn open(&mut self, node: &Node) {
        let value = node.value().map(|value| &value[..]);
        open(&self.path, (value, node.is_dir()), (node.expires, node.ttl(self.now)), &mut self.out);
    }

    /// Nodes are between those before them and a comma, or in a list that begins with them.
    fn begin_node(&mut self) {
        match self.out.last() {
            Some(b'}') => self.out.push(b','),
            _ => self.out.extend_from_slice(b",\"nodes\":["),
        }
    }

    fn end_nodes(&mut self) {
        if self.out.last() == Some(&b'}') {
            self.out.push(b']');
        }
    }

    fn leave(&mut self) {
        let cut = self.path.iter().rposition(|byte| *byte == b'/').expect("it was entered");
        self.path.truncate(cut);
    }
}

impl Listing for Got {
    fn begin(&mut self, tree: &Tree, id: NodeId, index: u64) {
        let node = tree.node(id);
        self.path = tree.path(id);
        self.out = begin("get");
        self.out.extend_from_slice(b",\"node\":");
        (self.ends, self.index) = ((node.modified, node.created), index);
        self.open(node);
    }

    fn visit(&mut self, visit: Visit<'_>) {
        match visit {
            Visit::Open(node) => {
                self.begin_node();
                self.path.push(b'/');
                self.path.extend_from_slice(&node.name);
                self.open(node);
                if !node.is_dir() {
                    close(node.modified, node.created, &mut self.out);
                    self.leave();
                }
            }
            Visit::Close(node) => {
                self.end_nodes();
                close(node.modified, node.created, &mut self.out);
                self.leave();
            }
        }
    }

    fn bytes(&self) -> usize {
        self.out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_by_go() {
        for (text, escaped) in [
            (&b"a/b"[..], r#""a/b""#),
            (b"<a & \"b\">\\", r#""\u003ca \u0026 \"b\"\u003e\\""#),
            (b"\n\r\t\x00\x1f\x7f", "\"\\n\\r\\t\\u0000\\u001f\x7f\""),
            (b"\xc3\xa4 \xff\xfe \xe2\x80\xa8", "\"\u{e4} \\ufffd\\ufffd \\u2028\""),
        ] {
            let mut out = Vec::new();
            string(text, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), escaped);
        }
    }
}
