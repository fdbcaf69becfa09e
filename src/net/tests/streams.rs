//! Methods with messages both ways, through the HTTP/2 driver over simulated sockets. No service has one yet: these rows
//! are the test's own.

use std::{cell::Cell, future::poll_fn, rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use h2::{Reason, RecvStream, SendStream, client};
use http::Response;
use prost::Message;

use crate::{
    env::{
        Env,
        sim::{Sim, SimStream},
    },
    limits,
    net::{Listening, NetConfig, serve},
    pb::etcdserverpb::PutRequest,
    protocol::{Offer, Routes},
    service::{Api, Caller, Codec, Error, Method, Options, Requests, Word, tests::member::TestMember},
    types::MemberId,
};

const CLIENT: MemberId = MemberId(0x700);
const PORT: u16 = 2379;
/// Bytes of each message that `Flood` sends.
const FLOOD: usize = 10_000;

fn message(len: usize) -> PutRequest {
    PutRequest { value: vec![b'v'; len].into(), ..Default::default() }
}

/// Answers each message with itself.
fn echo(
    _: &Api,
    _: &Caller,
    requests: Requests<PutRequest>,
) -> Result<impl Stream<Item = Result<PutRequest, Error>> + use<>, Error> {
    Ok(requests)
}

/// Answers three times, once the client has said everything.
fn afterwards(
    _: &Api,
    caller: &Caller,
    mut requests: Requests<PutRequest>,
) -> Result<impl Stream<Item = Result<PutRequest, Error>> + use<>, Error> {
    assert!(caller.connection.peer.is_some_and(|peer| peer.ip().to_string() == "10.0.7.0"));
    let count = async move {
        let mut bytes = 0;
        while let Some(request) = requests.next().await {
            bytes += request?.value.len();
        }
        Ok(message(bytes))
    };
    Ok(stream::once(count).chain(stream::iter([Ok(message(1)), Ok(message(2))])))
}

/// Never listens.
fn deaf(
    _: &Api,
    _: &Caller,
    requests: Requests<PutRequest>,
) -> Result<impl Stream<Item = Result<PutRequest, Error>> + use<>, Error> {
    Ok(stream::pending().chain(requests))
}

/// Never stops.
fn flood(
    _: &Api,
    _: &Caller,
    requests: Requests<PutRequest>,
) -> Result<impl Stream<Item = Result<PutRequest, Error>> + use<>, Error> {
    Ok(stream::repeat_with(|| Ok(message(FLOOD))).chain(requests))
}

/// A member that serves these methods, and its clients' world.
struct Served {
    member: TestMember,
    stop: Word,
    stopped: Rc<Cell<bool>>,
}

impl Served {
    fn start() -> Self {
        let member = TestMember::serving(Options::default());
        let (stop, stopped) = (Word::default(), Rc::new(Cell::new(false)));
        let listening = vec![Listening { listener: member.env.listen(PORT), offer: Offer::CLIENT }];
        let routes = Routes::to(&member.env, member.api.clone(), |codec| {
            let method = |name| Method::read("test.Streams", name).endless();
            vec![
                codec.both(method("Echo"), echo),
                codec.both(method("Afterwards"), afterwards),
                codec.both(method("Deaf"), deaf),
                codec.both(method("Flood"), flood),
            ]
        });
        let (env, begun, over) = (member.env.clone(), stop.given(), stopped.clone());
        member.env.spawn(async move {
            serve(&env, listening, routes, NetConfig::default(), begun).await;
            over.set(true);
        });
        Self { member, stop, stopped }
    }

    /// Runs what a client does with one call.
    fn call<T: 'static>(
        &self,
        method: &'static str,
        client: impl AsyncFnOnce(&Sim, Call) -> T + 'static,
    ) -> T {
        let (sim, to) = (self.member.sim.clone(), self.member.env.address(PORT));
        self.member.run(async move {
            let socket = sim.connect(CLIENT, to).await.expect("the server listens");
            let (sender, connection) = client::Builder::new()
                .initial_window_size(65_535)
                .handshake(SimStream(socket))
                .await
                .expect("speaks HTTP/2");
            sim.spawn(CLIENT, async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "the connection ended");
                }
            });
            let mut sender = sender.ready().await.expect("room for a stream");
            let request = http::Request::post(format!("http://x/test.Streams/{method}"))
                .header("content-type", "application/grpc")
                .body(())
                .expect("a request");
            let (response, requests) = sender.send_request(request, false).expect("sent");
            let call = Call { response: Some(response), answers: None, arrived: BytesMut::new(), requests };
            let output = client(&sim, call).await;
            drop(sender);
            output
        })
    }

    /// The value of a series of the method, 0 if there is none.
    fn counted(&self, series: &str) -> u64 {
        let text =
            crate::service::metrics::text(self.member.api.metrics(), std::slice::from_ref(&self.member.api))
                .expect("a text");
        let text = String::from_utf8(text).expect("a text");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().expect("a count"))
    }

    fn handled(&self, method: &str, code: &str) -> u64 {
        self.counted(&format!(
            "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_method=\"{method}\",\
             grpc_service=\"test.Streams\",grpc_type=\"bidi_stream\"}}"
        ))
    }

    fn messages(&self, direction: &str, method: &str) -> u64 {
        self.counted(&format!(
            "grpc_server_msg_{direction}_total{{grpc_method=\"{method}\",grpc_service=\"test.Streams\",\
             grpc_type=\"bidi_stream\"}}"
        ))
    }
}

/// A client's end of a call.
struct Call {
    response: Option<client::ResponseFuture>,
    answers: Option<RecvStream>,
    arrived: BytesMut,
    requests: SendStream<Bytes>,
}

impl Call {
    fn framed(message: &PutRequest) -> Bytes {
        let mut bytes = vec![0];
        bytes.extend((message.encoded_len() as u32).to_be_bytes());
        message.encode(&mut bytes).expect("room enough");
        bytes.into()
    }

    /// Sends as the server makes room.
    async fn send(&mut self, message: &PutRequest) {
        let mut bytes = Self::framed(message);
        while !bytes.is_empty() {
            self.requests.reserve_capacity(bytes.len());
            let room = match self.requests.capacity() {
                0 => poll_fn(|context| self.requests.poll_capacity(context)).await,
                room => Some(Ok(room)),
            };
            let room = room.expect("the stream is open").expect("nothing goes wrong");
            let piece = bytes.split_to(room.min(bytes.len()));
            self.requests.send_data(piece, false).expect("the stream is open");
        }
    }

    fn no_more(&mut self) {
        self.requests.send_data(Bytes::new(), true).expect("the stream is open");
    }

    /// The next answer, or how the call ended.
    async fn next(&mut self) -> Result<PutRequest, (String, String)> {
        if let Some(response) = self.response.take() {
            let response: Response<RecvStream> = response.await.expect("answered");
            if response.headers().contains_key("grpc-status") {
                return Err(ended(response.headers()));
            }
            self.answers = Some(response.into_body());
        }
        let answers = self.answers.as_mut().expect("has begun");
        loop {
            if let Some((prefix, rest)) = self.arrived.split_first_chunk::<5>() {
                let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
                if rest.len() >= len {
                    let message = self.arrived.split_to(5 + len).split_off(5);
                    return Ok(PutRequest::decode(message).expect("a message"));
                }
            }
            match answers.data().await {
                Some(data) => {
                    let data = data.expect("nothing goes wrong");
                    answers.flow_control().release_capacity(data.len()).expect("as much as came");
                    self.arrived.extend_from_slice(&data);
                }
                None => {
                    let trailers = answers.trailers().await.expect("not cut off").expect("trailers");
                    return Err(ended(&trailers));
                }
            }
        }
    }
}

/// Code and text.
fn ended(headers: &http::HeaderMap) -> (String, String) {
    let text = |name| headers.get(name).map_or("", |value| value.to_str().expect("ascii")).to_owned();
    (text("grpc-status"), text("grpc-message"))
}

fn well() -> (String, String) {
    ("0".to_owned(), String::new())
}

#[test]
fn messages_go_both_ways_at_once() {
    let served = Served::start();
    served.call("Echo", async |_, mut call| {
        // Far more than both windows and the sockets between take at once, so each side must let the other go on.
        for len in (0..200).map(|round| round * 97 % 30_000) {
            call.send(&message(len)).await;
            assert_eq!(call.next().await, Ok(message(len)));
        }
        call.no_more();
        assert_eq!(call.next().await, Err(well()));
    });
    assert_eq!((served.messages("received", "Echo"), served.messages("sent", "Echo")), (200, 200));
    assert_eq!(served.handled("Echo", "OK"), 1);
}

#[test]
fn answers_go_on_when_the_client_has_said_everything() {
    Served::start().call("Afterwards", async |_, mut call| {
        for _ in 0..10 {
            call.send(&message(1_000)).await;
        }
        call.no_more();
        for len in [10_000, 1, 2] {
            assert_eq!(call.next().await, Ok(message(len)));
        }
        assert_eq!(call.next().await, Err(well()));
    });
}

#[test]
fn a_message_that_stops_ends_the_call_and_a_pause_between_two_does_not() {
    let served = Served::start();
    served.call("Echo", async |sim, mut call| {
        for _ in 0..3 {
            call.send(&message(10)).await;
            assert_eq!(call.next().await, Ok(message(10)));
            sim.sleep(Duration::from_secs(60 * 60)).await;
        }
        // Slow, but it goes on.
        for byte in Call::framed(&message(10)) {
            call.requests.send_data(Bytes::from(vec![byte]), false).expect("the stream is open");
            sim.sleep(limits::MESSAGE_WAIT / 2).await;
        }
        assert_eq!(call.next().await, Ok(message(10)));
        let began = sim.now();
        let stopped = Call::framed(&message(10)).slice(..7);
        call.requests.send_data(stopped, false).expect("the stream is open");
        let end = ("4".to_owned(), "grpc: the request has stopped within a message".to_owned());
        assert_eq!(call.next().await, Err(end));
        assert!(sim.now().since(began) <= 2 * limits::MESSAGE_WAIT);
    });
    assert_eq!(served.handled("Echo", "DeadlineExceeded"), 1);
}

#[test]
fn a_handler_that_does_not_listen_holds_its_client_up() {
    let served = Served::start();
    let sent = served.call("Deaf", async |sim, mut call| {
        let sent = Rc::new(Cell::new(0));
        let counted = sent.clone();
        sim.spawn(CLIENT, async move {
            loop {
                call.send(&message(9_994)).await;
                counted.set(counted.get() + 10_002);
            }
        });
        sim.sleep(Duration::from_secs(60)).await;
        sent.get()
    });
    let window = limits::STREAM_WINDOW_BYTES as usize;
    assert!(sent <= window && sent > window - 10_002, "{sent} bytes taken for a handler that takes none");
    assert_eq!(served.messages("received", "Deaf"), 0);
}

#[test]
fn a_client_that_does_not_read_holds_its_handler_up() {
    let served = Served::start();
    let mut call = served.call("Flood", async |sim, mut call| {
        call.next().await.expect("an answer");
        sim.sleep(Duration::from_secs(60)).await;
        call
    });
    // What fits into the client's window, one message that waits for room, and those it has read.
    let held = served.messages("sent", "Flood");
    assert!(held as usize <= 2 * 65_535 / FLOOD + 3, "{held} answers made for a client that reads none");
    let (served, mut read) = (served, 0);
    let call = served.member.run(async move {
        while read < 100 {
            call.next().await.expect("an answer");
            read += 1;
        }
        call
    });
    assert!(served.messages("sent", "Flood") > 100);
    drop(call);
}

#[test]
fn a_cancelled_call_is_dropped_both_ways() {
    for method in ["Echo", "Flood", "Deaf"] {
        let served = Served::start();
        served.call(method, async |sim, mut call| {
            call.send(&message(1)).await;
            sim.sleep(Duration::from_secs(1)).await;
            call.requests.send_reset(Reason::CANCEL);
            sim.sleep(Duration::from_secs(1)).await;
        });
        assert_eq!(served.handled(method, "Canceled"), 1, "{method}");
    }
}

#[test]
fn a_stop_ends_what_would_last_for_ever_at_once() {
    for method in ["Echo", "Flood", "Deaf"] {
        let served = Served::start();
        let stop = served.stop.clone();
        let (end, took) = served.call(method, async move |sim, mut call| {
            call.send(&message(1)).await;
            sim.sleep(Duration::from_secs(1)).await;
            let began = sim.now();
            stop.give();
            let end = loop {
                if let Err(end) = call.next().await {
                    break end;
                }
            };
            (end, sim.now().since(began))
        });
        assert_eq!(end, ("14".to_owned(), "etcdserver: server stopped".to_owned()), "{method}");
        let (sim, stopped) = (&served.member.sim, &served.stopped);
        assert!(sim.run_until(1_000_000, || stopped.get()), "{method}: the server goes on");
        assert!(took < Duration::from_secs(1), "{method}: took {took:?}");
        assert_eq!(served.handled(method, "Unavailable"), 1, "{method}");
    }
}
