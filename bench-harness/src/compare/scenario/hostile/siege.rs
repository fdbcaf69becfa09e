//! One attack on one server: others are measured before and during it, the server is asked to stop in the middle of it,
//! and started again.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::HostileOptions;
use super::prober::{Probed, Prober, Seen};
use crate::compare::Error;
use crate::compare::probe::quantile_ms;
use crate::compare::report::Sample;
use crate::compare::testbed::{Running, mib};
use crate::hostile::{Attack, Lasts, Until};
use crate::load::cores;
use crate::process::{self, Guard, Server};

const LOOK: Duration = Duration::from_millis(5);
/// From the start of an attack that is over soon to SIGTERM.
const IN_THE_MIDDLE: Duration = Duration::from_millis(300);
/// Of a note, for a table that can be read.
const NOTE_CHARACTERS: usize = 400;

pub struct Siege<'a> {
    pub attack: &'static Attack,
    pub options: &'a HostileOptions,
}

pub struct Outcome {
    pub before: Sample,
    pub during: Sample,
    /// The server is up again.
    pub serves: bool,
}

/// The measured time.
struct Course {
    began: Instant,
    rss_before: u64,
    rss_max: u64,
    died: bool,
}

/// How the server ended and came back.
#[derive(Default)]
struct Aftermath {
    died: bool,
    stopped: Option<Duration>,
    ready: Option<Duration>,
    notes: Vec<String>,
}

/// Ends an attack, however its siege ends.
struct Ending<'a>(&'a Until);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Siege<'_> {
    pub fn lay(&self, running: &mut Running, progress: &mut dyn FnMut(f64)) -> Result<Outcome, Error> {
        let server = &mut running.server;
        let HostileOptions { others_rate: rate, attacked_value_size: value_size, .. } = *self.options;
        let addr = server.addr();
        let prober = Prober { addr, rate, value_size };
        prober.fill()?;
        let guard = server.guard(self.options.memory_max_mib << 20);
        let until = &Until::default();
        std::thread::scope(|scope| {
            let _ending = Ending(until);
            let spawn = || {
                scope.spawn(move || {
                    // Others must not wait for a processor because of it.
                    let stepped_back = cores::leave_the_last().and_then(|()| cores::step_back());
                    let told = stepped_back.and_then(|()| self.attack.run(addr, until));
                    told.unwrap_or_else(|error| format!("ended by {error}"))
                })
            };
            let (held, probed) = prober.beside(|| {
                std::thread::sleep(self.options.attack_lead);
                let rss_before = server.usage()?.rss_bytes;
                guard.rss_max();
                let began = Instant::now();
                let attacking = spawn();
                let died = self.hold(server, began, &|| attacking.is_finished(), progress)?;
                let course = Course { began, rss_before, rss_max: guard.rss_max(), died };
                Ok::<_, Error>((course, attacking))
            })?;
            let (mut course, attacking) = held?;
            progress(0.8);
            // What is over is done once more, so that the server stops in the middle of it.
            let again = (attacking.is_finished() && !course.died).then(|| {
                let again = spawn();
                std::thread::sleep(IN_THE_MIDDLE);
                again
            });
            let mut aftermath = self.stop(server, course.died)?;
            course.rss_max = course.rss_max.max(guard.rss_max());
            until.end();
            aftermath.notes.insert(0, attacking.join().expect("an attack does not panic"));
            if let Some(again) = again {
                again.join().expect("an attack does not panic");
            }
            let killed =
                |guard: &Guard| guard.ended().map(|bytes| format!("killed at {:.0} MiB", mib(bytes)));
            aftermath.notes.extend(killed(&guard));
            progress(0.9);
            self.start_again(server, &mut aftermath)?;
            aftermath.notes.extend(killed(&guard).map(|note| format!("{note} in its next start")));
            Ok(outcome(&course, &probed, aftermath))
        })
    }

    /// The measured time; whether the server died in it.
    fn hold(
        &self,
        server: &mut Server,
        began: Instant,
        is_over: &dyn Fn() -> bool,
        progress: &mut dyn FnMut(f64),
    ) -> Result<bool, Error> {
        loop {
            let elapsed = began.elapsed();
            if server.exited()?.is_some() {
                return Ok(true);
            }
            let enough = elapsed >= self.options.attack_duration;
            if (enough && (self.attack.lasts == Lasts::Held || is_over()))
                || elapsed >= self.options.attack_max
            {
                return Ok(false);
            }
            progress(0.8 * elapsed.div_duration_f64(self.options.attack_duration).min(1.0));
            std::thread::sleep(LOOK);
        }
    }

    fn stop(&self, server: &mut Server, died: bool) -> Result<Aftermath, Error> {
        let mut aftermath = Aftermath { died, ..Aftermath::default() };
        if died {
            let status = server.kill()?;
            aftermath.notes.push(format!("died: {status}"));
            return Ok(aftermath);
        }
        let since = Instant::now();
        match server.terminate(self.options.attack_max) {
            Ok(status) if ended_as_asked(status) => aftermath.stopped = Some(since.elapsed()),
            Ok(status) => {
                aftermath.died = true;
                aftermath.notes.push(format!("died: {status} when asked to stop"));
            }
            Err(stuck @ process::Error::Stuck { .. }) => aftermath.notes.push(stuck.to_string()),
            // It died before it could be asked.
            Err(process::Error::Io { .. }) => {
                aftermath.died = true;
                server.kill()?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(aftermath)
    }

    fn start_again(&self, server: &mut Server, aftermath: &mut Aftermath) -> Result<(), Error> {
        match server.start_again_with(|launch| launch.ready_timeout(self.options.attack_max)) {
            Ok(()) => aftermath.ready = Some(server.ready_after()),
            Err(process::Error::Exited { status, .. }) => {
                aftermath.died = true;
                aftermath.notes.push(format!("died in its next start: {status}"));
            }
            Err(process::Error::NotReady { after, last, .. }) => {
                aftermath
                    .notes
                    .push(format!("not ready {:.0} s after its next start: {last}", after.as_secs_f64()));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Upstream ends by the signal it was sent.
fn ended_as_asked(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(libc::SIGTERM)
}

fn outcome(course: &Course, probed: &Probed, aftermath: Aftermath) -> Outcome {
    let began = course.began;
    let before =
        with_latencies(probed, |seen| seen.before(began)).with("RSS max MiB", mib(course.rss_before));
    let mut during = with_latencies(probed, |seen| seen.since(began));
    if let (Some(idle), Some(p99)) = (before.value("put p99 ms"), during.value("put p99 ms")) {
        during = during.with("put p99 - idle ms", p99 - idle);
    }
    let growth = course.rss_max.saturating_sub(course.rss_before);
    let mut during = during
        .with("failed", probed.failed() as f64)
        .with("RSS max MiB", mib(course.rss_max))
        .with("growth MiB", mib(growth))
        .with("died", f64::from(u8::from(aftermath.died)))
        .with("stop s", aftermath.stopped.map(|stopped| stopped.as_secs_f64()))
        .with("ready s", aftermath.ready.map(|ready| ready.as_secs_f64()));
    let mut notes = aftermath.notes;
    notes.extend(probed.why().map(|why| format!("others: {why}")));
    let note = notes.join("; ").replace('\n', " ");
    during.note = Some(note.chars().take(NOTE_CHARACTERS).collect());
    Outcome { before, during, serves: aftermath.ready.is_some() }
}

fn with_latencies(probed: &Probed, of: impl Fn(&Seen) -> Vec<Duration>) -> Sample {
    let (puts, gets, livez) = (of(&probed.puts), of(&probed.gets), of(&probed.livez));
    Sample::default()
        .with("put p50 ms", quantile_ms(&puts, 0.5))
        .with("put p99 ms", quantile_ms(&puts, 0.99))
        .with("put p99.9 ms", quantile_ms(&puts, 0.999))
        .with("put max ms", quantile_ms(&puts, 1.0))
        .with("get p50 ms", quantile_ms(&gets, 0.5))
        .with("get p99 ms", quantile_ms(&gets, 0.99))
        .with("get p99.9 ms", quantile_ms(&gets, 0.999))
        .with("get max ms", quantile_ms(&gets, 1.0))
        .with("livez p99 ms", quantile_ms(&livez, 0.99))
        .with("livez max ms", quantile_ms(&livez, 1.0))
}
