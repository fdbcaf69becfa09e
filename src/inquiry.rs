//! What a member asks others in plain HTTP on their peer ports, in etcd's form: who is in the cluster, which versions run,
//! hashes of what is stored, a promotion that only the leader can see to.
//!
//! Each question has a connection of its own, and bounds of time and bytes: there are few, and none is on the way of a
//! request. Nothing here decides anything, and what replicates goes over links of its own. The form of questions and
//! answers is in [`form`], for those who answer too.

mod exchange;
pub mod form;

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::{
    env::Env,
    limits,
    pb::etcdserverpb as pb,
    types::{ClusterId, url::Url},
};
use exchange::{Answer, Question};
use form::{CLUSTER_ID, HashAnswer, HashQuestion, Versions};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Url(String),
    #[error("connect {url}: {source}")]
    Connect { url: String, source: io::Error },
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("the answer is longer than {0} bytes, or ends too early")]
    Body(usize),
    /// An answer, though not one to the question.
    #[error("unexpected answer {status}: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("the answer makes no sense: {0}")]
    Nonsense(String),
}

/// Who is in a cluster.
#[derive(Clone, Debug)]
pub struct Members {
    pub cluster: ClusterId,
    pub members: Vec<pb::Member>,
    /// Whoever answered replicates as members of this server do.
    pub replicates: bool,
}

/// Somebody to ask with. Cheap to clone.
#[derive(Clone)]
pub struct Inquiry<E> {
    env: E,
    /// A question that takes longer is not answered.
    patience: Duration,
}

impl<E: Env> Inquiry<E> {
    pub fn new(env: &E, patience: Duration) -> Self {
        Self { env: env.clone(), patience }
    }

    pub fn within(&self, patience: Duration) -> Self {
        Self::new(&self.env, patience)
    }

    /// The cluster as whoever listens there knows it.
    pub async fn members(&self, peer_url: &str) -> Result<Members, Error> {
        let answer = self.get(peer_url, form::MEMBERS).await?;
        let members = form::parse_members(&answer.body)?;
        let id = answer.headers.get(CLUSTER_ID).and_then(form::parse_id);
        let id = id.ok_or_else(|| Error::Nonsense(format!("it has no {CLUSTER_ID}")))?;
        let replicates = answer.headers.contains_key(form::PINION);
        Ok(Members { cluster: ClusterId(id), members, replicates })
    }

    pub async fn versions(&self, peer_url: &str) -> Result<Versions, Error> {
        form::parse(&self.get(peer_url, form::VERSION).await?.body)
    }

    /// Whether the cluster is on its way down to an older release.
    pub async fn downgrades(&self, peer_url: &str) -> Result<bool, Error> {
        match &self.get(peer_url, form::DOWNGRADE).await?.body[..] {
            b"true" => Ok(true),
            b"false" => Ok(false),
            other => Err(Error::Nonsense(String::from_utf8_lossy(other).into_owned())),
        }
    }

    /// The hash of what is stored there, up to a revision. It may be refused for what that member has, see
    /// [`form::HashRefusal`].
    pub async fn hash(&self, peer_url: &str, cluster: ClusterId, revision: i64) -> Result<HashAnswer, Error> {
        let cluster = HeaderValue::from_str(&format!("{:x}", cluster.0)).expect("digits");
        let headers = [(CLUSTER_ID, cluster), (header::CONTENT_TYPE, form::JSON)];
        let body = form::write(&HashQuestion { revision });
        let answer = self.ask(peer_url, Method::GET, form::HASH, headers.into_iter().collect(), body).await?;
        form::parse(&answer.accepted()?.body)
    }

    /// Has the leader give a learner a vote, on behalf of whoever has this token; the members there are then.
    pub async fn promote(
        &self,
        peer_url: &str,
        member: u64,
        token: Option<&str>,
    ) -> Result<Vec<pb::Member>, Error> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token.and_then(|token| HeaderValue::from_str(token).ok()) {
            headers.insert(header::AUTHORIZATION, token);
        }
        let path = format!("{}{member}", form::PROMOTE);
        let answer = self.ask(peer_url, Method::POST, &path, headers, Bytes::new()).await?;
        form::parse_members(&answer.accepted()?.body)
    }

    async fn get(&self, peer_url: &str, path: &str) -> Result<Answer, Error> {
        self.ask(peer_url, Method::GET, path, HeaderMap::new(), Bytes::new()).await?.accepted()
    }

    async fn ask(
        &self,
        peer_url: &str,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Error> {
        let url = Url::parse(peer_url).map_err(Error::Url)?;
        let question = Question { method, url: &url, path, headers, body };
        let asking = exchange::ask(&self.env, question, limits::INQUIRY_BYTES_MAX);
        let late = async {
            self.env.sleep(self.patience).await;
            Err(Error::Late(self.patience))
        };
        futures_lite::future::or(asking, late).await
    }
}

impl Answer {
    fn accepted(self) -> Result<Self, Error> {
        match self.status {
            StatusCode::OK => Ok(self),
            status => {
                let text = String::from_utf8_lossy(&self.body).trim_end().to_owned();
                Err(Error::Refused { status, text })
            }
        }
    }
}

#[cfg(test)]
mod tests;
