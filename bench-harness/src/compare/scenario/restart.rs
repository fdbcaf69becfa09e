//! `restart`: many keys, an end by SIGTERM or by SIGKILL, and how long the next start takes until the server says it
//! is ready and until it answers a linearizable read of a known key.

use std::time::{Duration, Instant};

use super::job::{Job, Progress, filled_expected, start_filled};
use crate::admin::{self, Admin};
use crate::compare::Error;
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Fill, Running, Testbed, with_memory};

const ANSWER_MAX: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(1);

static LAYOUT: Layout = Layout {
    name: "restart",
    columns: &[
        Column::lower("ready s", 3),
        Column::lower("first read s", 3),
        Column::lower("stop s", 3),
        Column::lower("disk MiB", 0),
        Column::lower("RSS MiB", 0),
        Column::plain("anon MiB", 0),
        Column::plain("file MiB", 0),
    ],
    panels: &[Panel::Bars {
        caption: "Restart in seconds (log scale): to ready and to the first read",
        columns: &["ready s", "first read s"],
        logarithmic: true,
    }],
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Graceful,
    Killed,
}

#[derive(Debug)]
struct Restart {
    fill: Fill,
    end: End,
    group: String,
}

/// An end is a job of its own, so that neither finds what the other left.
pub fn jobs(fill: Fill) -> Vec<Box<dyn Job>> {
    let job = |end, name: &str| -> Box<dyn Job> {
        Box::new(Restart { fill, end, group: format!("restart with {} keys after {name}", fill.keys) })
    };
    vec![job(End::Graceful, "SIGTERM"), job(End::Killed, "SIGKILL")]
}

impl Job for Restart {
    fn title(&self) -> &str {
        &self.group
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        filled_expected(&self.fill)
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let mut running = start_filled(testbed, self.fill, progress)?;
        running.settle()?;
        let stopped = match self.end {
            End::Graceful => Some(running.stop()?),
            End::Killed => {
                running.server.kill()?;
                None
            }
        };
        let disk = running.disk_mib()?;
        progress(0.85, "start again");
        let (ready, answered) = start_again(&mut running, &self.fill)?;
        progress(0.9, "wait for rest");
        running.settle()?;
        let sample = Sample::default()
            .with("ready s", ready.as_secs_f64())
            .with("first read s", answered.as_secs_f64())
            .with("stop s", stopped.map(|stopped| stopped.as_secs_f64()))
            .with("disk MiB", disk);
        let sample = with_memory(sample, &running.server.usage()?);
        running.stop()?;
        Ok(vec![(self.group.clone(), sample)])
    }
}

/// The times from the exec to ready and to the answer.
fn start_again(running: &mut Running, fill: &Fill) -> Result<(Duration, Duration), Error> {
    let reader = Admin::connect_when_asked(running.server.addr())?;
    let key = fill.last_key();
    std::thread::scope(|scope| {
        let since = Instant::now();
        let reading = scope.spawn(move || first_answer(&reader, &key, since));
        running.server.start_again()?;
        let value = reading.join().expect("reading does not panic")?;
        let (answered, value) = value;
        if value.map(|value| value.len()) != Some(fill.value_size) {
            return Err(Error::Lost { key: fill.last_key() });
        }
        Ok((running.server.ready_after(), answered))
    })
}

type Answer = (Duration, Option<bytes::Bytes>);

/// Asks until there is an answer: while nothing listens, asking fails at once.
fn first_answer(reader: &Admin, key: &str, since: Instant) -> Result<Answer, admin::Error> {
    loop {
        match reader.get(key) {
            Ok(value) => return Ok((since.elapsed(), value)),
            Err(error) if since.elapsed() > ANSWER_MAX => return Err(error),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
