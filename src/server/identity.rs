//! Who this member is: derived from the flags at the first start, or told by the cluster it joins; remembered from then
//! on.

use std::time::Duration;

use tracing::{info, warn};

use super::{StartError, joining};
use crate::{
    config::{self, Bootstrap, Config, Founder},
    env::Env,
    inquiry::{Inquiry, Members},
    limits,
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
    /// Who is in the cluster that it joins now: from them it will hear of everything.
    pub hosts: Vec<pb::Member>,
}

/// The remembered identity, or the one the flags give.
pub async fn load_or_derive<E: Env>(
    env: &E,
    config: &Config,
    data_dir: &DataDir<E>,
) -> Result<Who, StartError> {
    if let Some(identity) = Identity::read(env, &data_dir.identity()).await? {
        return Ok(Who { identity, founded: true, founders: Vec::new(), hosts: Vec::new() });
    }
    let who = match config.join_existing {
        true => joining::join(env, config).await?,
        false => {
            let bootstrap = derive(env, config).await?;
            refuse_another_start(env, config, &bootstrap).await?;
            of(bootstrap)
        }
    };
    info!(
        "local-member-id" = format!("{:x}", who.identity.member.0),
        "cluster-id" = format!("{:x}", who.identity.cluster.0),
        "starting local member"
    );
    Ok(who)
}

/// What the flags say of a cluster that is founded with data from elsewhere: nobody else is asked.
pub async fn founder<E: Env>(env: &E, config: &Config) -> Result<Who, StartError> {
    Ok(of(derive(env, config).await?))
}

async fn derive<E: Env>(env: &E, config: &Config) -> Result<Bootstrap, StartError> {
    let flags = config.clone();
    Ok(patiently(env, move || flags.bootstrap()).await?)
}

fn of(bootstrap: Bootstrap) -> Who {
    let Bootstrap { member_id: member, cluster_id: cluster, founders } = bootstrap;
    let founders = founders.into_iter().map(member_of).collect();
    Who { identity: Identity { member, cluster }, founded: false, founders, hosts: Vec::new() }
}

/// What all founders know of one of them: its clients' URLs it publishes itself.
fn member_of(founder: Founder) -> pb::Member {
    let Founder { id, name, peer_urls } = founder;
    pb::Member { id: id.0, name, peer_ur_ls: peer_urls, ..pb::Member::default() }
}

/// Where names may not be known yet, as in a set of containers that start together: looks again for a while.
pub async fn patiently<E: Env, T: Send + 'static>(
    env: &E,
    look: impl Fn() -> Result<T, config::Error> + Clone + Send + 'static,
) -> Result<T, config::Error> {
    let began = env.now();
    loop {
        match env.offload(look.clone()).await {
            Err(config::Error::Unresolved(error)) if env.now().since(began) < limits::RESOLVE_PATIENCE => {
                warn!(error, "retry-interval" = ?limits::RESOLVE_PAUSE, "failed to resolve URL Host");
                env.sleep(limits::RESOLVE_PAUSE).await;
            }
            looked => return looked,
        }
    }
}

/// A member whose data are gone must not begin again as if it had never promised anything: if another founder knows it by
/// what it published, it was there before.
async fn refuse_another_start<E: Env>(
    env: &E,
    config: &Config,
    bootstrap: &Bootstrap,
) -> Result<(), StartError> {
    let inquiry = Inquiry::new(env, Duration::from_secs(1));
    let id = bootstrap.member_id;
    let others = bootstrap.founders.iter().filter(|founder| founder.name != config.name);
    let mut urls: Vec<_> = others.flat_map(|founder| &founder.peer_urls).collect();
    urls.sort_unstable();
    for url in urls {
        // The first one that answers is believed.
        let Ok(Members { members, .. }) = inquiry.members(url).await else { continue };
        let was_there = |member: &pb::Member| member.id == id.0 && !member.client_ur_ls.is_empty();
        if members.iter().any(was_there) {
            return Err(StartError::Bootstrapped { member: id.0, url: url.clone() });
        }
        break;
    }
    Ok(())
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
