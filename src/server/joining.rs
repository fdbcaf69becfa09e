//! A member without data that joins a cluster which is there (`bootstrapExistingClusterNoWAL` in etcd v3.7
//! `etcdserver/bootstrap.go`): it was announced before, and finds itself among the members that others know, by its peer
//! URLs. Its id and the cluster's are theirs to tell.

use std::time::Duration;

use tracing::warn;

use super::{
    StartError,
    identity::{Who, patiently},
};
use crate::{
    config::{self, Config, InitialCluster, Url},
    env::Env,
    inquiry::{Inquiry, Members, form::Versions},
    pb::etcdserverpb as pb,
    state::cluster::Release,
    storage::data_dir::Identity,
    types::{ClusterId, MemberId},
};

/// How long another member may take to say who is there.
const MEMBERS_PATIENCE: Duration = Duration::from_secs(10);

pub async fn join<E: Env>(env: &E, config: &Config) -> Result<Who, StartError> {
    let cluster = config.joined()?;
    let (id, hosts) = ask(env, config, &cluster).await?;
    let member = recognise(env, config, &cluster, &hosts).await?;
    refuse_incompatible(env, config, member, &hosts).await?;
    let learners = hosts.iter().filter(|member| member.is_learner).count() as u64;
    if learners > config.learners_max {
        return Err(refused("membership: too many learner members in cluster"));
    }
    let identity = Identity { member, cluster: id };
    Ok(Who { identity, founded: false, founders: Vec::new(), hosts })
}

fn refused(text: impl Into<String>) -> StartError {
    config::Error::Refused(text.into()).into()
}

/// The first of the others that answers is believed.
async fn ask<E: Env>(
    env: &E,
    config: &Config,
    cluster: &InitialCluster,
) -> Result<(ClusterId, Vec<pb::Member>), StartError> {
    let inquiry = Inquiry::new(env, MEMBERS_PATIENCE);
    let others = cluster.0.iter().filter(|(name, _)| **name != config.name);
    let mut urls: Vec<_> = others.flat_map(|(_, urls)| urls.iter().map(Url::as_str)).collect();
    urls.sort_unstable();
    for url in urls {
        match inquiry.members(url).await {
            Ok(Members { replicates: false, .. }) => {
                return Err(refused(format!(
                    "{url} is of a cluster of another server than Pinion, which replicates in another way: all members \
                     of a cluster are of one of them. A snapshot of it can be restored here (etcdutl snapshot restore)"
                )));
            }
            Ok(Members { members, .. }) if members.is_empty() => {
                return Err(refused(
                    "cannot fetch cluster info from peer urls: failed to get raft cluster member(s) from the given URLs",
                ));
            }
            Ok(Members { cluster, members, .. }) => return Ok((cluster, members)),
            Err(error) => warn!(address = format!("{url}/members"), %error, "failed to get cluster response"),
        }
    }
    Err(refused(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs (is \
         --initial-cluster right, and is any of its other members running?)",
    ))
}

/// Which of the members this one is. Each that they know must be one that the flags name.
async fn recognise<E: Env>(
    env: &E,
    config: &Config,
    cluster: &InitialCluster,
    hosts: &[pb::Member],
) -> Result<MemberId, StartError> {
    let listed = hosts.iter().map(|member| format!("{:x}={}", member.id, member.peer_ur_ls.join(",")));
    let listed = listed.collect::<Vec<_>>().join(" ");
    let failed = |why: String| refused(format!("error validating peerURLs [{listed}]: {why}"));
    if hosts.len() != cluster.0.len() {
        return Err(failed(format!(
            "member count is unequal (the cluster has {}, --initial-cluster names {}; was this member added with \
             `etcdctl member add`?)",
            hosts.len(),
            cluster.0.len()
        )));
    }
    let mut own = None;
    for host in hosts {
        let urls: Result<Vec<_>, _> = host.peer_ur_ls.iter().map(|url| Url::parse(url)).collect();
        let urls = urls.map_err(&failed)?;
        let named: Vec<_> = cluster.0.iter().map(|(name, urls)| (name.clone(), urls.clone())).collect();
        let look = move || config::named(&urls, &named);
        let name = patiently(env, look).await.map_err(|error| {
            failed(format!(
                "PeerURLs: no match found for existing member ({:x}, {:?}), last resolver error ({error})",
                host.id, host.peer_ur_ls
            ))
        })?;
        if name == config.name {
            own = Some(MemberId(host.id));
            // It was here and has published itself, and its data are gone: it must not begin anew as who it was.
            if let (false, Some(url)) = (host.client_ur_ls.is_empty(), host.peer_ur_ls.first()) {
                return Err(StartError::Bootstrapped { member: host.id, url: url.clone() });
            }
        }
    }
    own.ok_or_else(|| failed(format!("{} is none of them", config.name)))
}

/// At least one of the others must be known to be of a release that this one can be together with, and none of another.
async fn refuse_incompatible<E: Env>(
    env: &E,
    config: &Config,
    own: MemberId,
    hosts: &[pb::Member],
) -> Result<(), StartError> {
    let inquiry = Inquiry::new(env, config.request_patience());
    let others = || hosts.iter().filter(|member| member.id != own.0);
    let downgrades = first(others(), |url| inquiry.downgrades(url)).await.unwrap_or(false);
    let (lowest, highest) = match downgrades {
        // The cluster is on its way to this release, from the one after it.
        true => (Release::OURS.after(), Release::OURS.after()),
        false => (Release::LOWEST, Release::OURS),
    };
    let mut is_known = false;
    for member in others() {
        let id = format!("{:x}", member.id);
        let asked = first([member].into_iter(), |url| inquiry.versions(url)).await;
        let Some(Versions { cluster, .. }) = asked else { continue };
        let Some(version) = Release::parse(&cluster) else {
            warn!(
                "remote-member-id" = id,
                "remote-member-cluster-version" = cluster,
                "failed to parse cluster version of remote member"
            );
            continue;
        };
        if !(lowest..=highest).contains(&version) {
            warn!(
                "remote-member-id" = id,
                "remote-member-cluster-version" = %version,
                "minimum-cluster-version-supported" = %lowest,
                "maximum-cluster-version-supported" = %highest,
                "cluster version of remote member is not compatible"
            );
            return Err(refused("incompatible with current running cluster"));
        }
        is_known = true;
    }
    if is_known { Ok(()) } else { Err(refused("incompatible with current running cluster")) }
}

/// The first answer of any of their URLs.
async fn first<'a, T, F: Future<Output = Result<T, crate::inquiry::Error>>>(
    members: impl Iterator<Item = &'a pb::Member>,
    ask: impl Fn(&'a str) -> F,
) -> Option<T> {
    for member in members {
        for url in &member.peer_ur_ls {
            match ask(url).await {
                Ok(answer) => return Some(answer),
                Err(error) => warn!(
                    address = url,
                    "remote-member-id" = format!("{:x}", member.id),
                    %error,
                    "failed to reach the peer URL"
                ),
            }
        }
    }
    None
}
