//! The executor a core runs: where its thread is, where the thread beside it is, how it takes turns.

use std::{future::Future, io};

use glommio::{CpuSet, LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use super::{RealEnv, aside::Aside, names::Names, placement::allowed, rings};
use crate::limits;

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    #[error("core {core} is not among the cores this process may use {allowed:?}: choose one with --cores")]
    Core { core: usize, allowed: Vec<usize> },
    #[error("cannot set up I/O rings: {call}: {source}. {advice}")]
    Forbidden { call: &'static str, source: io::Error, advice: &'static str },
    #[error("cannot start a thread beside the core: {0}")]
    Thread(io::Error),
    #[error("cannot set up I/O rings: Linux 5.8 or newer is needed")]
    OldKernel,
    #[error(
        "cannot set up I/O rings: {0} (Linux 5.8 or newer with io_uring is needed; containers must allow its \
         system calls and kernel.io_uring_disabled must be 0)"
    )]
    Rings(String),
}

/// Runs a member's main task to its end, with this thread on one core.
pub fn run_on<F: Future>(core: usize, main: impl FnOnce(RealEnv) -> F) -> Result<F::Output, ExecutorError> {
    rings::check()?;
    let registrable = rings::registrable();
    let io_memory = *registrable.as_ref().unwrap_or(&limits::IO_BUFFER_BYTES);
    let quiet = Quiet::unless(registrable);
    let builder = LocalExecutorBuilder::new(Placement::Fixed(core))
        .name("pinion")
        .preempt_timer(limits::TURN_MAX)
        .io_memory(io_memory)
        // What would block the loop must not share its core.
        .blocking_thread_pool_placement(helper_placement(core));
    let aside = Aside::beside(core).map_err(ExecutorError::Thread)?;
    let names = Names::beside(core).map_err(ExecutorError::Thread)?;
    let executor = make(builder)?;
    drop(quiet);
    Ok(executor.run(main(RealEnv { aside: Some(aside), names, ..RealEnv::default() })))
}

/// Runs a task to its end, with this thread on whichever core: for tools and tests.
pub fn run_anywhere<F: Future>(main: impl FnOnce(RealEnv) -> F) -> Result<F::Output, ExecutorError> {
    rings::check()?;
    let executor = make(LocalExecutorBuilder::new(Placement::Unbound).name("pinion-tool"))?;
    Ok(executor.run(main(RealEnv::default())))
}

fn make(builder: LocalExecutorBuilder) -> Result<LocalExecutor, ExecutorError> {
    builder.make().map_err(|error| ExecutorError::Rings(error.to_string()))
}

/// The executor's warnings are off while there is one: it is about to say what was said already.
struct Quiet(log::LevelFilter);

impl Quiet {
    fn unless(registrable: io::Result<usize>) -> Option<Self> {
        let error = registrable.err()?;
        tracing::info!(
            %error,
            "needed-bytes" = rings::BYTES_LOCKED,
            "I/O buffers stay unregistered, which costs every write a little: raise the limit of locked memory with \
             `ulimit -l` or LimitMEMLOCK="
        );
        let before = log::max_level();
        log::set_max_level(log::LevelFilter::Off);
        Some(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        log::set_max_level(self.0);
    }
}

/// Where the executor's helper thread runs, which does what would block the loop: on any core but the loop's, if there
/// is another. Left to itself the scheduler likes to run it where it was woken, and the loop then waits for it.
fn helper_placement(core: usize) -> PoolPlacement {
    let allowed = allowed();
    let others = CpuSet::online()
        .map(|online| online.filter(|location| location.cpu != core && allowed.contains(&location.cpu)));
    match others {
        Ok(others) if !others.is_empty() => PoolPlacement::Fenced(1, others),
        _ => PoolPlacement::Unbound(1),
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc, thread, time::Duration};

    use super::*;
    use crate::env::Env;

    #[test]
    fn what_is_offloaded_runs_beside_the_core() {
        let core = thread::current().id();
        let turns = Rc::new(Cell::new(0));
        let counted = turns.clone();
        let (elsewhere, meanwhile) = run_anywhere(async move |env| {
            let timer = env.clone();
            env.spawn(async move {
                for _ in 0..200 {
                    timer.sleep(Duration::from_millis(1)).await;
                    counted.set(counted.get() + 1);
                }
            });
            let elsewhere = env
                .offload(|| {
                    thread::sleep(Duration::from_millis(50));
                    thread::current().id()
                })
                .await;
            (elsewhere, turns.get())
        })
        .expect("an executor");
        assert_ne!(elsewhere, core);
        assert!(meanwhile > 1, "the core went on");
    }

    #[test]
    fn what_is_set_aside_wakes_whoever_waits_for_it() {
        let core = *allowed().last().expect("there is one");
        // A thread of its own: it is pinned.
        let done = thread::spawn(move || {
            run_on(core, async |env| {
                let mut sum = 0;
                for number in 0..100 {
                    sum += env.set_aside(move || number).await;
                }
                let abandoned = env.set_aside(|| thread::sleep(Duration::from_millis(20)));
                drop(abandoned);
                let elsewhere = env.set_aside(|| thread::current().name().map(str::to_owned)).await;
                (sum, elsewhere)
            })
            .expect("an executor")
        });
        let (sum, elsewhere) = done.join().expect("no panic");
        assert_eq!((sum, elsewhere.as_deref()), (4_950, Some("pinion-aside")));
    }
}
