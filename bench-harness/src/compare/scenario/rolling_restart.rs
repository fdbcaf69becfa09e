//! `rolling-restart`: every member of a cluster is asked to stop and started again, one after the other, the leader last.

use std::time::Duration;

use super::job::{Job, Progress, step};
use super::upheaval::{COLUMNS, Upheaval};
use crate::compare::Error;
use crate::compare::probe::ProbeOptions;
use crate::compare::report::{Layout, Panel, Sample};
use crate::compare::testbed::{GRACE, Running, Testbed};

static LAYOUT: Layout = Layout {
    name: "rolling-restart",
    columns: &COLUMNS,
    panels: &[Panel::Bars {
        caption: "Puts during a restart of one member after the other, in ms (log scale): p99, longest",
        columns: &["p99 ms", "max ms"],
        logarithmic: true,
    }],
};

/// From a member that is ready to the end of the next one, as operators wait.
const PAUSE: Duration = Duration::from_secs(1);
/// For the plan of time only.
const EXPECTED: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct RollingRestart {
    upheaval: Upheaval,
}

impl RollingRestart {
    pub fn new(probe: &ProbeOptions, value_size: usize) -> Self {
        Self { upheaval: Upheaval::new(probe, value_size) }
    }
}

impl Job for RollingRestart {
    fn title(&self) -> &str {
        "rolling restart"
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        EXPECTED + self.upheaval.expected()
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let mut running = testbed.start()?;
        let restart = |running: &mut Running| {
            for server in running.others.iter_mut().chain([&mut running.server]) {
                server.terminate(GRACE)?;
                server.start_again()?;
                std::thread::sleep(PAUSE);
            }
            Ok(())
        };
        let title = self.title();
        let sample = self.upheaval.run(&mut running, restart, &mut step(progress, (0.1, 1.0), title))?;
        Ok(vec![(format!("{title}, {} members", testbed.members), sample)])
    }
}
