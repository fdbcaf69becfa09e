//! `process_*`: the `prometheus` crate's collector, with processor time finer than a second.

use prometheus::{
    Counter,
    core::{Collector, Desc},
    process_collector::ProcessCollector,
    proto::MetricFamily,
};
use rustix::time::{ClockId, clock_gettime};

const CPU_SECONDS: &str = "process_cpu_seconds_total";

pub(super) struct Process {
    /// Counts whole seconds of processor time: too coarse to tell what a short load cost.
    coarse: ProcessCollector,
    cpu_seconds: Counter,
}

impl Process {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let cpu_seconds = Counter::new(CPU_SECONDS, "Seconds of processor time spent, user and system.")?;
        Ok(Self { coarse: ProcessCollector::for_self(), cpu_seconds })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.coarse.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        self.cpu_seconds.reset();
        self.cpu_seconds.inc_by(spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9);
        let mut families = self.coarse.collect();
        families.retain(|family| family.name() != CPU_SECONDS);
        families.extend(self.cpu_seconds.collect());
        families
    }
}
