//! Decodes header blocks (RFC 7541). Strings go through a library's Huffman table; everything a server sends may
//! be nonsense, so nothing here trusts a length.

use std::collections::VecDeque;

use httlib_huffman::DecoderSpeed;

/// The static table's names (appendix A). Of its values only those of `:status` matter here.
#[rustfmt::skip]
const STATIC: [&str; 61] = [
    ":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status", ":status", ":status",
    ":status", ":status", ":status", ":status", "accept-charset", "accept-encoding", "accept-language",
    "accept-ranges", "accept", "access-control-allow-origin", "age", "allow", "authorization", "cache-control",
    "content-disposition", "content-encoding", "content-language", "content-length", "content-location",
    "content-range", "content-type", "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location",
    "max-forwards", "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after",
    "server", "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via",
    "www-authenticate",
];
const STATUS_FIRST: usize = 8;
const STATUS_VALUES: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
/// What an entry counts beyond its text (4.1).
const ENTRY_OVERHEAD: usize = 32;

#[derive(Debug)]
pub struct Table {
    size_max: usize,
    limit: usize,
    size: usize,
    /// Newest first.
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
}

type Text<'a> = (&'a [u8], &'a [u8]);

impl Table {
    pub fn new(size_max: usize) -> Self {
        Self { size_max, limit: size_max, size: 0, entries: VecDeque::new() }
    }

    /// Hands each field of a block to `found`; `None` when the block cannot be read.
    pub fn decode(
        &mut self,
        mut block: &[u8],
        found: &mut impl FnMut(&[u8], &[u8]) -> Option<()>,
    ) -> Option<()> {
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                let (name, value) = self.get(index)?;
                found(name, value)?;
            } else if first & 0xe0 == 0x20 {
                let limit = integer(&mut block, 5)?;
                if limit > self.size_max {
                    return None;
                }
                self.limit = limit;
                self.evict(0);
            } else {
                let added = first & 0x40 != 0;
                let name = match integer(&mut block, if added { 6 } else { 4 })? {
                    0 => string(&mut block)?,
                    index => self.get(index)?.0.to_vec(),
                };
                let value = string(&mut block)?;
                found(&name, &value)?;
                if added {
                    self.add(name, value);
                }
            }
        }
        Some(())
    }

    fn get(&self, index: usize) -> Option<Text<'_>> {
        let place = index.checked_sub(1)?;
        if let Some(name) = STATIC.get(place) {
            let status = index.checked_sub(STATUS_FIRST).and_then(|place| STATUS_VALUES.get(place));
            return Some((name.as_bytes(), status.copied().unwrap_or_default().as_bytes()));
        }
        let (name, value) = self.entries.get(place - STATIC.len())?;
        Some((name, value))
    }

    fn add(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.evict(size);
        if size <= self.limit {
            self.size += size;
            self.entries.push_front((name, value));
        }
    }

    /// Makes room for `wanted`, or empties the table.
    fn evict(&mut self, wanted: usize) {
        while self.size + wanted > self.limit
            && let Some((name, value)) = self.entries.pop_back()
        {
            self.size -= name.len() + value.len() + ENTRY_OVERHEAD;
        }
    }
}

/// A number whose first `bits` bits are in the first byte (5.1).
fn integer(block: &mut &[u8], bits: u32) -> Option<usize> {
    let (&first, mut rest) = block.split_first()?;
    let mask = (1 << bits) - 1;
    let mut value = usize::from(first & mask);
    if value == usize::from(mask) {
        for shift in (0..28).step_by(7) {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

fn string(block: &mut &[u8]) -> Option<Vec<u8>> {
    let coded = block.first()? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    if !coded {
        return Some(text.to_vec());
    }
    let mut plain = Vec::new();
    httlib_huffman::decode(text, &mut plain, DecoderSpeed::FiveBits).ok()?;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use httlib_hpack as hpack;

    use super::*;

    fn encoded(encoder: &mut hpack::Encoder<'static>, fields: &[(String, String)], flags: u8) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            let field = (name.as_bytes().to_vec(), value.as_bytes().to_vec(), flags);
            encoder.encode(field, &mut block).unwrap();
        }
        block
    }

    fn decoded(table: &mut Table, block: &[u8]) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        table.decode(block, &mut |name, value| {
            fields.push((text(name), text(value)));
            Some(())
        })?;
        Some(fields)
    }

    #[test]
    fn reads_what_an_encoder_wrote_through_many_evictions() {
        const ALL: u8 = hpack::Encoder::WITH_INDEXING
            | hpack::Encoder::BEST_FORMAT
            | hpack::Encoder::HUFFMAN_NAME
            | hpack::Encoder::HUFFMAN_VALUE;
        for flags in [ALL, hpack::Encoder::WITH_INDEXING | hpack::Encoder::BEST_FORMAT, 0] {
            let mut encoder = hpack::Encoder::with_dynamic_size(512);
            let mut table = Table::new(512);
            for round in 0..300 {
                let fields = [
                    (":status", ["200", "404", "418"][round % 3].to_owned()),
                    ("content-type", format!("application/{}", round % 5)),
                    ("date", format!("day {}", round / 7)),
                    ("grpc-status", (round % 4).to_string()),
                    ("grpc-message", "x".repeat(round % 200)),
                ];
                let fields = fields.map(|(name, value)| (name.to_owned(), value));
                let block = encoded(&mut encoder, &fields, flags);
                assert_eq!(decoded(&mut table, &block).unwrap(), fields, "round {round}");
                assert!(table.size <= 512);
            }
        }
    }

    #[test]
    fn nonsense_is_refused_and_never_panics() {
        for seed in 0..20_000_u32 {
            let mut state = seed.wrapping_mul(2_654_435_761) | 1;
            let block = (0..seed % 23).map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state as u8
            });
            decoded(&mut Table::new(4096), &block.collect::<Vec<_>>());
        }
        assert_eq!(decoded(&mut Table::new(4096), &[0xff, 0xff, 0xff]), None);
        assert_eq!(decoded(&mut Table::new(4096), &[0x80]), None);
        assert_eq!(decoded(&mut Table::new(4096), &[0x3f, 0xe2, 0x1f]), None);
    }
}
