//! Simple tokens: random letters that a member gave to a user, and the index its log had then. All members hear of it through the
//! log ([`GiveToken`]), and each keeps it by itself, by its SHA-256.
//!
//! A token lives for as long as it is used: each use puts its end off. It is nobody's as soon as its user has another password
//! or is gone, or authentication was disabled ([`Auth::holds`]). What is kept here ends with the process; its log may bring back
//! what is not too old by the clock of whoever gave it.
//!
//! Invariant: the token that was not used for longest ends first, as far as members' clocks agree, since all live for the same
//! time. A later one does not live longer for that: each is looked at by its own end.

use std::{cell::RefCell, time::Duration};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::recent::Recent;
use crate::{
    env::Instant,
    limits,
    state::{
        Principal,
        auth::{Auth, GiveToken},
    },
    types::LogIndex,
};

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const PREFIX: usize = 16;
/// Letters that one random number gives.
const AT_ONCE: usize = 8;

#[derive(Debug)]
pub(super) struct Simple {
    ttl: Duration,
    tokens: RefCell<Recent<Token>>,
}

#[derive(Debug)]
struct Token {
    user: Bytes,
    /// Revision of the store when the password was compared.
    given_at: u64,
    end: Instant,
}

impl Simple {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, tokens: RefCell::default() }
    }

    /// Whether nobody was given this token, as far as this member has heard.
    pub(super) fn is_strange(
        &self,
        auth: &Auth,
        token: &str,
        now: Instant,
        unix_time: impl Fn() -> Duration,
    ) -> bool {
        self.take_in(auth, now, unix_time);
        self.tokens.borrow().find(&digest(token)).is_none()
    }

    /// What was given at any member. If there are too many, those go that were not used for longest.
    fn take_in(&self, auth: &Auth, now: Instant, unix_time: impl Fn() -> Duration) {
        if !auth.has_given() {
            return;
        }
        let (mut tokens, today) = (self.tokens.borrow_mut(), unix_time());
        for GiveToken { digest, user, given_at, unix_ms } in auth.take_given() {
            let age = today.saturating_sub(Duration::from_millis(unix_ms));
            let left = self.ttl.saturating_sub(age);
            if left.is_zero() || tokens.find(&digest).is_some() {
                continue;
            }
            forget_ended(&mut tokens, now);
            if tokens.len() >= limits::TOKENS_MAX {
                tokens.remove_oldest();
            }
            tokens.insert(&digest, Token { user, given_at, end: now.after(left) });
        }
    }

    /// Whose the token is. It lives on.
    pub(super) fn who(
        &self,
        auth: &Auth,
        token: &str,
        now: Instant,
        unix_time: impl Fn() -> Duration,
    ) -> Option<Principal> {
        self.take_in(auth, now, unix_time);
        let mut tokens = self.tokens.borrow_mut();
        forget_ended(&mut tokens, now);
        let place = tokens.find(&digest(token))?;
        let token = tokens.get(place);
        if token.end <= now || !auth.holds(&token.user, token.given_at) {
            return None;
        }
        let token = tokens.touch(place);
        token.end = now.after(self.ttl);
        Some(Principal { user: token.user.clone(), auth_revision: auth.revision() })
    }
}

/// A few of those whose end has come.
fn forget_ended(tokens: &mut Recent<Token>, now: Instant) {
    for _ in 0..limits::TOKENS_AT_ONCE {
        if tokens.oldest().is_none_or(|token| token.end > now) {
            return;
        }
        tokens.remove_oldest();
    }
}

/// A new token, in etcd's form. Two are never the same.
pub(super) fn drawn(index: LogIndex, random: impl Fn() -> u64) -> String {
    format!("{}.{index}", letters(&random))
}

/// What members call a token among themselves.
pub(super) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn letters(random: &impl Fn() -> u64) -> String {
    let mut letters = String::with_capacity(PREFIX);
    for _ in 0..PREFIX / AT_ONCE {
        let mut number = random();
        for _ in 0..AT_ONCE {
            letters.push(char::from(LETTERS[(number % LETTERS.len() as u64) as usize]));
            number /= LETTERS.len() as u64;
        }
    }
    letters
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::pb::authpb;

    const TTL: Duration = Duration::from_secs(300);

    fn auth() -> Auth {
        let root = authpb::User { name: "root".into(), roles: vec!["root".into()], ..Default::default() };
        Auth::restored(true, 5, [root], [])
    }

    fn seconds(seconds: u64) -> Instant {
        Instant(0).after(Duration::from_secs(seconds))
    }

    fn named(token: &str) -> Bytes {
        Bytes::copy_from_slice(&digest(token))
    }

    fn today() -> Duration {
        Duration::ZERO
    }

    fn given(simple: &Simple, auth: &mut Auth, now: Instant) -> String {
        let next = Cell::new(now.0);
        let random = || {
            next.set(
                next.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407),
            );
            next.get()
        };
        let token = drawn(LogIndex(77), random);
        assert!(simple.is_strange(auth, &token, now, today));
        auth.give(GiveToken { digest: named(&token), user: "root".into(), given_at: 5, unix_ms: 0 });
        assert!(!simple.is_strange(auth, &token, now, today));
        token
    }

    #[test]
    fn a_token_has_etcds_form_and_lives_while_it_is_used() {
        let (simple, mut auth) = (Simple::new(TTL), auth());
        let token = given(&simple, &mut auth, seconds(0));
        let (prefix, index) = token.split_once('.').expect("two parts");
        assert_eq!((prefix.len(), index), (16, "77"));
        assert!(prefix.bytes().all(|letter| letter.is_ascii_alphabetic()), "{token}");
        let root = Some(Principal { user: "root".into(), auth_revision: 5 });
        for at in [0, 299, 598] {
            assert_eq!(simple.who(&auth, &token, seconds(at), today), root, "{at}");
        }
        assert_eq!(simple.who(&auth, &token, seconds(898), today), None, "not used for its whole time");
        for other in ["", "a", &format!("{prefix}.077"), &format!("{prefix}.{}", u64::MAX)] {
            assert_eq!(simple.who(&auth, other, seconds(0), today), None, "{other}");
        }
        assert_eq!(simple.tokens.borrow().len(), 0);
    }

    #[test]
    fn tokens_are_bounded_and_the_ones_not_used_go_first() {
        let (simple, mut auth) = (Simple::new(TTL), auth());
        let (first, second) = (given(&simple, &mut auth, seconds(0)), given(&simple, &mut auth, Instant(1)));
        for at in 2..limits::TOKENS_MAX as u64 {
            given(&simple, &mut auth, Instant(at));
        }
        assert!(simple.who(&auth, &first, seconds(1), today).is_some());
        given(&simple, &mut auth, seconds(2));
        assert_eq!(simple.tokens.borrow().len(), limits::TOKENS_MAX);
        assert!(simple.who(&auth, &first, seconds(3), today).is_some(), "others were not used for longer");
        assert_eq!(simple.who(&auth, &second, seconds(3), today), None);
        // Each call forgets a few only, and none is left in the end.
        while simple.tokens.borrow().len() > 0 {
            let before = simple.tokens.borrow().len();
            forget_ended(&mut simple.tokens.borrow_mut(), seconds(1_000));
            assert_eq!(simple.tokens.borrow().len(), before.saturating_sub(limits::TOKENS_AT_ONCE));
        }
    }

    #[test]
    fn what_a_log_brings_back_lives_no_longer_for_that() {
        let (simple, mut auth) = (Simple::new(TTL), auth());
        for (token, unix_ms) in [("old", 0), ("older", 60_000), ("new", 350_000), ("tomorrow", 900_000)] {
            auth.give(GiveToken { digest: named(token), user: "root".into(), given_at: 5, unix_ms });
        }
        let lives = |token, at| simple.who(&auth, token, seconds(at), || Duration::from_secs(350)).is_some();
        assert_eq!(
            ["old", "older", "new", "tomorrow"].map(|token| lives(token, 9)),
            [false, true, true, true]
        );
        let (another, mut auth) = (Simple::new(TTL), self::auth());
        auth.give(GiveToken { digest: named("a"), user: "root".into(), given_at: 5, unix_ms: 60_000 });
        assert!(!another.is_strange(&auth, "a", seconds(0), || Duration::from_secs(350)));
        assert_eq!(another.who(&auth, "a", seconds(11), today), None, "ten seconds were left");
    }
}
