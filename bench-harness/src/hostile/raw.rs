//! One HTTP/2 connection that keeps no rules: what is sent is the caller's, what comes is counted by a thread.
//!
//! Only [`Raw::body`] keeps to the peer's windows, as nothing comes of a body that does not.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Until;
use crate::load::http2::{frame, headers};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A write that is stuck looks this often whether it is over.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 256 << 10;
const WINDOW_DEFAULT: i64 = 65_535;
pub const WINDOW_MAX: u32 = (1 << 31) - 1;
/// Gathered before they are sent.
const OUT_BYTES: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(2);

/// What came so far.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub bytes: u64,
    /// Streams that ended with a status, by it.
    pub statuses: BTreeMap<String, u64>,
    /// Streams that were reset, by code.
    pub resets: BTreeMap<u32, u64>,
    pub goaway: Option<String>,
    /// PING and SETTINGS that acknowledge ours.
    pub acknowledged: u64,
    pub closed: bool,
    settings: bool,
    window_more: i64,
    initial: Option<i64>,
    streams_more: HashMap<u32, i64>,
}

impl Heard {
    /// Streams that are over.
    pub fn ended(&self) -> u64 {
        self.statuses.values().chain(self.resets.values()).sum()
    }

    pub fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.acknowledged += other.acknowledged;
        for (status, count) in &other.statuses {
            *self.statuses.entry(status.clone()).or_default() += count;
        }
        for (code, count) in &other.resets {
            *self.resets.entry(*code).or_default() += count;
        }
        self.goaway = self.goaway.take().or_else(|| other.goaway.clone());
        self.closed |= other.closed;
    }
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} MiB came", self.bytes as f64 / f64::from(1 << 20))?;
        for (status, count) in &self.statuses {
            write!(f, ", {count} x {status}")?;
        }
        for (code, count) in &self.resets {
            write!(f, ", {count} reset with {code}")?;
        }
        match (&self.goaway, self.closed) {
            (Some(goaway), _) => write!(f, ", GOAWAY {goaway}"),
            (None, true) => f.write_str(", closed by the server"),
            (None, false) => Ok(()),
        }
    }
}

pub struct Raw {
    stream: TcpStream,
    authority: String,
    out: Vec<u8>,
    heard: Arc<Mutex<Heard>>,
    reader: Option<JoinHandle<()>>,
    next_stream: u32,
    sent: i64,
    sent_on: HashMap<u32, i64>,
}

impl Raw {
    /// Connects and sends the preface; `window` is what each stream may send us.
    pub fn connect(addr: SocketAddr, window: u32) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let mut out = frame::PREFACE.to_vec();
        frame::settings(&mut out, &[(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, window)]);
        frame::window_update(&mut out, 0, WINDOW_MAX - 65_535);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (mut reading, hearing) = (stream.try_clone()?, Arc::clone(&heard));
        let reader = std::thread::spawn(move || listen(&mut reading, &hearing));
        Ok(Self {
            stream,
            authority: addr.to_string(),
            out,
            heard,
            reader: Some(reader),
            next_stream: 1,
            sent: 0,
            sent_on: HashMap::new(),
        })
    }

    pub fn heard(&self) -> Heard {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        locked(&self.heard)
    }

    pub fn flush(&mut self, until: &Until) -> io::Result<()> {
        let mut from = 0;
        while from < self.out.len() {
            match self.stream.write(&self.out[from..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => from += sent,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if until.over() {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        Ok(())
    }

    /// Sends when enough has gathered.
    pub fn flush_some(&mut self, until: &Until) -> io::Result<()> {
        if self.out.len() < OUT_BYTES { Ok(()) } else { self.flush(until) }
    }

    /// The head of a request on the next stream.
    pub fn open(&mut self, method: &str, path: &str, fields: &[(&str, &str)], ends: bool) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let block = block(method, path, &self.authority, fields);
        let flags = frame::END_HEADERS | if ends { frame::END_STREAM } else { 0 };
        frame::head(&mut self.out, block.len(), frame::HEADERS, flags, stream);
        self.out.extend_from_slice(&block);
        stream
    }

    /// The head of a gRPC call.
    pub fn open_call(&mut self, path: &str) -> u32 {
        self.open("POST", path, &GRPC, false)
    }

    /// A body, or as much of it as there is, within the peer's windows.
    pub fn body(&mut self, stream: u32, mut bytes: &[u8], ends: bool, until: &Until) -> io::Result<()> {
        while !bytes.is_empty() {
            let (connection, own, closed) = {
                let heard = self.lock();
                let initial = heard.initial.unwrap_or(WINDOW_DEFAULT);
                let more = heard.streams_more.get(&stream).copied().unwrap_or(0);
                (WINDOW_DEFAULT + heard.window_more, initial + more, heard.closed)
            };
            let sent_on = self.sent_on.entry(stream).or_default();
            let window = (connection - self.sent).min(own - *sent_on).max(0);
            let length = bytes.len().min(frame::SIZE_MAX).min(usize::try_from(window).expect("not negative"));
            if length == 0 {
                self.flush(until)?;
                if closed {
                    return Err(ErrorKind::ConnectionReset.into());
                }
                if !until.pause(PAUSE) {
                    return Err(ErrorKind::TimedOut.into());
                }
                continue;
            }
            let (now, rest) = bytes.split_at(length);
            let flags = if ends && rest.is_empty() { frame::END_STREAM } else { 0 };
            frame::head(&mut self.out, length, frame::DATA, flags, stream);
            self.out.extend_from_slice(now);
            self.sent += length as i64;
            *sent_on += length as i64;
            bytes = rest;
            self.flush_some(until)?;
        }
        Ok(())
    }

    /// A whole gRPC call, sent when enough has gathered.
    pub fn call(&mut self, path: &str, request: &[u8], until: &Until) -> io::Result<u32> {
        let stream = self.open_call(path);
        self.body(stream, request, true, until)?;
        Ok(stream)
    }

    pub fn settings(&mut self, values: &[(u16, u32)]) {
        frame::settings(&mut self.out, values);
    }

    pub fn ping(&mut self) {
        frame::head(&mut self.out, 8, frame::PING, 0, 0);
        self.out.extend_from_slice(b"attacked");
    }

    pub fn reset(&mut self, stream: u32) {
        const CANCEL: u32 = 8;
        frame::reset(&mut self.out, stream, CANCEL);
    }

    /// Whether so many streams have ended; false when it is over or the connection is.
    pub fn wait_for_ends(&self, count: u64, until: &Until) -> bool {
        loop {
            let heard = self.lock();
            if heard.ended() >= count {
                return true;
            }
            let closed = heard.closed;
            drop(heard);
            if closed || !until.pause(PAUSE) {
                return false;
            }
        }
    }

    /// Waits for the peer's SETTINGS, which say what its streams take, and acknowledges them: they count from then on.
    pub fn wait_for_settings(&mut self, until: &Until) -> io::Result<()> {
        self.flush(until)?;
        while !self.lock().settings {
            if self.lock().closed {
                return Err(ErrorKind::ConnectionReset.into());
            }
            if !until.pause(PAUSE) {
                return Err(ErrorKind::TimedOut.into());
            }
        }
        frame::head(&mut self.out, 0, frame::SETTINGS, frame::ACK, 0);
        Ok(())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The server may have closed it before.
        drop(self.stream.shutdown(Shutdown::Both));
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading does not panic");
        }
    }
}

/// The fields of a gRPC call's head.
pub const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

/// A header block of literals, so that no state is kept for it.
pub fn block(method: &str, path: &str, authority: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", authority)];
    let mut block = Vec::new();
    for (name, value) in pseudo.iter().chain(fields) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn locked(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads until the connection ends.
fn listen(stream: &mut TcpStream, heard: &Mutex<Heard>) {
    let mut decoder = headers::Decoder::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(read) => filled += read,
        }
        let mut heard = locked(heard);
        let mut used = 0;
        while let Some(head) = frame::Head::parse(&buffer[used..filled]) {
            let end = used + frame::HEAD + head.length;
            if head.length > frame::SIZE_MAX || end > filled {
                break;
            }
            heard.frame(head, &buffer[used + frame::HEAD..end], &mut decoder);
            used = end;
        }
        heard.bytes += used as u64;
        buffer.copy_within(used..filled, 0);
        filled -= used;
        if filled == buffer.len() {
            break; // no frame is as long
        }
    }
    locked(heard).closed = true;
}

impl Heard {
    fn frame(&mut self, head: frame::Head, payload: &[u8], decoder: &mut headers::Decoder) {
        match head.kind {
            // An answer's head and its end look alike, so what counts is the end.
            frame::HEADERS => {
                let ends = head.flags & frame::END_STREAM != 0;
                match decoder.decode(payload) {
                    Ok(fields) if ends => {
                        let status = match (fields.grpc_status, fields.http_status) {
                            (Some(0), _) => "OK".to_owned(),
                            (Some(code), _) => format!("{code} {}", fields.grpc_message),
                            (None, status) => format!("HTTP {}", status.unwrap_or(0)),
                        };
                        *self.statuses.entry(status).or_default() += 1;
                    }
                    Ok(_) => {}
                    Err(why) => *self.statuses.entry(why.to_owned()).or_default() += 1,
                }
            }
            // Plain HTTP ends with its body.
            frame::DATA if head.flags & frame::END_STREAM != 0 => {
                *self.statuses.entry("a body".to_owned()).or_default() += 1;
            }
            frame::RST_STREAM => *self.resets.entry(frame::number(payload).unwrap_or(0)).or_default() += 1,
            frame::SETTINGS | frame::PING if head.flags & frame::ACK != 0 => self.acknowledged += 1,
            frame::SETTINGS => {
                self.settings = true;
                let window = frame::parse_settings(payload)
                    .and_then(|mut all| all.find(|(name, _)| *name == frame::INITIAL_WINDOW_SIZE));
                if let Some((_, window)) = window {
                    self.initial = Some(window.into());
                }
            }
            frame::WINDOW_UPDATE => {
                let more = i64::from(frame::number(payload).unwrap_or(0));
                match head.stream {
                    0 => self.window_more += more,
                    stream => *self.streams_more.entry(stream).or_default() += more,
                }
            }
            frame::GOAWAY => {
                let code = payload.get(4..).and_then(frame::number).unwrap_or(u32::MAX);
                let reason = String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned();
                self.goaway = Some(format!("{code} {reason}"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_header_block_says_what_it_was_told() {
        let mut block = block("POST", "/a.B/C", "127.0.0.1:1", &GRPC);
        let mut fields = Vec::new();
        httlib_hpack::Decoder::with_dynamic_size(4096).decode(&mut block, &mut fields).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let fields: Vec<_> = fields.iter().map(|(name, value, _)| (text(name), text(value))).collect();
        let wanted =
            [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), (":authority", "127.0.0.1:1")];
        assert!(fields.iter().zip(wanted.iter().chain(&GRPC)).all(|(a, b)| (&a.0[..], &a.1[..]) == *b));
        assert_eq!(fields.len(), 6);
    }

    #[test]
    fn a_body_keeps_to_the_windows_and_what_comes_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let until = Until::default();
        std::thread::scope(|scope| {
            let server = scope.spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                let mut out = Vec::new();
                frame::settings(&mut out, &[(frame::INITIAL_WINDOW_SIZE, 10)]);
                socket.write_all(&out).unwrap();
                let mut data = 0;
                let mut first = [0; frame::PREFACE.len()];
                socket.read_exact(&mut first).unwrap();
                while data < 25 {
                    let mut head = [0; frame::HEAD];
                    socket.read_exact(&mut head).unwrap();
                    let head = frame::Head::parse(&head).unwrap();
                    socket.read_exact(&mut vec![0; head.length]).unwrap();
                    if head.kind == frame::DATA {
                        assert!(head.length <= 10, "the window is 10");
                        data += head.length;
                        let mut out = Vec::new();
                        frame::window_update(&mut out, head.stream, 10);
                        socket.write_all(&out).unwrap();
                    }
                }
                let mut out = Vec::new();
                frame::reset(&mut out, 1, 7);
                frame::head(&mut out, 8, frame::PING, frame::ACK, 0);
                out.extend_from_slice(b"attacked");
                frame::head(&mut out, 8, frame::GOAWAY, 0, 0);
                out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 11]);
                socket.write_all(&out).unwrap();
            });
            let mut raw = Raw::connect(addr, 0).unwrap();
            raw.wait_for_settings(&until).unwrap();
            let stream = raw.open_call("/a.B/C");
            raw.body(stream, &[1; 25], false, &until).unwrap();
            raw.flush(&until).unwrap();
            assert!(raw.wait_for_ends(1, &until));
            server.join().unwrap();
            while !raw.heard().closed {
                std::thread::sleep(PAUSE);
            }
            let heard = raw.heard();
            assert_eq!((heard.resets[&7], heard.acknowledged), (1, 1));
            assert_eq!(heard.goaway.as_deref(), Some("11 "));
            assert!(!raw.wait_for_ends(2, &until), "nothing comes any more");
        });
    }
}
