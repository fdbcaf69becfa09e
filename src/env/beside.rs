//! A place beside the core, for whoever does not name the kind of [`Env`] that it is of.

use std::{any::Any, future::Future, pin::Pin, rc::Rc};

use super::Env;

type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;
type Working = Pin<Box<dyn Future<Output = Box<dyn Any + Send>>>>;

#[derive(Clone)]
pub struct Beside(Rc<dyn Fn(Work) -> Working>);

impl Beside {
    /// For what would hold up the core; see [`Env::offload`].
    pub fn offloading<E: Env>(env: &E) -> Self {
        let env = env.clone();
        Self(Rc::new(move |work| Box::pin(env.offload(work))))
    }

    /// For what takes a processor long; see [`Env::set_aside`].
    pub fn setting_aside<E: Env>(env: &E) -> Self {
        let env = env.clone();
        Self(Rc::new(move |work| Box::pin(env.set_aside(work))))
    }

    /// What the work gives. Dropping the future does not recall it.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        let working = (self.0)(Box::new(move || Box::new(work())));
        async move { *working.await.downcast().expect("what the work gives") }
    }
}
