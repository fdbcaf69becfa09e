//! Requests as a log line shows them: protobuf's text form, with sizes in place of values (etcd v3.7
//! `etcdserverpb/raft_internal_stringer.go`). No value gets into a log, and no line gets longer than [`TEXT_BYTES`] or so.

use std::fmt::Write;

use super::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};

/// What is longer is cut off.
const TEXT_BYTES: usize = 4096;

pub fn range(request: &RangeRequest) -> String {
    text(|text| text.range(request))
}

pub fn put(request: &PutRequest) -> String {
    text(|text| text.put(request, request.value.len()))
}

/// One of whose value only the size is known.
pub fn put_of_size(request: &PutRequest, value_size: usize) -> String {
    text(|text| text.put(request, value_size))
}

pub fn delete_range(request: &DeleteRangeRequest) -> String {
    text(|text| text.delete_range(request))
}

pub fn txn(request: &TxnRequest) -> String {
    text(|text| text.txn(request))
}

fn text(write: impl FnOnce(&mut Text)) -> String {
    let mut text = Text::default();
    write(&mut text);
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn push(&mut self, args: std::fmt::Arguments<'_>) {
        self.0.write_fmt(args).expect("a string takes anything");
    }

    /// Whether there is room for another part, which a blank then precedes.
    fn begin(&mut self) -> bool {
        if self.0.len() >= TEXT_BYTES {
            if !self.0.ends_with("...") {
                self.0.push_str(" ...");
            }
            return false;
        }
        if !self.0.is_empty() && !self.0.ends_with('<') {
            self.0.push(' ');
        }
        true
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        if bytes.is_empty() || !self.begin() {
            return;
        }
        self.push(format_args!("{name}:\""));
        for byte in bytes.iter().take(TEXT_BYTES) {
            match byte {
                b'"' | b'\\' => self.push(format_args!("\\{}", char::from(*byte))),
                b'\n' => self.0.push_str("\\n"),
                b' '..=b'~' => self.0.push(char::from(*byte)),
                _ => self.push(format_args!("\\{byte:03o}")),
            }
        }
        self.0.push('"');
    }

    fn number(&mut self, name: &str, number: i64) {
        if number != 0 && self.begin() {
            self.push(format_args!("{name}:{number}"));
        }
    }

    fn flag(&mut self, name: &str, is_on: bool) {
        if is_on && self.begin() {
            self.push(format_args!("{name}:true"));
        }
    }

    /// By name, where it has one.
    fn word(&mut self, name: &str, number: i32, word: Option<&str>) {
        match word {
            Some(word) if number != 0 && self.begin() => self.push(format_args!("{name}:{word}")),
            Some(_) => {}
            None => self.number(name, number.into()),
        }
    }

    fn group(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        if self.begin() {
            self.push(format_args!("{name}:<"));
            write(self);
            self.0.push('>');
        }
    }

    fn range(&mut self, request: &RangeRequest) {
        self.bytes("key", &request.key);
        self.bytes("range_end", &request.range_end);
        self.number("limit", request.limit);
        self.number("revision", request.revision);
        let order = SortOrder::try_from(request.sort_order).ok().map(|order| order.as_str_name());
        self.word("sort_order", request.sort_order, order);
        let target = SortTarget::try_from(request.sort_target).ok().map(|target| target.as_str_name());
        self.word("sort_target", request.sort_target, target);
        self.flag("serializable", request.serializable);
        self.flag("keys_only", request.keys_only);
        self.flag("count_only", request.count_only);
        self.number("min_mod_revision", request.min_mod_revision);
        self.number("max_mod_revision", request.max_mod_revision);
        self.number("min_create_revision", request.min_create_revision);
        self.number("max_create_revision", request.max_create_revision);
    }

    fn put(&mut self, request: &PutRequest, value_size: usize) {
        self.bytes("key", &request.key);
        self.number("value_size", i64::try_from(value_size).unwrap_or(i64::MAX));
        self.number("lease", request.lease);
        self.flag("prev_kv", request.prev_kv);
        self.flag("ignore_value", request.ignore_value);
        self.flag("ignore_lease", request.ignore_lease);
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) {
        self.bytes("key", &request.key);
        self.bytes("range_end", &request.range_end);
        self.flag("prev_kv", request.prev_kv);
    }

    fn txn(&mut self, request: &TxnRequest) {
        self.group("compare", |text| request.compare.iter().for_each(|compare| text.compare(compare)));
        self.group("success", |text| request.success.iter().for_each(|op| text.operation(op)));
        self.group("failure", |text| request.failure.iter().for_each(|op| text.operation(op)));
    }

    fn compare(&mut self, compare: &Compare) {
        if self.0.len() >= TEXT_BYTES {
            return;
        }
        let result = CompareResult::try_from(compare.result).ok().map(|result| result.as_str_name());
        self.word("result", compare.result, result);
        let target = CompareTarget::try_from(compare.target).ok().map(|target| target.as_str_name());
        self.word("target", compare.target, target);
        self.bytes("key", &compare.key);
        let (name, number) = match &compare.target_union {
            Some(TargetUnion::Version(version)) => ("version", *version),
            Some(TargetUnion::CreateRevision(revision)) => ("create_revision", *revision),
            Some(TargetUnion::ModRevision(revision)) => ("mod_revision", *revision),
            Some(TargetUnion::Value(value)) => ("value_size", value.len() as i64),
            Some(TargetUnion::Lease(lease)) => ("lease", *lease),
            None => ("", 0),
        };
        // Shown even if it is zero: it was set.
        if !name.is_empty() && self.begin() {
            self.push(format_args!("{name}:{number}"));
        }
        self.bytes("range_end", &compare.range_end);
    }

    fn operation(&mut self, operation: &RequestOp) {
        if self.0.len() >= TEXT_BYTES {
            return;
        }
        match &operation.request {
            Some(Request::RequestRange(range)) => self.group("request_range", |text| text.range(range)),
            Some(Request::RequestPut(put)) => {
                self.group("request_put", |text| text.put(put, put.value.len()));
            }
            Some(Request::RequestDeleteRange(delete)) => {
                self.group("request_delete_range", |text| text.delete_range(delete));
            }
            Some(Request::RequestTxn(txn)) => self.group("request_txn", |text| text.txn(txn)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_stand_for_values_everywhere() {
        let secret =
            PutRequest { key: "k\n\"\u{1}".into(), value: "secret".into(), lease: 7, ..Default::default() };
        assert_eq!(put(&secret), r#"key:"k\n\"\001" value_size:6 lease:7"#);
        let op = |request| RequestOp { request: Some(request) };
        let compare = Compare {
            result: CompareResult::Greater as i32,
            target: CompareTarget::Value as i32,
            key: "c".into(),
            target_union: Some(TargetUnion::Value("secret".into())),
            ..Default::default()
        };
        let inner = TxnRequest { success: vec![op(Request::RequestPut(secret))], ..Default::default() };
        let ranged = RangeRequest { key: "r".into(), sort_order: 2, limit: 3, ..Default::default() };
        let outer = TxnRequest {
            compare: vec![compare],
            success: vec![op(Request::RequestTxn(inner)), op(Request::RequestRange(ranged))],
            ..Default::default()
        };
        assert_eq!(
            txn(&outer),
            "compare:<result:GREATER target:VALUE key:\"c\" value_size:6> success:<request_txn:<compare:<> \
             success:<request_put:<key:\"k\\n\\\"\\001\" value_size:6 lease:7>> failure:<>> \
             request_range:<key:\"r\" limit:3 sort_order:DESCEND>> failure:<>"
        );
    }

    #[test]
    fn what_is_long_is_cut_off() {
        let key = vec![0xff; 10 * TEXT_BYTES];
        let long = delete_range(&DeleteRangeRequest {
            key: key.clone().into(),
            prev_kv: true,
            ..Default::default()
        });
        assert!(long.len() < 5 * TEXT_BYTES && long.ends_with("..."), "{} bytes", long.len());
        let operation = RequestOp { request: Some(Request::RequestPut(PutRequest::default())) };
        let many = txn(&TxnRequest { success: vec![operation; 10_000], ..Default::default() });
        assert!(many.len() < 2 * TEXT_BYTES, "{} bytes", many.len());
    }
}
