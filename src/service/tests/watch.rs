//! Streams of watches, as their handler answers them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    rc::Rc,
    task::Waker,
    time::Duration,
};

use futures_lite::future::poll_once;
use futures_util::{Stream, StreamExt, stream};
use pb::{WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion};
use prost::Message;

use super::{super::watch::watch, *};
use crate::pb::mvccpb::event::EventType;

/// What the client has said and was not heard yet; over once it is said so.
#[derive(Default)]
struct Line {
    said: VecDeque<WatchRequest>,
    is_over: bool,
    waker: Option<Waker>,
}

/// A client's end of a stream.
struct Client {
    line: Rc<RefCell<Line>>,
    answers: Pin<Box<dyn Stream<Item = Result<Outgoing<WatchResponse>, Error>>>>,
}

impl Client {
    fn new(api: &Api, caller: &Caller) -> Self {
        let line = Rc::new(RefCell::new(Line::default()));
        let heard = line.clone();
        let requests = stream::poll_fn(move |context| {
            let mut line = heard.borrow_mut();
            match line.said.pop_front() {
                Some(request) => std::task::Poll::Ready(Some(Ok(request))),
                None if line.is_over => std::task::Poll::Ready(None),
                None => {
                    line.waker = Some(context.waker().clone());
                    std::task::Poll::Pending
                }
            }
        });
        let answers = watch(api, caller, Requests::new(requests)).expect("a stream");
        Self { line, answers: Box::pin(answers) }
    }

    fn say(&self, request: RequestUnion) {
        self.say_or_nothing(Some(request));
    }

    fn say_or_nothing(&self, request_union: Option<RequestUnion>) {
        let mut line = self.line.borrow_mut();
        line.said.push_back(WatchRequest { request_union });
        line.waker.take().into_iter().for_each(Waker::wake);
    }

    fn create(&self, request: WatchCreateRequest) {
        self.say(RequestUnion::CreateRequest(request));
    }

    fn cancel(&self, watch_id: i64) {
        self.say(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
    }

    fn progress(&self) {
        self.say(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    }

    async fn next(&mut self) -> WatchResponse {
        self.attempt().await.expect("an answer")
    }

    async fn attempt(&mut self) -> Result<WatchResponse, Error> {
        let (head, mut rest, bytes) = match self.answers.next().await.expect("it goes on")? {
            Outgoing::Message(head, events) => (head, events.concat(), None),
            Outgoing::Begin(head, bytes) => (head, Vec::new(), Some(bytes)),
            Outgoing::Piece(_) => panic!("nothing has begun"),
        };
        while bytes.is_some_and(|bytes| rest.len() < bytes) {
            match self.answers.next().await.expect("it goes on")? {
                Outgoing::Piece(pieces) => pieces.iter().for_each(|piece| rest.extend_from_slice(piece)),
                other => panic!("something between: {other:?}"),
            }
        }
        assert!(bytes.is_none_or(|bytes| rest.len() == bytes));
        let mut message = head.encode_to_vec();
        message.extend(rest);
        Ok(WatchResponse::decode(&message[..]).expect("a message"))
    }

    async fn is_silent(&mut self) -> bool {
        poll_once(self.answers.next()).await.is_none()
    }
}

fn of(key: &str) -> WatchCreateRequest {
    WatchCreateRequest { key: key.to_owned().into(), ..Default::default() }
}

fn prefix(key: &str, end: &str) -> WatchCreateRequest {
    WatchCreateRequest { range_end: end.to_owned().into(), ..of(key) }
}

fn shown(response: &WatchResponse) -> Vec<(EventType, String, i64)> {
    let event = |event: &crate::pb::mvccpb::Event| {
        let kv = event.kv.as_ref().expect("it is about a key");
        (event.r#type(), String::from_utf8(kv.key.to_vec()).expect("text"), kv.mod_revision)
    };
    response.events.iter().map(event).collect()
}

async fn write(api: &Api, caller: &Caller, key: &str) {
    put(api, caller, a_put(key, 3)).await.expect("put");
}

async fn remove(api: &Api, caller: &Caller, key: &str, end: &str) {
    let request = pb::DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        prev_kv: false,
    };
    delete_range(api, caller, request).await.expect("deleted");
}

#[test]
fn a_watch_is_created_told_of_and_cancelled() {
    serving(Options::default(), async |api, caller| {
        let mut client = Client::new(api, &caller);
        client.create(of("a"));
        let created = WatchResponse { header: header(api, 1), created: true, ..Default::default() };
        assert_eq!(client.next().await, created);
        write(api, &caller, "a").await;
        write(api, &caller, "b").await;
        remove(api, &caller, "a", "").await;
        let told = client.next().await;
        assert_eq!((told.header, shown(&told)), (header(api, 2), vec![(EventType::Put, "a".into(), 2)]));
        let kv = told.events[0].kv.clone().expect("it is about a key");
        assert_eq!(
            (kv.value, kv.version, kv.create_revision, told.events[0].prev_kv.clone()),
            ("vvv".into(), 1, 2, None)
        );
        let told = client.next().await;
        assert_eq!((told.header, shown(&told)), (header(api, 4), vec![(EventType::Delete, "a".into(), 4)]));
        let kv = told.events[0].kv.clone().expect("it is about a key");
        assert_eq!((kv.version, kv.create_revision), (0, 0), "key and revision and nothing else");
        client.cancel(7);
        client.cancel(0);
        let canceled = WatchResponse { header: header(api, 4), canceled: true, ..Default::default() };
        assert_eq!(client.next().await, canceled);
        write(api, &caller, "a").await;
        assert!(client.is_silent().await);
    });
}

/// Texts and ids of upstream 3.7.1.
#[test]
fn what_cannot_be_watched_is_created_and_cancelled_in_one() {
    serving(Options::default(), async |api, caller| {
        let mut client = Client::new(api, &caller);
        for (request, reason) in [
            (
                WatchCreateRequest { start_revision: -1, ..of("a") },
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (
                WatchCreateRequest { start_revision: -1, ..prefix("b", "a") },
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (prefix("b", "a"), "mvcc: watcher range is empty"),
            (prefix("a", "a"), "mvcc: watcher range is empty"),
        ] {
            client.create(request);
            let answer = client.next().await;
            assert_eq!((answer.watch_id, answer.created, answer.canceled), (-1, true, true));
            assert_eq!((answer.cancel_reason.as_str(), answer.compact_revision), (reason, 0));
            assert_eq!(answer.header, header(api, 1));
        }
        client.create(WatchCreateRequest { watch_id: 5, ..of("a") });
        assert_eq!(client.next().await.watch_id, 5);
        client.create(WatchCreateRequest { watch_id: 5, ..of("b") });
        let answer = client.next().await;
        assert_eq!(answer.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
        client.say(RequestUnion::CreateRequest(of("")));
        assert_eq!(client.next().await.watch_id, 0, "an empty key is the smallest one");
    });
}

#[test]
fn watches_go_on_when_the_client_has_said_everything() {
    serving(Options::default(), async |api, caller| {
        let mut client = Client::new(api, &caller);
        client.create(prefix("a", "b"));
        client.line.borrow_mut().is_over = true;
        assert!(client.next().await.created);
        write(api, &caller, "a1").await;
        assert_eq!(shown(&client.next().await), [(EventType::Put, "a1".into(), 2)]);
        assert!(client.is_silent().await);
    });
}

#[test]
fn events_are_chosen_by_filters_and_carry_what_was_before() {
    use pb::watch_create_request::FilterType::{Nodelete, Noput};
    serving(Options::default(), async |api, caller| {
        let mut client = Client::new(api, &caller);
        let filtered =
            |filters: &[i32]| WatchCreateRequest { filters: filters.to_vec(), prev_kv: true, ..of("a") };
        for filters in [&[Noput as i32][..], &[Nodelete as i32, 17], &[Noput as i32, Nodelete as i32]] {
            client.create(filtered(filters));
            assert!(client.next().await.created);
        }
        write(api, &caller, "a").await;
        write(api, &caller, "a").await;
        remove(api, &caller, "a", "").await;
        write(api, &caller, "a").await;
        let mut told = BTreeMap::<i64, Vec<_>>::new();
        for _ in 0..4 {
            let answer = client.next().await;
            let before = answer.events[0].prev_kv.as_ref().map(|kv| kv.mod_revision);
            told.entry(answer.watch_id).or_default().push((shown(&answer)[0].2, before));
        }
        assert_eq!(told[&0], [(4, Some(3))]);
        assert_eq!(told[&1], [(2, None), (3, Some(2)), (5, None)]);
        assert!(client.is_silent().await);
    });
}

#[test]
fn a_start_in_the_past_is_caught_up_and_one_before_the_compaction_is_told_so() {
    serving(Options::default(), async |api, caller| {
        for _ in 0..300 {
            write(api, &caller, "a").await;
        }
        let compaction = pb::CompactionRequest { revision: 100, physical: true };
        compact(api, &caller, compaction).await.expect("compacted");
        let mut client = Client::new(api, &caller);
        client.create(WatchCreateRequest { start_revision: 99, ..of("a") });
        assert!(client.next().await.created);
        let answer = client.next().await;
        let ended = WatchResponse {
            header: header(api, 0),
            canceled: true,
            compact_revision: 100,
            ..Default::default()
        };
        assert_eq!(answer, ended);
        client.create(WatchCreateRequest { start_revision: 100, prev_kv: true, ..of("a") });
        assert_eq!(client.next().await.watch_id, 1, "the name of the one before is taken");
        let mut revisions = Vec::new();
        while revisions.len() < 202 {
            let answer = client.next().await;
            assert_eq!(answer.header, header(api, 301), "the current one while it catches up");
            for event in &answer.events {
                let (kv, before) = (event.kv.as_ref().expect("a pair"), event.prev_kv.as_ref());
                assert_eq!(
                    before.map(|kv| kv.mod_revision),
                    Some(kv.mod_revision - 1).filter(|at| *at >= 100)
                );
                revisions.push(kv.mod_revision);
            }
        }
        assert_eq!(revisions, (100..=301).collect::<Vec<_>>());
        client.cancel(0);
        assert!(client.next().await.canceled, "answered once more");
    });
}

#[test]
fn progress_comes_after_everything_it_speaks_of() {
    serving(Options::default(), async |api, caller| {
        let mut client = Client::new(api, &caller);
        client.progress();
        assert!(client.is_silent().await, "there is nothing to tell the progress of");
        client.create(prefix("a", "b"));
        client.create(of("x"));
        client.next().await;
        client.next().await;
        let mut last = 1;
        for round in 0..50 {
            write(api, &caller, "a").await;
            client.progress();
            let mut answer = client.next().await;
            if !answer.events.is_empty() {
                last = shown(&answer)[0].2;
                answer = client.next().await;
            }
            assert_eq!((answer.watch_id, answer.events.len()), (-1, 0));
            assert_eq!((answer.header, last), (header(api, round + 2), round + 2));
        }
    });
}

#[test]
fn requests_that_nothing_answers_are_taken_some_at_a_time() {
    serving(Options::default(), async |api, caller| {
        let mut client = Client::new(api, &caller);
        client.create(WatchCreateRequest { start_revision: 1_000, ..of("a") });
        client.next().await;
        let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        let cancel = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 7 });
        let waiting = |client: &Client| client.line.borrow().said.len();
        for request in [Some(progress), Some(cancel), None] {
            for _ in 0..200 {
                client.say_or_nothing(request.clone());
            }
            for left in [136, 72, 8, 0] {
                assert!(client.is_silent().await);
                assert_eq!(waiting(&client), left, "{request:?}");
            }
            // It goes on by itself.
            for _ in 0..200 {
                client.say_or_nothing(request.clone());
            }
            client.create(of("b"));
            assert!(client.next().await.created);
            assert_eq!(waiting(&client), 0);
        }
    });
}

#[test]
fn a_watch_that_asks_for_it_hears_from_time_to_time_that_it_missed_nothing() {
    let interval = Duration::from_secs(10);
    let options = Options { watch_progress_interval: interval, ..Options::default() };
    serving(options, async move |api, caller| {
        let mut client = Client::new(api, &caller);
        client.create(WatchCreateRequest { progress_notify: true, ..of("a") });
        client.create(of("a"));
        client.next().await;
        client.next().await;
        write(api, &caller, "b").await;
        let answer = client.next().await;
        assert_eq!((answer.watch_id, answer.header, answer.events.len()), (0, header(api, 2), 0));
        write(api, &caller, "a").await;
        for _ in 0..2 {
            assert_eq!(shown(&client.next().await).len(), 1);
        }
        let before = api.shard().sleep(interval + interval / 4);
        assert!(
            futures_lite::future::or(
                async {
                    client.next().await;
                    false
                },
                async {
                    before.await;
                    true
                }
            )
            .await,
            "the next notice is passed over after an event"
        );
        let answer = client.next().await;
        assert_eq!((answer.watch_id, answer.header, answer.events.len()), (0, header(api, 3), 0));
    });
}

#[test]
fn a_long_revision_is_one_message_or_fragments_of_it() {
    const KEYS: usize = 2_000;
    let options = Options { max_request_bytes: 100_000, ..Options::default() };
    serving(options, async |api, caller| {
        for key in 0..KEYS {
            put(api, &caller, a_put(&format!("a{key:05}"), 1_000)).await.expect("put");
        }
        let mut client = Client::new(api, &caller);
        client.create(WatchCreateRequest { prev_kv: true, ..prefix("a", "b") });
        client.create(WatchCreateRequest { prev_kv: true, fragment: true, ..prefix("a", "b") });
        client.next().await;
        client.next().await;
        remove(api, &caller, "a", "b").await;
        let mut answers = Vec::new();
        while answers.len() < 2 || answers.last().is_some_and(|answer: &WatchResponse| answer.fragment) {
            answers.push(client.next().await);
        }
        let whole = answers.iter().position(|answer| answer.watch_id == 0).expect("told");
        let whole = answers.remove(whole);
        assert!(!whole.fragment && whole.events.len() == KEYS);
        assert!(
            answers.len() > 2 && answers.iter().all(|answer| answer.watch_id == 1),
            "one after the other"
        );
        let parts: Vec<_> = answers.into_iter().flat_map(|answer| answer.events).collect();
        assert_eq!(parts, whole.events);
    });
}

#[test]
fn who_watches_more_than_there_is_room_for_is_refused() {
    let clients = crate::client::Bounds { total: 1_000_000, each: 200_000 };
    let options = Options { clients, ..Options::default() };
    let (member, ()) = serving(options, async |api, _| {
        let of_client = || {
            let connection = Connection { client: api.clients().client(), ..Connection::default() };
            Caller { connection: Rc::new(connection), ..caller() }
        };
        let (one, other) = (of_client(), of_client());
        let mut small = Client::new(api, &other);
        small.create(of("a"));
        small.next().await;
        let mut large = Client::new(api, &one);
        let mut second = Client::new(api, &one);
        second.create(of("b"));
        second.next().await;
        let mut created = 0;
        let error = loop {
            large.create(of("a"));
            match large.attempt().await {
                Ok(_) => created += 1,
                Err(error) => break error,
            }
            if created > 10_000 {
                panic!("there is no bound");
            }
        };
        assert_eq!(error, Error::TooManyRequests);
        drop(large);
        write(api, &other, "a").await;
        assert_eq!(shown(&small.next().await).len(), 1, "others go on");
    });
    drop(member);
}

#[test]
fn what_is_watched_is_counted() {
    let (member, ()) = serving(Options::default(), async |api, caller| {
        let mut client = Client::new(api, &caller);
        for key in ["a", "b"] {
            client.create(of(key));
            client.next().await;
        }
        write(api, &caller, "a").await;
        client.next().await;
        let text = super::super::metrics::text(api.metrics(), std::slice::from_ref(api)).expect("a text");
        let text = String::from_utf8(text).expect("a text");
        for line in [
            "watch_stream_total 1",
            "watcher_total 2",
            "slow_watcher_total 0",
            "events_total 1",
            "pending_events_total 0",
        ] {
            assert!(text.contains(&format!("\netcd_debugging_mvcc_{line}\n")), "{line}");
        }
        drop(client);
    });
    assert_eq!((member.shard.watch_counts(), member.shard.metrics().watch_streams.get()), ((0, 0, 0), 0));
}

#[test]
fn whoever_waits_for_a_key_to_go_hears_of_it() {
    serving(Options::default(), async |api, caller| {
        write(api, &caller, "a").await;
        let revision = api.shard().revision();
        let shard = api.shard_of(&caller);
        let mut gone = Box::pin(shard.until_deleted(b"a", revision));
        assert!(poll_once(&mut gone).await.is_none());
        write(api, &caller, "a").await;
        assert!(poll_once(&mut gone).await.is_none());
        remove(api, &caller, "a", "").await;
        assert_eq!(gone.await, Ok(()));
        assert_eq!(shard.until_deleted(b"a", revision).await, Ok(()), "it is gone already");
    });
}

/// Reasons of upstream 3.7.1.
#[test]
fn who_may_not_read_keys_may_not_watch_them() {
    use super::super::auth::{enable, role_add, role_grant_permission, user_add, user_grant_role};
    use crate::pb::authpb;
    serving(Options::default(), async |api, caller| {
        let perm = authpb::Permission { perm_type: 0, key: "a".into(), range_end: "c".into() };
        let name = || "reader".to_owned();
        role_add(api, &caller, pb::AuthRoleAddRequest { name: name() }).await.expect("added");
        let grant = pb::AuthRoleGrantPermissionRequest { name: name(), perm: Some(perm) };
        role_grant_permission(api, &caller, grant).await.expect("granted");
        for user in ["reader", "root"] {
            let options = Some(authpb::UserAddOptions { no_password: true });
            let add = pb::AuthUserAddRequest { name: user.to_owned(), options, ..Default::default() };
            user_add(api, &caller, add).await.expect("added");
            let grant = pb::AuthUserGrantRoleRequest { user: user.to_owned(), role: user.to_owned() };
            user_grant_role(api, &caller, grant).await.expect("granted");
        }
        enable(api, &caller, pb::AuthEnableRequest {}).await.expect("enabled");
        let user = |name: &str| {
            let connection = Connection { certificate: Some(name.into()), ..Connection::default() };
            Caller { connection: Rc::new(connection), ..super::member::caller() }
        };
        let mut client = Client::new(api, &user("reader"));
        let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        for (request, reason) in [
            (of("a"), ""),
            (prefix("a", "c"), ""),
            (prefix("a", "d"), denied),
            (prefix("a", "\0"), denied),
            (of(""), denied),
            (WatchCreateRequest { watch_id: 1, ..of("x") }, denied),
            (
                WatchCreateRequest { start_revision: -1, ..of("x") },
                "etcdserver: mvcc: required revision has been compacted",
            ),
        ] {
            client.create(request);
            let answer = client.next().await;
            assert_eq!((answer.created, answer.canceled), (true, !reason.is_empty()));
            assert_eq!((answer.cancel_reason.as_str(), answer.watch_id < 0), (reason, !reason.is_empty()));
        }
        let mut nobody = Client::new(api, &caller);
        nobody.create(of("a"));
        let reason = nobody.next().await.cancel_reason;
        assert_eq!(reason, "rpc error: code = InvalidArgument desc = etcdserver: user name is empty");
        write(api, &user("root"), "b").await;
        assert_eq!(shown(&client.next().await).len(), 1, "the stream goes on");
    });
}
