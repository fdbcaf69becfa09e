//! What a member does when it starts for the first time: found a cluster with others (`VerifyBootstrap` in etcd v3.7
//! `config/config.go`), or join one that is there (`VerifyJoinExisting`).
//!
//! A member with data does not ask. Each founder reads the same flags and must come to the same list, since the logs of
//! all of them begin with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, ToSocketAddrs},
};

use super::{Config, Error, Scheme, Url, cluster_id, member_id};
use crate::types::{ClusterId, MemberId};

/// The cluster that `--initial-cluster` founds, and who this member is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    pub member_id: MemberId,
    pub cluster_id: ClusterId,
    /// In order of id, this member among them.
    pub founders: Vec<Founder>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    pub id: MemberId,
    pub name: String,
    /// Sorted.
    pub peer_urls: Vec<String>,
}

/// `--initial-cluster`: members by name, with their URLs, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialCluster(pub BTreeMap<String, Vec<Url>>);

impl InitialCluster {
    fn parse(text: &str) -> Result<Self, Error> {
        let mut members: BTreeMap<String, Vec<Url>> = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
            let url = Url::parse(url)
                .map_err(|reason| Error::Refused(format!("error setting up initial cluster: {reason}")))?;
            members.entry(name.to_owned()).or_default().push(url);
        }
        members.values_mut().for_each(|urls| urls.sort());
        Ok(Self(members))
    }

    /// As etcd writes it.
    fn text(&self) -> String {
        let pairs =
            self.0.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
        let mut pairs: Vec<String> = pairs.collect();
        pairs.sort();
        pairs.join(",")
    }

    /// The URLs of the member of this name.
    fn of(&self, name: &str) -> Result<&[Url], Error> {
        let urls = self.0.get(name).map(Vec::as_slice);
        urls.ok_or_else(|| {
            Error::Refused(format!("couldn't find local name {name:?} in the initial cluster configuration"))
        })
    }

    fn refuse_duplicates(&self) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        if self.0.values().flatten().all(|url| seen.insert(url)) {
            return Ok(());
        }
        Err(Error::Refused(format!("initial cluster {} has duplicate url", self.text())))
    }
}

impl Config {
    /// What `--initial-cluster` and its companions say of a cluster that is to be founded. May look up names, which takes
    /// long if nobody answers.
    pub fn bootstrap(&self) -> Result<Bootstrap, Error> {
        let cluster = InitialCluster::parse(&self.initial_cluster)?;
        self.check_advertised(cluster.of(&self.name)?)?;
        cluster.refuse_duplicates()?;
        let founder = |(name, urls): (&String, &Vec<Url>)| {
            let peer_urls: Vec<String> = urls.iter().map(Url::to_string).collect();
            let id = member_id(&peer_urls, &self.initial_cluster_token);
            (name == &self.name, Founder { id, name: name.clone(), peer_urls })
        };
        let mut founders: Vec<_> = cluster.0.iter().map(founder).collect();
        founders.sort_by_key(|(_, founder)| founder.id);
        let own = founders.iter().find(|(is_own, _)| *is_own).map(|(_, founder)| founder.id);
        let founders: Vec<_> = founders.into_iter().map(|(_, founder)| founder).collect();
        let ids: Vec<_> = founders.iter().map(|founder| founder.id).collect();
        if let Some([one, _]) = ids.windows(2).find(|ids| ids[0] == ids[1]) {
            return Err(Error::Refused(format!("member exists with identical ID {:x}", one.0)));
        }
        if ids.contains(&MemberId(0)) {
            return Err(Error::Refused("cannot use 0 as member id".to_owned()));
        }
        let cluster_id = cluster_id(&ids);
        Ok(Bootstrap { member_id: own.expect("the own name was found"), cluster_id, founders })
    }

    /// The members that a member without data asks for the cluster they are in.
    pub fn joined(&self) -> Result<InitialCluster, Error> {
        let cluster = InitialCluster::parse(&self.initial_cluster)?;
        cluster.of(&self.name)?;
        cluster.refuse_duplicates()?;
        Ok(cluster)
    }

    /// What others are told of this member is what it says itself.
    fn check_advertised(&self, initial: &[Url]) -> Result<(), Error> {
        let advertised = &self.advertise_peer_urls;
        let advertised_text = || advertised.iter().map(Url::as_str).collect::<Vec<_>>().join(",");
        let pairs = |urls: &[Url]| {
            urls.iter().map(|url| format!("{}={url}", self.name)).collect::<Vec<_>>().join(",")
        };
        let missing = |all: &[Url], from: &[Url]| -> Vec<Url> {
            all.iter().filter(|url| !from.contains(url)).cloned().collect()
        };
        let reason = match same_addresses(initial, advertised) {
            Ok(()) => return Ok(()),
            Err(unresolved @ Error::Unresolved(_)) => return Err(unresolved),
            Err(reason) => reason,
        };
        let only_initial = missing(initial, advertised);
        if !only_initial.is_empty() {
            return Err(Error::Refused(format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({reason})",
                pairs(&only_initial),
                advertised_text()
            )));
        }
        let only_advertised = missing(advertised, initial);
        let urls = only_advertised.iter().map(Url::as_str).collect::<Vec<_>>().join(",");
        Err(Error::Refused(format!(
            "--initial-advertise-peer-urls has {urls} but missing from --initial-cluster={}",
            pairs(advertised)
        )))
    }
}

/// Whose URLs these are, of members by name.
pub fn named(urls: &[Url], members: &[(String, Vec<Url>)]) -> Result<String, Error> {
    let mut last = Error::Refused("there is no other member".to_owned());
    for (name, theirs) in members {
        match same_addresses(urls, theirs) {
            Ok(()) => return Ok(name.clone()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Equal as text, or naming the same addresses (`localhost` and `127.0.0.1`), as etcd compares them; else why not.
fn same_addresses(a: &[Url], b: &[Url]) -> Result<(), Error> {
    let quoted =
        |urls: &[Url]| urls.iter().map(|url| format!("{:?}", url.as_str())).collect::<Vec<_>>().join(" ");
    if a.len() != b.len() {
        return Err(Error::Refused(format!("len([{}]) != len([{}])", quoted(a), quoted(b))));
    }
    let sorted = |urls: &[Url]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    if sorted(a) == sorted(b) {
        return Ok(());
    }
    let addresses = |urls: &[Url]| -> Result<Vec<(Scheme, SocketAddr)>, Error> {
        let mut addresses = urls.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        addresses.sort();
        Ok(addresses)
    };
    let (a, b) = (addresses(a)?, addresses(b)?);
    match a.iter().zip(&b).find(|(a, b)| a != b) {
        None => Ok(()),
        Some(((_, a), (_, b))) => Err(Error::Refused(format!("resolved urls: \"{a}\" != \"{b}\""))),
    }
}

fn address(url: &Url) -> Result<(Scheme, SocketAddr), Error> {
    let failed = |why: String| Error::Unresolved(format!("failed to resolve \"{url}\" ({why})"));
    let found = (url.host(), url.port()).to_socket_addrs().map_err(|error| failed(error.to_string()))?;
    let found = found.min_by_key(|address| !address.is_ipv4());
    Ok((url.scheme(), found.ok_or_else(|| failed("it has no address".to_owned()))?))
}

#[cfg(test)]
mod tests;
