//! Where frames begin in bytes that somebody else decodes (RFC 9113, 4.1).
//!
//! One for each direction of a connection; it follows the lengths and looks into no payload.

const HEAD_BYTES: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) len: usize,
    pub(super) kind: u8,
    flags: u8,
}

impl Head {
    /// Answers a frame of ours.
    pub(super) fn is_ack(self) -> bool {
        self.flags & ACK != 0
    }
}

pub(super) struct Frames {
    /// The head that is arriving.
    head: [u8; HEAD_BYTES],
    known: usize,
    /// Of the payload, or of what comes before the first frame.
    left: usize,
    last: Option<Head>,
}

impl Frames {
    /// The first frame comes after so many bytes.
    pub(super) fn after(bytes: usize) -> Self {
        Self { head: [0; HEAD_BYTES], known: 0, left: bytes, last: None }
    }

    /// Goes on in `bytes` from `at`, to the end of the next head if that is in there.
    pub(super) fn next(&mut self, bytes: &[u8], at: &mut usize) -> Option<Head> {
        let passed = self.left.min(bytes.len() - *at);
        self.left -= passed;
        *at += passed;
        let taken = (HEAD_BYTES - self.known).min(bytes.len() - *at);
        self.head[self.known..self.known + taken].copy_from_slice(&bytes[*at..*at + taken]);
        self.known += taken;
        *at += taken;
        if self.known < HEAD_BYTES {
            return None;
        }
        let [a, b, c, kind, flags, ..] = self.head;
        let head = Head { len: u32::from_be_bytes([0, a, b, c]) as usize, kind, flags };
        (self.known, self.left, self.last) = (0, head.len, Some(head));
        Some(head)
    }

    /// Whether a first frame has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// Whether a frame has begun and not all of it has come.
    pub(super) fn is_within(&self) -> bool {
        self.known > 0 || self.left > 0
    }

    /// Whether a request's headers have begun and not all of them have come.
    pub(super) fn is_in_headers(&self) -> bool {
        self.last.is_some_and(|last| {
            let of_headers = last.kind == HEADERS || last.kind == CONTINUATION;
            of_headers && (self.left > 0 || last.flags & END_HEADERS == 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
        let mut frame = (len as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(HEAD_BYTES + len, 0xff);
        frame
    }

    #[test]
    fn heads_are_found_wherever_the_bytes_are_cut() {
        let frames = [(SETTINGS, 0, 6), (HEADERS, END_HEADERS, 300), (DATA, 1, 0), (SETTINGS, ACK, 0)];
        let mut bytes = b"before".to_vec();
        frames.iter().for_each(|&(kind, flags, len)| bytes.extend(frame(kind, flags, len)));
        for step in 1..=bytes.len() {
            let mut following = Frames::after(6);
            let mut found = Vec::new();
            for piece in bytes.chunks(step) {
                let mut at = 0;
                while let Some(head) = following.next(piece, &mut at) {
                    found.push((head.kind, head.flags, head.len));
                }
                assert_eq!(at, piece.len(), "step {step}");
            }
            assert_eq!(found, frames, "step {step}");
            assert!(!following.is_within(), "step {step}");
        }
    }

    #[test]
    fn it_knows_what_is_not_over() {
        let mut following = Frames::after(3);
        let mut take = |bytes: &[u8]| {
            let mut at = 0;
            while following.next(bytes, &mut at).is_some() {}
            (following.has_begun(), following.is_within(), following.is_in_headers())
        };
        assert_eq!(take(b"be"), (false, true, false));
        assert_eq!(take(b"f"), (false, false, false));
        let headers = frame(HEADERS, 0, 10);
        assert_eq!(take(&headers[..8]), (false, true, false));
        assert_eq!(take(&headers[8..12]), (true, true, true));
        assert_eq!(take(&headers[12..]), (true, false, true), "more of them must follow");
        let rest = frame(CONTINUATION, END_HEADERS, 5);
        assert_eq!(take(&rest[..10]), (true, true, true));
        assert_eq!(take(&rest[10..]), (true, false, false));
    }
}
