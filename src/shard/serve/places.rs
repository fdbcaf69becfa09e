//! Places for writes in the inbox and the log, shared out among the clients who have some there.
//!
//! A client may have a quarter of a batch of writes under way, less where there are others, and all together have at most two
//! batches. Its further writes wait in the client's own line, not in the inbox: whoever comes next finds no more before
//! it, however many writes somebody else has begun. A place is taken until its write is applied, even if nobody waits for
//! that any more, so who begins writes and resets them pays. A write that is given up while it waits in line was never
//! there.

use std::{cell::Cell, rc::Rc};

use crate::{
    client::{Client, Writes},
    limits,
    shard::Error,
};

#[derive(Default)]
pub struct Places {
    /// Clients who have a place, all places taken, and their bytes.
    clients: Cell<usize>,
    count: Cell<usize>,
    bytes: Cell<usize>,
}

/// A write's, until it is applied.
pub struct Place {
    places: Rc<Places>,
    client: Client,
    /// Bytes in the batch.
    pub bytes: usize,
}

impl Places {
    /// Waits for a place; writes of one client get theirs in order.
    pub async fn take(self: &Rc<Self>, client: &Client, bytes: usize) -> Result<Place, Error> {
        let writes = client.writes();
        if writes.line.len() >= limits::CLIENT_WRITES_WAITING_MAX {
            return Err(Error::TooManyRequests);
        }
        writes.line.pass(|| self.has_room(writes, bytes)).await;
        let count = writes.count.get();
        if count == 0 {
            self.clients.set(self.clients.get() + 1);
        }
        writes.count.set(count + 1);
        writes.bytes.set(writes.bytes.get() + bytes);
        self.count.set(self.count.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
        Ok(Place { places: self.clone(), client: client.clone(), bytes })
    }

    /// Everybody may have one, whatever others have; more only where all have no more than there is.
    fn has_room(&self, writes: &Writes, bytes: usize) -> bool {
        const COUNT: usize = limits::SHARD_SHARED_WRITES;
        const BYTES: usize = limits::SHARD_QUEUED_BYTES_MAX;
        let (count, clients) = (writes.count.get(), self.clients.get());
        if count == 0 {
            return true;
        }
        let most = match clients {
            1 => limits::CLIENT_WRITES_ALONE,
            _ => limits::CLIENT_WRITES_AMONG_OTHERS.min(COUNT / clients),
        };
        // Of the bytes somebody who comes finds a part, too.
        let within = count < most && writes.bytes.get() + bytes <= BYTES / (clients + 1);
        within && self.count.get() < COUNT && self.bytes.get() + bytes <= BYTES
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (writes, clients) = (self.client.writes(), &self.places.clients);
        let count = writes.count.get() - 1;
        writes.count.set(count);
        writes.bytes.set(writes.bytes.get() - self.bytes);
        self.places.count.set(self.places.count.get() - 1);
        self.places.bytes.set(self.places.bytes.get() - self.bytes);
        if count == 0 {
            clients.set(clients.get() - 1);
        }
        writes.line.move_up();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    type Taking = Pin<Box<dyn Future<Output = Result<Place, Error>>>>;

    fn taking(places: &Rc<Places>, client: &Client, bytes: usize) -> Taking {
        let (places, client) = (places.clone(), client.clone());
        Box::pin(async move { places.take(&client, bytes).await })
    }

    fn taken(taking: &mut Taking) -> Option<Place> {
        match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place.expect("it is admitted")),
            Poll::Pending => None,
        }
    }

    fn all(places: &Rc<Places>, client: &Client, bytes: usize) -> Vec<Place> {
        std::iter::from_fn(|| taken(&mut taking(places, client, bytes))).collect()
    }

    #[test]
    fn a_client_alone_has_more_and_others_take_their_part() {
        let (places, flood) = (Rc::new(Places::default()), Client::default());
        let mut of_flood = all(&places, &flood, 1);
        assert_eq!(of_flood.len(), limits::CLIENT_WRITES_ALONE);
        let mut waiting = taking(&places, &flood, 1);
        assert!(taken(&mut waiting).is_none());
        let others: Vec<_> = (0..14).map(|_| Client::default()).collect();
        let of_others: Vec<_> = others.iter().map(|other| all(&places, other, 1)).collect();
        assert!(of_others.iter().all(|places| places.len() == limits::CLIENT_WRITES_AMONG_OTHERS));
        assert_eq!(places.count.get(), limits::SHARD_SHARED_WRITES, "there are no more");
        let last = Client::default();
        let one = taken(&mut taking(&places, &last, 1)).expect("everybody may have one");
        assert!(all(&places, &last, 1).is_empty());
        drop(of_others);
        assert!(taken(&mut waiting).is_none(), "its part is less now");
        of_flood.truncate(limits::CLIENT_WRITES_AMONG_OTHERS - 1);
        assert!(taken(&mut waiting).is_some());
        drop((of_flood, one));
        assert_eq!((places.count.get(), places.bytes.get()), (0, 0));
        assert_eq!((places.clients.get(), flood.writes().count.get(), flood.writes().bytes.get()), (0, 0, 0));
    }

    #[test]
    fn long_writes_are_bounded_by_their_bytes_and_one_is_always_let_in() {
        let (places, client) = (Rc::new(Places::default()), Client::default());
        let one = limits::SHARD_QUEUED_BYTES_MAX;
        let first = taken(&mut taking(&places, &client, one)).expect("the only one");
        assert!(taken(&mut taking(&places, &client, 1)).is_none());
        drop(first);
        assert_eq!(all(&places, &client, one / 8).len(), 4);
    }

    #[test]
    fn writes_of_a_client_keep_their_order_and_those_given_up_are_gone() {
        let (places, client) = (Rc::new(Places::default()), Client::default());
        let mut places_taken = all(&places, &client, 1);
        let mut waiting: Vec<_> = (0..4).map(|_| taking(&places, &client, 1)).collect();
        assert!(waiting.iter_mut().all(|taking| taken(taking).is_none()));
        drop(waiting.remove(1));
        assert_eq!(client.writes().line.len(), 3);
        places_taken.truncate(places_taken.len() - 2);
        assert!(taken(&mut waiting[1]).is_none(), "one is before it");
        let first = taken(&mut waiting[0]).expect("there is room");
        assert!(taken(&mut taking(&places, &client, 1)).is_none(), "nobody overtakes who waits");
        let second = taken(&mut waiting[1]).expect("there is room");
        drop((first, second));
    }

    #[test]
    fn a_line_that_is_too_long_is_refused() {
        let (places, client) = (Rc::new(Places::default()), Client::default());
        let _taken = all(&places, &client, 1);
        let mut waiting: Vec<_> =
            (0..limits::CLIENT_WRITES_WAITING_MAX).map(|_| taking(&places, &client, 1)).collect();
        waiting.iter_mut().for_each(|taking| drop(taken(taking)));
        let mut refused = taking(&places, &client, 1);
        let refused = refused.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(refused, Poll::Ready(Err(Error::TooManyRequests))));
    }
}
