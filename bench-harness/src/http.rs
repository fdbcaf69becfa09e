//! One blocking HTTP/1.1 GET over plain TCP: enough for `/health`, `/version` and `/metrics` of a server
//! on this machine. Not a general client: no TLS, no redirects, no connection reuse.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// More than any metrics page; a server that sends more is broken.
const RESPONSE_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{addr}: {source}")]
    Io { addr: SocketAddr, source: std::io::Error },
    #[error("{addr}: not an HTTP/1.1 response: {what}")]
    Malformed { addr: SocketAddr, what: &'static str },
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

/// `timeout` bounds the connect and each read and write, not the sum.
pub fn get(addr: SocketAddr, path: &str, timeout: Duration) -> Result<Response, Error> {
    let bytes = exchange(addr, path, timeout).map_err(|source| Error::Io { addr, source })?;
    parse(&bytes).map_err(|what| Error::Malformed { addr, what })
}

fn exchange(addr: SocketAddr, path: &str, timeout: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&addr, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<Response, &'static str> {
    let end = find(bytes, b"\r\n\r\n").ok_or("no end of the header")?;
    let header = std::str::from_utf8(&bytes[..end]).map_err(|_| "header is not UTF-8")?;
    let body = &bytes[end + 4..];
    let mut lines = header.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).ok_or("no status line")?;
    let status = status.get(..3).and_then(|code| code.parse().ok()).ok_or("no status code")?;
    let mut chunked = false;
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("header line without a colon")?;
        if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>().map_err(|_| "bad content length")?);
        }
    }
    let body = match (chunked, length) {
        (true, _) => join_chunks(body)?,
        (false, Some(length)) => {
            body.get(..length).ok_or("body is shorter than its content length")?.to_vec()
        }
        (false, None) => body.to_vec(),
    };
    Ok(Response { status, body })
}

fn join_chunks(mut rest: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut body = Vec::new();
    loop {
        let end = find(rest, b"\r\n").ok_or("chunk without a size line")?;
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| "chunk size is not text")?;
        let size = line.split(';').next().map(str::trim).ok_or("chunk without a size")?;
        let size = usize::from_str_radix(size, 16).map_err(|_| "bad chunk size")?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(rest.get(..size).ok_or("chunk cut short")?);
        rest = rest.get(size + 2..).ok_or("chunk cut short")?;
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_chunks_and_cuts_at_the_content_length() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().body, b"abc0123456789");
        let sized = b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nabcd";
        let response = parse(sized).unwrap();
        assert_eq!((response.status, response.body.as_slice()), (503, b"ab".as_slice()));
    }

    #[test]
    fn refuses_what_was_cut_short() {
        for bytes in [
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabcd".as_slice(),
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
            b"HTTP/1.1 200 OK\r\n",
            b"",
        ] {
            assert!(parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
