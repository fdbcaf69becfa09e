//! Claims: memory that grows with what a client does, and may be taken back.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::{Bounds, Charge, Client};

/// It was taken back: whoever holds the memory lets go of it, and tells the client that there are too many requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked;

/// So many bytes until it is dropped or revoked.
#[derive(Debug)]
pub struct Claim {
    client: Client,
    /// Allocated once there is something to claim: most calls never have.
    claimed: Option<(u64, Rc<State>)>,
}

/// As long as it claims something.
#[derive(Debug, Default)]
pub(super) struct State {
    bytes: Cell<usize>,
    is_revoked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Claim {
    pub(super) fn new(client: Client) -> Self {
        Self { client, claimed: None }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// So many bytes from now on. An error says that it is revoked, now or before: then none count.
    pub fn set(&mut self, bytes: usize) -> Result<(), Revoked> {
        if bytes == 0 {
            return self.release();
        }
        let client = &self.client;
        let (age, state) = self.claimed.get_or_insert_with(|| client.begin_claim());
        if state.is_revoked.get() {
            return Err(Revoked);
        }
        let before = state.bytes.get();
        if bytes > before && !client.make_room(*age, bytes - before) {
            client.revoke(*age);
            return Err(Revoked);
        }
        client.resize(state, bytes);
        Ok(())
    }

    fn release(&mut self) -> Result<(), Revoked> {
        let Some((age, state)) = self.claimed.take() else { return Ok(()) };
        if state.is_revoked.get() {
            self.claimed = Some((age, state));
            return Err(Revoked);
        }
        self.client.end_claim(age);
        Ok(())
    }

    /// Ready once it is revoked; until then the task is woken for it.
    pub fn poll_revoked(&self, context: &mut Context<'_>) -> Poll<Revoked> {
        let Some((_, state)) = &self.claimed else { return Poll::Pending };
        if state.is_revoked.get() {
            return Poll::Ready(Revoked);
        }
        let mut waker = state.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// It will not grow any more, and it is too late to take it back.
    pub fn settle(self) -> Charge {
        let bytes = self.claimed.as_ref().map_or(0, |(_, state)| state.bytes.get());
        let client = self.client.clone();
        drop(self);
        client.charge(bytes)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        match self.release() {
            // What was revoked does not count any more.
            Ok(()) | Err(Revoked) => {}
        }
    }
}

impl Client {
    fn begin_claim(&self) -> (u64, Rc<State>) {
        let next = &self.0.clients.0.next;
        let age = next.replace(next.get() + 1);
        let state = Rc::new(State::default());
        self.0.claims.borrow_mut().insert(age, state.clone());
        (age, state)
    }

    /// Makes room for more bytes of the claim of that age, at the cost of others. False if there is none, or if the claim
    /// itself would have to make it.
    fn make_room(&self, age: u64, more: usize) -> bool {
        let Bounds { total, each } = self.0.clients.bounds();
        // The oldest claim of a client may go on, so that something comes to its end.
        while self.used() + more > each && !self.is_oldest(age) {
            if self.youngest() == Some(age) {
                return false;
            }
            self.revoke_youngest();
        }
        while self.0.clients.used() + more > total {
            let Some(most) = self.most_claiming() else { return false };
            if most.0.id == self.0.id && self.youngest() == Some(age) {
                return false;
            }
            most.revoke_youngest();
        }
        true
    }

    /// Whoever is to make room; this client not by the only claim it has.
    fn most_claiming(&self) -> Option<Client> {
        let claimants = self.0.clients.0.claimants.borrow();
        let alone = self.0.claims.borrow().len() == 1;
        let mut most = claimants.iter().rev().filter(|((_, _, id), _)| !alone || *id != self.0.id);
        most.next().map(|(_, client)| Client(client.upgrade().expect("whoever claims is there")))
    }

    fn is_oldest(&self, age: u64) -> bool {
        self.0.claims.borrow().keys().next() == Some(&age)
    }

    fn youngest(&self) -> Option<u64> {
        self.0.claims.borrow().keys().next_back().copied()
    }

    fn revoke_youngest(&self) {
        let age = self.youngest().expect("it claims something");
        self.revoke(age);
    }

    fn revoke(&self, age: u64) {
        let state = self.end_claim(age);
        state.is_revoked.set(true);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn end_claim(&self, age: u64) -> Rc<State> {
        let state = self.0.claims.borrow_mut().remove(&age).expect("it ends once");
        self.resize(&state, 0);
        state
    }

    /// Counts a claim anew.
    fn resize(&self, state: &State, bytes: usize) {
        let before = state.bytes.replace(bytes);
        let claimed = self.0.claimed.get() - before + bytes;
        self.0.claimed.set(claimed);
        let first = self.0.claims.borrow().values().next().map_or(0, |oldest| oldest.bytes.get());
        let rank = (claimed > 0).then(|| (claimed - first, claimed, self.0.id));
        let mut claimants = self.0.clients.0.claimants.borrow_mut();
        if let Some(rank) = self.0.rank.replace(rank) {
            claimants.remove(&rank);
        }
        if let Some(rank) = rank {
            claimants.insert(rank, Rc::downgrade(&self.0));
        }
        drop(claimants);
        if bytes > before {
            self.add(bytes - before);
        } else {
            self.subtract(before - bytes);
        }
    }
}
