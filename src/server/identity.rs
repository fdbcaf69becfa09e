//! Who this member is: derived from the flags at the first start, remembered from then on.

use super::StartError;
use crate::{
    config::{Bootstrap, Config},
    env::Env,
    storage::data_dir::{DataDir, Identity},
};

#[derive(Clone, Copy, Debug)]
pub struct Who {
    pub identity: Identity,
    /// It was remembered: there must be a log.
    pub founded: bool,
}

/// The remembered identity, or the one the flags give.
pub async fn load_or_derive<E: Env>(
    env: &E,
    config: &Config,
    data_dir: &DataDir<E>,
) -> Result<Who, StartError> {
    if let Some(identity) = Identity::read(env, &data_dir.identity()).await? {
        return Ok(Who { identity, founded: true });
    }
    let Bootstrap { member_id: member, cluster_id: cluster } = config.bootstrap()?;
    Ok(Who { identity: Identity { member, cluster }, founded: false })
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
