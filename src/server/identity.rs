//! Who this member is: derived from the flags at the first start, remembered from then on.

use super::StartError;
use crate::{
    config::{self, Bootstrap, Config, Founder},
    env::Env,
    pb::etcdserverpb as pb,
    storage::data_dir::{DataDir, Identity},
};

#[derive(Clone, Debug)]
pub struct Who {
    pub identity: Identity,
    /// It was remembered: there must be a log.
    pub founded: bool,
    /// Who is in the cluster when it begins; nobody if it was begun before.
    pub founders: Vec<pb::Member>,
}

/// The remembered identity, or the one the flags give.
pub async fn load_or_derive<E: Env>(
    env: &E,
    config: &Config,
    data_dir: &DataDir<E>,
) -> Result<Who, StartError> {
    if let Some(identity) = Identity::read(env, &data_dir.identity()).await? {
        return Ok(Who { identity, founded: true, founders: Vec::new() });
    }
    if config.join_existing {
        return Err(config::Error::Refused(
            "--initial-cluster-state=existing without data asks to join a cluster, which is not built yet"
                .to_owned(),
        )
        .into());
    }
    let Bootstrap { member_id: member, cluster_id: cluster, founders } = config.bootstrap()?;
    let founders = founders.into_iter().map(member_of).collect();
    Ok(Who { identity: Identity { member, cluster }, founded: false, founders })
}

/// What all founders know of one of them: its clients' URLs it publishes itself.
fn member_of(founder: Founder) -> pb::Member {
    let Founder { id, name, peer_urls } = founder;
    pb::Member { id: id.0, name, peer_ur_ls: peer_urls, ..pb::Member::default() }
}

impl Who {
    /// Everything else that a start needs to find is on disk.
    pub async fn settle<E: Env>(&self, env: &E, data_dir: &DataDir<E>) -> Result<(), StartError> {
        if !self.founded {
            self.identity.write(env, &data_dir.identity()).await?;
        }
        Ok(())
    }
}
