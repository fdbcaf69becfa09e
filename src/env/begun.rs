//! Work that goes on before anybody waits for it.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use futures_util::future::{MaybeDone, maybe_done};

/// A future that was polled once, so that the disk or the helper thread has what it asks for.
pub struct Begun<F: Future>(Pin<Box<MaybeDone<F>>>);

impl<F: Future> Begun<F> {
    pub async fn new(future: F) -> Self {
        let mut begun = Box::pin(maybe_done(future));
        poll_fn(|cx| match begun.as_mut().poll(cx) {
            // Its output stays in it.
            Poll::Ready(()) | Poll::Pending => Poll::Ready(()),
        })
        .await;
        Self(begun)
    }

    pub async fn finish(mut self) -> F::Output {
        self.0.as_mut().await;
        self.0.as_mut().take_output().expect("it was waited for")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_lite::future::{block_on, yield_now};

    use super::*;

    #[test]
    fn it_goes_as_far_as_it_can_and_is_not_begun_twice() {
        for pauses in 0..3 {
            let steps = Cell::new(0);
            block_on(async {
                let begun = Begun::new(async {
                    for _ in 0..pauses {
                        steps.set(steps.get() + 1);
                        yield_now().await;
                    }
                    "done"
                })
                .await;
                assert_eq!(steps.get(), pauses.min(1), "begun before it is waited for");
                assert_eq!(begun.finish().await, "done");
            });
            assert_eq!(steps.get(), pauses);
        }
    }
}
