//! From a data directory to a running shard: see that everything is there and belongs together, load the checkpoint,
//! replay the log, restore the group, make the loop.
//!
//! A first start that was cut off at any point is continued by the next: until [`start`] returns, nothing has been
//! acknowledged, and only then does the caller write who the member is.

use std::{cell::RefCell, path::PathBuf, rc::Rc, time::Duration};

use tracing::info;

use super::{
    Fatal,
    answering::Answering,
    committed::Committed,
    forwarded::Forwarded,
    group::config,
    handover::Stalled,
    lease::Times,
    pace::Pace,
    replica::{Parts, Replay, Replica, baseline_record, entry_bytes_max, found, go_alone},
    run::{Loop, remember},
    serve::{self, Inbox, Serving, Shard, Standing, Turnstile},
    upkeep::{Checkpoints, Due, Duty, LeaseExpiry, Loader, Upkeep},
    watch::Hub,
};
use crate::{
    consensus::{self, Baseline, LogPosition, Pipeline},
    env::{Beside, Env, Instant, Links},
    limits,
    metrics::ShardMetrics,
    pb::etcdserverpb as pb,
    state::{
        Commands, Origin,
        cluster::{Cluster, Release},
    },
    storage::checkpoint::{CheckpointOptions, CheckpointStore},
    storage::data_dir::{Anchor, Expected, Identity},
    storage::wal::{Known, Wal, WalError, WalOptions},
    types::{Level, LogIndex, MemberId, ShardId},
};

/// What a shard needs to know at its start.
pub struct Options {
    pub identity: Identity,
    /// The member has been started before, to the end: its log must be there.
    pub founded: bool,
    pub shard_id: ShardId,
    /// Which log it is: see [`Anchor`].
    pub anchor: PathBuf,
    /// The members a new log begins with, this one among them; none where it joins a cluster that is there.
    pub founders: Vec<pb::Member>,
    /// The other members are lost for good: this one goes on without them.
    pub go_alone: bool,
    /// Whose log and checkpoint these are, and what is known of the log, is added here.
    pub wal: WalOptions,
    pub checkpoint: CheckpointOptions,
    pub checkpoint_due: Due,
    pub heartbeat: Duration,
    pub election: Duration,
    pub pre_vote: bool,
    /// The first election after the start is brought forward (`--initial-election-tick-advance`).
    pub advance_election: bool,
    pub catchup_entries: usize,
    /// Applying an entry for longer is worth a warning.
    pub slow_apply: Duration,
    pub pace: Pace,
    /// What is left of long leases is noted in the log (feature gate `LeaseCheckpoint`).
    pub lease_checkpoints: bool,
    /// What this release knows.
    pub commands: Commands,
}

/// A shard that is ready to run.
pub struct Started<E: Env> {
    pub shard: Shard,
    /// Whether the log was made just now.
    pub is_new: bool,
    /// For the tasks that only the leader does.
    pub duty: Duty,
    pub run: Loop<E>,
}

/// Opens the shard's log and makes everything ready; nothing runs yet. `links` are told who belongs to the group as soon as
/// the loop runs, and then of each change.
pub async fn start<E: Env>(
    env: E,
    links: Rc<dyn Links>,
    mut options: Options,
    metrics: Rc<ShardMetrics>,
) -> Result<Started<E>, Fatal> {
    let began = env.now();
    let mut anchor = anchor(&env, &options).await?;
    options.wal.owner = anchor.owner();
    options.wal.known = Known { batches: anchor.batches(), place: anchor.place().to_owned() };
    options.checkpoint.owner = anchor.owner();
    // Before anything is made beside what is not there.
    Wal::look(&env, &options.wal).await?;
    let mut loader = Loader::new(options.commands);
    let (store, summary) = CheckpointStore::open(env.clone(), options.checkpoint, &mut loader).await?;
    let restored = match summary {
        Some(summary) => {
            let state = loader.finish(&summary)?;
            Some((summary, state))
        }
        None => None,
    };
    let mut replay = Replay::new(options.commands, restored, options.catchup_entries);
    let baseline = Baseline { position: replay.base(), config: config(replay.state.cluster()) };
    let (checkpoint, load_ms) = (LogIndex(replay.applied), env.now().since(began).as_millis() as u64);
    let (mut wal, recovery) = Wal::open(env.clone(), options.wal.clone(), |record| {
        replay.take(record).map_err(|error| WalError::Replay(error.to_string()))
    })
    .await?;
    apply(&env, &options.pace, &mut replay).await?;
    replay.finish().map_err(|error| WalError::Replay(error.to_string()))?;

    if replay.is_untold {
        wal.append(baseline_record(&replay.base()));
        let write = wal.submit().expect("a record is pending");
        let written = write.await?;
        wal.written(written);
    }
    let is_new = replay.is_new();
    if is_new && options.founded {
        let told = "it has no entry, and this member was started before".to_owned();
        return Err(WalError::Replay(told).into());
    }
    if is_new {
        found(&mut wal, &mut replay, &options.founders).await?;
        anchor.reached(wal.durable_batches()).await?;
    } else {
        if options.go_alone {
            go_alone(&mut wal, &mut replay, options.identity.member).await?;
        }
        remember(&mut anchor, wal.durable_batches()).await;
        let took_ms = env.now().since(began).as_millis() as u64;
        let (applied, revision) = (replay.applied, replay.state.revision().0);
        let (segments, torn_tail) = (recovery.segments, recovery.torn_tail);
        let checkpoint = checkpoint.0;
        info!(
            checkpoint,
            applied,
            revision,
            segments,
            torn_tail,
            load_ms,
            took_ms,
            "loaded the checkpoint and replayed the log"
        );
    }
    let Identity { member: member_id, cluster: cluster_id } = options.identity;
    refuse_stranger(member_id, replay.state.cluster())?;
    refuse_downgrade(replay.state.cluster(), options.commands.newest())?;
    let mut window = replay.window;
    window.set_config(config(replay.state.cluster()));
    let origin = Origin { member: member_id, run: env.random_u64() };
    let raft = consensus::Options {
        id: member_id,
        run: origin.run,
        election_ticks: (options.election.as_millis() / options.heartbeat.as_millis().max(1)).max(2) as usize,
        heartbeat_ticks: 1,
        pre_vote: options.pre_vote,
        uncommitted_bytes_max: limits::UNCOMMITTED_BYTES_MAX,
        committed_bytes_max: limits::COMMITTED_BYTES_MAX,
        catchup_entries: options.catchup_entries,
        catchup_bytes: limits::CATCHUP_BYTES,
    };
    let index = LogIndex(replay.applied);
    let applied = LogPosition { index, term: window.term_of(index) };
    let mut pipeline = Pipeline::new(raft, window, LogIndex(replay.applied), env.random_u64())?;
    if checkpoint > LogIndex(0) {
        pipeline.set_checkpoint(baseline);
    }
    let inbox = Rc::new(Inbox::new(origin, entry_bytes_max(&wal)));
    let state = Rc::new(RefCell::new(replay.state));
    let standing = Rc::new(Standing::default());
    standing.set_members(state.borrow().cluster().members());
    let clock = {
        let env = env.clone();
        Rc::new(move || env.now())
    };
    let hub = Rc::new(RefCell::new(Hub::new(state.borrow().revision().0)));
    let waiters = Rc::new(RefCell::default());
    let turnstile = {
        let inbox = inbox.clone();
        Turnstile::new(env.clone(), move || inbox.is_log_busy())
    };
    let random = {
        let env = env.clone();
        Rc::new(move || env.random_u64())
    };
    let times = Times::new(options.election, options.lease_checkpoints);
    // etcd's request timeout: five seconds and two elections.
    let patience = Duration::from_secs(5) + 2 * options.election;
    let shard = Shard::new(serve::Parts {
        inbox: inbox.clone(),
        state: state.clone(),
        standing: standing.clone(),
        clock,
        turnstile,
        hub: hub.clone(),
        waiters: waiters.clone(),
        v2_gets: Default::default(),
        metrics: metrics.clone(),
        times: times.clone(),
        links: links.clone(),
        random,
        beside: Beside::offloading(&env),
        cluster_id,
        member_id,
        log_id: anchor.owner().log,
        patience,
    });
    let parts = Parts { pipeline, wal, applied, links: links.clone() };
    let checkpoints = Checkpoints::new(store, options.checkpoint_due, checkpoint, options.commands);
    let upkeep = Upkeep::new(env.clone(), metrics.clone(), checkpoints, times.clone());
    let expiry = LeaseExpiry::new(env.clone(), shard.clone(), times.clone(), upkeep.duty());
    let run = Loop {
        replica: Replica::new(env.clone(), (member_id, options.shard_id), parts),
        serving: Serving::new(inbox, standing, (hub, waiters), metrics, times, patience, options.slow_apply),
        upkeep,
        expiry: Some(expiry),
        anchor,
        links: links.clone(),
        state,
        heartbeat: options.heartbeat,
        election: options.election,
        tick: None,
        ticked: false,
        pace: options.pace,
        committed: Committed::default(),
        forwarded: Forwarded::new(options.commands),
        stalled: Stalled::default(),
        last_tick: None,
        advance_until: options.advance_election.then(|| env.now().after(limits::ADVANCE_WAIT)),
        read_in: None,
        elected: (MemberId(0), Instant(0)),
        answering: Answering::new(env.clone(), links, shard.clone(), options.shard_id),
        upkeep_waits: false,
        leaving_since: None,
        has_left: false,
        env,
    };
    Ok(Started { shard, is_new, duty: run.upkeep.duty(), run })
}

/// Applies what the log has in slices, between which the core looks for whatever else there is.
async fn apply<E: Env>(env: &E, pace: &Pace, replay: &mut Replay) -> Result<(), WalError> {
    let mut began = env.now();
    while !replay.step(pace.keys).map_err(|error| WalError::Replay(error.to_string()))? {
        if env.now().since(began) >= pace.slice {
            env.sleep(limits::TURN_PAUSE).await;
            began = env.now();
        }
    }
    Ok(())
}

async fn anchor<E: Env>(env: &E, options: &Options) -> Result<Anchor<E>, Fatal> {
    let &Options { identity, founded, shard_id: shard, .. } = options;
    let expected = Expected { shard, dir: options.wal.dir.clone(), identity, founded };
    Ok(Anchor::open(env.clone(), options.anchor.clone(), expected).await?)
}

/// A member that is not in its own group would wait for a leader in vain; one that has joined and heard of nothing yet
/// does not know of any.
fn refuse_stranger(member: MemberId, cluster: &Cluster) -> Result<(), Fatal> {
    if cluster.member(member).is_some() || cluster.members().next().is_none() {
        return Ok(());
    }
    if cluster.was_removed(member) {
        return Err(Fatal::Removed);
    }
    let members: Vec<_> = cluster.members().map(|member| format!("{:x}", member.id)).collect();
    Err(Fatal::NotAMember { member: member.0, members: members.join(", ") })
}

/// A cluster may use what this release does not know.
fn refuse_downgrade(cluster: &Cluster, known: Level) -> Result<(), Fatal> {
    let (version, level) = (cluster.version(), cluster.level());
    if version > Release::OURS {
        return Err(Fatal::Downgrade { version });
    }
    if level > known { Err(Fatal::Level { level, known }) } else { Ok(()) }
}
