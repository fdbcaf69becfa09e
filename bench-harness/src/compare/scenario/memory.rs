//! `memory`: resident memory per key, once many keys were put and the server is at rest, and after a restart.

use std::time::Duration;

use super::job::{Job, Progress, filled_expected, start_filled};
use crate::compare::Error;
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Fill, Running, Testbed, mib, with_memory};

static LAYOUT: Layout = Layout {
    name: "memory",
    columns: &[
        Column::lower("RSS MiB", 0),
        Column::lower("RSS B/key", 0),
        Column::lower("anon MiB", 0),
        Column::plain("file MiB", 0),
        Column::lower("peak MiB", 0),
        Column::lower("disk MiB", 0),
        Column::plain("at rest after s", 1),
    ],
    panels: &[Panel::Bars {
        caption: "Resident memory in bytes per key",
        columns: &["RSS B/key"],
        logarithmic: false,
    }],
};

#[derive(Debug)]
pub struct Memory {
    fill: Fill,
    title: String,
}

impl Memory {
    pub fn new(fill: Fill) -> Self {
        Self { fill, title: format!("memory with {} keys", fill.keys) }
    }

    fn sample(&self, running: &Running) -> Result<Sample, Error> {
        let rest = running.settle()?;
        let usage = running.server.usage()?;
        let sample = Sample::default()
            .with("RSS B/key", usage.rss_bytes as f64 / self.fill.keys as f64)
            .with("peak MiB", mib(usage.rss_peak_bytes))
            .with("disk MiB", running.disk_mib()?)
            .with("at rest after s", rest.as_secs_f64());
        Ok(with_memory(sample, &usage))
    }
}

impl Job for Memory {
    fn title(&self) -> &str {
        &self.title
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
        let loaded = self.sample(&running)?;
        progress(0.85, "restart");
        running.stop()?;
        running.server.start_again()?;
        let restarted = self.sample(&running)?;
        running.stop()?;
        let group = |when: &str| format!("{} {when}", self.title);
        Ok(vec![(group("after the load"), loaded), (group("after a restart"), restarted)])
    }
}
