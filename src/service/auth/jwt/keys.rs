//! The keys that sign tokens and find them good: one way to sign, of a private key, a public one, or both that belong
//! together.

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, UnparsedPublicKey, VerificationAlgorithm},
};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::JwtError;
use crate::service::Error;

const PUBLIC: &str = "pub-key";
const PRIVATE: &str = "priv-key";

pub(super) struct Keys {
    method: &'static str,
    way: Way,
}

enum Way {
    Secret(Box<hmac::Key>),
    Pair { private: Option<Private>, public: UnparsedPublicKey<Vec<u8>> },
}

enum Private {
    Rsa(RsaKeyPair, &'static signature::RsaSignatureEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// What there is to know of a method.
enum Kind {
    Hmac(hmac::Algorithm),
    Rsa(&'static dyn VerificationAlgorithm, &'static signature::RsaSignatureEncoding),
    Ec(&'static dyn VerificationAlgorithm, &'static signature::EcdsaSigningAlgorithm),
    Ed,
}

fn kind(method: &str) -> Option<(&'static str, Kind)> {
    use signature as s;
    Some(match method {
        "HS256" => ("HS256", Kind::Hmac(hmac::HMAC_SHA256)),
        "HS384" => ("HS384", Kind::Hmac(hmac::HMAC_SHA384)),
        "HS512" => ("HS512", Kind::Hmac(hmac::HMAC_SHA512)),
        "RS256" => ("RS256", Kind::Rsa(&s::RSA_PKCS1_2048_8192_SHA256, &s::RSA_PKCS1_SHA256)),
        "RS384" => ("RS384", Kind::Rsa(&s::RSA_PKCS1_2048_8192_SHA384, &s::RSA_PKCS1_SHA384)),
        "RS512" => ("RS512", Kind::Rsa(&s::RSA_PKCS1_2048_8192_SHA512, &s::RSA_PKCS1_SHA512)),
        "PS256" => ("PS256", Kind::Rsa(&s::RSA_PSS_2048_8192_SHA256, &s::RSA_PSS_SHA256)),
        "PS384" => ("PS384", Kind::Rsa(&s::RSA_PSS_2048_8192_SHA384, &s::RSA_PSS_SHA384)),
        "PS512" => ("PS512", Kind::Rsa(&s::RSA_PSS_2048_8192_SHA512, &s::RSA_PSS_SHA512)),
        "ES256" => ("ES256", Kind::Ec(&s::ECDSA_P256_SHA256_FIXED, &s::ECDSA_P256_SHA256_FIXED_SIGNING)),
        "ES384" => ("ES384", Kind::Ec(&s::ECDSA_P384_SHA384_FIXED, &s::ECDSA_P384_SHA384_FIXED_SIGNING)),
        "ES512" => ("ES512", Kind::Ec(&s::ECDSA_P521_SHA512_FIXED, &s::ECDSA_P521_SHA512_FIXED_SIGNING)),
        "EdDSA" => ("EdDSA", Kind::Ed),
        _ => return None,
    })
}

impl Keys {
    pub(super) fn new(method: &str, public: Option<&[u8]>, private: Option<&[u8]>) -> Result<Self, JwtError> {
        let (method, kind) = kind(method).ok_or_else(|| JwtError::Method(method.to_owned()))?;
        let (public, private) = (filled(public), filled(private));
        let refused = |option, what| JwtError::Key { option, method: method.to_owned(), what };
        let algorithm: &'static dyn VerificationAlgorithm = match &kind {
            Kind::Hmac(algorithm) => {
                let secret = private.ok_or(JwtError::Missing(PRIVATE))?;
                return Ok(Self { method, way: Way::Secret(Box::new(hmac::Key::new(*algorithm, secret))) });
            }
            Kind::Rsa(algorithm, _) | Kind::Ec(algorithm, _) => *algorithm,
            Kind::Ed => &signature::ED25519,
        };
        let private = private.map(|pem| {
            let der =
                der(pem, "PRIVATE KEY").ok_or_else(|| refused(PRIVATE, "it is no PEM of a private key"))?;
            Private::new(&kind, &der)
                .ok_or_else(|| refused(PRIVATE, "it is a key of another kind, or too short"))
        });
        let private = private.transpose()?;
        let public = public.map(|pem| {
            let der = der(pem, "PUBLIC KEY");
            der.ok_or_else(|| refused(PUBLIC, "it is no PEM of a public key"))
        });
        let public = match (public.transpose()?, &private) {
            (Some(public), _) => public,
            (None, Some(private)) => private.public(),
            (None, None) => return Err(JwtError::Missing("pub-key or priv-key")),
        };
        let keys =
            Self { method, way: Way::Pair { private, public: UnparsedPublicKey::new(algorithm, public) } };
        match keys.sign(method.as_bytes()) {
            Ok(signature) if !keys.verify(method.as_bytes(), &signature) => Err(JwtError::Mismatch),
            Ok(_) | Err(_) => Ok(keys),
        }
    }

    pub(super) fn method(&self) -> &'static str {
        self.method
    }

    pub(super) fn verify(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.way {
            Way::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
            Way::Pair { public, .. } => public.verify(signed, signature).is_ok(),
        }
    }

    pub(super) fn sign(&self, signed: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.way {
            Way::Secret(key) => Ok(hmac::sign(key, signed).as_ref().to_vec()),
            Way::Pair { private: Some(private), .. } => private.sign(signed).ok_or(Error::NotSigned),
            Way::Pair { private: None, .. } => Err(Error::VerifyOnly),
        }
    }
}

impl Private {
    fn new(kind: &Kind, der: &[u8]) -> Option<Self> {
        let key = match kind {
            Kind::Rsa(_, padding) => {
                let key = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
                Private::Rsa(key.ok()?, padding)
            }
            Kind::Ec(_, algorithm) => Private::Ec(EcdsaKeyPair::from_private_key_der(algorithm, der).ok()?),
            Kind::Ed => Private::Ed(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?),
            Kind::Hmac(_) => return None,
        };
        Some(key)
    }

    fn public(&self) -> Vec<u8> {
        match self {
            Private::Rsa(key, _) => key.public_key().as_ref().to_vec(),
            Private::Ec(key) => key.public_key().as_ref().to_vec(),
            Private::Ed(key) => key.public_key().as_ref().to_vec(),
        }
    }

    fn sign(&self, signed: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Private::Rsa(key, padding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*padding, &random, signed, &mut signature).ok()?;
                Some(signature)
            }
            Private::Ec(key) => Some(key.sign(&random, signed).ok()?.as_ref().to_vec()),
            Private::Ed(key) => Some(key.sign(signed).as_ref().to_vec()),
        }
    }
}

/// An empty file is none, as in etcd.
fn filled(file: Option<&[u8]>) -> Option<&[u8]> {
    file.filter(|file| !file.is_empty())
}

/// What stands in the first part of a PEM file whose name ends so, as in `RSA PRIVATE KEY`.
fn der(pem: &[u8], name: &str) -> Option<Vec<u8>> {
    let text = str::from_utf8(pem).ok()?;
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        let label = line.strip_prefix("-----BEGIN ").and_then(|line| line.strip_suffix("-----"));
        label.is_some_and(|label| label.ends_with(name))
    })?;
    let body: String = lines.take_while(|line| !line.starts_with("-----END")).collect();
    STANDARD.decode(body).ok()
}
