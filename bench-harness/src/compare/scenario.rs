//! The seam between the comparison and what is compared: a scenario gives jobs. A file per kind of scenario has its
//! options, its layout and its jobs.

pub mod auth;
pub mod hostile;
pub mod job;
pub mod join;
pub mod kubernetes;
pub mod leader_loss;
pub mod lease;
pub mod list_storm;
pub mod load;
pub mod maintenance;
pub mod memory;
pub mod overwrite;
pub mod restart;
pub mod rolling_restart;
pub mod upheaval;
pub mod watch;
pub mod watch_laggard;

use auth::AuthOptions;
use hostile::HostileOptions;
use job::Job;
use join::JoinOptions;
use kubernetes::KubernetesOptions;
use lease::LeaseOptions;
use list_storm::ListStormOptions;
use load::{LoadOptions, Pattern};
use maintenance::MaintenanceOptions;
use overwrite::OverwriteOptions;
use watch::WatchOptions;
use watch_laggard::{Laggard, LaggardOptions};

use super::probe::ProbeOptions;
use super::testbed::{Fill, StoredOptions};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Puts from many clients, as fast as they go.
    Put,
    /// Puts from one client.
    Put1,
    /// Linearizable gets of one key each.
    Get,
    GetSerializable,
    /// Compare the key's revision and put (harness only).
    Txn,
    /// Gets and puts (harness only).
    Mixed,
    /// Puts at a fixed rate, latency from the intended start.
    Open,
    /// Puts with few and with many keys present (harness only).
    Keys,
    /// From the start on a directory with many keys to the first answer, after SIGTERM and after SIGKILL.
    Restart,
    /// Resident memory with many keys.
    Memory,
    /// Put latency while a compaction, a defragmentation, a snapshot or a checkpoint runs.
    Maintenance,
    /// Put latency while others list all keys.
    ListStorm,
    /// Disk use while few keys are overwritten very often and compacted.
    Overwrite,
    /// What telling watches costs: many of one key, many of distinct prefixes (harness only).
    Watch,
    /// Put latency while a watch far in the past catches up.
    WatchLaggard,
    /// Puts with authentication off and on, and put latency while others log in.
    Auth,
    /// What one hostile client does to others' latency and to the server's memory, stop and start.
    Hostile,
    /// What kube-apiserver asks: transactions, watch caches, lists in pages, leases, compactions.
    Kubernetes,
    /// Granting, renewing, and very many leases that end together.
    Lease,
    /// How long a cluster takes no write when its leader is killed, and when it is asked to stop.
    LeaderLoss,
    /// What clients see of a restart of one member after the other.
    RollingRestart,
    /// Put latency while a member joins that has to be given everything, and how long that takes.
    Join,
}

/// What each kind of scenario is told.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[group(skip)]
pub struct ScenarioOptions {
    #[arg(long, default_value_t = 256)]
    pub value_size: usize,
    #[command(flatten)]
    pub load: LoadOptions,
    #[command(flatten)]
    pub stored: StoredOptions,
    #[command(flatten)]
    pub probe: ProbeOptions,
    #[command(flatten)]
    pub maintenance: MaintenanceOptions,
    #[command(flatten)]
    pub list_storm: ListStormOptions,
    #[command(flatten)]
    pub overwrite: OverwriteOptions,
    #[command(flatten)]
    pub auth: AuthOptions,
    #[command(flatten)]
    pub hostile: HostileOptions,
    #[command(flatten)]
    pub kubernetes: KubernetesOptions,
    #[command(flatten)]
    pub watch: WatchOptions,
    #[command(flatten)]
    pub laggard: LaggardOptions,
    #[command(flatten)]
    pub lease: LeaseOptions,
    #[command(flatten)]
    pub join: JoinOptions,
}

impl Scenario {
    /// How many members a cluster may have for it.
    pub fn members(self) -> std::ops::RangeInclusive<u32> {
        match self {
            Self::Put | Self::Put1 | Self::Get | Self::GetSerializable => 1..=9,
            Self::Txn | Self::Mixed | Self::Open | Self::Keys => 1..=9,
            Self::LeaderLoss | Self::RollingRestart => 3..=9,
            // With fewer than three the new member's vote is needed at once.
            Self::Join => 3..=9,
            _ => 1..=1,
        }
    }

    pub fn jobs(self, options: &ScenarioOptions) -> Vec<Box<dyn Job>> {
        let ScenarioOptions {
            value_size,
            load,
            stored,
            probe,
            maintenance,
            list_storm,
            overwrite,
            auth,
            hostile,
            kubernetes,
            watch,
            laggard,
            lease,
            join,
        } = options;
        let fill = |keys| Fill::once(keys, stored.stored_key_size, *value_size);
        let load_jobs = |pattern| load::jobs(pattern, load, *value_size);
        match self {
            Self::Put => load_jobs(Pattern::Put),
            Self::Put1 => load_jobs(Pattern::Put1),
            Self::Get => load_jobs(Pattern::Get),
            Self::GetSerializable => load_jobs(Pattern::GetSerializable),
            Self::Txn => load_jobs(Pattern::Txn),
            Self::Mixed => load_jobs(Pattern::Mixed),
            Self::Open => load_jobs(Pattern::Open),
            Self::Keys => load_jobs(Pattern::Keys),
            Self::Restart => restart::jobs(fill(stored.stored_keys)),
            Self::Memory => vec![Box::new(memory::Memory::new(fill(stored.stored_keys)))],
            Self::Maintenance => {
                let fill = fill(maintenance.maintenance_keys);
                vec![Box::new(maintenance::Maintenance::new(maintenance, fill, probe))]
            }
            Self::ListStorm => {
                vec![Box::new(list_storm::ListStorm::new(list_storm, fill(list_storm.listed_keys), probe))]
            }
            Self::Overwrite => {
                vec![Box::new(overwrite::Overwrite::new(overwrite, fill(overwrite.overwritten_keys), load))]
            }
            Self::Auth => vec![Box::new(auth::Auth::new(auth, load, probe, *value_size))],
            Self::Hostile => hostile::jobs(hostile),
            Self::Lease => lease::jobs(lease, probe, *value_size),
            Self::Kubernetes => vec![Box::new(kubernetes::Kubernetes::new(kubernetes))],
            Self::LeaderLoss => leader_loss::jobs(probe, *value_size),
            Self::RollingRestart => vec![Box::new(rolling_restart::RollingRestart::new(probe, *value_size))],
            Self::Join => vec![Box::new(join::Join::new(join, stored.stored_key_size, probe))],
            Self::Watch => watch::jobs(watch, *value_size),
            Self::WatchLaggard => vec![Box::new(Laggard::new(fill(laggard.laggard_revisions), probe))],
        }
    }
}
