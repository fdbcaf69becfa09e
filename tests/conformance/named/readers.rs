//! Watches whose clients do not read, leave in the middle, or have much else to do on the same connection.

use std::{collections::BTreeMap, time::Duration};

use bench_harness::pb::{
    etcdserverpb::{self as pb, watch_client::WatchClient, watch_request::RequestUnion},
    mvccpb::{Event, event::EventType},
};
use futures_util::{StreamExt, future::join_all, stream};
use http::Request;
use tokio::{net::TcpStream, time::timeout};
use tonic::transport::Endpoint;

use super::{ANN, Both, ROOT, put, watch};
use crate::conformance::{
    call::{Answer, Call, shown},
    pair::{NOBODY, Peer},
    watches::Stream,
};

/// For a server to say something.
const PATIENCE: Duration = Duration::from_secs(60);
const SMALL_WINDOW: u32 = 65_535;
const VALUE_BYTES: usize = 64 * 1024;
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A watch of what begins with `k`, with what was before; it reads when it is told to.
struct Sleeper(tonic::Streaming<pb::WatchResponse>);

impl Sleeper {
    async fn create(peer: &Peer) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(peer.server.endpoint()).map_err(|error| error.to_string())?;
        let endpoint =
            endpoint.initial_stream_window_size(SMALL_WINDOW).initial_connection_window_size(SMALL_WINDOW);
        let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
        let create = RequestUnion::CreateRequest(watch("k", "l", 0));
        let request = pb::WatchRequest { request_union: Some(create) };
        let requests = stream::iter([request]).chain(stream::pending());
        let mut client = WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let answers = client.watch(requests).await.map_err(|status| status.to_string())?;
        let mut this = Self(answers.into_inner());
        let created = this.next().await?;
        if created.created && !created.canceled { Ok(this) } else { Err(shown(&created)) }
    }

    async fn next(&mut self) -> Result<pb::WatchResponse, String> {
        let answer = timeout(PATIENCE, self.0.message()).await.map_err(|_| "nothing comes".to_owned())?;
        answer.map_err(|status| status.to_string())?.ok_or_else(|| "the stream ended".to_owned())
    }

    /// All events up to that revision; or up to where it is told that there are no more, and the revision it was told.
    async fn read(&mut self, last: i64) -> Result<(Vec<Event>, Option<i64>), String> {
        let mut events: Vec<Event> = Vec::new();
        while events.last().is_none_or(|event| revision(event) < last) {
            let answer = self.next().await?;
            events.extend(answer.events);
            if answer.canceled {
                return Ok((events, Some(answer.compact_revision)));
            }
        }
        Ok((events, None))
    }
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// etcd#17529: what did not fit into a watch's channel when history was compacted was left out, and nobody said so.
/// etcd#10681, kubernetes#76624: a client that had not read for a while was told of deletions without what was deleted.
pub async fn who_does_not_read_misses_nothing_without_being_told(both: &mut Both) -> Result<(), String> {
    let mut sleepers = Vec::new();
    for peer in both.pair.both() {
        sleepers.push(Sleeper::create(peer).await?);
    }
    // Of each revision, the one that its key was written at before.
    let (mut before, mut newest) = (BTreeMap::new(), BTreeMap::new());
    let value = "v".repeat(VALUE_BYTES);
    let mut last = 0;
    for round in 0..800 {
        let key = ["k0", "k1", "k2", "k3", "k4"][round % 5];
        let is_delete = round % 7 == 6;
        last = if is_delete { both.delete(key).await } else { both.put(key, &value).await };
        let earlier = if is_delete { newest.remove(key) } else { newest.insert(key, last) };
        if let Some(earlier) = earlier {
            before.insert(last, earlier);
        }
    }
    both.compact(last).await;
    let (first, compacted_to) = (last - 799, last);
    let last = both.put("k-last", "").await;
    for (sleeper, name) in sleepers.iter_mut().zip(["upstream", "tested"]) {
        let (events, compacted) = sleeper.read(last).await.map_err(|why| format!("{name}: {why}"))?;
        let seen: Vec<i64> = events.iter().map(revision).collect();
        let until = first + events.len() as i64;
        if seen != (first..until).collect::<Vec<_>>() {
            return Err(format!("{name}: from {first} on, this came: {seen:?}"));
        }
        match compacted {
            None if until == last + 1 => {}
            Some(compacted) if until <= compacted => {}
            end => return Err(format!("{name}: it ended before {until} of {last}, and was told {end:?}")),
        }
        for event in &events {
            let prior = event.prev_kv.as_ref().map(|kv| kv.mod_revision);
            let wanted = before.get(&revision(event)).copied();
            // Upstream leaves out what was compacted before it sends the event.
            let may_be_missing = name == "upstream" || revision(event) == compacted_to;
            if prior != wanted && !(may_be_missing && prior.is_none()) {
                return Err(format!("{name}: at {}: {prior:?} instead of {wanted:?}", revision(event)));
            }
        }
    }
    Ok(())
}

/// etcd#15402: beside large answers on the same connection watches were not told anything.
pub async fn a_watch_is_told_beside_answers_without_an_end(both: &mut Both) -> Result<(), String> {
    let value = "v".repeat(4 * 1024);
    for key in ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"] {
        both.put(key, &value.repeat(16)).await;
    }
    let mut stream = Stream::open(&both.pair, NOBODY);
    stream.create(watch("told", "", 0), 0).await?;
    let both = &*both;
    let all = pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let ranges = async {
        loop {
            let range = Call::Range(all.clone());
            join_all((0..8).map(|_| both.pair.answers(NOBODY, &range))).await;
        }
    };
    let told = async {
        for round in 0..50 {
            let revision = both.put("told", &round.to_string()).await;
            stream.settled(revision).await?;
        }
        Ok(())
    };
    tokio::select! {
        result = told => result,
        () = ranges => unreachable!("they have no end"),
    }
}

/// etcd#12385: a watch that was created with a token whose time was over was told `permission denied`.
pub async fn a_watch_with_a_token_that_ended_is_refused_as_such(both: &mut Both) -> Result<(), String> {
    both.with_auth().await;
    let mut stream = Stream::open(&both.pair, ANN);
    stream.create(watch("own/", "own0", 0), 0).await?;
    let change = pb::AuthUserChangePasswordRequest {
        name: "ann".to_owned(),
        password: "secret".to_owned(),
        ..Default::default()
    };
    both.call(ROOT, Call::UserChangePassword(change)).await;
    // It is created and cancelled in one; that both say why in the same words is looked at when all has come.
    stream.create(watch("own/a", "", 0), 0).await?;
    let first = both.revision_of(ROOT, put("own/a")).await;
    stream.settled(first).await?;
    if stream.events() != [(EventType::Put as i32, first)] {
        return Err(format!("the watch that was there: {:?}", stream.events()));
    }
    let reasons = stream.reasons();
    if !reasons.iter().any(|reason| reason.contains("etcdserver: invalid auth token")) {
        return Err(format!("{reasons:?}"));
    }
    both.log_in().await;
    let mut stream = Stream::open(&both.pair, ANN);
    stream.create(watch("own/a", "", first), 0).await?;
    stream.settled(first).await?;
    let seen = stream.events();
    if seen == [(EventType::Put as i32, first)] { Ok(()) } else { Err(format!("{seen:?}")) }
}

/// etcd#19509: a client that was killed in the middle of a watch took the server with it.
pub async fn who_is_killed_in_the_middle_of_a_watch_goes_alone(both: &mut Both) -> Result<(), String> {
    for round in 0..20 {
        for peer in both.pair.both() {
            let address = peer.server.addr();
            let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            // What is under way is not waited for: the server is told that the connection is no more.
            stream.set_zero_linger().map_err(|error| error.to_string())?;
            let (client, connection) =
                h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
            let driver = tokio::spawn(connection);
            let request = Request::post(format!("http://{address}/etcdserverpb.Watch/Watch"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .expect("a valid request");
            let mut client = client.ready().await.map_err(|error| error.to_string())?;
            let (answer, mut sending) =
                client.send_request(request, false).map_err(|error| error.to_string())?;
            // Watches everything there is.
            let create = b"\0\0\0\0\x08\x0a\x06\x0a\x01\0\x12\x01\0";
            sending.send_data(create.as_slice().into(), false).map_err(|error| error.to_string())?;
            answer.await.map_err(|error| error.to_string())?;
            driver.abort();
        }
        both.put("k", &round.to_string()).await;
    }
    Ok(())
}

/// etcd#11826, etcd#14692: passwords that were compared took all processors, and everybody waited.
pub async fn others_are_served_while_passwords_are_tried_without_an_end(
    both: &mut Both,
) -> Result<(), String> {
    both.with_auth().await;
    let both = &*both;
    let tries = async {
        loop {
            let (name, password) = ("ann".to_owned(), "wrong".to_owned());
            let login = Call::Authenticate(pb::AuthenticateRequest { name, password });
            join_all((0..32).map(|_| both.pair.answers(NOBODY, &login))).await;
        }
    };
    let puts = async {
        for _ in 0..200 {
            match both.call(ANN, put("own/a")).await {
                Answer::Put(_) => {}
                answer => return Err(shown(&answer)),
            }
        }
        Ok(())
    };
    tokio::select! {
        result = puts => result,
        () = tries => unreachable!("they have no end"),
    }
}
