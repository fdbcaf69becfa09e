//! What comes to the port where members listen for each other: bytes as they are, after a preface, after a greeting, and
//! records that are whole. Whatever it is ends its own connection at most: a decent member is welcome afterwards.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pinion::{pb::link, peer};
use pinion_fuzz::{CLUSTER, Served};
use prost::Message;

/// A record with the right checksum.
fn record(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    let told = [kind, flags, 0, 0, 0, 0, 0, 0];
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&length), &told), payload);
    [&length[..], &sum.to_le_bytes(), &told, payload].concat()
}

fn greeting(purpose: link::Purpose) -> Vec<u8> {
    let hello = link::Hello {
        oldest: 1,
        newest: 1,
        cluster: CLUSTER.0,
        from: 2,
        to: 1,
        purpose: purpose as i32,
        ..Default::default()
    };
    [&peer::PREFACE[..], &record(1, 1, &hello.encode_to_vec())].concat()
}

/// Records with a length before each.
fn records(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, flags, length, after @ ..] = rest {
        let (payload, after) = after.split_at(after.len().min(usize::from(*length)));
        out.extend(record(*kind, *flags, payload));
        rest = after;
    }
    out
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, rest)) = bytes.split_first() else { return };
    let sent = match how % 6 {
        0 => rest.to_vec(),
        1 => [&peer::PREFACE[..], rest].concat(),
        2 => [&greeting(link::Purpose::Frames)[..], rest].concat(),
        3 => [&greeting(link::Purpose::Frames)[..], &records(rest)].concat(),
        4 => [&greeting(link::Purpose::Checkpoint)[..], &records(rest)].concat(),
        _ => [&peer::PREFACE[..], &records(rest)].concat(),
    };
    Served::start().meets_as_member(&sent, Duration::from_millis(u64::from(how / 6) * 10));
});
