//! `--auth-token`, `--auth-token-ttl` and `--bcrypt-cost`: as etcd takes them apart (`server/auth/store.go`), with a word
//! more about what is wrong.

use std::{path::PathBuf, time::Duration};

use super::{Auth, AuthToken, Error, Notice, settings::Settings, value::parse_duration};
use crate::limits;

/// How long a signed token lives that nothing is said of (etcd's `DefaultTTL`).
const JWT_TTL: Duration = Duration::from_secs(5 * 60);

pub fn auth(settings: &Settings, notices: &mut Vec<Notice>) -> Result<Auth, Error> {
    let text = settings.text("auth-token");
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let options = options(parts).map_err(|what| refusal(text, &what))?;
    let token = match kind {
        "" => AuthToken::None,
        "simple" => {
            notices.push(Notice::warn("simple token is not cryptographically signed"));
            let ttl = Duration::from_secs(settings.uint("auth-token-ttl"));
            AuthToken::Simple { ttl: if ttl.is_zero() { limits::TOKEN_TTL } else { ttl } }
        }
        "jwt" => jwt(&options, notices).map_err(|what| refusal(text, &what))?,
        _ => return Err(refusal(text, "a token is simple or jwt")),
    };
    Ok(Auth { token, bcrypt_cost: bcrypt_cost(settings, notices) })
}

fn refusal(text: &str, what: &str) -> Error {
    Error::Refused(format!("auth: invalid auth options: --auth-token={text:?}: {what}"))
}

fn options<'a>(parts: impl Iterator<Item = &'a str>) -> Result<Vec<(&'a str, &'a str)>, String> {
    let mut options: Vec<(&str, &str)> = Vec::new();
    for part in parts {
        let pair = part.split_once('=').filter(|(_, value)| !value.contains('='));
        let (name, value) = pair.ok_or_else(|| format!("{part:?} is not of the form name=value"))?;
        if options.iter().any(|(other, _)| *other == name) {
            return Err(format!("{name} is given twice"));
        }
        options.push((name, value));
    }
    Ok(options)
}

fn jwt(options: &[(&str, &str)], notices: &mut Vec<Notice>) -> Result<AuthToken, String> {
    let value = |name| options.iter().find(|(other, _)| *other == name).map_or("", |(_, value)| value);
    let file = |name| Some(value(name)).filter(|path| !path.is_empty()).map(PathBuf::from);
    let ttl = match value("ttl") {
        "" => JWT_TTL,
        text => {
            let nanos = parse_duration(text).ok_or_else(|| format!("ttl={text} is not a duration"))?;
            // Once signed, a token of the past is no good, as with etcd.
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
        }
    };
    const KNOWN: [&str; 4] = ["sign-method", "pub-key", "priv-key", "ttl"];
    let unknown: Vec<&str> =
        options.iter().map(|(name, _)| *name).filter(|name| !KNOWN.contains(name)).collect();
    if !unknown.is_empty() {
        notices.push(Notice::warn("unknown JWT options").with("keys", unknown.join(",")));
    }
    Ok(AuthToken::Jwt {
        sign_method: value("sign-method").to_owned(),
        public_key: file("pub-key"),
        private_key: file("priv-key"),
        ttl,
    })
}

fn bcrypt_cost(settings: &Settings, notices: &mut Vec<Notice>) -> u32 {
    let given = settings.uint("bcrypt-cost");
    match u32::try_from(given) {
        Ok(cost) if limits::BCRYPT_COSTS.contains(&cost) => cost,
        _ => {
            let notice = Notice::warn("use default bcrypt cost instead of the invalid given cost");
            notices.push(notice.with("given-cost", given.to_string()));
            limits::BCRYPT_COST
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{config, refusal},
        *,
    };

    #[test]
    fn tokens_are_of_the_kind_that_is_asked_for() {
        let token = |text: &str| config(&[&format!("--auth-token={text}")]).auth.token;
        let simple = |seconds| AuthToken::Simple { ttl: Duration::from_secs(seconds) };
        assert_eq!(config(&[]).auth, Auth { token: simple(300), bcrypt_cost: 10 });
        assert_eq!(config(&["--auth-token-ttl=7"]).auth.token, simple(7));
        assert_eq!(config(&["--auth-token-ttl=0"]).auth.token, simple(300));
        assert_eq!(token("simple,a=b"), simple(300));
        assert_eq!(token(""), AuthToken::None);
        let jwt = AuthToken::Jwt {
            sign_method: "RS256".into(),
            public_key: Some("a.pub".into()),
            private_key: Some("a.key".into()),
            ttl: Duration::from_secs(600),
        };
        assert_eq!(token("jwt,pub-key=a.pub,priv-key=a.key,sign-method=RS256,ttl=10m"), jwt);
        let AuthToken::Jwt { ttl, public_key, .. } = token("jwt,sign-method=HS256,pub-key=") else {
            panic!("a jwt")
        };
        assert_eq!((ttl, public_key), (JWT_TTL, None));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_a_cost_there_is_not_is_the_default() {
        for text in ["nope", "jwt,a", "jwt,a=b=c", "jwt,ttl=1m,ttl=2m", "jwt,ttl=x", "simple,a"] {
            let message = refusal(&[&format!("--auth-token={text}")]);
            assert!(message.contains("auth: invalid auth options"), "{message}");
        }
        for (cost, taken) in [("4", 4), ("31", 31), ("3", 10), ("32", 10), ("99999999999", 10)] {
            assert_eq!(config(&[&format!("--bcrypt-cost={cost}")]).auth.bcrypt_cost, taken);
        }
    }
}
