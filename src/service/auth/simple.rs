//! Simple tokens: random letters that this member gave to a user, and the index its log had then.
//!
//! A token lives for as long as it is used: each use puts its end off. It is nobody's as soon as its user has another password
//! or is gone, or authentication was disabled ([`Auth::holds`]). Nothing of them is on disk or known to other members.
//!
//! Invariant: the token that was not used for longest ends first, since all live for the same time.

use std::{cell::RefCell, time::Duration};

use bytes::Bytes;

use super::recent::Recent;
use crate::{
    env::Instant,
    limits,
    state::{Principal, auth::Auth},
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

    /// A new token of the user; if there are too many, the one that was not used for longest goes.
    pub(super) fn give(
        &self,
        (user, given_at): (Bytes, u64),
        index: LogIndex,
        now: Instant,
        random: impl Fn() -> u64,
    ) -> String {
        let mut tokens = self.tokens.borrow_mut();
        forget_ended(&mut tokens, now);
        if tokens.len() >= limits::TOKENS_MAX {
            tokens.remove_oldest();
        }
        let token = loop {
            let token = format!("{}.{index}", letters(&random));
            if tokens.find(&token).is_none() {
                break token;
            }
        };
        tokens.insert(&token, Token { user, given_at, end: now.after(self.ttl) });
        token
    }

    /// Whose the token is. It lives on.
    pub(super) fn who(&self, auth: &Auth, token: &str, now: Instant) -> Option<Principal> {
        let mut tokens = self.tokens.borrow_mut();
        forget_ended(&mut tokens, now);
        let place = tokens.find(token)?;
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

    fn given(simple: &Simple, now: Instant) -> String {
        let next = Cell::new(now.0);
        let random = || {
            next.set(
                next.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407),
            );
            next.get()
        };
        simple.give(("root".into(), 5), LogIndex(77), now, random)
    }

    #[test]
    fn a_token_has_etcds_form_and_lives_while_it_is_used() {
        let (simple, auth) = (Simple::new(TTL), auth());
        let token = given(&simple, seconds(0));
        let (prefix, index) = token.split_once('.').expect("two parts");
        assert_eq!((prefix.len(), index), (16, "77"));
        assert!(prefix.bytes().all(|letter| letter.is_ascii_alphabetic()), "{token}");
        let root = Some(Principal { user: "root".into(), auth_revision: 5 });
        for at in [0, 299, 598] {
            assert_eq!(simple.who(&auth, &token, seconds(at)), root, "{at}");
        }
        assert_eq!(simple.who(&auth, &token, seconds(898)), None, "not used for its whole time");
        for other in ["", "a", &format!("{prefix}.077"), &format!("{prefix}.{}", u64::MAX)] {
            assert_eq!(simple.who(&auth, other, seconds(0)), None, "{other}");
        }
        assert_eq!(simple.tokens.borrow().len(), 0);
    }

    #[test]
    fn tokens_are_bounded_and_the_ones_not_used_go_first() {
        let (simple, auth) = (Simple::new(TTL), auth());
        let (first, second) = (given(&simple, seconds(0)), given(&simple, Instant(1)));
        for at in 2..limits::TOKENS_MAX as u64 {
            given(&simple, Instant(at));
        }
        assert!(simple.who(&auth, &first, seconds(1)).is_some());
        given(&simple, seconds(2));
        assert_eq!(simple.tokens.borrow().len(), limits::TOKENS_MAX);
        assert!(simple.who(&auth, &first, seconds(3)).is_some(), "others were not used for longer");
        assert_eq!(simple.who(&auth, &second, seconds(3)), None);
        // Each call forgets a few only, and none is left in the end.
        while simple.tokens.borrow().len() > 0 {
            let before = simple.tokens.borrow().len();
            forget_ended(&mut simple.tokens.borrow_mut(), seconds(1_000));
            assert_eq!(simple.tokens.borrow().len(), before.saturating_sub(limits::TOKENS_AT_ONCE));
        }
    }
}
