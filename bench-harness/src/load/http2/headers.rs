//! Header blocks (HPACK, RFC 7541): requests encoded once per connection, replies decoded through a small cache.
//!
//! A server indexes what it repeats, so after the first replies every header block is two or three bytes of
//! references into the decoder's table. Such a block means the same until the table changes: it is looked up by
//! its bytes. Everything else is decoded, and empties the cache.

use super::hpack::Table;

/// Of the protocol, unless agreed otherwise.
const TABLE_SIZE: u32 = 4096;
/// Where the dynamic table starts.
const FIRST_DYNAMIC: usize = 62;
const CACHED_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Put,
    Range,
    Txn,
}

impl Method {
    const ALL: [Self; 3] = [Self::Put, Self::Range, Self::Txn];

    fn path(self) -> &'static str {
        match self {
            Self::Put => "/etcdserverpb.KV/Put",
            Self::Range => "/etcdserverpb.KV/Range",
            Self::Txn => "/etcdserverpb.KV/Txn",
        }
    }
}

/// Request blocks. The first request with a path adds it to the server's table; then a block is references only,
/// as any real client sends it.
#[derive(Debug)]
pub struct Encoder {
    authority: String,
    /// What every request shows of who sends it.
    token: Option<String>,
    indexing: bool,
    /// What the server's table holds, newest last.
    table: Vec<&'static str>,
    blocks: [Vec<u8>; 3],
    first: Vec<u8>,
    table_limited: bool,
}

impl Encoder {
    pub fn new(authority: &str, token: Option<&str>) -> Self {
        Self {
            authority: authority.to_owned(),
            token: token.map(str::to_owned),
            indexing: true,
            table: Vec::new(),
            blocks: Default::default(),
            first: Vec::new(),
            table_limited: false,
        }
    }

    /// The fields of a request by name, pseudo-fields first as HTTP/2 wants it.
    fn fields(&self, method: Method) -> impl Iterator<Item = &'static str> + use<> {
        let fields = [":authority", method.path(), "content-type", "te", "user-agent"];
        fields.into_iter().chain(self.token.is_some().then_some("token"))
    }

    /// The server's table is smaller than usual: do without.
    pub fn limit_table(&mut self, size: u32) {
        if size < TABLE_SIZE && self.indexing {
            self.indexing = false;
            self.table_limited = true;
            self.table.clear();
        }
    }

    pub fn request(&mut self, method: Method) -> &[u8] {
        let known = self.table.contains(&method.path());
        if self.indexing && known {
            return &self.blocks[method as usize];
        }
        let mut block = Vec::new();
        if self.table_limited {
            block.push(0x20); // the table's size is now 0
            self.table_limited = false;
        }
        // :method POST and :scheme http, from the static table.
        block.extend_from_slice(&[0x83, 0x86]);
        for name in self.fields(method) {
            self.field(&mut block, name);
        }
        self.first = block;
        for method in Method::ALL {
            if self.table.contains(&method.path()) {
                let mut block = vec![0x83, 0x86];
                for name in self.fields(method) {
                    self.field(&mut block, name);
                }
                self.blocks[method as usize] = block;
            }
        }
        &self.first
    }

    /// A reference if the table has it; else a literal, added to the table when there is one.
    fn field(&mut self, block: &mut Vec<u8>, name: &'static str) {
        if let Some(place) = self.table.iter().rev().position(|known| *known == name) {
            block.push(0x80 | u8::try_from(FIRST_DYNAMIC + place).expect("a handful of entries"));
            return;
        }
        block.push(if self.indexing { 0x40 } else { 0x00 });
        let (field, value) = match name {
            ":authority" => (name, self.authority.as_str()),
            "content-type" => (name, "application/grpc"),
            "te" => (name, "trailers"),
            "user-agent" => (name, concat!("pinion-bench/", env!("CARGO_PKG_VERSION"))),
            "token" => (name, self.token.as_deref().expect("it is a field because there is one")),
            path => (":path", path),
        };
        for text in [field, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"));
            block.extend_from_slice(text.as_bytes());
        }
        if self.indexing {
            self.table.push(name);
        }
    }
}

/// What matters of a reply's headers or trailers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    pub http_status: Option<u16>,
    pub grpc_status: Option<u32>,
    pub grpc_message: String,
}

#[derive(Debug)]
pub struct Decoder {
    table: Table,
    cached: Vec<(Vec<u8>, Fields)>,
    latest: Fields,
}

impl Decoder {
    pub fn new() -> Self {
        Self { table: Table::new(TABLE_SIZE as usize), cached: Vec::new(), latest: Fields::default() }
    }

    pub fn decode(&mut self, block: &[u8]) -> Result<&Fields, &'static str> {
        // One-byte references only: 0xff would start a longer number.
        let stateless = block.iter().all(|byte| (0x81..0xff).contains(byte));
        if !stateless {
            self.cached.clear();
            self.latest = self.read(block)?;
            return Ok(&self.latest);
        }
        if let Some(place) = self.cached.iter().position(|(bytes, _)| bytes == block) {
            return Ok(&self.cached[place].1);
        }
        if self.cached.len() == CACHED_MAX {
            self.cached.clear();
        }
        let fields = self.read(block)?;
        self.cached.push((block.to_vec(), fields));
        Ok(&self.cached[self.cached.len() - 1].1)
    }

    fn read(&mut self, block: &[u8]) -> Result<Fields, &'static str> {
        fn text(value: &[u8]) -> Option<&str> {
            std::str::from_utf8(value).ok()
        }
        let mut fields = Fields::default();
        let read = self.table.decode(block, &mut |name, value| {
            match name {
                b":status" => fields.http_status = Some(text(value)?.parse().ok()?),
                b"grpc-status" => fields.grpc_status = Some(text(value)?.parse().ok()?),
                b"grpc-message" => fields.grpc_message = String::from_utf8_lossy(value).into_owned(),
                _ => {}
            }
            Some(())
        });
        read.map(|()| fields).ok_or("a header block that cannot be read")
    }
}

#[cfg(test)]
mod tests {
    use httlib_hpack as hpack;

    use super::*;

    fn read(decoder: &mut hpack::Decoder<'static>, block: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        decoder.decode(&mut block.to_vec(), &mut fields).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        fields.into_iter().map(|(name, value, _)| (text(name), text(value))).collect()
    }

    fn value<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
        let mut found = fields.iter().filter(|(field, _)| field == name);
        let value = &found.next().unwrap_or_else(|| panic!("{name} in {fields:?}")).1;
        assert!(found.next().is_none(), "{name} twice");
        value
    }

    #[test]
    fn every_request_says_the_same_however_short() {
        use Method::{Put, Range, Txn};
        for table in [TABLE_SIZE, 100] {
            let mut encoder = Encoder::new("127.0.0.1:2379", None);
            encoder.limit_table(table);
            let mut decoder = hpack::Decoder::with_dynamic_size(table);
            for method in [Put, Put, Range, Put, Range, Txn, Put, Range, Txn, Txn] {
                let fields = read(&mut decoder, encoder.request(method));
                assert!(fields[..4].iter().all(|(name, _)| name.starts_with(':')), "{fields:?}");
                assert_eq!(value(&fields, ":method"), "POST");
                assert_eq!(value(&fields, ":scheme"), "http");
                assert_eq!(value(&fields, ":path"), method.path());
                assert_eq!(value(&fields, ":authority"), "127.0.0.1:2379");
                assert_eq!(value(&fields, "content-type"), "application/grpc");
                assert_eq!(value(&fields, "te"), "trailers");
            }
            let length = encoder.request(Put).len();
            assert_eq!(length == 7, table == TABLE_SIZE, "{length}");
        }
    }

    #[test]
    fn the_cache_never_outlives_the_table_it_refers_to() {
        let mut encoder = hpack::Encoder::with_dynamic_size(TABLE_SIZE);
        let mut block = |fields: &[(&str, &str)]| {
            let mut out = Vec::new();
            for (name, value) in fields {
                let field =
                    (name.as_bytes().to_vec(), value.as_bytes().to_vec(), hpack::Encoder::WITH_INDEXING);
                encoder.encode((field.0, field.1, field.2 | hpack::Encoder::BEST_FORMAT), &mut out).unwrap();
            }
            out
        };
        let mut decoder = Decoder::new();
        for round in 0..200_u32 {
            let status = (round % 7).to_string();
            let message = format!("reason {}", round % 3);
            let noise = format!("{}", round / 10);
            let block = block(&[("date", &noise), ("grpc-status", &status), ("grpc-message", &message)]);
            let fields = decoder.decode(&block).unwrap();
            assert_eq!((fields.grpc_status, &fields.grpc_message), (Some(round % 7), &message), "{round}");
        }
    }
}
