use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use super::*;
use crate::env::real::{RealEnv, run_anywhere};

/// Somebody who answers one question with these bytes; the URL, and what was asked.
fn answering(answer: Vec<u8>) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let answering = thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("somebody asks");
        let (mut asked, mut buffer) = (Vec::new(), [0; 1024]);
        while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = socket.read(&mut buffer).expect("a question");
            asked.extend_from_slice(&buffer[..read]);
        }
        socket.write_all(&answer).expect("whoever asked listens");
        String::from_utf8(asked).expect("text")
    });
    (url, answering)
}

fn asked<T: Send + 'static>(ask: impl AsyncFnOnce(Inquiry<RealEnv>) -> T + Send + 'static) -> T {
    run_anywhere(async move |env| ask(Inquiry::new(&env, Duration::from_secs(20))).await)
        .expect("an executor")
}

#[test]
fn members_are_told_as_go_tells_them() {
    let text = "[{\"id\":1,\"peerURLs\":[\"http://a:1\"],\"name\":\"a\"}]\n";
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: cdf818194e3a8c32\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n",
        text.len()
    );
    let (url, question) = answering(chunked.into_bytes());
    let there = url.clone();
    let told = asked(async move |inquiry| inquiry.members(&there).await).expect("members");
    assert_eq!((told.cluster.0, told.members.len()), (0xcdf8_1819_4e3a_8c32, 1));
    assert!(told.members[0].name == "a" && !told.replicates);
    let question = question.join().expect("it answered");
    let host = url.strip_prefix("http://").expect("a URL");
    assert!(question.starts_with("GET /members HTTP/1.1\r\n"), "{question}");
    assert!(question.contains(&format!("host: {host}\r\n")), "{question}");
}

#[test]
fn a_refusal_comes_with_its_reason() {
    let text = form::FUTURE;
    let length = text.len() + 1;
    let answer = format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {length}\r\n\r\n{text}\n");
    let (url, told) = answering(answer.into_bytes());
    let refused = asked(async move |inquiry| inquiry.hash(&url, ClusterId(7), 9).await).expect_err("refused");
    assert_eq!(refused.hash_refusal(), Some(form::HashRefusal::Future));
    let question = told.join().expect("it answered");
    assert!(question.contains("x-etcd-cluster-id: 7\r\n"), "{question}");
}

#[test]
fn what_is_no_answer_is_none() {
    let too_long = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".iter().copied();
    let too_long = too_long.chain(std::iter::repeat_n(b' ', limits::INQUIRY_BYTES_MAX + 1)).collect();
    let (url, _told) = answering(too_long);
    let error = asked(async move |inquiry| inquiry.versions(&url).await).expect_err("too long");
    assert!(matches!(error, Error::Body(_)), "{error}");

    for nonsense in
        ["", "\0\0\0", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", "HTTP/1.1 200 OK\r\n\r\n1"]
    {
        let (url, told) = answering(nonsense.as_bytes().to_vec());
        asked(async move |inquiry| inquiry.versions(&url).await.map(drop)).expect_err(nonsense);
        told.join().expect("it answered");
    }

    // Nobody is there, and somebody who is silent.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let there = url.clone();
    let error = asked(async move |inquiry| inquiry.within(Duration::from_millis(50)).versions(&there).await);
    assert!(matches!(error, Err(Error::Late(_))), "{error:?}");
    drop(silent);
    let error = asked(async move |inquiry| inquiry.versions(&url).await).expect_err("nobody");
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    for url in ["https://127.0.0.1:1", "unix:///tmp/a", "127.0.0.1"] {
        let error = asked(async move |inquiry| inquiry.versions(url).await).expect_err(url);
        assert!(matches!(error, Error::Url(_)), "{error}");
    }
}
