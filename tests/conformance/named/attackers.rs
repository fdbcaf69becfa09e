//! Bytes that no client of etcd's would send.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use bench_harness::pb::etcdserverpb as pb;

use super::Both;
use crate::conformance::{
    call::{Answer, Call, shown},
    pair::{NOBODY, Peer},
};

const PATIENCE: Duration = Duration::from_secs(60);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The head of a call, in literals that nobody remembers (RFC 7541, 6.2.2).
fn head(path: &str) -> Vec<u8> {
    let literal = |name: &[u8], value: &str| [name, &[value.len() as u8], value.as_bytes()].concat();
    // :method POST, :scheme http, then by number: :path, :authority, content-type; te by name.
    [
        vec![0x83, 0x86],
        literal(&[0x04], path),
        literal(&[0x01], "localhost"),
        literal(&[0x0f, 0x10], "application/grpc"),
        literal(&[0x00, 0x02, b't', b'e'], "trailers"),
    ]
    .concat()
}

async fn begin(peer: &Peer) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(peer.server.addr()).await.map_err(|error| error.to_string())?;
    let opening = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    stream.write_all(&opening).await.map_err(|error| error.to_string())?;
    Ok(stream)
}

/// Until the server is through with the first stream, or with the connection.
async fn answered(stream: &mut TcpStream) -> Result<(), String> {
    let reading = async {
        loop {
            let mut head = [0; 9];
            // Closed is an answer, too.
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; len as usize];
            if stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            let (kind, ends) = (head[3], head[4] & END_STREAM != 0);
            if kind == RST_STREAM || kind == GOAWAY || ends && (kind == HEADERS || kind == DATA) {
                return;
            }
        }
    };
    timeout(PATIENCE, reading).await.map_err(|_| "no answer".to_owned())
}

/// CVE-2026-33186: a path without a slash before it was served, and rules about paths did not see it.
pub async fn a_path_without_a_slash_is_none(both: &mut Both) -> Result<(), String> {
    let put = b"\0\0\0\0\x06\x0a\x01a\x12\x01b";
    for (path, is_served) in [("etcdserverpb.KV/Put", false), ("/etcdserverpb.KV/Put", true)] {
        for peer in both.pair.both() {
            let mut stream = begin(peer).await?;
            let call =
                [frame(HEADERS, END_HEADERS, 1, &head(path)), frame(DATA, END_STREAM, 1, put)].concat();
            stream.write_all(&call).await.map_err(|error| error.to_string())?;
            answered(&mut stream).await?;
        }
        let get = Call::Range(pb::RangeRequest { key: "a".into(), ..Default::default() });
        match both.call(NOBODY, get).await {
            Answer::Range(found) if (found.count == 1) == is_served => {}
            answer => return Err(format!("{path}: {}", shown(&answer))),
        }
    }
    Ok(())
}

/// GHSA-hrxh-6v49-42gf: calls that are reset at once cost their client nothing, and the server everything.
pub async fn who_resets_what_it_begins_holds_nobody_up(both: &mut Both) -> Result<(), String> {
    let whole = head("/etcdserverpb.KV/Range");
    let mut attackers = Vec::new();
    for peer in both.pair.both() {
        let mut stream = begin(peer).await?;
        let whole = whole.clone();
        attackers.push(tokio::spawn(async move {
            for id in (0..200_000_u32).map(|number| 2 * number + 1) {
                let reset = frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes());
                let call = [frame(HEADERS, END_HEADERS, id, &whole), reset].concat();
                if stream.write_all(&call).await.is_err() {
                    // Nobody has to put up with it.
                    return;
                }
            }
        }));
    }
    for round in 0..200 {
        both.put("k", &round.to_string()).await;
    }
    attackers.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}
