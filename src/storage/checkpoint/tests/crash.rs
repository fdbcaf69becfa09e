//! A crash at every step of a checkpoint leaves the last state or the one before.

use std::cell::Cell;

use super::*;

/// States in order; 0 is that nothing was ever saved.
struct Script {
    states: Vec<State>,
    checkpoints: Vec<(Checkpoint, bool)>,
}

impl Script {
    fn new(seed: u64, bytes_max: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut state = State::default();
        let mut script = Script { states: Vec::new(), checkpoints: Vec::new() };
        for at in 0..5 {
            let checkpoint = state.step(&mut rng, bytes_max);
            script.checkpoints.push((checkpoint, at == 3 && seed.is_multiple_of(2)));
            script.states.push(state.clone());
        }
        script
    }

    fn state(&self, at: usize) -> Option<State> {
        at.checked_sub(1).map(|at| self.states[at].clone())
    }
}

/// Tiny, so that five checkpoints merge.
fn tiny() -> CheckpointOptions {
    let shape =
        Shape { segment_bytes: 8 * 1024, slack_bytes: 2 * 1024, small_segments_max: 3, carry_bytes: 8_000 };
    CheckpointOptions { shape, ..small() }
}

#[derive(Default)]
struct Progress {
    started: Cell<usize>,
    completed: Cell<usize>,
    merged: Cell<bool>,
}

async fn serve(env: SimEnv, script: Rc<Script>, progress: Rc<Progress>) {
    let (mut store, _) = open(env, tiny()).await.expect("a new one opens");
    for (checkpoint, compact_all) in &script.checkpoints {
        progress.started.set(progress.started.get() + 1);
        let saved = store.write(checkpoint.clone(), *compact_all).await.expect("the disk works");
        progress.completed.set(progress.started.get());
        progress.merged.set(progress.merged.get() || saved.carried_bytes > 0);
        drop(saved);
        store.sweep().await.expect("the disk works");
    }
}

/// Runs the script, crashes after `steps`, and checks what is found then. False once the script ends before that.
fn crash_after(seed: u64, steps: u64, script: &Rc<Script>, merged: &Cell<u64>) -> bool {
    let sim = Sim::new(seed);
    let disk = SimDisk::new(&sim);
    let env = SimEnv::new(&sim, MEMBER, disk.clone());
    let progress = Rc::new(Progress::default());
    sim.spawn(MEMBER, serve(env.clone(), script.clone(), progress.clone()));
    let ran = (0..steps).all(|_| sim.step());
    sim.crash(MEMBER);
    disk.crash();
    // Another one may hit the restart.
    if seed.is_multiple_of(3) {
        let env = env.clone();
        sim.spawn(MEMBER, async move {
            open(env, tiny()).await.map(drop).expect("a crash damages nothing");
        });
        (0..sim.below(40)).all(|_| sim.step());
        sim.crash(MEMBER);
        disk.crash();
    }
    let (started, completed) = (progress.started.get(), progress.completed.get());
    merged.set(merged.get() + u64::from(progress.merged.get()));
    let script = script.clone();
    run(&sim, async move {
        let (mut store, loaded) = open(env.clone(), tiny()).await.expect("a crash damages nothing");
        let found = State::of(loaded);
        let expected = [script.state(completed), script.state(started)];
        assert!(expected.contains(&found), "seed {seed}, step {steps}: {completed} or {started}");
        // And life goes on from there.
        let mut next = script.states[script.states.len() - 1].clone();
        next.summary.applied.0 += 1;
        let checkpoint = next.whole(&found.unwrap_or_default());
        store.write(checkpoint, false).await.expect("the disk works");
        store.sweep().await.expect("the disk works");
        let names = env.disk().files().len();
        assert_eq!(names, store.segments.len() + 1, "nothing is left behind");
        drop(store);
        let (_, loaded) = open(env, tiny()).await.expect("it opens");
        assert_eq!(State::of(loaded), Some(next));
    });
    ran
}

#[test]
fn a_crash_at_any_step_leaves_the_last_state_or_the_one_before() {
    let (mut crashes, merged) = (0, Cell::new(0));
    for seed in 0..12 {
        // Every other script has bodies of several writes.
        let script = Rc::new(Script::new(seed, if seed % 2 == 0 { 4_000 } else { 300_000 }));
        let mut steps = 0;
        while crash_after(seed << 16 | steps, steps, &script, &merged) {
            steps += 1;
        }
        crashes += steps;
    }
    assert!(crashes > 500, "{crashes} crashes");
    assert!(merged.get() > 50, "{} crashes after a merge", merged.get());
}

/// A write that was given up half-way, with the process alive.
#[test]
fn a_dropped_write_is_as_if_it_never_began() {
    for polls in 1..120 {
        with_disk(polls, async move |env, disk| {
            let script = Script::new(4, 4_000);
            let (mut store, _) = open(env.clone(), tiny()).await.expect("a new one opens");
            for (checkpoint, _) in &script.checkpoints[..3] {
                store.write(checkpoint.clone(), false).await.expect("the disk works");
            }
            let (checkpoint, _) = &script.checkpoints[3];
            let mut write = Box::pin(store.write(checkpoint.clone(), true));
            let mut left = polls;
            let ended = std::future::poll_fn(|cx| {
                left -= 1;
                match write.as_mut().poll(cx) {
                    std::task::Poll::Pending if left > 0 => std::task::Poll::Pending,
                    other => std::task::Poll::Ready(other.is_ready()),
                }
            });
            let ended = ended.await;
            drop(write);
            let (last, _) = &script.checkpoints[4];
            let changes = match ended {
                true => last.changes.clone(),
                false => [checkpoint.changes.clone(), last.changes.clone()].concat(),
            };
            let both = Checkpoint { summary: last.summary.clone(), changes };
            store.write(both, false).await.expect("the disk works");
            store.sweep().await.expect("the disk works");
            assert_eq!(disk.files().len(), store.segments.len() + 1, "nothing is left behind");
            let (_, loaded) = open(env, tiny()).await.expect("it opens");
            assert_eq!(State::of(loaded), script.state(5));
        });
    }
}
