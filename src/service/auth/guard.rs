//! Finds out whose a call is, and lets somebody in who has a password.
//!
//! One for each keyspace, on its core. It keeps tokens; of users it knows nothing, and asks the state each time.

use std::{rc::Rc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use tracing::warn;

use super::{
    jwt::Jwt,
    machine::Machine,
    passwords::Passwords,
    simple::{self, Simple},
};
use crate::{
    client::Client,
    env::Env,
    limits,
    pb::etcdserverpb as pb,
    service::{Caller, Error},
    shard::Shard,
    state::{
        self, Principal,
        auth::{Auth, GiveToken, Refusal},
    },
};

/// What is chosen by flags.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--auth-token`.
    pub tokens: Tokens,
    /// `--bcrypt-cost`, within bcrypt's bounds.
    pub bcrypt_cost: u32,
}

/// Which kind of token somebody gets for a password.
#[derive(Clone, Debug)]
pub enum Tokens {
    /// None, and none is good.
    None,
    /// Letters that members know, until they were not used for so long.
    Simple { ttl: Duration },
    /// A signed statement.
    Jwt(Rc<Jwt>),
}

impl Default for Options {
    fn default() -> Self {
        Self { tokens: Tokens::Simple { ttl: limits::TOKEN_TTL }, bcrypt_cost: limits::BCRYPT_COST }
    }
}

pub struct Guard {
    machine: Rc<Machine>,
    passwords: Passwords,
    tokens: Kind,
}

enum Kind {
    None,
    Simple(Simple),
    Jwt(Rc<Jwt>),
}

impl Guard {
    pub fn new<E: Env>(env: &E, options: &Options) -> Self {
        let tokens = match &options.tokens {
            Tokens::None => Kind::None,
            Tokens::Simple { ttl } => Kind::Simple(Simple::new(*ttl)),
            Tokens::Jwt(jwt) => Kind::Jwt(jwt.clone()),
        };
        let machine = Machine::new(env);
        let passwords = Passwords::new(&machine, options.bcrypt_cost);
        Self { machine: Rc::new(machine), passwords, tokens }
    }

    /// Whose a call is, if somebody has to say: whose the token is, else who the certificate is of, else nobody's.
    pub fn who(&self, auth: &Auth, caller: &Caller) -> Result<Principal, Error> {
        let Some(token) = &caller.token else {
            let name = caller.connection.certificate.as_ref();
            return Ok(name.map_or_else(Principal::default, |name| Principal {
                user: Bytes::copy_from_slice(name.as_bytes()),
                auth_revision: auth.revision(),
            }));
        };
        let token = bare(token);
        let who = match &self.tokens {
            Kind::None => None,
            Kind::Simple(simple) => simple.who(auth, token, self.machine.now(), || self.machine.unix_time()),
            Kind::Jwt(jwt) => jwt.who(token, self.machine.unix_time()),
        };
        who.ok_or(Refusal::InvalidToken.into())
    }

    /// Whether a call shows a token that this member has not heard of, and may yet.
    pub fn is_strange(&self, auth: &Auth, caller: &Caller) -> bool {
        match (&self.tokens, &caller.token) {
            (Kind::Simple(simple), Some(token)) => {
                simple.is_strange(auth, bare(token), self.machine.now(), || self.machine.unix_time())
            }
            _ => false,
        }
    }

    /// A password as a request may carry it to the log.
    pub async fn hash(&self, client: &Client, password: String) -> Result<String, Error> {
        Ok(STANDARD.encode(self.passwords.hash(&self.machine, client, password).await?))
    }

    /// A token for whoever knows the password. It is compared with the one the user has now, and again if that was changed
    /// meanwhile.
    pub async fn log_in(
        &self,
        shard: &Shard,
        client: &Client,
        request: pb::AuthenticateRequest,
    ) -> Result<String, Error> {
        let token = self.token(shard, client, &request).await;
        if let Err(error @ Error::Apply(state::Error::Auth(refusal))) = &token
            && *refusal != Refusal::NotEnabled
        {
            warn!(user = beginning(&request.name), error = %error.grpc().1, "invalid authentication was requested");
        }
        token
    }

    async fn token(
        &self,
        shard: &Shard,
        client: &Client,
        request: &pb::AuthenticateRequest,
    ) -> Result<String, Error> {
        let name = Bytes::copy_from_slice(request.name.as_bytes());
        for _ in 0..limits::LOGIN_ATTEMPTS {
            let (hash, revision) = shard.with_state(|state| hash_of(state.auth(), &name))?;
            let compared = (request.password.clone(), hash);
            let signing = match &self.tokens {
                Kind::Jwt(jwt) => Some(jwt.signing(&request.name, revision, self.machine.unix_time())),
                Kind::None | Kind::Simple(_) => None,
            };
            let signed = self.passwords.compare(&self.machine, client, compared, signing).await?;
            let signed = signed.ok_or(Refusal::AuthFailed)?.transpose()?;
            let given = match (&self.tokens, signed) {
                (Kind::Jwt(_), Some(signed)) => {
                    shard.with_state(|state| state.auth().revision() == revision).then_some(signed)
                }
                (Kind::Simple(_), _) => {
                    let token = simple::drawn(shard.status().applied, || self.machine.random());
                    let unix_ms = u64::try_from(self.machine.unix_time().as_millis()).unwrap_or(u64::MAX);
                    let given_at = revision;
                    let digest = Bytes::copy_from_slice(&simple::digest(&token));
                    let give = GiveToken { digest, user: name.clone(), given_at, unix_ms };
                    shard.write(&Principal::default(), give).await?.then_some(token)
                }
                _ => None,
            };
            match given {
                Some(token) => return Ok(token),
                None if matches!(self.tokens, Kind::None) => break,
                None => {}
            }
        }
        Err(Refusal::AuthFailed.into())
    }
}

fn bare(token: &str) -> &str {
    token.strip_prefix("Bearer ").unwrap_or(token)
}

/// The hash that a password is compared with, and the revision with which it is the user's.
fn hash_of(auth: &Auth, name: &[u8]) -> Result<(Bytes, u64), Refusal> {
    if !auth.is_enabled() {
        return Err(Refusal::NotEnabled);
    }
    let user = auth.user(name).map_err(|_| Refusal::AuthFailed)?;
    if user.options.is_some_and(|options| options.no_password) {
        return Err(Refusal::NoPasswordUser);
    }
    Ok((user.password.clone(), auth.revision()))
}

/// What of a name that may be as long as a request goes into a log line.
fn beginning(name: &str) -> &str {
    &name[..name.floor_char_boundary(limits::LOGGED_NAME_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_name_is_cut_before_a_letter_that_does_not_fit() {
        let first = "a".repeat(limits::LOGGED_NAME_BYTES - 1);
        let long = first.clone() + &"é".repeat(1_000);
        assert_eq!(beginning(&long), first);
        assert_eq!((beginning("alice"), beginning("")), ("alice", ""));
        assert_eq!(beginning(&"b".repeat(1_000)).len(), limits::LOGGED_NAME_BYTES);
    }
}
