//! One question and its answer: HTTP/1.1 on a connection of its own, with hyper's state machine on our socket.

use std::{
    future::pending,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_lite::future::or;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    client::conn::http1,
    rt::{Read, ReadBufCursor, Write},
};

use super::Error;
use crate::{
    env::{Env, Socket},
    limits,
    types::url::{Scheme, Url},
};

pub(super) struct Question<'a> {
    pub method: Method,
    pub url: &'a Url,
    pub path: &'a str,
    pub headers: HeaderMap,
    pub body: Bytes,
}

pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Redirections are answers like others.
pub(super) async fn ask<E: Env>(env: &E, question: Question<'_>, bytes_max: usize) -> Result<Answer, Error> {
    let Question { method, url, path, headers, body } = question;
    if url.scheme() != Scheme::Http {
        return Err(Error::Url(format!("{url} needs TLS or a Unix socket, which are not built yet")));
    }
    let connected = env.connect(url.host(), url.port()).await;
    let socket = connected.map_err(|source| Error::Connect { url: url.to_string(), source })?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|error| Error::Url(format!("{path}: {error}")))?;
    *request.headers_mut() = headers;
    let host = HeaderValue::from_str(&host(url)).map_err(|error| Error::Url(format!("{url}: {error}")))?;
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));

    let mut settings = http1::Builder::new();
    let (mut sender, connection) =
        settings.max_buf_size(limits::HTTP1_HEAD_BYTES).handshake(Stream::new(socket)).await?;
    let asking = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, bytes_max).collect().await;
        let body = body.map_err(|_| Error::Body(bytes_max))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    let driving = async {
        // What is wrong with it is told to whoever waits for the answer, who may still have to take what came before.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to another member ended");
        }
        pending().await
    };
    or(asking, driving).await
}

/// As it stands in the URL, without who asks.
fn host(url: &Url) -> String {
    match url.host() {
        ip if ip.contains(':') => format!("[{ip}]:{}", url.port()),
        host => format!("{host}:{}", url.port()),
    }
}

/// A socket as hyper wants it.
struct Stream<S> {
    socket: S,
    buffer: Box<[u8]>,
}

impl<S: Socket> Stream<S> {
    fn new(socket: S) -> Self {
        Self { socket, buffer: vec![0; 4096].into() }
    }
}

impl<S: Socket> Read for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Stream { socket, buffer } = &mut *self;
        let room = buffer.len().min(cursor.remaining());
        let read = ready!(socket.poll_read(context, &mut buffer[..room]))?;
        cursor.put_slice(&buffer[..read]);
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> Write for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is held back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_close(context)
    }
}
