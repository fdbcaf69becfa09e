//! What hostile clients send, drawn from the seed: whole, half and broken traffic, floods, calls that cost much and answers
//! that nobody takes. They write only below [`PREFIX`].

use bench_harness::{
    hostile::{GRPC, block, frame, requests},
    pb::etcdserverpb as pb,
};
use pinion::env::sim::Sim;
use prost::Message;

/// Keys of theirs: from this to [`PREFIX_END`].
pub const PREFIX: &str = "h/";
const PREFIX_END: &str = "h0";
/// How many of them there are.
pub const KEYS: u64 = 300;
/// Frames of a flood, streams of a crowd.
const FLOOD_MAX: u64 = 1_500;
const STREAMS_MAX: u64 = 60;
/// Of a put that costs something.
const VALUE_MAX: u64 = 40_000;

/// Everything one connection sends, and whether the client takes what comes.
pub struct Traffic {
    pub bytes: Vec<u8>,
    pub reads: bool,
}

pub fn draw(sim: &Sim) -> Traffic {
    let mut writer = Writer { sim, out: Vec::new(), next_stream: 1 };
    let mut reads = sim.chance(500);
    match sim.below(11) {
        0 => {
            writer.calls();
            let cut = sim.below(writer.out.len() as u64) as usize;
            writer.out.truncate(cut);
        }
        1 => writer.calls(),
        2 => {
            writer.calls();
            for _ in 0..1 + sim.below(8) {
                // Behind the preface, which would make it HTTP/1.
                let room = writer.out.len() as u64 - 24;
                writer.out[24 + sim.below(room) as usize] ^= 1 << sim.below(8);
            }
        }
        3 => writer.nonsense(),
        4 => writer.flood(),
        5 => writer.unfinished(),
        6 => {
            reads = false;
            writer.unread();
        }
        7 => writer.costly(),
        8 => writer.resets(),
        9 => writer.windows(),
        _ => writer.plain(),
    }
    Traffic { bytes: writer.out, reads }
}

struct Writer<'a> {
    sim: &'a Sim,
    out: Vec<u8>,
    next_stream: u32,
}

impl Writer<'_> {
    fn below(&self, bound: u64) -> u64 {
        self.sim.below(bound)
    }

    fn preface(&mut self, settings: &[(u16, u32)]) {
        self.out.extend_from_slice(frame::PREFACE);
        frame::settings(&mut self.out, settings);
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        frame::head(&mut self.out, payload.len(), kind, flags, stream);
        self.out.extend_from_slice(payload);
    }

    /// The head of a call on the next stream.
    fn open(&mut self, path: &str) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let block = block("POST", path, "hostile", &GRPC);
        self.frame(frame::HEADERS, frame::END_HEADERS, stream, &block);
        stream
    }

    fn data(&mut self, stream: u32, bytes: &[u8], ends: bool) {
        let mut pieces = bytes.chunks(frame::SIZE_MAX).peekable();
        while let Some(piece) = pieces.next() {
            let last = pieces.peek().is_none();
            self.frame(frame::DATA, if ends && last { frame::END_STREAM } else { 0 }, stream, piece);
        }
    }

    fn call(&mut self, path: &str, message: &impl Message) -> u32 {
        let stream = self.open(path);
        self.data(stream, &requests::framed(message), true);
        stream
    }

    fn put(&self, value_bytes: u64) -> pb::PutRequest {
        requests::put(&format!("{PREFIX}{:04}", self.below(KEYS)), value_bytes as usize)
    }

    /// A few decent calls.
    fn calls(&mut self) {
        self.preface(&[]);
        for _ in 0..1 + self.below(10) {
            match self.below(4) {
                0 => self.call(requests::RANGE, &requests::whole()),
                1 => self.call(requests::RANGE_STREAM, &requests::whole()),
                _ => self.call(requests::PUT, &self.put(100)),
            };
        }
    }

    /// Frames of every kind whose content means nothing.
    fn nonsense(&mut self) {
        self.preface(&[]);
        for _ in 0..1 + self.below(30) {
            let payload = (0..self.below(300)).map(|_| self.below(256) as u8).collect::<Vec<_>>();
            let claimed = if self.sim.chance(100) { self.below(1 << 24) as usize } else { payload.len() };
            let (kind, flags) = (self.below(11) as u8, self.below(256) as u8);
            let stream = if self.sim.chance(300) { 0 } else { self.below(20) as u32 };
            frame::head(&mut self.out, claimed, kind, flags, stream);
            self.out.extend_from_slice(&payload);
        }
    }

    /// One small frame over and over, on a stream that is open or on none.
    fn flood(&mut self) {
        const PRIORITY: u8 = 2;
        self.preface(&[]);
        let stream = self.open(requests::PUT);
        let kind = self.below(8);
        for _ in 0..1 + self.below(FLOOD_MAX) {
            match kind {
                0 => self.frame(frame::PING, 0, 0, b"attacked"),
                1 => self.frame(frame::SETTINGS, 0, 0, &[]),
                2 => self.frame(frame::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
                3 => self.frame(frame::WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]),
                4 => self.frame(frame::DATA, 0, stream, &[]),
                5 => self.frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1]),
                6 => self.frame(frame::HEADERS, 0, stream + 2, &[]),
                _ => self.frame(frame::CONTINUATION, 0, stream + 2, &[]),
            }
        }
    }

    /// Puts whose last byte does not come.
    fn unfinished(&mut self) {
        self.preface(&[]);
        for _ in 0..1 + self.below(STREAMS_MAX) {
            let stream = self.open(requests::PUT);
            let message = requests::framed(&self.put(self.below(VALUE_MAX)));
            self.data(stream, &message[..message.len() - 1], false);
        }
    }

    /// Long answers for a client that has no window.
    fn unread(&mut self) {
        self.preface(&[(frame::INITIAL_WINDOW_SIZE, 0)]);
        for _ in 0..1 + self.below(STREAMS_MAX) {
            match self.below(4) {
                0 => self.call(requests::RANGE, &requests::whole()),
                1 => self.call(requests::RANGE_STREAM, &requests::whole()),
                2 => self.call(requests::RANGE, &requests::sorted()),
                _ => self.call(requests::TXN, &requests::ranges(1 + self.below(4) as usize, false)),
            };
        }
    }

    /// Calls that take long, or leave something in the log.
    fn costly(&mut self) {
        self.preface(&[]);
        for _ in 0..1 + self.below(3) {
            match self.below(5) {
                0 => {
                    let (ranges, writes) = (1 + self.below(60) as usize, self.sim.chance(700));
                    let mut txn = requests::ranges(ranges, false);
                    if writes {
                        let put = pb::request_op::Request::RequestPut(self.put(10));
                        txn.success.push(pb::RequestOp { request: Some(put) });
                    }
                    self.call(requests::TXN, &txn)
                }
                1 => self.call(requests::TXN, &requests::compares(&[1 + self.below(9) as usize, 10])),
                2 => self.call(requests::RANGE, &requests::sorted()),
                3 => {
                    let delete = pb::DeleteRangeRequest {
                        key: PREFIX.into(),
                        range_end: PREFIX_END.into(),
                        prev_kv: self.sim.chance(500),
                    };
                    self.call(requests::DELETE, &delete)
                }
                _ => self.call(requests::PUT, &self.put(self.below(VALUE_MAX))),
            };
        }
    }

    /// Whole puts that are reset at once.
    fn resets(&mut self) {
        self.preface(&[]);
        for _ in 0..1 + self.below(FLOOD_MAX / 3) {
            let stream = self.call(requests::PUT, &self.put(10));
            frame::reset(&mut self.out, stream, 8);
        }
    }

    /// The window of many open streams changes again and again.
    fn windows(&mut self) {
        self.preface(&[]);
        for _ in 0..1 + self.below(STREAMS_MAX) {
            self.open(requests::PUT);
        }
        for _ in 0..1 + self.below(FLOOD_MAX / 3) {
            let window = self.below(100_000) as u32;
            frame::settings(&mut self.out, &[(frame::INITIAL_WINDOW_SIZE, window)]);
        }
    }

    /// HTTP/1.1, or nothing of the kind.
    fn plain(&mut self) {
        const WORDS: [&str; 6] = [
            "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n",
            "GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nhost:",
            "POST /v3/kv/put HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
            "PRI * HTTP/2.0\r\n\r\nXX",
            "\u{16}\u{3}\u{1}\u{2}",
        ];
        let word = WORDS[self.below(WORDS.len() as u64) as usize];
        let times = if word.ends_with("\r\n\r\n") { 1 + self.below(20) as usize } else { 1 };
        self.out.extend_from_slice(word.repeat(times).as_bytes());
    }
}
