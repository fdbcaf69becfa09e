//! One server, its clients, and what they know across its deaths.

use std::{os::unix::process::ExitStatusExt, path::Path, time::Duration};

use bench_harness::process::{Error, Launch, Server};

use super::{
    ledger::Ledger,
    writers::{self, Load, Values},
};
use crate::{seeded::Rng, tested};

/// A restart that takes longer has failed, on the slowest machine.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Starts are killed within so long of the exec: in its first moments, in recovery, around the time it is ready.
const START_MOMENTS_MAX_MS: [u64; 3] = [20, 100, 500];
const NO_WRAPPER: [&str; 0] = [];

/// Runs a future to its end on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("build a runtime").block_on(future)
}

pub struct Campaign {
    pub server: Server,
    pub ledger: Ledger,
    pub values: Values,
    rng: Rng,
    /// Kills while it was starting that met it before it was ready.
    pub killed_starting: usize,
}

impl Campaign {
    pub fn begin(launch: Launch, seed: u64) -> Result<Self, String> {
        let server = launch.ready_timeout(READY_TIMEOUT).start().map_err(|error| error.to_string())?;
        Ok(Self {
            server,
            ledger: Ledger::default(),
            values: Values::Mixed,
            rng: Rng::new(seed),
            killed_starting: 0,
        })
    }

    pub fn begin_tested(data_dir: &Path, args: &[&str], seed: u64) -> Result<Self, String> {
        Self::begin(tested::launch(tested::program(), data_dir).args(args.iter().copied()), seed)
    }

    /// Load, and after a random while the server's end by `how`; then the clients' diaries are noted.
    pub fn load_until(
        &mut self,
        longest: Duration,
        how: impl FnOnce(&mut Server) -> Result<(), String>,
    ) -> Result<(), String> {
        let endpoint = self.server.endpoint();
        let seed = self.rng.next();
        let pause = Duration::from_micros(self.rng.below(longest.as_micros() as u64));
        let compact_at = (self.ledger.revision() - self.rng.between(10, 1_000)).max(0);
        let compact_at = Some(compact_at).filter(|&at| at > 0 && self.rng.percent(40));
        if let Some(revision) = compact_at {
            self.ledger.compaction_sent(revision);
        }
        let (ledger, load) = (&self.ledger, Load { values: self.values, compact_at, seed });
        let (ended, diaries) = std::thread::scope(|scope| {
            let writing = scope.spawn(move || block_on(writers::write_until_cut(&endpoint, ledger, load)));
            std::thread::sleep(pause);
            let ended = how(&mut self.server);
            (ended, writing.join().expect("the writers do not panic"))
        });
        ended?;
        for diary in diaries? {
            self.ledger.note(diary)?;
        }
        Ok(())
    }

    /// Starts it again and checks everything. One start in three is itself killed at a random moment, some of them
    /// several times in a row.
    pub fn restart(&mut self) -> Result<(), String> {
        while self.rng.percent(33) {
            let moment_max = self.rng.pick(&START_MOMENTS_MAX_MS);
            let moment = Duration::from_micros(self.rng.below(moment_max * 1_000));
            self.start_and_kill(moment)?;
        }
        self.server
            .start_again_with(|launch| launch.wrapper(NO_WRAPPER))
            .map_err(|error| format!("a start after a kill failed: {error}"))?;
        self.verify()
    }

    /// A start that is killed after `moment`, ready by then or not.
    fn start_and_kill(&mut self, moment: Duration) -> Result<(), String> {
        let failed = |error: Error| format!("a start that was to be killed failed before: {error}");
        // A shell that becomes the server, and leaves behind one that kills it.
        let script = format!("(sleep {}; kill -9 $$) & exec \"$@\"", moment.as_secs_f64());
        match self.server.start_again_with(|launch| launch.wrapper(["bash", "-c", &script, "bash"])) {
            Ok(()) => {
                while self.server.exited().map_err(failed)?.is_none() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                self.server.kill().map_err(failed)?;
            }
            Err(Error::Exited { status, .. }) if status.signal() == Some(libc::SIGKILL) => {
                self.killed_starting += 1;
            }
            Err(error) => return Err(failed(error)),
        }
        Ok(())
    }

    pub fn verify(&mut self) -> Result<(), String> {
        let endpoint = self.server.endpoint();
        block_on(writers::verify(&endpoint, &mut self.ledger)).map_err(|wrong| self.with_log(&wrong))
    }

    /// `kill -9` under load, restart, check.
    pub fn kill_round(&mut self) -> Result<(), String> {
        let kill = |server: &mut Server| server.kill().map(drop).map_err(|error| error.to_string());
        self.load_until(Duration::from_millis(700), kill)?;
        self.restart()
    }

    pub fn with_log(&self, wrong: &str) -> String {
        let tail = self.server.log_tail().unwrap_or_else(|error| error.to_string());
        format!("{wrong}\nthe end of the server's log {}:\n{tail}", self.server.log_path().display())
    }
}
