//! What a client may have its connection do: SETTINGS and PING frames, by number and by the work they cause, and requests
//! in a turn.
//!
//! Bytes say nothing of that work: a SETTINGS frame of 15 bytes has every open stream visited, and thousands of requests
//! fit into one read. Both are spread over turns, so that others have theirs; who sends more SETTINGS than any client
//! needs is given up, and so is who sends PING frames more often than grpc-go allows, by its rules.

use std::time::Duration;

use super::frames::{DATA, Frames, HEADERS, Head, PING, SETTINGS};
use crate::{env::Instant, limits};

/// What is to be done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Now,
    /// Its payload waits for the next turn.
    Later,
    /// The connection ends with this word.
    TooMany(&'static str),
}

pub(super) struct Meter {
    /// `--grpc-keepalive-min-time`.
    ping_pause: Duration,
    incoming: Frames,
    outgoing: Frames,
    /// Requests under way.
    streams: usize,
    /// Streams visited in this turn, and requests decoded.
    visited: usize,
    requests: usize,
    settings: Allowance,
    /// When the last request's headers began.
    headers: Instant,
    last_ping: Option<Instant>,
    strikes: u32,
    /// Something was answered since the last PING: who measures the way may ask after each answer.
    answered: bool,
}

impl Meter {
    /// `preface` is what a client sends before its first frame.
    pub(super) fn new(ping_pause: Duration, preface: usize, now: Instant) -> Self {
        Self {
            ping_pause,
            incoming: Frames::after(preface),
            outgoing: Frames::after(0),
            streams: 0,
            visited: 0,
            requests: 0,
            settings: Allowance { left: limits::SETTINGS_BURST, since: now },
            headers: now,
            last_ping: None,
            strikes: 0,
            answered: false,
        }
    }

    /// So many requests are under way.
    pub(super) fn begin_turn(&mut self, streams: usize) {
        self.streams = streams;
        self.visited = 0;
        self.requests = 0;
    }

    /// How much of what has come may be decoded now. Of a frame that is put off the head may.
    pub(super) fn received(&mut self, bytes: &[u8], now: Instant) -> Result<usize, &'static str> {
        let mut at = 0;
        while let Some(head) = self.incoming.next(bytes, &mut at) {
            match self.weigh(head, now) {
                Verdict::Now => {}
                Verdict::Later => return Ok(at),
                Verdict::TooMany(word) => return Err(word),
            }
        }
        Ok(bytes.len())
    }

    /// Since when something that was begun is not over, if the client was last heard of at `heard`.
    pub(super) fn unfinished(&self, begun: Instant, heard: Instant) -> Option<Instant> {
        let incoming = &self.incoming;
        if !incoming.has_begun() {
            Some(begun)
        } else if incoming.is_in_headers() {
            Some(self.headers)
        } else {
            incoming.is_within().then_some(heard)
        }
    }

    /// Whether what was sent so far ends with a whole frame.
    pub(super) fn may_add_a_frame(&self) -> bool {
        !self.outgoing.is_within()
    }

    /// To be told of everything that is sent.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(head) = self.outgoing.next(bytes, &mut at) {
            self.answered |= head.kind == HEADERS || head.kind == DATA;
        }
    }

    fn weigh(&mut self, head: Head, now: Instant) -> Verdict {
        match head.kind {
            HEADERS => self.weigh_headers(now),
            SETTINGS if !head.is_ack() => self.weigh_settings(head, now),
            PING if !head.is_ack() => self.weigh_ping(now),
            _ => Verdict::Now,
        }
    }

    fn weigh_headers(&mut self, now: Instant) -> Verdict {
        self.headers = now;
        self.requests += 1;
        if self.requests > limits::TURN_REQUESTS_MAX { Verdict::Later } else { Verdict::Now }
    }

    fn weigh_settings(&mut self, head: Head, now: Instant) -> Verdict {
        if !self.settings.take(now) {
            return Verdict::TooMany("too_many_settings");
        }
        if head.len == 0 {
            return Verdict::Now;
        }
        let before = self.visited;
        self.visited += self.streams;
        if before > 0 && self.visited > limits::TURN_SETTINGS_STREAMS { Verdict::Later } else { Verdict::Now }
    }

    /// grpc-go's `http2Server.handlePing`.
    fn weigh_ping(&mut self, now: Instant) -> Verdict {
        let last = self.last_ping.replace(now);
        if std::mem::take(&mut self.answered) {
            self.strikes = 0;
            return Verdict::Now;
        }
        let pause = if self.streams == 0 { limits::PING_IDLE } else { self.ping_pause };
        if last.is_some_and(|last| now.since(last) < pause) {
            self.strikes += 1;
        }
        if self.strikes > limits::PING_STRIKES_MAX {
            Verdict::TooMany("too_many_pings")
        } else {
            Verdict::Now
        }
    }
}

/// So many at once, and one more with each pause.
struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let pauses = now.since(self.since).as_nanos() / limits::SETTINGS_PAUSE.as_nanos();
        if pauses > 0 {
            let regained = u32::try_from(pauses).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(regained).min(limits::SETTINGS_BURST);
            self.since = now;
        }
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn meter() -> Meter {
        Meter::new(Duration::from_secs(5), 0, Instant(0))
    }

    fn frame(kind: u8, len: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, len, kind, 0, 0, 0, 0, 0];
        frame.resize(9 + usize::from(len), 0);
        frame
    }

    fn receive(meter: &mut Meter, frame: &[u8], second: u64) -> Result<usize, &'static str> {
        meter.received(frame, Instant(second * SECOND))
    }

    #[test]
    fn settings_over_many_streams_are_spread_over_turns() {
        let mut meter = meter();
        meter.begin_turn(limits::TURN_SETTINGS_STREAMS);
        let two = [frame(SETTINGS, 6), frame(SETTINGS, 6)].concat();
        assert_eq!(receive(&mut meter, &two, 0), Ok(15 + 9), "the second one's payload waits");
        meter.begin_turn(limits::TURN_SETTINGS_STREAMS);
        assert_eq!(receive(&mut meter, &two[15 + 9..], 0), Ok(6));
        assert_eq!(receive(&mut meter, &frame(SETTINGS, 6), 0), Ok(15));
        assert_eq!(receive(&mut meter, &frame(SETTINGS, 0), 0), Ok(9), "nothing to do for it");
        meter.begin_turn(10);
        let many = frame(SETTINGS, 6).repeat(100);
        assert_eq!(receive(&mut meter, &many, 0), Ok(many.len()));
    }

    #[test]
    fn a_turn_takes_so_many_requests() {
        let mut meter = meter();
        let requests = frame(HEADERS, 3).repeat(limits::TURN_REQUESTS_MAX + 10);
        let taken = 12 * limits::TURN_REQUESTS_MAX + 9;
        assert_eq!(receive(&mut meter, &requests, 0), Ok(taken), "the next one's payload waits");
        meter.begin_turn(0);
        assert_eq!(receive(&mut meter, &requests[taken..], 0), Ok(requests.len() - taken));
    }

    #[test]
    fn a_flood_of_settings_is_one_word() {
        let mut meter = meter();
        let burst = frame(SETTINGS, 0).repeat(limits::SETTINGS_BURST as usize);
        assert!(receive(&mut meter, &burst, 0).is_ok());
        assert_eq!(receive(&mut meter, &frame(SETTINGS, 0), 0), Err("too_many_settings"));
        assert!(receive(&mut meter, &frame(SETTINGS, 0), 1).is_ok(), "time makes good");
    }

    #[test]
    fn pings_are_counted_as_in_grpc_go() {
        let mut meter = meter();
        let ping = frame(PING, 8);
        // Without a request, two hours must pass between them.
        for second in [0, 6, 12] {
            assert!(receive(&mut meter, &ping, second).is_ok());
        }
        assert_eq!(receive(&mut meter, &ping, 18), Err("too_many_pings"));
        // With one, the flag says how long.
        meter.begin_turn(1);
        meter.strikes = 0;
        for second in [24, 29, 34, 39, 40, 41] {
            assert!(receive(&mut meter, &ping, second).is_ok(), "{second}");
        }
        // An answer forgives what was before, and the next one.
        meter.sent(&frame(DATA, 4));
        for _ in 0..3 {
            assert!(receive(&mut meter, &ping, 41).is_ok());
        }
        assert_eq!(receive(&mut meter, &ping, 41), Err("too_many_pings"));
    }

    #[test]
    fn what_answers_ours_counts_for_nothing() {
        let mut meter = meter();
        let acks = [[0, 0, 0, SETTINGS, 1, 0, 0, 0, 0], [0, 0, 0, PING, 1, 0, 0, 0, 0]].concat();
        assert!(receive(&mut meter, &acks.repeat(1_000), 0).is_ok());
    }
}
