//! Simulation: the real shard code on a simulated machine, driven from one seed.
//!
//! `PINION_SEED=17 cargo test --test simulation` replays one seed; `PINION_SEEDS=1000` widens the
//! search; both together search from that seed on.

#[path = "history/keys.rs"]
mod keys;
#[path = "history/linearizable.rs"]
mod linearizable;

#[path = "simulation/anywhere.rs"]
mod anywhere;
#[path = "simulation/auth.rs"]
mod auth;
#[path = "simulation/backup.rs"]
mod backup;
#[path = "simulation/catchup.rs"]
mod catchup;
#[path = "simulation/checkpoint.rs"]
mod checkpoint;
#[path = "simulation/cluster.rs"]
mod cluster;
#[path = "simulation/courier.rs"]
mod courier;
#[path = "simulation/crash.rs"]
mod crash;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/founding.rs"]
mod founding;
#[path = "simulation/group.rs"]
mod group;
#[path = "simulation/hostile.rs"]
mod hostile;
#[path = "simulation/lease.rs"]
mod lease;
#[path = "simulation/long.rs"]
mod long;
#[path = "simulation/maintenance.rs"]
mod maintenance;
#[path = "simulation/members.rs"]
mod members;
#[path = "simulation/membership.rs"]
mod membership;
#[path = "simulation/mixed_up.rs"]
mod mixed_up;
#[path = "simulation/recorded.rs"]
mod recorded;
#[path = "simulation/reported.rs"]
mod reported;
#[path = "simulation/watch.rs"]
mod watch;
#[path = "simulation/world.rs"]
mod world;
