//! A Raft entry's payload: a batch of requests, or a change of membership. Damage is an error, never a panic, and a
//! change that is taken for one can be applied.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pinion::{
    consensus::{Config, Entry, EntryKind, HardState, LogPosition, LogWindow, Options, Payload, Pipeline},
    state::Batch,
    types::{LogIndex, MemberId, Term},
};

/// A member of a group of three, of which any change leaves a group.
fn pipeline() -> Pipeline {
    let options = Options {
        id: MemberId(1),
        run: 1,
        election_ticks: 10,
        heartbeat_ticks: 1,
        pre_vote: true,
        uncommitted_bytes_max: 1 << 20,
        committed_bytes_max: 1 << 20,
        catchup_entries: 10,
        catchup_bytes: 1 << 20,
    };
    let config = Config { voters: [1, 2, 3].map(MemberId).to_vec(), learners: Vec::new() };
    let window = LogWindow::new(LogPosition::default(), HardState::default(), config);
    Pipeline::new(options, window, LogIndex(0), 1).expect("an empty log is whole")
}

fuzz_target!(|bytes: &[u8]| {
    let data = Bytes::copy_from_slice(bytes);
    if let Ok(batch) = Batch::decode(data.clone()) {
        let mut bytes_left = bytes.len();
        for request in batch {
            let Ok(request) = request else { break };
            bytes_left = bytes_left.checked_sub(4).expect("each request has a length before it");
            drop(request);
        }
    }
    let entry = Entry { index: LogIndex(1), term: Term(1), kind: EntryKind::Config, data };
    if let Ok(Payload::Config(change)) = entry.payload() {
        pipeline().apply_change(&change).expect("what decodes can be applied");
        // What the change says of its member may be damaged still.
    }
});
