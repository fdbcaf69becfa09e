//! Passwords are hashed and compared beside the core, one at a time, and when nobody else needs a processor: bcrypt is made
//! to take long.
//!
//! What is under way is finished, whether anybody waits for it or not, so whoever begins and gives up pays as everybody
//! else. Clients wait in line with one of theirs at a time, and in lines of their own with the others; whom a line has no
//! room for is refused. Who logs in again soon does not wait: see [`remembered`](super::remembered).

use std::{cell::Cell, rc::Rc};

use bytes::Bytes;

use super::{machine::Machine, remembered::Remembered};
use crate::{
    client::{Client, Gate},
    limits,
    service::{Error, Word},
};

pub(super) struct Passwords {
    cost: u32,
    gate: Rc<Gate>,
    remembered: Remembered,
}

/// What bcrypt reads of a password.
const BYTES_MAX: usize = 72;

/// Refuses a new password of which a part would not count.
pub(super) fn check_length(password: &str) -> Result<(), Error> {
    if password.len() > BYTES_MAX { Err(Error::PasswordTooLong) } else { Ok(()) }
}

impl Passwords {
    pub(super) fn new(machine: &Machine, cost: u32) -> Self {
        Self { cost, gate: Gate::new(1), remembered: Remembered::new(|| machine.random()) }
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

    /// Whether it is the one a hash was made of, and if so what `then` gives, which takes long as well.
    pub(super) async fn compare<T: Send + 'static>(
        &self,
        machine: &Rc<Machine>,
        client: &Client,
        (password, hash): (String, Bytes),
        then: Option<impl FnOnce() -> T + Send + 'static>,
    ) -> Result<Option<Option<T>>, Error> {
        let Some(hash) =
            str::from_utf8(&hash).ok().filter(|hash| is_cheap(hash, self.cost)).map(str::to_owned)
        else {
            return Ok(None);
        };
        let mark = self.remembered.mark(&password, &hash);
        let is_known = self.remembered.knows(&mark, machine.now());
        if is_known && then.is_none() {
            return Ok(Some(None));
        }
        let compare = move || {
            let is_it = is_known || bcrypt::verify(password, &hash).is_ok_and(|is_it| is_it);
            is_it.then(|| then.map(|then| then()))
        };
        let compared = self.beside(machine, client, compare).await?;
        if compared.is_some() && !is_known {
            self.remembered.add(&mark, machine.now());
        }
        Ok(compared)
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

/// Whoever may set a hash may choose what it costs to compare with it, which could be hours.
fn is_cheap(hash: &str, own: u32) -> bool {
    let cost = hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
    cost.is_some_and(|cost| cost <= own.max(limits::BCRYPT_COST_FOREIGN_MAX))
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
        assert!(is_cheap("$2a$10$abc", 4) && !is_cheap("$2a$31$abc", 4) && is_cheap("$2a$31$abc", 31));
        assert!(!is_cheap("", 4) && !is_cheap("$2a$x", 4));
    }
}
