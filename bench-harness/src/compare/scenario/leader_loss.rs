//! `leader-loss`: a cluster whose leader is killed, and one whose leader is asked to stop.

use std::time::Duration;

use super::job::{Job, Progress, step};
use super::upheaval::{COLUMNS, Upheaval};
use crate::compare::Error;
use crate::compare::probe::ProbeOptions;
use crate::compare::report::{Layout, Panel, Sample};
use crate::compare::testbed::{GRACE, Running, Testbed};

static LAYOUT: Layout = Layout {
    name: "leader-loss",
    columns: &COLUMNS,
    panels: &[Panel::Bars {
        caption: "The longest time without a successful write in ms (log scale)",
        columns: &["no write ms"],
        logarithmic: true,
    }],
};

/// For the plan of time only.
const BEGIN: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    Stopped,
}

#[derive(Debug)]
struct LeaderLoss {
    end: End,
    upheaval: Upheaval,
    title: &'static str,
}

/// An end is a job of its own, on a cluster of its own.
pub fn jobs(probe: &ProbeOptions, value_size: usize) -> Vec<Box<dyn Job>> {
    let job = |end, title| -> Box<dyn Job> {
        Box::new(LeaderLoss { end, upheaval: Upheaval::new(probe, value_size), title })
    };
    vec![job(End::Killed, "leader killed"), job(End::Stopped, "leader asked to stop")]
}

impl Job for LeaderLoss {
    fn title(&self) -> &str {
        self.title
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        BEGIN + self.upheaval.expected()
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let mut running = testbed.start()?;
        let lose = |running: &mut Running| {
            match self.end {
                End::Killed => running.server.kill()?,
                End::Stopped => running.server.terminate(GRACE)?,
            };
            Ok(())
        };
        let sample = self.upheaval.run(&mut running, lose, &mut step(progress, (0.2, 1.0), self.title))?;
        Ok(vec![(format!("{}, {} members", self.title, testbed.members), sample)])
    }
}
