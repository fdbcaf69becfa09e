//! Watches of one stream, and one that goes on from where it was when the server is back.

use std::time::Duration;

use etcd_client::{
    Client, Error, Event, EventType, WatchFilterType, WatchOptions, WatchResponse, WatchStream,
};
use tokio::time::timeout;

use crate::{Member, PATIENCE, served};

pub async fn watch(member: Member, mut c: Client) -> Result<(), Error> {
    let first = revision(c.put("watch/a", "1", None).await?.header());
    c.put("watch/a", "2", None).await?;
    let every = WatchOptions::new().with_prefix().with_prev_key();
    let mut stream =
        c.watch("watch/", Some(every.clone().with_start_revision(first).with_watch_id(7))).await?;
    let created = next(&mut stream).await;
    assert!(created.created() && created.watch_id() == 7, "{created:?}");
    let mut seen = events(&mut stream, 2).await;
    // A second watch of the stream, and progress of both.
    stream
        .watch("watch/", Some(WatchOptions::new().with_prefix().with_filters([WatchFilterType::NoPut])))
        .await?;
    let deletes = next(&mut stream).await;
    assert!(deletes.created() && deletes.watch_id() != 7, "{deletes:?}");
    stream.request_progress().await?;
    let progress = next(&mut stream).await;
    assert!(progress.watch_id() == -1 && progress.events().is_empty(), "{progress:?}");
    c.delete("watch/a", None).await?;
    let both = [next(&mut stream).await, next(&mut stream).await];
    let of = |id| both.iter().find(|response| response.watch_id() == id).expect("an answer of each");
    assert_eq!(of(deletes.watch_id()).events()[0].event_type(), EventType::Delete);
    seen.extend(of(7).events().iter().cloned());
    let said = seen.iter().map(said).collect::<Vec<_>>();
    assert_eq!(said, ["Put 1 after none", "Put 2 after 1", "Delete  after 2"]);
    stream.watch("other", Some(WatchOptions::new().with_watch_id(7))).await?;
    let duplicate = next(&mut stream).await;
    assert_eq!(
        (duplicate.canceled(), duplicate.cancel_reason()),
        (true, "mvcc: duplicate watch ID provided on the WatchStream")
    );
    stream.cancel(7).await?;
    let cancelled = next(&mut stream).await;
    assert!(cancelled.canceled() && cancelled.watch_id() == 7, "{cancelled:?}");

    let mut last = modified(seen.last().expect("three events"));
    for order in ["restart", "kill"] {
        let mut open = c.watch("watch/", Some(every.clone().with_start_revision(last + 1))).await?;
        assert!(next(&mut open).await.created());
        member.order(order);
        // The stream ends with the server, one way or another.
        match timeout(PATIENCE, open.message()).await.expect("an end of the stream") {
            Ok(None) | Err(_) => {}
            Ok(Some(more)) => panic!("nothing happened, and yet {more:?}"),
        }
        served(async || c.put("watch/a", order, None).await).await;
        let mut open = c.watch("watch/", Some(every.clone().with_start_revision(last + 1))).await?;
        assert!(next(&mut open).await.created());
        let seen = events(&mut open, 1).await;
        assert_eq!(seen[0].kv().expect("a key").value_str()?, order);
        last = modified(&seen[0]);
    }

    c.compact(last, None).await?;
    let mut old = c.watch("watch/a", Some(WatchOptions::new().with_start_revision(first))).await?;
    assert!(next(&mut old).await.created());
    let compacted = next(&mut old).await;
    assert_eq!((compacted.canceled(), compacted.compact_revision()), (true, last));
    Ok(())
}

pub async fn next(stream: &mut WatchStream) -> WatchResponse {
    let message = timeout(PATIENCE, stream.message()).await;
    message.expect("an answer in time").expect("an answer").expect("the stream goes on")
}

async fn events(stream: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(next(stream).await.events().iter().cloned());
    }
    // Nothing more comes by itself.
    assert!(timeout(Duration::from_millis(50), stream.message()).await.is_err());
    events
}

fn said(event: &Event) -> String {
    let text = |kv: Option<&etcd_client::KeyValue>| kv.map(|kv| kv.value_str().expect("text").to_owned());
    let before = text(event.prev_kv()).unwrap_or("none".to_owned());
    format!("{:?} {} after {before}", event.event_type(), text(event.kv()).expect("a key"))
}

fn modified(event: &Event) -> i64 {
    event.kv().expect("a key").mod_revision()
}

fn revision(header: Option<&etcd_client::ResponseHeader>) -> i64 {
    header.expect("a header").revision()
}
