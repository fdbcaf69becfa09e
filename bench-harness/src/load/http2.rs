//! One HTTP/2 client connection for unary gRPC calls, as a machine without I/O: requests and received bytes go
//! in, bytes to send and finished calls come out.
//!
//! Many calls share each send and each receive, nothing is allocated per call in the steady state, and header
//! blocks are encoded once. It keeps to the peer's windows, frame size and stream limit. Not a general client:
//! no TLS, no streaming calls, no compression, receive windows so large that they never hold the server up.

pub mod frame;
pub(crate) mod headers;
mod hpack;

use std::collections::VecDeque;

use super::message::PREFIX;
pub use headers::Method;

/// Of the protocol, until the peer's SETTINGS say otherwise (RFC 9113, 6.5.2).
const WINDOW_DEFAULT: i64 = 65_535;
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// The connection's receive window is topped up after this many bytes.
const TOP_UP: u32 = 1 << 29;
/// More than a server's largest list.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// The connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the server closed the connection: GOAWAY {code} {reason}")]
    GoAway { code: u32, reason: String },
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
}

/// One call failed; the connection goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    Status {
        code: u32,
        message: String,
    },
    Http(u16),
    Reset(u32),
    /// Status OK and something else than one uncompressed message.
    NotOneMessage,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status { code, message } => write!(f, "grpc status {code}: {message}"),
            Self::Http(status) => write!(f, "http status {status}"),
            Self::Reset(code) => write!(f, "stream reset {code}"),
            Self::NotOneMessage => f.write_str("not one uncompressed message in the reply"),
        }
    }
}

#[derive(Debug)]
struct Call<T> {
    stream: u32,
    tag: Option<T>,
    /// What arrived so far, prefix included; the buffer is reused.
    reply: Vec<u8>,
    http_status: Option<u16>,
    /// The rest of a request the peer's windows did not let through, from `unsent_at` on.
    unsent: Vec<u8>,
    unsent_at: usize,
    window: i64,
}

#[derive(Debug)]
pub struct Connection<T> {
    out: Vec<u8>,
    encoder: headers::Encoder,
    decoder: headers::Decoder,
    calls: Vec<Call<T>>,
    free: Vec<usize>,
    /// Which call each stream from `first_stream` on is; `None` once it has ended.
    streams: VecDeque<Option<usize>>,
    first_stream: u32,
    next_stream: u32,
    blocked: VecDeque<usize>,
    send_window: i64,
    /// Received and not yet given back.
    received: u32,
    settings_seen: bool,
    peer_window: i64,
    peer_streams_max: usize,
    peer_frame_max: usize,
    /// A header block that goes on in CONTINUATION frames: stream, whether it ends the stream, the bytes.
    partial_headers: Option<(u32, bool, Vec<u8>)>,
}

impl<T> Connection<T> {
    /// At most `calls_max` calls are open at a time. The preface is ready to be sent.
    pub fn new(authority: &str, token: Option<&str>, calls_max: usize) -> Self {
        let mut out = frame::PREFACE.to_vec();
        frame::settings(&mut out, &[(frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, WINDOW_MAX)]);
        frame::window_update(&mut out, 0, WINDOW_MAX - 65_535);
        let calls = (0..calls_max).map(|_| Call {
            stream: 0,
            tag: None,
            reply: Vec::new(),
            http_status: None,
            unsent: Vec::new(),
            unsent_at: 0,
            window: 0,
        });
        Self {
            out,
            encoder: headers::Encoder::new(authority, token),
            decoder: headers::Decoder::new(),
            calls: calls.collect(),
            free: (0..calls_max).rev().collect(),
            streams: VecDeque::new(),
            first_stream: 1,
            next_stream: 1,
            blocked: VecDeque::new(),
            send_window: WINDOW_DEFAULT,
            received: 0,
            settings_seen: false,
            peer_window: WINDOW_DEFAULT,
            peer_streams_max: usize::MAX,
            peer_frame_max: frame::SIZE_MAX,
            partial_headers: None,
        }
    }

    /// The peer's SETTINGS arrived: calls may be opened.
    pub fn ready(&self) -> bool {
        self.settings_seen
    }

    pub fn can_open(&self) -> bool {
        self.settings_seen && !self.free.is_empty() && self.open_calls() < self.peer_streams_max
    }

    pub fn open_calls(&self) -> usize {
        self.calls.len() - self.free.len()
    }

    /// The tags of all open calls, for when the connection is lost.
    pub fn abandon(&mut self) -> impl Iterator<Item = T> {
        self.calls.iter_mut().filter_map(|call| call.tag.take())
    }

    /// What is to be sent; the owner drains it as the socket takes it.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Opens a call; `request` carries its gRPC prefix.
    pub fn open(&mut self, method: Method, request: &[u8], tag: T) {
        assert!(self.can_open(), "ask can_open first");
        assert!(self.next_stream < 1 << 31, "a connection has 2^30 streams");
        let index = self.free.pop().expect("can_open saw a free call");
        let stream = self.next_stream;
        self.next_stream += 2;
        self.streams.push_back(Some(index));

        let block = self.encoder.request(method);
        frame::head(&mut self.out, block.len(), frame::HEADERS, frame::END_HEADERS, stream);
        self.out.extend_from_slice(block);

        let call = &mut self.calls[index];
        call.stream = stream;
        call.tag = Some(tag);
        call.reply.clear();
        call.http_status = None;
        call.window = self.peer_window;
        let length = request.len();
        let fits = i64::try_from(length).expect("a request fits memory") <= self.send_window.min(call.window);
        if fits && length <= self.peer_frame_max {
            frame::head(&mut self.out, length, frame::DATA, frame::END_STREAM, stream);
            self.out.extend_from_slice(request);
            call.window -= length as i64;
            self.send_window -= length as i64;
        } else {
            call.unsent.clear();
            call.unsent.extend_from_slice(request);
            call.unsent_at = 0;
            self.blocked.push_back(index);
            self.send_blocked();
        }
    }

    /// Sends of the blocked requests what the windows allow, in the order in which they were opened.
    fn send_blocked(&mut self) {
        for _ in 0..self.blocked.len() {
            let index = self.blocked.pop_front().expect("counted");
            let call = &mut self.calls[index];
            while call.unsent_at < call.unsent.len() {
                let window = self.send_window.min(call.window).max(0) as usize;
                let length = (call.unsent.len() - call.unsent_at).min(window).min(self.peer_frame_max);
                if length == 0 {
                    break;
                }
                let end = call.unsent_at + length;
                let flags = if end == call.unsent.len() { frame::END_STREAM } else { 0 };
                frame::head(&mut self.out, length, frame::DATA, flags, call.stream);
                self.out.extend_from_slice(&call.unsent[call.unsent_at..end]);
                call.unsent_at = end;
                call.window -= length as i64;
                self.send_window -= length as i64;
            }
            if call.unsent_at < call.unsent.len() {
                self.blocked.push_back(index);
            }
        }
    }

    /// Takes received bytes: returns how many were used, whole frames only, and hands finished calls to `done`.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        done: &mut impl FnMut(T, Result<&[u8], Failure>),
    ) -> Result<usize, Broken> {
        let mut used = 0;
        while let Some(head) = frame::Head::parse(&bytes[used..]) {
            if head.length > frame::SIZE_MAX {
                return Err(Broken::Protocol("a frame above the size limit"));
            }
            let start = used + frame::HEAD;
            let Some(payload) = bytes.get(start..start + head.length) else { break };
            self.frame(head, payload, done)?;
            used = start + head.length;
        }
        if self.received >= TOP_UP {
            frame::window_update(&mut self.out, 0, self.received);
            self.received = 0;
        }
        Ok(used)
    }

    fn frame(
        &mut self,
        head: frame::Head,
        payload: &[u8],
        done: &mut impl FnMut(T, Result<&[u8], Failure>),
    ) -> Result<(), Broken> {
        if self.partial_headers.is_some() && head.kind != frame::CONTINUATION {
            return Err(Broken::Protocol("a header block was interrupted"));
        }
        let ends = head.flags & frame::END_STREAM != 0;
        match head.kind {
            frame::DATA => {
                self.received += head.length as u32;
                let payload = frame::unpad(head.flags, payload).ok_or(Broken::Protocol("bad padding"))?;
                let Some(index) = self.call_of(head.stream)? else { return Ok(()) };
                let call = &mut self.calls[index];
                if call.reply.len() + payload.len() > MESSAGE_BYTES_MAX {
                    return Err(Broken::Protocol("a reply above the size limit"));
                }
                call.reply.extend_from_slice(payload);
                if ends {
                    // gRPC ends a stream with trailers, so this one carries no status.
                    self.finish(index, Err(Failure::NotOneMessage), done);
                }
                Ok(())
            }
            frame::HEADERS => {
                let block = frame::unpad(head.flags, payload)
                    .and_then(|block| frame::skip_priority(head.flags, block))
                    .ok_or(Broken::Protocol("bad padding"))?;
                if head.flags & frame::END_HEADERS == 0 {
                    self.partial_headers = Some((head.stream, ends, block.to_vec()));
                    return Ok(());
                }
                self.headers(head.stream, ends, block, done)
            }
            frame::CONTINUATION => {
                let Some((stream, ends, mut block)) = self.partial_headers.take() else {
                    return Err(Broken::Protocol("a continuation of nothing"));
                };
                if stream != head.stream || block.len() + payload.len() > frame::HEADER_BLOCK_MAX {
                    return Err(Broken::Protocol("a wrong or endless continuation"));
                }
                block.extend_from_slice(payload);
                if head.flags & frame::END_HEADERS == 0 {
                    self.partial_headers = Some((stream, ends, block));
                    return Ok(());
                }
                self.headers(stream, ends, &block, done)
            }
            frame::RST_STREAM => {
                let code = frame::number(payload).ok_or(Broken::Protocol("a short RST_STREAM"))?;
                if let Some(index) = self.call_of(head.stream)? {
                    self.finish(index, Err(Failure::Reset(code)), done);
                }
                Ok(())
            }
            frame::SETTINGS if head.flags & frame::ACK != 0 => Ok(()),
            frame::SETTINGS => self.settings(payload),
            frame::PING if head.flags & frame::ACK != 0 => Ok(()),
            frame::PING => {
                frame::head(&mut self.out, payload.len(), frame::PING, frame::ACK, 0);
                self.out.extend_from_slice(payload);
                Ok(())
            }
            frame::WINDOW_UPDATE => {
                let more =
                    i64::from(frame::number(payload).ok_or(Broken::Protocol("a short WINDOW_UPDATE"))?);
                if head.stream == 0 {
                    self.send_window += more;
                } else if let Some(index) = self.call_of(head.stream)? {
                    self.calls[index].window += more;
                }
                self.send_blocked();
                Ok(())
            }
            frame::GOAWAY => {
                let code = payload.get(4..).and_then(frame::number).unwrap_or(u32::MAX);
                let reason = String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned();
                Err(Broken::GoAway { code, reason })
            }
            frame::PUSH_PROMISE => Err(Broken::Protocol("a push, which was not allowed")),
            _ => Ok(()),
        }
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), Broken> {
        for (name, value) in frame::parse_settings(payload).ok_or(Broken::Protocol("cut SETTINGS"))? {
            match name {
                frame::HEADER_TABLE_SIZE => self.encoder.limit_table(value),
                frame::MAX_CONCURRENT_STREAMS => self.peer_streams_max = value as usize,
                frame::MAX_FRAME_SIZE => self.peer_frame_max = value as usize,
                frame::INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.peer_window;
                    self.peer_window = i64::from(value);
                    for call in self.calls.iter_mut().filter(|call| call.tag.is_some()) {
                        call.window += change;
                    }
                }
                _ => {}
            }
        }
        frame::head(&mut self.out, 0, frame::SETTINGS, frame::ACK, 0);
        self.settings_seen = true;
        self.send_blocked();
        Ok(())
    }

    fn headers(
        &mut self,
        stream: u32,
        ends: bool,
        block: &[u8],
        done: &mut impl FnMut(T, Result<&[u8], Failure>),
    ) -> Result<(), Broken> {
        // Decoded even when nobody waits for it: the compression state is the connection's.
        let fields = self.decoder.decode(block).map_err(Broken::Protocol)?.clone();
        let Some(index) = self.call_of(stream)? else { return Ok(()) };
        let call = &mut self.calls[index];
        call.http_status = call.http_status.or(fields.http_status);
        if !ends {
            return Ok(());
        }
        let outcome = match (call.http_status, fields.grpc_status) {
            (_, Some(0)) => Ok(()),
            (_, Some(code)) => Err(Failure::Status { code, message: fields.grpc_message }),
            (status, None) => Err(Failure::Http(status.unwrap_or(0))),
        };
        self.finish(index, outcome, done);
        Ok(())
    }

    fn finish(
        &mut self,
        index: usize,
        outcome: Result<(), Failure>,
        done: &mut impl FnMut(T, Result<&[u8], Failure>),
    ) {
        let call = &mut self.calls[index];
        let stream = call.stream;
        let tag = call.tag.take().expect("an open call has its tag");
        match outcome.and_then(|()| one_message(&call.reply)) {
            Ok(message) => done(tag, Ok(message)),
            Err(failure) => done(tag, Err(failure)),
        }
        if call.unsent_at < call.unsent.len() {
            // Answered before all of it was sent: the server must not wait for the rest.
            call.unsent_at = call.unsent.len();
            self.blocked.retain(|&blocked| blocked != index);
            const CANCEL: u32 = 8;
            frame::reset(&mut self.out, stream, CANCEL);
        }
        self.free.push(index);
        self.streams[((stream - self.first_stream) / 2) as usize] = None;
        while let Some(None) = self.streams.front() {
            self.streams.pop_front();
            self.first_stream += 2;
        }
    }

    /// The open call of a stream; `None` when it has ended.
    fn call_of(&self, stream: u32) -> Result<Option<usize>, Broken> {
        if stream.is_multiple_of(2) || stream >= self.next_stream {
            return Err(Broken::Protocol("a frame for a stream that was never opened"));
        }
        if stream < self.first_stream {
            return Ok(None);
        }
        Ok(self.streams[((stream - self.first_stream) / 2) as usize])
    }
}

/// The message in a whole reply.
fn one_message(reply: &[u8]) -> Result<&[u8], Failure> {
    let (prefix, message) = reply.split_at_checked(PREFIX).ok_or(Failure::NotOneMessage)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().expect("four bytes"));
    if prefix[0] != 0 || length as usize != message.len() {
        return Err(Failure::NotOneMessage);
    }
    Ok(message)
}

#[cfg(test)]
mod tests;
