//! Frames from other members, one after another: each is taken or refused, and the member goes on.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pinion::{
    consensus::{Config, Entry, Frame, HardState, LogPosition, LogWindow, Options, Payload, Pipeline},
    pb::peer,
    types::{LogIndex, MemberId, Term},
};
use prost::Message;

const OPTIONS: Options = Options {
    id: MemberId(1),
    run: 1,
    election_ticks: 10,
    heartbeat_ticks: 1,
    pre_vote: true,
    uncommitted_bytes_max: 1 << 20,
    committed_bytes_max: 1 << 20,
    catchup_entries: 4,
    catchup_bytes: 1 << 20,
};

/// A member of a group of three with a few entries, all of them applied.
fn pipeline() -> Pipeline {
    let config = Config { voters: [1, 2, 3].map(MemberId).to_vec(), learners: vec![MemberId(4)] };
    let hard_state = HardState { term: Term(2), vote: MemberId(0), commit: LogIndex(3) };
    let mut window = LogWindow::new(LogPosition::default(), hard_state, config);
    window.append((1..=3).map(|index| Entry { index: LogIndex(index), term: Term(1), ..Entry::default() }));
    Pipeline::new(OPTIONS, window, LogIndex(3), 1).expect("the log is whole")
}

/// Everything becomes durable and is applied.
fn settle(pipeline: &mut Pipeline) {
    while pipeline.has_ready() {
        let ready = pipeline.ready();
        let mut applied = ready.restored.map(|baseline| baseline.position.index);
        for entry in ready.committed {
            if let Payload::Config(change) = entry.payload().expect("checked when it came") {
                // The last voter cannot be removed; a group proposes no such thing.
                drop(pipeline.apply_change(&change));
            }
            applied = Some(entry.index);
        }
        drop(pipeline.persisted(ready.number));
        if let Some(index) = applied {
            pipeline.applied(index);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    // As it came, and as frames with a length before each, addressed to this member.
    if let Ok(frame) = Frame::decode(Bytes::copy_from_slice(bytes)) {
        drop(frame);
    }
    let mut pipeline = pipeline();
    let mut rest = bytes;
    while let Some((&length, after)) = rest.split_first() {
        let (frame, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        match peer::Frame::decode(frame) {
            Ok(mut frame) => {
                frame.to = 1;
                let frame = frame.encode_to_vec();
                // Taken or refused.
                drop(pipeline.step_with_checkpoint(frame.into(), 1));
            }
            Err(_) => (0..length).for_each(|_| pipeline.tick(1)),
        }
        settle(&mut pipeline);
    }
});
