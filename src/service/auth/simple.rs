//! Simple tokens: random letters that this member gave to a user, and the index its log had then.
//!
//! A token lives for as long as it is used: each use puts its end off. It is nobody's as soon as its user has another password
//! or is gone, or authentication was disabled ([`Auth::holds`]). Nothing of them is on disk or known to other members.
//!
//! Invariant: each token stands once in `ends`, at an end that is its own or an earlier one of its own.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;

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
    tokens: RefCell<HashMap<Rc<str>, Token>>,
    ends: RefCell<VecDeque<(Instant, Rc<str>)>>,
}

#[derive(Debug)]
struct Token {
    user: Bytes,
    /// Revision of the store when the password was compared.
    given_at: u64,
    end: Cell<Instant>,
}

impl Simple {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, tokens: RefCell::default(), ends: RefCell::default() }
    }

    /// A new token of the user; if there are too many, the one that was not used for longest goes.
    pub(super) fn give(
        &self,
        (user, given_at): (Bytes, u64),
        index: LogIndex,
        now: Instant,
        random: impl Fn() -> u64,
    ) -> String {
        self.forget_ended(now);
        let (mut tokens, mut ends) = (self.tokens.borrow_mut(), self.ends.borrow_mut());
        if tokens.len() >= limits::TOKENS_MAX
            && let Some((_, oldest)) = ends.pop_front()
        {
            tokens.remove(&oldest);
        }
        let token = loop {
            let token: Rc<str> = format!("{}.{index}", letters(&random)).into();
            if !tokens.contains_key(&token) {
                break token;
            }
        };
        let end = now.after(self.ttl);
        ends.push_back((end, token.clone()));
        tokens.insert(token.clone(), Token { user, given_at, end: Cell::new(end) });
        token.to_string()
    }

    /// Whose the token is. It lives on.
    pub(super) fn who(&self, auth: &Auth, token: &str, now: Instant) -> Option<Principal> {
        self.forget_ended(now);
        let tokens = self.tokens.borrow();
        let token = tokens.get(token)?;
        if token.end.get() <= now || !auth.holds(&token.user, token.given_at) {
            return None;
        }
        token.end.set(now.after(self.ttl));
        Some(Principal { user: token.user.clone(), auth_revision: auth.revision() })
    }

    /// Looks at the few tokens whose end has come, or had until they were used.
    fn forget_ended(&self, now: Instant) {
        let mut ends = self.ends.borrow_mut();
        for _ in 0..limits::TOKENS_AT_ONCE {
            if ends.front().is_none_or(|(end, _)| *end > now) {
                return;
            }
            let (_, token) = ends.pop_front().expect("just seen");
            let mut tokens = self.tokens.borrow_mut();
            let end = tokens[&token].end.get();
            if end > now {
                ends.push_back((end, token));
            } else {
                tokens.remove(&token);
            }
        }
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
        assert!(simple.tokens.borrow().is_empty() && simple.ends.borrow().is_empty());
    }

    #[test]
    fn tokens_are_bounded_and_the_ones_not_used_go_first() {
        let (simple, auth) = (Simple::new(TTL), auth());
        let first = given(&simple, seconds(0));
        for at in 1..=limits::TOKENS_MAX as u64 {
            given(&simple, Instant(at));
        }
        assert_eq!(simple.tokens.borrow().len(), limits::TOKENS_MAX);
        assert_eq!(simple.ends.borrow().len(), limits::TOKENS_MAX);
        assert_eq!(simple.who(&auth, &first, seconds(1)), None);
        // Each call looks at a few only, and none is left in the end.
        while !simple.tokens.borrow().is_empty() {
            simple.forget_ended(seconds(1_000));
        }
        assert!(simple.ends.borrow().is_empty());
    }
}
