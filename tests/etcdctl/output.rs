//! What etcdctl printed, with what must differ between two servers masked: who and where they are, how large their
//! files are, how far their Raft logs are, how long things took.

use bench_harness::pb::etcdserverpb as pb;
use prost::Message;
use serde_json::Value;

/// How an output is read before it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As it stands, line by line.
    Text,
    /// The same in whatever order of members, which is that of their ids.
    Sorted,
    Json,
    Table,
    /// `endpoint status` in its simple form: comma-separated.
    StatusLine,
    /// Protobuf of the response to this kind of call.
    Range,
    Put,
    Delete,
    Txn,
    Members,
}

const MASK: &str = "<differs>";
const JSON_MASKED: [&str; 11] = [
    "cluster_id",
    "member_id",
    "raft_term",
    "dbSize",
    "dbSizeInUse",
    "raftIndex",
    "raftTerm",
    "raftAppliedIndex",
    "took",
    "leader",
    // What is left of a lease; what it was granted for is another field.
    "ttl",
];
const FIELDS_MASKED: [&str; 6] =
    ["\"RaftTerm\"", "\"DBSize\"", "\"DBSizeInUse\"", "\"RaftIndex\"", "\"RaftAppliedIndex\"", "\"Took\""];
const COLUMNS_MASKED: [&str; 7] =
    ["DB SIZE", "IN USE", "PERCENTAGE NOT IN USE", "RAFT TERM", "RAFT INDEX", "RAFT APPLIED INDEX", "TOOK"];
/// Sizes, their ratio, and Raft's term and indices in the simple form of `endpoint status`.
const STATUS_MASKED: [usize; 6] = [4, 5, 6, 10, 11, 12];
/// The same as etcdctl 3.5 has it, in so many parts.
const STATUS_MASKED_3_5: (usize, [usize; 4]) = (10, [3, 6, 7, 8]);
/// What stands between the cells of a table: of today, and of 3.5.
const COLUMNS: [char; 2] = ['│', '|'];
const TOOK: [&str; 2] = ["took = ", "]. took "];
/// Before and after what is left of a lease.
const LEFT: (&str, &str) = (" remaining(", "s)");

/// Names of one server as they appear in outputs, and what stands for them.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<(String, &'static str)>);

impl Names {
    pub fn of(list: &pb::MemberListResponse, address: &str) -> Self {
        let mut names = vec![(address.to_owned(), "<endpoint>")];
        for member in &list.members {
            for (urls, stands) in [(&member.peer_ur_ls, "<peer>"), (&member.client_ur_ls, "<client>")] {
                names.extend(urls.iter().map(|url| (url.clone(), stands)));
            }
            names.extend(ids(member, "<member>"));
        }
        if let Some(header) = &list.header {
            names.push((format!("{:x}", header.cluster_id), "<cluster>"));
            names.push((header.cluster_id.to_string(), "<cluster>"));
        }
        // A URL contains the address: the longer name first.
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self(names)
    }

    /// A member that came later.
    pub fn add_learner(&mut self, member: &pb::Member) {
        let known = |name: &String| self.0.iter().any(|(known, _)| known == name);
        let new: Vec<_> = ids(member, "<learner>").into_iter().filter(|(name, _)| !known(name)).collect();
        self.0.extend(new);
    }

    /// A lease that was not there before.
    pub fn add_lease(&mut self, id: i64) -> bool {
        let name = format!("{id:016x}");
        let is_new = !self.0.iter().any(|(known, _)| *known == name);
        if is_new {
            self.0.extend([(name, "<lease>"), (id.to_string(), "<lease>"), (format!("{id:x}"), "<lease>")]);
        }
        is_new
    }

    fn mask(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, stands)| text.replace(name, stands))
    }
}

/// An id in all the ways it is printed, the longest first.
fn ids(member: &pb::Member, stands: &'static str) -> [(String, &'static str); 3] {
    let id = member.id;
    [(id.to_string(), stands), (format!("{id:16x}"), stands), (format!("{id:x}"), stands)]
}

/// The standard output, comparable.
pub fn normal(shape: Shape, bytes: &[u8], names: &Names) -> Result<String, String> {
    let text = || names.mask(&String::from_utf8_lossy(bytes));
    match shape {
        Shape::Text => Ok(text().lines().map(masked_line).collect::<Vec<_>>().join("\n")),
        Shape::Sorted => Ok(sorted(&text())),
        Shape::Json => {
            let mut value: Value =
                serde_json::from_slice(bytes).map_err(|error| format!("no JSON: {error}"))?;
            mask_json(&mut value, names);
            serde_json::to_string_pretty(&value).map_err(|error| error.to_string())
        }
        Shape::Table => Ok(table(&text())),
        Shape::StatusLine => Ok(status_line(&text())),
        Shape::Range => decoded::<pb::RangeResponse>(bytes, |r| r.header.as_mut()),
        Shape::Put => decoded::<pb::PutResponse>(bytes, |r| r.header.as_mut()),
        Shape::Delete => decoded::<pb::DeleteRangeResponse>(bytes, |r| r.header.as_mut()),
        Shape::Txn => decoded::<pb::TxnResponse>(bytes, |r| r.header.as_mut()),
        Shape::Members => members(bytes, names),
    }
}

/// Standard error: log lines of the client cut down to message and error, a panic to what it says first.
pub fn errors(bytes: &[u8], names: &Names) -> String {
    let text = names.mask(&String::from_utf8_lossy(bytes));
    // Where a client that panics stood, and on which addresses, is its own.
    let lines =
        text.lines().take_while(|line| !line.starts_with("goroutine ")).map(
            |line| match serde_json::from_str::<Value>(line) {
                Ok(Value::Object(fields)) => format!("{:?} {:?}", fields.get("msg"), fields.get("error")),
                _ => masked_line(line),
            },
        );
    lines.collect::<Vec<_>>().join("\n")
}

fn masked_line(line: &str) -> String {
    if let Some((head, tail)) = line.split_once(LEFT.0)
        && let Some((_, tail)) = tail.split_once(LEFT.1)
    {
        return format!("{head}{}{MASK}{}{tail}", LEFT.0, LEFT.1);
    }
    for took in TOOK {
        if let Some((head, _)) = line.split_once(took) {
            return format!("{head}{took}{MASK}");
        }
    }
    match FIELDS_MASKED.iter().find(|name| line.starts_with(&format!("{name} :"))) {
        Some(name) => format!("{name} : {MASK}"),
        None => line.to_owned(),
    }
}

fn mask_json(value: &mut Value, names: &Names) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if JSON_MASKED.contains(&name.as_str()) {
                    *field = MASK.into();
                } else {
                    mask_json(field, names);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask_json(item, names)),
        Value::String(text) => *text = names.mask(text),
        Value::Number(number) => {
            let text = number.to_string();
            let masked = names.mask(&text);
            if masked != text {
                *value = masked.into();
            }
        }
        Value::Null | Value::Bool(_) => (),
    }
}

/// Cells without the padding that depends on the longest of them.
fn table(text: &str) -> String {
    let row = |line: &str| line.split(COLUMNS).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut lines = text.lines().filter(|line| line.contains(COLUMNS)).map(row);
    let Some(head) = lines.next() else { return text.to_owned() };
    let mut table = vec![head.join(" | ")];
    for mut cells in lines {
        for (cell, column) in cells.iter_mut().zip(&head) {
            if COLUMNS_MASKED.contains(&column.as_str()) {
                *cell = MASK.to_owned();
            }
        }
        table.push(cells.join(" | "));
    }
    table.join("\n")
}

fn sorted(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("ETCD_INITIAL_CLUSTER=") {
        Some(members) => {
            let mut members: Vec<_> = members.trim_matches('"').split(',').collect();
            members.sort_unstable();
            members.join(",")
        }
        None => masked_line(line),
    };
    let mut lines: Vec<_> = text.lines().map(line).collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn status_line(text: &str) -> String {
    let mut parts: Vec<&str> = text.trim_end_matches('\n').split(", ").collect();
    let (older, masked_by_older) = STATUS_MASKED_3_5;
    let masked = if parts.len() == older { &masked_by_older[..] } else { &STATUS_MASKED };
    for &place in masked {
        if let Some(part) = parts.get_mut(place) {
            *part = MASK;
        }
    }
    parts.join(", ")
}

fn decoded<M: Message + Default + std::fmt::Debug>(
    bytes: &[u8],
    header: fn(&mut M) -> Option<&mut pb::ResponseHeader>,
) -> Result<String, String> {
    let mut message = M::decode(bytes).map_err(|error| format!("no protobuf: {error}"))?;
    let header = header(&mut message).ok_or("no header")?;
    (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    Ok(format!("{message:#?}"))
}

fn members(bytes: &[u8], names: &Names) -> Result<String, String> {
    let decoded = decoded::<pb::MemberListResponse>(bytes, |r| r.header.as_mut())?;
    Ok(names.mask(&decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let header = Some(pb::ResponseHeader { cluster_id: 0xabcd_ef01, ..Default::default() });
        let member = pb::Member {
            id: 0x1234_5678,
            name: "default".to_owned(),
            peer_ur_ls: vec!["http://localhost:2380".to_owned()],
            client_ur_ls: vec!["http://127.0.0.1:23".to_owned()],
            is_learner: false,
        };
        Names::of(&pb::MemberListResponse { header, members: vec![member] }, "127.0.0.1:23")
    }

    #[test]
    fn masks_names_and_nothing_else() {
        let text = normal(Shape::Text, b"12345678, started, http://127.0.0.1:23, 127.0.0.1:23", &names());
        assert_eq!(text.unwrap(), "<member>, started, <client>, <endpoint>");
        let json = normal(Shape::Json, br#"{"raft_term":4,"ID":305419896,"count":7}"#, &names()).unwrap();
        assert!(json.contains("<member>") && json.contains('7') && !json.contains('4'), "{json}");
    }

    #[test]
    fn a_table_loses_padding_and_masked_columns_only() {
        let wide = "│ ENDPOINT │ DB SIZE │ A │\n├──┤\n│ 127.0.0.1:23 │   20 kB │ x │\n";
        let narrow = "│ ENDPOINT │ DB SIZE │ A │\n│ 127.0.0.1:23 │ 1 MB │   x │\n";
        assert_eq!(
            normal(Shape::Table, wide.as_bytes(), &names()),
            normal(Shape::Table, narrow.as_bytes(), &names())
        );
        let other = narrow.replace('x', "y");
        assert_ne!(
            normal(Shape::Table, wide.as_bytes(), &names()),
            normal(Shape::Table, other.as_bytes(), &names())
        );
    }

    #[test]
    fn a_log_line_keeps_its_error() {
        let line = br#"{"level":"warn","ts":"now","msg":"retrying","error":"desc = future"}"#;
        assert!(errors(line, &names()).contains("future") && !errors(line, &names()).contains("now"));
    }
}
