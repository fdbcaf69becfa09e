//! The end of work that another thread does.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

/// Whoever does the work, and whoever waits for it.
pub fn done<T>() -> (Teller<T>, Done<T>) {
    let result = Arc::new(Mutex::new(Result { value: None, waker: None }));
    (Teller(result.clone()), Done(result))
}

struct Result<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

pub struct Teller<T>(Arc<Mutex<Result<T>>>);

impl<T> Teller<T> {
    pub fn tell(self, value: T) {
        let mut result = self.0.lock().expect("nobody panics while holding it");
        result.value = Some(value);
        if let Some(waker) = result.waker.take() {
            waker.wake();
        }
    }
}

/// What some work comes to. Dropping it does not recall the work.
pub struct Done<T>(Arc<Mutex<Result<T>>>);

impl<T> Future for Done<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut result = self.0.lock().expect("nobody panics while holding it");
        match result.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                result.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
