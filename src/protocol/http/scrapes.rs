//! `/metrics`, rendered once for all who ask in the same moment.
//!
//! Rendering takes the core longer than most of what it does. Who asks joins a round, which is rendered as soon as the
//! one before is some time ago, and never before all who are in it have asked: each gets what is so after it asked.

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
};

use bytes::Bytes;
use futures_lite::future::yield_now;

use super::gzip;
use crate::{env::Instant, limits, protocol::timers::Timers, service::metrics::Error};

#[derive(Clone)]
pub(super) struct Scrapes(Rc<Inner>);

struct Inner {
    timers: Timers,
    /// Whom a newcomer joins.
    round: RefCell<Rc<Round>>,
    last: Cell<Option<Instant>>,
}

/// What all who are in it get.
type Round = OnceCell<Result<Rc<Text>, String>>;

/// A text, compressed once somebody asks for that.
pub(super) struct Text {
    plain: Bytes,
    zipped: OnceCell<Bytes>,
}

impl Text {
    fn new(plain: Vec<u8>) -> Rc<Self> {
        Rc::new(Self { plain: plain.into(), zipped: OnceCell::new() })
    }

    pub(super) fn plain(&self) -> Bytes {
        self.plain.clone()
    }

    pub(super) fn zipped(&self) -> Bytes {
        self.zipped.get_or_init(|| gzip::compress(&self.plain)).clone()
    }
}

impl Scrapes {
    pub(super) fn new(timers: Timers) -> Self {
        Self(Rc::new(Inner { timers, round: RefCell::default(), last: Cell::new(None) }))
    }

    /// The text, or what is wrong with it.
    pub(super) async fn text(
        &self,
        render: impl FnOnce() -> Result<Vec<u8>, Error>,
    ) -> Result<Rc<Text>, String> {
        let inner = &*self.0;
        let round = inner.round.borrow().clone();
        // Whoever else asks in this turn comes along.
        yield_now().await;
        let ago = inner.last.get().map(|last| inner.timers.now().since(last));
        let left = ago.map(|ago| limits::SCRAPE_PAUSE.saturating_sub(ago)).filter(|left| !left.is_zero());
        if let Some(left) = left
            && round.get().is_none()
        {
            inner.timers.sleep(left).await;
        }
        let text = round.get_or_init(|| {
            inner.round.take();
            inner.last.set(Some(inner.timers.now()));
            render().map(Text::new).map_err(|error| error.to_string())
        });
        text.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        env::{
            Env,
            sim::{Sim, SimEnv, disk::SimDisk},
        },
        types::MemberId,
    };

    #[test]
    fn who_asks_together_gets_one_text_and_never_an_older_one() {
        let sim = Sim::new(1);
        let env = SimEnv::new(&sim, MemberId(1), SimDisk::new(&sim));
        let scrapes = Scrapes::new(Timers::new(&env));
        let (state, rendered, answered) =
            (Rc::new(Cell::new(0u32)), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let ask = || {
            let (scrapes, state, rendered, answered) =
                (scrapes.clone(), state.clone(), rendered.clone(), answered.clone());
            env.spawn(async move {
                let asked = state.get();
                let render = || {
                    rendered.set(rendered.get() + 1);
                    Ok(state.get().to_be_bytes().to_vec())
                };
                let text = scrapes.text(render).await.expect("rendered");
                let told = u32::from_be_bytes(text.plain()[..].try_into().expect("four bytes"));
                assert_eq!(text.zipped().as_ptr(), text.zipped().as_ptr(), "compressed once");
                assert!(told >= asked, "{told} is older than {asked}");
                answered.set(answered.get() + 1);
            });
        };
        for moment in 0..10 {
            state.set(moment);
            (0..100).for_each(|_| ask());
            let began = sim.now();
            assert!(sim.run_until(100_000, || answered.get() == 100 * (moment + 1)));
            let took = sim.now().since(began);
            assert!(took <= limits::SCRAPE_PAUSE, "waited {took:?}");
        }
        assert!(rendered.get() <= 20, "{} texts for a thousand who ask at ten moments", rendered.get());
        let (timer, woken) = (env.sleep(Duration::from_secs(1)), Rc::new(Cell::new(false)));
        let awake = woken.clone();
        env.spawn(async move {
            timer.await;
            awake.set(true);
        });
        assert!(sim.run_until(100_000, || woken.get()));
        let began = sim.now();
        ask();
        assert!(sim.run_until(100_000, || answered.get() == 1_001));
        assert_eq!(sim.now(), began, "nobody else has asked for long");
    }
}
