//! A task that somebody waits for.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::Env;

/// The end of a task. Dropping it does not end the task.
pub struct Joined<T>(Rc<RefCell<State<T>>>);

struct State<T> {
    output: Option<T>,
    waker: Option<Waker>,
}

/// Spawns a task and gives what it comes to. Never, if the task is dropped before: with its core.
pub fn spawn_joined<E: Env, T: 'static>(env: &E, task: impl Future<Output = T> + 'static) -> Joined<T> {
    let state = Rc::new(RefCell::new(State { output: None, waker: None }));
    let joined = Joined(state.clone());
    env.spawn(async move {
        let output = task.await;
        let waker = {
            let mut state = state.borrow_mut();
            state.output = Some(output);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    });
    joined
}

impl<T> Future for Joined<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.borrow_mut();
        match state.output.take() {
            Some(output) => Poll::Ready(output),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::Duration};

    use super::*;
    use crate::{
        env::sim::{Sim, SimEnv, disk::SimDisk},
        types::MemberId,
    };

    #[test]
    fn a_task_is_waited_for_whether_it_ends_before_or_after() {
        let sim = Sim::new(1);
        let env = SimEnv::new(&sim, MemberId(1), SimDisk::new(&sim));
        let sum = Rc::new(Cell::new(0));
        let (early, late) = {
            let timer = env.clone();
            (
                spawn_joined(&env, async { 1 }),
                spawn_joined(&env, async move {
                    timer.sleep(Duration::from_secs(1)).await;
                    2
                }),
            )
        };
        let (total, timer) = (sum.clone(), env.clone());
        env.spawn(async move {
            timer.sleep(Duration::from_millis(1)).await;
            total.set(early.await + late.await);
        });
        assert!(sim.run_until(1_000, || sum.get() == 3));
    }
}
