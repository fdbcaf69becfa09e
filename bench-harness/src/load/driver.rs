//! Runs a load: threads, sockets and the clock around the machines that do the work.
//!
//! One task per connection. A turn of it reads what arrived, hands finished calls to the recorder, opens the
//! next calls and sends all of that in one write: the clock is read once, after the read.

mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use super::options::Options;
use super::record::{Recorder, Summary};

/// How often the progress is looked at.
const TICK: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Options(String),
    #[error("cannot connect to {endpoint}: {why}")]
    Connect { endpoint: std::net::SocketAddr, why: String },
    #[error("{what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
    #[error("a worker thread panicked")]
    Panicked,
}

/// A run as its observer sees it while it goes on.
#[derive(Debug, Default)]
pub struct Live {
    completed: AtomicU64,
    stopped: AtomicBool,
}

impl Live {
    /// Good replies so far, warm-up included.
    pub fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    /// Ends the measured time now, before `Options::duration`.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// What the observer of a run is told, in this order, `Progress` any number of times.
#[derive(Clone, Copy, Debug)]
pub enum Phase<'a> {
    /// The warm-up is over: the measured time starts.
    Started(&'a Live),
    /// `part` of the whole run, warm-up included, is done.
    Progress { part: f64, live: &'a Live },
    /// The measured time is over; what is still in flight is waited for afterwards.
    Ended(&'a Live),
}

/// What the threads of a run share.
#[derive(Debug)]
struct Shared {
    options: Options,
    connected: Barrier,
    /// Set by `run` between the two barriers: all times of the run are nanoseconds since then.
    started: OnceLock<Instant>,
    go: Barrier,
    /// The end of the measured time: it moves forward when the observer stops the run.
    end_ns: AtomicU64,
    live: Live,
    running: AtomicUsize,
    /// A worker could not connect: nobody starts.
    failed: AtomicBool,
}

/// Runs a load to its end. The observer is called on this thread, so it may block: the load goes on.
pub fn run(options: &Options, observer: &mut dyn FnMut(Phase<'_>)) -> Result<Summary, Error> {
    options.check().map_err(Error::Options)?;
    let threads = options.threads as usize;
    let shared = Arc::new(Shared {
        options: options.clone(),
        connected: Barrier::new(threads + 1),
        started: OnceLock::new(),
        go: Barrier::new(threads + 1),
        end_ns: AtomicU64::new(nanoseconds(options.warm_up + options.duration)),
        live: Live::default(),
        running: AtomicUsize::new(threads),
        failed: AtomicBool::new(false),
    });
    let workers = (0..options.threads)
        .map(|index| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("load-{index}"))
                .spawn(move || worker::run(shared, index))
                .map_err(|source| Error::Io { what: "start a thread", source })
        })
        .collect::<Result<Vec<_>, _>>()?;

    shared.connected.wait();
    let started = Instant::now();
    shared.started.set(started).expect("set once");
    shared.go.wait();
    let observed = observe(options, &shared, started, observer);

    let mut total = Recorder::new();
    let mut failure = None;
    for worker in workers {
        match worker.join().map_err(|_| Error::Panicked).flatten() {
            Ok(recorder) => total.merge(&recorder),
            Err(error) => failure = Some(error),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let end_ns =
        if observed.whole { shared.end_ns.load(Ordering::Relaxed) } else { total.last_completion_ns };
    let measured = Duration::from_nanos(end_ns).saturating_sub(options.warm_up);
    Ok(total.summary(options, measured, observed.cpu_us))
}

struct Observed {
    /// CPU time of this process per good reply.
    cpu_us: f64,
    /// The measured time ran to its end.
    whole: bool,
}

/// Waits for the phases of the run. This thread may be woken late on a busy machine, so what it sees is only ever
/// divided by what it sees at the same moment.
fn observe(
    options: &Options,
    shared: &Shared,
    started: Instant,
    observer: &mut dyn FnMut(Phase<'_>),
) -> Observed {
    let mut whole = options.warm_up + options.duration;
    let running = || shared.running.load(Ordering::Relaxed) > 0;
    let planned = whole.as_secs_f64();
    let progress = |observer: &mut dyn FnMut(Phase<'_>)| {
        let part = match options.total {
            Some(total) => shared.live.completed() as f64 / total as f64,
            None => started.elapsed().as_secs_f64() / planned,
        };
        observer(Phase::Progress { part: part.min(1.0), live: &shared.live })
    };

    while started.elapsed() < options.warm_up && running() {
        std::thread::sleep(TICK.min(options.warm_up.saturating_sub(started.elapsed())));
        progress(observer);
    }
    observer(Phase::Started(&shared.live));
    let before = (own_cpu(), shared.live.completed());
    while started.elapsed() < whole && running() {
        std::thread::sleep(TICK.min(whole.saturating_sub(started.elapsed())));
        progress(observer);
        if shared.live.stopped() {
            whole = whole.min(started.elapsed());
            shared.end_ns.store(nanoseconds(whole), Ordering::Relaxed);
        }
    }
    let whole_time = started.elapsed() >= whole;
    let after = (own_cpu(), shared.live.completed());
    observer(Phase::Ended(&shared.live));
    let completed = (after.1 - before.1).max(1) as f64;
    Observed { cpu_us: (after.0 - before.0).as_secs_f64() * 1e6 / completed, whole: whole_time }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("below 500 years")
}

/// User and system time of this process, all threads.
pub fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).expect("below a second"))
}
