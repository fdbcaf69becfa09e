//! One registry and the shapes of what is in it: etcd's bucket bounds.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
    exponential_buckets,
};

use super::Families;

/// Makes and registers in one step.
#[derive(Default)]
pub(super) struct Register(Registry);

impl Register {
    pub(super) fn registry(&self) -> &Registry {
        &self.0
    }

    pub(super) fn gather(&self) -> Families {
        Families(self.0.gather())
    }

    pub(super) fn register<C: Collector + Clone + 'static>(
        &self,
        collector: C,
    ) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::new(name, help)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::new(name, help)?)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// etcd's bounds for the disk: 1 ms doubled up to 8.192 s.
    pub(super) fn disk(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        let buckets = exponential_buckets(0.001, 2.0, 14)?;
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
    }

    /// `count` bounds, doubling from the first.
    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        (first, count): (f64, usize),
    ) -> Result<Histogram, prometheus::Error> {
        let buckets = exponential_buckets(first, 2.0, count)?;
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
    }

    /// 1 us to 8.4 s, doubling: the shortest stages are a few microseconds.
    pub(super) fn stage(&self, stage: &str) -> Result<Histogram, prometheus::Error> {
        let buckets = exponential_buckets(1e-6, 2.0, 24)?;
        self.register(Histogram::with_opts(
            HistogramOpts::new(
                "pinion_stage_duration_seconds",
                "Seconds a batch of requests spent in a stage.",
            )
            .const_label("stage", stage)
            .buckets(buckets),
        )?)
    }
}
