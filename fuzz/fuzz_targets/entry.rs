//! A Raft entry's payload: a batch of requests, or a change of membership. Damage is an error, never a panic.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pinion::{
    consensus::{ConfChange, Entry, EntryType, Membership},
    state::Batch,
};

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
    let entry = Entry { entry_type: EntryType::EntryConfChangeV2, index: 1, data, ..Entry::default() };
    if let Ok(change) = ConfChange::decode(&entry) {
        Membership::default().apply(&change);
    }
});
