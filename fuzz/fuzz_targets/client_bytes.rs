//! What a client's connection may begin with and go on with: anything, HTTP/2 or not. The member lives, and others are
//! served.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pinion_fuzz::Served;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fuzz_target!(|bytes: &[u8]| {
    let Some((how, rest)) = bytes.split_first() else { return };
    let served = Served::start();
    let held = Duration::from_millis(u64::from(how >> 2) * 20);
    match how & 3 {
        // As it is.
        0 => served.meets(rest, held),
        // Behind a preface and empty SETTINGS.
        1 => served.meets(&[PREFACE, rest].concat(), held),
        // As frames whose lengths are right, so that more of them are taken: length, kind, flags, stream, payload.
        2 => {
            let mut sent = PREFACE.to_vec();
            let mut rest = rest;
            while let Some(([length, kind, flags, stream], after)) = rest.split_first_chunk::<4>() {
                let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
                sent.extend_from_slice(&[0, 0, payload.len() as u8, kind % 11, *flags, 0, 0, 0, *stream]);
                sent.extend_from_slice(payload);
                rest = after;
            }
            served.meets(&sent, held);
        }
        // Behind the calls of a decent client.
        _ => {
            let mut sent = pinion_fuzz::calls("/etcdserverpb.KV/Put", &[b"\x0a\x01a\x12\x01b".to_vec()]);
            sent.extend_from_slice(rest);
            served.meets(&sent, held);
        }
    }
});
