//! glommio in the shapes hyper asks for: an executor and timers.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use glommio::TaskQueueHandle;
use send_wrapper::SendWrapper;

/// Schedules tasks on this core.
#[derive(Clone, Copy)]
pub(super) struct Tasks(pub(super) TaskQueueHandle);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        // Not `spawn_local`: it would run the task inside its spawner, and the connection would flush
        // once per request instead of once per turn.
        glommio::spawn_local_into(task, self.0).expect("the connection's queue exists").detach();
    }
}

#[derive(Clone, Copy)]
pub(super) struct Timers;

impl hyper::rt::Timer for Timers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(SendWrapper::new(glommio::timer::Timer::new(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

/// hyper wants `Send + Sync`, though it is polled and dropped on the core that made it.
struct Sleep(SendWrapper<glommio::timer::Timer>);

impl hyper::rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut *self.0).poll(context).map(drop)
    }
}
