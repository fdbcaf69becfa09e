//! `process_*`: the `prometheus` crate's collector, with processor time finer than a second; and etcd's own names for
//! what it knows of descriptors.

use prometheus::{
    Counter, Gauge,
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
    /// Each beside the family it repeats.
    descriptors: [(&'static str, Gauge); 2],
}

impl Process {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let cpu_seconds = Counter::new(CPU_SECONDS, "Seconds of processor time spent, user and system.")?;
        let descriptors = [
            ("process_open_fds", Gauge::new("os_fd_used", "File descriptors in use.")?),
            ("process_max_fds", Gauge::new("os_fd_limit", "File descriptors there may be.")?),
        ];
        Ok(Self { coarse: ProcessCollector::for_self(), cpu_seconds, descriptors })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        let mut desc = self.coarse.desc();
        desc.extend(self.descriptors.iter().flat_map(|(_, gauge)| gauge.desc()));
        desc
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        self.cpu_seconds.reset();
        self.cpu_seconds.inc_by(spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9);
        let mut families = self.coarse.collect();
        families.retain(|family| family.name() != CPU_SECONDS);
        families.extend(self.cpu_seconds.collect());
        for (beside, gauge) in &self.descriptors {
            let value = families.iter().find(|family| family.name() == *beside);
            if let Some(value) = value.and_then(|family| family.get_metric().first()) {
                gauge.set(value.get_gauge().get_value());
                families.extend(gauge.collect());
            }
        }
        families
    }
}
