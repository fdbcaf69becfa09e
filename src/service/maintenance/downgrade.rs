//! `Maintenance.Downgrade`: whether the cluster may go down to the release before, that it shall, and that it shall not
//! (etcd v3.7 `etcdserver/v3_server.go` and `etcdserver/version`).

use tracing::warn;

use crate::{
    pb::etcdserverpb::{self as pb, downgrade_request::DowngradeAction},
    service::{Api, Caller, Error},
    state::{
        Principal,
        cluster::{Release, SetDowngrade},
    },
};

pub async fn downgrade(
    api: &Api,
    caller: &Caller,
    request: pb::DowngradeRequest,
) -> Result<pb::DowngradeResponse, Error> {
    let who = &api.admin(caller)?;
    let version = match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate) => {
            let target = parse(&request.version).ok_or(Error::DowngradeFormat)?;
            let before = cluster_version(api);
            check(api, target).await?;
            before
        }
        Ok(DowngradeAction::Enable) => {
            enable(api, caller, who, &request.version).await.inspect_err(|error| {
                warn!(error = %error.grpc().1, "reject downgrade request");
            })?;
            cluster_version(api)
        }
        Ok(DowngradeAction::Cancel) => {
            if let Err(error) = cancel(api, caller, who).await {
                warn!(error, "failed to cancel downgrade");
            }
            cluster_version(api)
        }
        Err(_) => return Err(Error::UnknownMethod),
    };
    let mut header = None;
    api.fill(&mut header);
    Ok(pb::DowngradeResponse { header, version })
}

/// Without its patch level, which is how clients see it here.
fn cluster_version(api: &Api) -> String {
    let Release { major, minor } = api.cluster_version();
    format!("{major}.{minor}")
}

async fn check(api: &Api, target: Release) -> Result<(), Error> {
    api.shard().linearize().await?;
    api.shard().with_state(|state| {
        let cluster = state.cluster();
        if cluster.version().before() != Some(target) {
            return Err(Error::DowngradeTarget);
        }
        if cluster.downgrade().is_some() { Err(Error::DowngradeUnderWay) } else { Ok(()) }
    })
}

async fn enable(api: &Api, caller: &Caller, who: &Principal, version: &str) -> Result<(), Error> {
    let target = parse(version).ok_or(Error::DowngradeFormat)?;
    check(api, target).await?;
    api.shard_of(caller).write(who, SetDowngrade { target: Some(target) }).await?;
    Ok(())
}

/// The caller is told nothing of why not, as in etcd.
async fn cancel(api: &Api, caller: &Caller, who: &Principal) -> Result<(), String> {
    let text = |error: crate::shard::Error| Error::from(error).grpc().1.into_owned();
    api.shard().linearize().await.map_err(text)?;
    if api.shard().with_state(|state| state.cluster().downgrade().is_none()) {
        return Err("etcdserver: no inflight downgrade job".to_owned());
    }
    api.shard_of(caller).write(who, SetDowngrade { target: None }).await.map_err(text)
}

/// `MAJOR.MINOR.PATCH` or `MAJOR.MINOR`, as go-semver reads them; neither the patch level nor what follows it counts.
fn parse(version: &str) -> Option<Release> {
    whole(version).or_else(|| whole(&format!("{version}.0")))
}

fn whole(version: &str) -> Option<Release> {
    let identifier = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let (version, metadata) = version.split_once('+').unwrap_or((version, ""));
    let (version, before) = version.split_once('-').unwrap_or((version, ""));
    if !identifier(metadata) || !identifier(before) {
        return None;
    }
    let mut parts = version.splitn(3, '.').map(|part| {
        let number = part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok())??;
        u64::try_from(number).ok()
    });
    let (major, minor, _patch) = (parts.next()??, parts.next()??, parts.next()??);
    Some(Release { major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read so by upstream 3.7.1.
    #[test]
    fn versions_are_read_as_in_etcd() {
        for version in ["3.6", "3.6.0", "3.6.5", "03.6", "3.6.0-rc1", "3.6.0+x", "3.6.0-a.b+c"] {
            assert_eq!(parse(version), Some(Release { major: 3, minor: 6 }), "{version}");
        }
        for version in
            ["", "3", "x", "v3.6", "3.6.1.2", "3.6.", "3.-6.0", "3.6-rc", "3.6.0-_", "3.99999999999999999999"]
        {
            assert_eq!(parse(version), None, "{version}");
        }
    }
}
