//! Several servers on one machine that are one cluster, each with a directory and ports of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Error, Launch, PORT_ATTEMPTS, Server, io, ports};
use crate::prom;

/// What a member is started with that joins a cluster which is there. It has to be added before it begins.
pub fn joining(members: &[&Server], name: &str, data_dir: PathBuf) -> Result<Server, Error> {
    let ports = ports::free().map_err(io("find free ports"))?;
    let first = members.first().expect("a cluster has a member");
    let launch = first.launch.clone().at(data_dir).arg("--initial-cluster-state=existing");
    let known = |member: &&Server| {
        let (name, _) = member.launch.among.as_ref().expect("it is in a cluster");
        format!("{name}={}", member.peer_url())
    };
    let mut all: Vec<String> = members.iter().map(known).collect();
    all.push(format!("{name}=http://{}:{}", launch.host, ports.peer));
    Ok(Server::at(launch.among(name.to_owned(), all.join(",")), ports))
}

/// How often it is looked who leads.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub struct Cluster {
    pub members: Vec<Server>,
}

impl Cluster {
    /// Founds a cluster of so many members and waits until each is ready. `launch` gives what the member of a number is started
    /// with; names and peer URLs are added here.
    pub fn start(count: usize, launch: impl Fn(usize) -> Launch) -> Result<Self, Error> {
        for attempt in 1.. {
            let ports = (0..count).map(|_| ports::free()).collect::<Result<Vec<_>, _>>();
            let ports = ports.map_err(io("find free ports"))?;
            let peer =
                |(n, ports): (usize, &ports::Ports)| format!("m{n}=http://{}:{}", launch(n).host, ports.peer);
            let initial_cluster = ports.iter().enumerate().map(peer).collect::<Vec<_>>().join(",");
            let member =
                |(n, ports)| Server::at(launch(n).among(format!("m{n}"), initial_cluster.clone()), ports);
            let mut cluster = Self { members: ports.into_iter().enumerate().map(member).collect() };
            match cluster.begin() {
                Ok(()) => return Ok(cluster),
                Err(Error::Exited { tail, .. })
                    if attempt < PORT_ATTEMPTS && tail.contains("address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop returns on its last attempt")
    }

    /// None is ready before a quorum runs.
    fn begin(&mut self) -> Result<(), Error> {
        let begun = self.members.iter_mut().map(Server::begin).collect::<Result<Vec<_>, _>>()?;
        for (member, since) in self.members.iter_mut().zip(begun) {
            member.wait_until_ready(since)?;
            member.ready_after = since.elapsed();
        }
        Ok(())
    }

    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.members.iter().map(Server::addr).collect()
    }

    /// The member that says it leads, once one does.
    pub fn leader(&self, patience: Duration) -> Result<usize, Error> {
        let since = Instant::now();
        loop {
            // Two may say so for a moment, of which the older one is about to hear.
            let leads = |member: &Server| {
                member.child.is_some()
                    && prom::scrape(member.addr())
                        .is_ok_and(|page| page.value("etcd_server_is_leader", &[]) == Some(1.0))
            };
            if let Some(leader) = self.members.iter().position(leads) {
                return Ok(leader);
            }
            if since.elapsed() > patience {
                return Err(Error::NoLeader { after: patience });
            }
            std::thread::sleep(LOOK);
        }
    }
}
