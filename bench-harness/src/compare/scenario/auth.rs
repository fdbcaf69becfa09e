//! `auth`: what it costs to say who one is. Puts as fast as they go, by nobody and then by a user with a permission on a
//! range; then puts of that user at a fixed rate, alone and while others log in.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::job::{Job, Progress, step};
use super::load::LoadOptions;
use crate::compare::probe::{Probe, ProbeOptions, quantile_ms, with_latencies};
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Fill, Running, Testbed};
use crate::compare::{Error, io};
use crate::load::{self, Operation, Phase};
use crate::pb::{
    authpb::Permission,
    etcdserverpb::{self as pb, auth_client::AuthClient},
};

static LAYOUT: Layout = Layout {
    name: "auth",
    columns: &[
        Column::higher("op/s", 0),
        Column::plain("op/s / off", 2),
        Column::lower("CPU us/op", 1),
        Column::lower("p50 ms", 2),
        Column::lower("p99 ms", 2),
        Column::lower("p99.9 ms", 2),
        Column::lower("max ms", 1),
        Column::plain("p99 / idle", 2),
        Column::higher("logins/s", 1),
        Column::lower("login p50 ms", 1),
        Column::lower("login p99 ms", 1),
        Column::lower("logins waiting", 0),
        Column::lower("refused/s", 1),
        Column::plain("server CPU %", 0),
    ],
    panels: &[
        Panel::Bars {
            caption: "Auth: puts per second, by nobody and by a user",
            columns: &["op/s"],
            logarithmic: false,
        },
        Panel::Bars {
            caption: "Auth: latency of puts in ms (log scale): p50, p99, p99.9 from left to right in each group",
            columns: &["p50 ms", "p99 ms", "p99.9 ms"],
            logarithmic: true,
        },
    ],
};

/// A login that takes longer is given up.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that logins come over.
const CONNECTIONS: usize = 10;
const PASSWORD: &str = "a password";
const USER: &str = "bench";

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of auth")]
#[group(skip)]
pub struct AuthOptions {
    /// Logins per second beside the puts.
    #[arg(long, default_value_t = 100.0)]
    pub logins: f64,
    /// What the server is told as `--bcrypt-cost`.
    #[arg(long, default_value_t = 10)]
    pub bcrypt_cost: u32,
}

#[derive(Debug)]
pub struct Auth {
    logins: f64,
    bcrypt_cost: u32,
    load: load::Options,
    probe: Probe,
}

impl Auth {
    pub fn new(options: &AuthOptions, like: &LoadOptions, probe: &ProbeOptions, value_size: usize) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let load = load::Options {
            connections: like.connections,
            clients: like.clients,
            threads: like.threads,
            duration: like.duration,
            warm_up: like.warm_up,
            key_size: like.key_size,
            value_size,
            key_space: like.key_space,
            ..load::Options::new(Operation::Put, nowhere)
        };
        let fill = Fill::once(like.key_space, like.key_size, value_size);
        let AuthOptions { logins, bcrypt_cost } = *options;
        Self { logins, bcrypt_cost, load, probe: Probe::new(probe, &fill) }
    }

    /// Puts as fast as they go.
    fn flood(
        &self,
        running: &Running,
        (token, duration): (Option<String>, Duration),
        progress: &mut dyn FnMut(f64),
    ) -> Result<Sample, Error> {
        let endpoints = vec![running.server.addr()];
        let options = load::Options { endpoints, token, duration, ..self.load.clone() };
        let (mut before, mut after) = (None, None);
        let summary = load::run(&options, &mut |phase| match phase {
            Phase::Started(live) => before = Some((running.server.usage(), live.completed())),
            Phase::Ended(live) => after = Some((running.server.usage(), live.completed())),
            Phase::Progress { part, .. } => progress(part),
        })?;
        let (before, after) = (before.expect("every run starts"), after.expect("every run ends"));
        let cpu = after.0?.cpu.saturating_sub(before.0?.cpu).as_secs_f64() * 1e6;
        let latency = &summary.latency;
        let sample = Sample::default()
            .with("op/s", summary.per_second)
            .with("CPU us/op", cpu / (after.1 - before.1).max(1) as f64)
            .with("p50 ms", latency.p50_us / 1e3)
            .with("p99 ms", latency.p99_us / 1e3)
            .with("p99.9 ms", latency.p999_us / 1e3);
        Ok(Sample { errors: summary.errors, ..sample })
    }

    /// Puts at a rate, alone or beside logins.
    fn at_rate(
        &self,
        running: &Running,
        token: &str,
        logins: Option<f64>,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Sample, Error> {
        let (addr, duration) = (running.server.addr(), self.probe.duration);
        let beside = || logins.map(|rate| log_in_at(addr, rate, duration)).transpose();
        let probed = self.probe.run_as(Some(token.to_owned()), running, beside, progress)?;
        let latencies = if logins.is_some() { probed.during() } else { probed.all() };
        let cpu = probed.after.usage.cpu.saturating_sub(probed.before.usage.cpu);
        let mut sample = with_latencies(Sample::default(), &latencies)
            .with("server CPU %", cpu.as_secs_f64() / probed.seconds * 100.0);
        sample.errors = probed.summary.errors;
        if let Some(logins) = probed.beside.outcome? {
            sample = logins.shown(sample);
        }
        Ok(sample)
    }
}

impl Job for Auth {
    fn title(&self) -> &str {
        "auth"
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        (self.load.warm_up + self.load.duration + self.probe.expected()) * 2
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let cost = format!("--bcrypt-cost={}", self.bcrypt_cost);
        let mut running = testbed.start_with(|launch| launch.arg(cost))?;
        let (addr, whole) = (running.server.addr(), self.load.duration);
        // Half of it before and half of it after: the more was put, the more a put costs.
        let before = self.flood(&running, (None, whole / 2), &mut step(progress, (0.0, 0.15), "auth off"))?;
        let (root, user) = set_up(addr)?;
        let on = (Some(user), whole);
        let mut on = self.flood(&running, on, &mut step(progress, (0.15, 0.35), "auth on"))?;
        disable(addr, &root)?;
        let after = self.flood(&running, (None, whole / 2), &mut step(progress, (0.35, 0.5), "auth off"))?;
        let token = enable(addr)?;
        let off = mean(&before, &after);
        if let (Some(off), Some(with)) = (off.value("op/s"), on.value("op/s")) {
            on = on.with("op/s / off", with / off);
        }
        let idle = self.at_rate(&running, &token, None, &mut step(progress, (0.5, 0.75), "no logins"))?;
        let mut beside =
            self.at_rate(&running, &token, Some(self.logins), &mut step(progress, (0.75, 1.0), "logins"))?;
        if let (Some(idle), Some(p99)) = (idle.value("p99 ms"), beside.value("p99 ms")) {
            beside = beside.with("p99 / idle", p99 / idle);
        }
        running.stop()?;
        let rate = format!("auth: {} puts/s", self.probe.rate);
        let logins = format!("{rate}, {} logins/s of cost {}", self.logins, self.bcrypt_cost);
        Ok(vec![
            ("auth: off".to_owned(), off),
            ("auth: on".to_owned(), on),
            (format!("{rate}, no logins"), idle),
            (logins, beside),
        ])
    }
}

/// What came of logins.
#[derive(Debug, Default)]
struct Logins {
    done: u64,
    /// Not answered by the end.
    waiting: u64,
    /// How long each took that was done, or has taken yet.
    took: Vec<Duration>,
    /// By a server that has enough to do.
    refused: u64,
    failed: u64,
    /// Why the first of those failed.
    why: Option<String>,
    seconds: f64,
}

impl Logins {
    /// What came of one by the end, if anything, and how long that took.
    fn add(&mut self, outcome: Option<Result<(), tonic::Status>>, took: Duration) {
        match outcome {
            Some(Ok(())) => self.done += 1,
            None => self.waiting += 1,
            Some(Err(status)) if status.code() == tonic::Code::ResourceExhausted => {
                self.refused += 1;
                return;
            }
            Some(Err(status)) => {
                self.failed += 1;
                self.why.get_or_insert_with(|| format!("a login: {:?}: {}", status.code(), status.message()));
                return;
            }
        }
        self.took.push(took);
    }

    fn shown(mut self, sample: Sample) -> Sample {
        self.took.sort_unstable();
        let mut sample = sample
            .with("logins/s", self.done as f64 / self.seconds)
            .with("login p50 ms", quantile_ms(&self.took, 0.5))
            .with("login p99 ms", quantile_ms(&self.took, 0.99))
            .with("logins waiting", self.waiting as f64)
            .with("refused/s", self.refused as f64 / self.seconds);
        sample.errors += self.failed;
        sample.note = sample.note.or(self.why);
        sample
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(io("start a runtime"))?;
    Ok(runtime.block_on(work).map_err(crate::admin::Error::from)?)
}

fn endpoint(addr: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{addr}")).expect("an address").timeout(LOGIN_TIMEOUT)
}

/// Users and a role, authentication on; tokens of root, and of a user who may read and write all keys and is not root.
fn set_up(addr: SocketAddr) -> Result<(String, String), Error> {
    block_on(async {
        let mut auth = AuthClient::new(endpoint(addr).connect_lazy());
        for name in ["root", USER] {
            let (name, password) = (name.to_owned(), PASSWORD.to_owned());
            auth.user_add(pb::AuthUserAddRequest { name, password, ..Default::default() }).await?;
        }
        auth.role_add(pb::AuthRoleAddRequest { name: "all".into() }).await?;
        let perm = Permission { perm_type: 2, key: vec![0].into(), range_end: vec![0].into() };
        let granted = pb::AuthRoleGrantPermissionRequest { name: "all".into(), perm: Some(perm) };
        auth.role_grant_permission(granted).await?;
        for (user, role) in [("root", "root"), (USER, "all")] {
            let (user, role) = (user.to_owned(), role.to_owned());
            auth.user_grant_role(pb::AuthUserGrantRoleRequest { user, role }).await?;
        }
        auth.auth_enable(pb::AuthEnableRequest {}).await?;
        let root = auth.authenticate(login("root")).await?.into_inner().token;
        Ok((root, auth.authenticate(login(USER)).await?.into_inner().token))
    })
}

/// On again; a token of that user.
fn enable(addr: SocketAddr) -> Result<String, Error> {
    block_on(async {
        let mut auth = AuthClient::new(endpoint(addr).connect_lazy());
        auth.auth_enable(pb::AuthEnableRequest {}).await?;
        Ok(auth.authenticate(login(USER)).await?.into_inner().token)
    })
}

fn disable(addr: SocketAddr, root: &str) -> Result<(), Error> {
    block_on(async {
        let mut request = tonic::Request::new(pb::AuthDisableRequest {});
        request.metadata_mut().insert("token", root.parse().expect("a token is visible text"));
        AuthClient::new(endpoint(addr).connect_lazy()).auth_disable(request).await.map(drop)
    })
}

/// Of two stretches of the same load.
fn mean(one: &Sample, other: &Sample) -> Sample {
    let sample = Sample { errors: one.errors + other.errors, ..Sample::default() };
    ["op/s", "CPU us/op", "p50 ms", "p99 ms", "p99.9 ms"].into_iter().fold(sample, |sample, title| {
        let both = one.value(title).zip(other.value(title));
        sample.with(title, both.map(|(one, other)| f64::midpoint(one, other)))
    })
}

fn login(name: &str) -> pb::AuthenticateRequest {
    pb::AuthenticateRequest { name: name.into(), password: PASSWORD.into() }
}

/// Begins so many logins per second for a while, whether those before have come to an end or not.
fn log_in_at(addr: SocketAddr, rate: f64, duration: Duration) -> Result<Logins, Error> {
    block_on(async {
        let channels: Vec<Channel> = (0..CONNECTIONS).map(|_| endpoint(addr).connect_lazy()).collect();
        let (began, mut logins, mut under_way) = (Instant::now(), Logins::default(), JoinSet::new());
        let end = began + duration;
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let mut channels = channels.iter().cycle();
        while began.elapsed() < duration {
            ticks.tick().await;
            let mut auth = AuthClient::new(channels.next().expect("without an end").clone());
            under_way.spawn(async move {
                let began = Instant::now();
                let outcome = tokio::time::timeout_at(end.into(), auth.authenticate(login(USER))).await;
                (outcome.ok().map(|outcome| outcome.map(drop)), began.elapsed())
            });
        }
        for (outcome, took) in under_way.join_all().await {
            logins.add(outcome, took);
        }
        logins.seconds = began.elapsed().as_secs_f64();
        Ok(logins)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_lasts_until_now_and_only_a_busy_server_refuses() {
        let (mut logins, second) = (Logins { seconds: 1.0, ..Logins::default() }, Duration::from_secs(1));
        logins.add(Some(Ok(())), second);
        logins.add(None, second * 3);
        logins.add(Some(Err(tonic::Status::resource_exhausted("enough"))), second);
        logins.add(Some(Err(tonic::Status::unavailable("not there"))), second);
        let sample = logins.shown(Sample::default());
        let value = |title| sample.value(title);
        assert_eq!((value("logins/s"), value("logins waiting")), (Some(1.0), Some(1.0)));
        assert_eq!((value("login p50 ms"), value("login p99 ms")), (Some(1_000.0), Some(3_000.0)));
        assert_eq!((value("refused/s"), sample.errors), (Some(1.0), 1));
        assert_eq!(sample.note.as_deref(), Some("a login: Unavailable: not there"));
    }
}
