//! Passwords are hashed and compared beside the core, one at a time, and when nobody else needs a processor: bcrypt is made
//! to take long.
//!
//! What is under way is finished, whether anybody waits for it or not, so whoever begins and gives up pays as everybody
//! else. Clients wait in line with one of theirs at a time, and in lines of their own with the others; whom a line has no
//! room for is refused.

use std::{cell::Cell, rc::Rc};

use bytes::Bytes;

use super::machine::Machine;
use crate::{
    client::{Client, Gate},
    limits,
    service::{Error, Word},
};

pub(super) struct Passwords {
    cost: u32,
    gate: Rc<Gate>,
}

/// What bcrypt reads of a password.
const BYTES_MAX: usize = 72;

/// Refuses a new password of which a part would not count.
pub(super) fn check_length(password: &str) -> Result<(), Error> {
    if password.len() > BYTES_MAX { Err(Error::PasswordTooLong) } else { Ok(()) }
}

impl Passwords {
    pub(super) fn new(cost: u32) -> Self {
        Self { cost, gate: Gate::new(1) }
    }

    /// Its hash, as etcd makes one.
    pub(super) async fn hash(
        &self,
        machine: &Rc<Machine>,
        client: &Client,
        password: String,
    ) -> Result<String, Error> {
        check_length(&password)?;
        let (cost, salt) = (self.cost, salt(machine));
        let hash = move || {
            let hash = bcrypt::hash_with_salt(password, cost, salt);
            hash.expect("the cost was checked").format_for_version(bcrypt::Version::TwoA)
        };
        self.beside(machine, client, hash).await
    }

    /// Whether it is the one a hash was made of, and then what `then` gives.
    pub(super) async fn compare<T: Send + 'static>(
        &self,
        machine: &Rc<Machine>,
        client: &Client,
        (password, hash): (String, Bytes),
        then: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let Some(hash) = str::from_utf8(&hash).ok().filter(|hash| self.is_cheap(hash)).map(str::to_owned)
        else {
            return Ok(None);
        };
        let compare = move || bcrypt::verify(password, &hash).is_ok_and(|is_it| is_it).then(then);
        self.beside(machine, client, compare).await
    }

    /// Whoever may set a hash may choose what it costs to compare with it, which could be hours.
    fn is_cheap(&self, hash: &str) -> bool {
        let cost = hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
        cost.is_some_and(|cost| cost <= self.cost.max(limits::BCRYPT_COST_FOREIGN_MAX))
    }

    async fn beside<T: Send + 'static>(
        &self,
        machine: &Rc<Machine>,
        client: &Client,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let own = client.passwords();
        if own.waiting() >= limits::CLIENT_PASSWORDS_WAITING_MAX {
            return Err(Error::TooManyRequests);
        }
        let first_of_client = own.enter().await;
        if self.gate.waiting() >= limits::PASSWORDS_WAITING_MAX {
            return Err(Error::TooManyRequests);
        }
        let only = self.gate.enter().await;
        let (done, result) = (Word::default(), Rc::new(Cell::new(None)));
        let (told, put) = (Told(done.clone()), result.clone());
        let working = machine.set_aside(work);
        machine.spawn(async move {
            put.set(Some(working.await));
            drop((first_of_client, only, told));
        });
        done.given().await;
        result.take().ok_or(Error::Stopped)
    }
}

/// Tells whoever waits, however the work ended.
struct Told(Word);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.give();
    }
}

fn salt(machine: &Machine) -> [u8; 16] {
    let mut salt = [0; 16];
    salt.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&machine.random().to_ne_bytes()));
    salt
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by etcd 3.7.1 of the password `p`.
    #[test]
    fn a_hash_says_what_it_costs() {
        let passwords = Passwords::new(4);
        assert!(passwords.is_cheap("$2a$10$abc") && !passwords.is_cheap("$2a$31$abc"));
        assert!(!passwords.is_cheap("") && !passwords.is_cheap("$2a$x"));
    }
}
