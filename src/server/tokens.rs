//! The keys that `--auth-token` names, read once, before anything else is begun.

use std::{fs, path::Path};

use super::StartError;
use crate::{
    config::{self, AuthToken},
    service::auth::{Jwt, JwtOptions, Options, Tokens},
};

pub fn options(config: &config::Auth) -> Result<Options, StartError> {
    let tokens = match &config.token {
        AuthToken::None => Tokens::None,
        AuthToken::Simple { ttl } => Tokens::Simple { ttl: *ttl },
        AuthToken::Jwt { sign_method, public_key, private_key, ttl } => {
            let read = |path: &Path| {
                fs::read(path).map_err(|source| StartError::TokenKey { path: path.to_owned(), source })
            };
            Tokens::Jwt(Jwt::new(JwtOptions {
                method: sign_method.clone(),
                public_key: public_key.as_deref().map(read).transpose()?,
                private_key: private_key.as_deref().map(read).transpose()?,
                ttl: *ttl,
            })?)
        }
    };
    Ok(Options { tokens, bcrypt_cost: config.bcrypt_cost })
}
