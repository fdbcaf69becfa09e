//! HTTP/1.1 as the tests need it: one request after another on a connection, answers with a length or in chunks.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub body: Option<String>,
    /// What the body is.
    pub media: &'static str,
}

const FORM: &str = "application/x-www-form-urlencoded";

impl Request {
    /// `METHOD TARGET [FORM]`.
    pub fn parse(text: &str) -> Self {
        let mut words = text.splitn(3, ' ').map(str::to_owned);
        let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
        Self { method, target, body: words.next(), media: FORM }
    }
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, request: &Request) {
        let Request { method, target, body, media } = request;
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(body) = body {
            text += &format!("Content-Type: {media}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        } else {
            text += "\r\n";
        }
        self.stream.get_mut().write_all(text.as_bytes()).expect("sent");
    }

    pub fn receive(&mut self, is_head: bool) -> Response {
        let mut response = self.head();
        let chunked = response.headers.get("transfer-encoding").is_some_and(|how| how == "chunked");
        let length =
            response.headers.get("content-length").map_or(0, |length| length.parse().expect("a number"));
        response.body = match (is_head, chunked) {
            (true, _) => Vec::new(),
            (false, true) => {
                let mut body = Vec::new();
                while let Some(chunk) = self.chunk() {
                    body.extend(chunk);
                }
                body
            }
            (false, false) => self.exactly(length),
        };
        response
    }

    pub fn head(&mut self) -> Response {
        let status = self.line();
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = code.unwrap_or_else(|| panic!("not a status line: {status:?}"));
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return Response { status, headers, body: Vec::new() };
            }
            let (name, value) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }

    /// The next chunk, none after the last.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = self.line();
        let length =
            usize::from_str_radix(&length, 16).unwrap_or_else(|_| panic!("not a length: {length:?}"));
        let chunk = self.exactly(length);
        assert_eq!(self.line(), "");
        (length > 0).then_some(chunk)
    }

    fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("as long as it says");
        bytes
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        assert!(line.ends_with("\r\n"), "the connection ended in {line:?}");
        line.truncate(line.len() - 2);
        line
    }
}
