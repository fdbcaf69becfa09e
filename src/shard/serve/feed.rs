//! Watches as whoever owns a stream of them sees it: what there is to tell, in order, once there is something.
//!
//! A feed is polled by its owner's task. What is live comes from the shard's hub; what is behind is read from history here,
//! in slices that take turns with other long reads of the core, and only once what was read before was taken. A feed that
//! is not polled costs nothing.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use super::handle::Shard;
use crate::{
    client::{Claim, Revoked},
    limits,
    shard::{
        Error,
        watch::{Duplicate, Keys, Taste, Told, Wanted, Watches},
    },
    types::Revision,
};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// A stream of watches. Dropping it ends them.
pub struct Feed {
    shard: Shard,
    watches: Rc<RefCell<Watches>>,
    /// What they take is the client's.
    claim: Option<Claim>,
    /// A slice of reading from history that waits for its turn.
    slice: Option<Task>,
    /// Of a message that has begun: bytes that have not been handed out, or that fragments follow.
    to_come: usize,
    more: bool,
}

impl Shard {
    /// A stream without watches.
    pub fn feed(&self) -> Feed {
        let watches = Watches::new(&mut self.hub.borrow_mut());
        self.metrics.watch_streams.inc();
        Feed {
            shard: self.clone(),
            watches: Rc::new(RefCell::new(watches)),
            claim: self.client().map(|client| client.claim()),
            slice: None,
            to_come: 0,
            more: false,
        }
    }

    /// Returns once the key was deleted after this revision. It has to exist there.
    pub async fn until_deleted(&self, key: &[u8], after: Revision) -> Result<(), Error> {
        let mut feed = self.feed();
        let keys = Keys::One(key.into());
        let taste = Taste { puts: false, deletes: true, prior: false };
        let (start, notify, fragment) = (after.0 + 1, false, false);
        let wanted = Wanted { id: 0, keys, taste, start, notify, fragment };
        feed.create(wanted)?.expect("it is the first of its stream");
        // That it is over because of a compaction says no more than that it has to be looked at again.
        feed.next().await.map(drop)
    }
}

impl Feed {
    /// Adds a watch; its name.
    pub fn create(&mut self, wanted: Wanted) -> Result<Result<i64, Duplicate>, Error> {
        let mut watches = self.watches.borrow_mut();
        let created =
            watches.create(&mut self.shard.hub.borrow_mut(), self.shard.state.borrow().history(), wanted);
        let bytes = watches.bytes();
        drop(watches);
        self.claim(bytes)?;
        Ok(created)
    }

    /// False if there is none of that name.
    pub fn cancel(&mut self, id: i64) -> Result<bool, Error> {
        let mut watches = self.watches.borrow_mut();
        let canceled = watches.cancel(&mut self.shard.hub.borrow_mut(), id);
        let bytes = watches.bytes();
        drop(watches);
        self.claim(bytes)?;
        Ok(canceled)
    }

    fn claim(&mut self, bytes: usize) -> Result<(), Error> {
        let Some(claim) = &mut self.claim else { return Ok(()) };
        claim.set(bytes).map_err(|Revoked| Error::TooManyRequests)
    }

    /// As soon as all watches are told everything there is now, that is said.
    pub fn ask_for_progress(&mut self) {
        let current = self.shard.revision().0;
        self.watches.borrow_mut().ask_for_progress(current);
    }

    /// It is time for notices.
    pub fn notify(&mut self) {
        self.watches.borrow_mut().notify(&self.shard.hub.borrow());
    }

    /// Whether a message has begun and not ended: nothing else may be said meanwhile.
    pub fn is_in_message(&self) -> bool {
        self.to_come > 0 || self.more
    }

    /// The next there is to tell.
    pub async fn next(&mut self) -> Result<Told, Error> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// An error ends the stream.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Told, Error>> {
        if let Some(claim) = &self.claim
            && let Poll::Ready(Revoked) = claim.poll_revoked(context)
        {
            return Poll::Ready(Err(Error::TooManyRequests));
        }
        loop {
            let told = self.watches.borrow_mut().next(&mut self.shard.hub.borrow_mut());
            if let Some(told) = told {
                self.keep_count(&told);
                return Poll::Ready(Ok(told));
            }
            if !self.watches.borrow().is_catching_up() {
                self.slice = None;
                let stream = self.watches.borrow().stream();
                self.shard.hub.borrow_mut().wait(stream, context);
                return Poll::Pending;
            }
            if self.slice.is_none() && self.walk_at_once() {
                continue;
            }
            ready!(self.poll_slice(context));
        }
    }

    /// Where little is missing, that is read right away.
    fn walk_at_once(&mut self) -> bool {
        let state = self.shard.state.borrow();
        let mut watches = self.watches.borrow_mut();
        let steps = limits::WATCH_AT_ONCE_VERSIONS;
        if watches.distance(state.history()) > steps as i64 {
            return false;
        }
        watches.walk(&mut self.shard.hub.borrow_mut(), state.history(), steps)
    }

    /// Live events must not wait for the slice's turn; the slice keeps its place meanwhile.
    fn poll_slice(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let slice = self.slice.get_or_insert_with(|| {
            let (shard, watches) = (self.shard.clone(), self.watches.clone());
            Box::pin(walk(shard, watches))
        });
        if slice.as_mut().poll(context).is_pending() {
            let stream = self.watches.borrow().stream();
            self.shard.hub.borrow_mut().wait(stream, context);
            return Poll::Pending;
        }
        self.slice = None;
        Poll::Ready(())
    }

    fn keep_count(&mut self, told: &Told) {
        let events = match told {
            Told::Events { events, more, .. } => {
                self.more = *more;
                events.len()
            }
            Told::Begin { bytes, events, .. } => {
                self.to_come = *bytes;
                *events
            }
            Told::Piece(pieces) => {
                self.to_come -= pieces.iter().map(bytes::Bytes::len).sum::<usize>();
                0
            }
            Told::Compacted { .. } | Told::Progress { .. } | Told::Broken => 0,
        };
        self.shard.metrics.watch_events.inc_by(events as u64);
    }
}

/// One slice of reading from history.
async fn walk(shard: Shard, watches: Rc<RefCell<Watches>>) {
    let _slice = shard.pass().await;
    let state = shard.state.borrow();
    let stepped = shard.slice(|| {
        let (mut watches, mut hub) = (watches.borrow_mut(), shard.hub.borrow_mut());
        Ok(!watches.is_catching_up() || watches.walk(&mut hub, state.history(), limits::WATCH_STEP_VERSIONS))
    });
    assert!(stepped.is_ok(), "a walk refuses nothing");
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shard.metrics.watch_streams.dec();
        let (shard, watches) = (self.shard.clone(), self.watches.clone());
        let leave = move || watches.borrow_mut().leave(&mut shard.hub.borrow_mut(), limits::WATCHES_GIVEN_UP);
        if leave() {
            return;
        }
        // Many are given up some at a time. At the end nothing can be begun, nor is there anybody to hold up.
        let turnstile = self.shard.turnstile.clone();
        if self.shard.inbox.stopping() {
            while !leave() {}
            return;
        }
        self.shard.turnstile.spawn(async move {
            while !leave() {
                turnstile.pass().await;
            }
        });
    }
}
