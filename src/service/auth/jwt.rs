//! JSON Web Tokens: a user and a revision of users and roles, signed (RFC 7519, as etcd's `server/auth/jwt.go` has them).
//!
//! A token stands for itself: whoever has the key can make one, and it is good until its date or until users and roles
//! change. What was found good is kept, since finding out takes as long as a put does. The signature is looked at last: nobody's
//! time is spent on that of a token whose date says enough.

mod keys;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, fmt, rc::Rc, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::recent::Recent;
use crate::{limits, service::Error, state::Principal};
use keys::Keys;

/// What tokens are signed with.
#[derive(Clone, Default)]
pub struct JwtOptions {
    /// `RS256` and so on.
    pub method: String,
    /// PEM.
    pub public_key: Option<Vec<u8>>,
    /// PEM, or with HMAC the secret itself.
    pub private_key: Option<Vec<u8>>,
    pub ttl: Duration,
}

/// Why no tokens can be signed or found good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    #[error(
        "auth: invalid auth signature method: sign-method={0} is none of RS256, RS384, RS512, PS256, PS384, PS512, \
         ES256, ES384, ES512, EdDSA, HS256, HS384, HS512"
    )]
    Method(String),
    #[error("auth: missing key data: name a file with {0}")]
    Missing(&'static str),
    #[error("the key of {option} cannot be used for {method}: {what}")]
    Key { option: &'static str, method: String, what: &'static str },
    #[error("auth: public and private keys don't match")]
    Mismatch,
}

pub struct Jwt {
    keys: Arc<Keys>,
    ttl: Duration,
    /// What was found good.
    kept: RefCell<Recent<Said>>,
}

/// What a token says: whose it is, from which time, and to which.
struct Said {
    who: Principal,
    from: Option<f64>,
    until: Option<f64>,
}

/// Keys stay where they are.
impl fmt::Debug for Jwt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Jwt").field("method", &self.keys.method()).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    exp: u64,
    revision: u64,
    username: &'a str,
}

impl Said {
    fn counts(&self, now: Duration) -> bool {
        let now = now.as_secs_f64();
        self.until.is_none_or(|until| now < until) && self.from.is_none_or(|from| from <= now)
    }
}

impl Jwt {
    pub fn new(options: JwtOptions) -> Result<Rc<Self>, JwtError> {
        let JwtOptions { method, public_key, private_key, ttl } = options;
        let keys = Keys::new(&method, public_key.as_deref(), private_key.as_deref())?;
        Ok(Rc::new(Self { keys: Arc::new(keys), ttl, kept: RefCell::default() }))
    }

    /// Whose a token is, if it is good at this time.
    pub(super) fn who(&self, token: &str, now: Duration) -> Option<Principal> {
        self.verified_who(token, now, |signed, signature| self.keys.verify(signed, signature))
    }

    fn verified_who(
        &self,
        token: &str,
        now: Duration,
        verify: impl FnOnce(&[u8], &[u8]) -> bool,
    ) -> Option<Principal> {
        let mut kept = self.kept.borrow_mut();
        if let Some(place) = kept.find(token.as_bytes()) {
            // One whose time is over is not used: it makes room when others come.
            return kept.get(place).counts(now).then(|| kept.touch(place).who.clone());
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let said = self.read(signed).filter(|said| said.counts(now))?;
        if !verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?) {
            return None;
        }
        if kept.len() >= limits::JWT_KEPT_MAX {
            kept.remove_oldest();
        }
        let who = said.who.clone();
        kept.insert(token.as_bytes(), said);
        Some(who)
    }

    /// Whoever says so: it is not known yet who signed it.
    fn read(&self, signed: &str) -> Option<Said> {
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(drop);
        let header: Header = serde_json::from_slice(&decode(header).ok()?).ok()?;
        if header.alg != self.keys.method() {
            return None;
        }
        let claims: Map<String, Value> = serde_json::from_slice(&decode(claims).ok()?).ok()?;
        let date = |name: &str| match claims.get(name) {
            None => Some(None),
            Some(date) => Some(Some(date.as_f64()?)),
        };
        let (from, until) = (date("nbf")?, date("exp")?);
        let user = claims.get("username")?.as_str()?;
        let auth_revision = claims.get("revision")?.as_f64()? as u64;
        if user.len() > limits::AUTH_NAME_BYTES_MAX {
            return None;
        }
        let who = Principal { user: Bytes::copy_from_slice(user.as_bytes()), auth_revision };
        Some(Said { who, from, until })
    }

    /// Makes a token, once it is called: beside the core, since it takes long.
    pub(super) fn signing(
        &self,
        user: &str,
        revision: u64,
        now: Duration,
    ) -> impl FnOnce() -> Result<String, Error> + Send + 'static + use<> {
        let claims = Claims { exp: (now + self.ttl).as_secs(), revision, username: user };
        let claims = serde_json::to_vec(&claims).expect("plain fields");
        let keys = self.keys.clone();
        move || {
            let header = format!(r#"{{"alg":"{}","typ":"JWT"}}"#, keys.method());
            let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            let signature = keys.sign(signed.as_bytes())?;
            Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
        }
    }
}
