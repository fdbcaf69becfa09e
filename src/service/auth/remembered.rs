//! Which passwords were right a short while ago: who logs in again and again, as programs do for each of their connections,
//! costs bcrypt's time once in a few minutes.
//!
//! What is kept is no password and no hash, but a mark of both together under a key that this process drew and that is
//! nowhere else. It says nothing to whoever reads it without the key, and goes after [`limits::PASSWORD_REMEMBERED`] however
//! often it is used. A wrong password has no mark: guessing costs as much as ever. A user's other password has another hash,
//! so with a change the mark of the old one is looked for no more.

use std::cell::RefCell;

use aws_lc_rs::hmac;

use super::recent::Recent;
use crate::{env::Instant, limits};

pub(super) struct Remembered {
    key: hmac::Key,
    /// When each is forgotten. Never used again within the list: so the oldest was found right before all others.
    marks: RefCell<Recent<Instant>>,
}

/// What is kept of a password and its hash.
pub(super) struct Mark(hmac::Tag);

impl Remembered {
    pub(super) fn new(random: impl Fn() -> u64) -> Self {
        let mut key = [0; 32];
        key.as_chunks_mut().0.iter_mut().for_each(|part: &mut [u8; 8]| *part = random().to_ne_bytes());
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), marks: RefCell::default() }
    }

    pub(super) fn mark(&self, password: &str, hash: &str) -> Mark {
        let mut marked = hmac::Context::with_key(&self.key);
        marked.update(&(hash.len() as u64).to_le_bytes());
        marked.update(hash.as_bytes());
        marked.update(password.as_bytes());
        Mark(marked.sign())
    }

    /// Whether the password was the right one of late.
    pub(super) fn knows(&self, Mark(mark): &Mark, now: Instant) -> bool {
        let mut marks = self.marks.borrow_mut();
        while marks.oldest().is_some_and(|end| *end <= now) {
            marks.remove_oldest();
        }
        marks.find(mark.as_ref()).is_some()
    }

    /// It is the right one.
    pub(super) fn add(&self, Mark(mark): &Mark, now: Instant) {
        let mut marks = self.marks.borrow_mut();
        // Compared twice at the same time, it counts from the first.
        if marks.find(mark.as_ref()).is_some() {
            return;
        }
        if marks.len() >= limits::PASSWORDS_REMEMBERED {
            marks.remove_oldest();
        }
        marks.insert(mark.as_ref(), now.after(limits::PASSWORD_REMEMBERED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered() -> Remembered {
        let next = std::cell::Cell::new(7);
        Remembered::new(|| next.replace(next.get() + 1))
    }

    #[test]
    fn a_password_is_known_for_a_while_and_with_its_hash_only() {
        let (remembered, began) = (remembered(), Instant(1));
        let mark = remembered.mark("secret", "hash");
        assert!(!remembered.knows(&mark, began));
        remembered.add(&mark, began);
        for (password, hash) in [("secre", "thash"), ("secret", "other"), ("Secret", "hash"), ("", "hash")] {
            assert!(!remembered.knows(&remembered.mark(password, hash), began), "{password} {hash}");
        }
        let end = began.after(limits::PASSWORD_REMEMBERED);
        assert!(remembered.knows(&mark, Instant(end.0 - 1)));
        remembered.add(&mark, Instant(end.0 - 1));
        assert!(!remembered.knows(&mark, end), "being used does not keep it");
        assert_eq!(remembered.marks.borrow().len(), 0);
    }

    #[test]
    fn so_many_are_known_and_the_oldest_goes() {
        let remembered = remembered();
        let mark = |number: usize| remembered.mark("secret", &number.to_string());
        for number in 0..=limits::PASSWORDS_REMEMBERED {
            remembered.add(&mark(number), Instant(1 + number as u64));
        }
        assert_eq!(remembered.marks.borrow().len(), limits::PASSWORDS_REMEMBERED);
        assert!(!remembered.knows(&mark(0), Instant(1)) && remembered.knows(&mark(1), Instant(1)));
    }
}
