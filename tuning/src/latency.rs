//! Latencies of one point, measured in several rounds, and what is said of them.
//!
//! A latency runs from before a write is queued to when its completion is seen, which is what fio
//! calls `lat` (`slat` + `clat`). Pure: no clock and no disk here.

use hdrhistogram::Histogram;
use serde::Serialize;

const MAX_NS: u64 = 60_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// Nanoseconds of one round.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_max(MAX_NS, SIGNIFICANT_DIGITS);
        Self(histogram.expect("the bounds are constants"))
    }
}

impl Latencies {
    /// What takes longer than a minute counts as a minute.
    pub fn record_ns(&mut self, nanos: u64) {
        self.0.saturating_record(nanos.min(MAX_NS));
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    fn quantile_us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1000.0
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    pub count: u64,
    /// Median of the rounds' own.
    pub p50_us: f64,
    /// Median of the rounds' own, so that one disturbed round does not decide.
    pub p99_us: f64,
    /// Of all rounds together: one round has too few for it.
    pub p999_us: f64,
    pub max_us: f64,
}

/// Of rounds that recorded nothing, nothing is said.
pub fn percentiles(rounds: &[Latencies]) -> Percentiles {
    let rounds: Vec<&Latencies> = rounds.iter().filter(|round| round.count() > 0).collect();
    if rounds.is_empty() {
        return Percentiles::default();
    }
    let mut all = Latencies::default();
    for round in &rounds {
        all.0.add(&round.0).expect("all have the same bounds");
    }
    let of_rounds = |quantile| median(rounds.iter().map(|round| round.quantile_us(quantile)).collect());
    Percentiles {
        count: all.count(),
        p50_us: of_rounds(0.5),
        p99_us: of_rounds(0.99),
        p999_us: all.quantile_us(0.999),
        max_us: all.0.max() as f64 / 1000.0,
    }
}

/// The mean of the middle two of an even number; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(micros: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        micros.into_iter().for_each(|us| latencies.record_ns(us * 1000));
        latencies
    }

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() <= expected * 0.002, "{value} is not {expected}");
    }

    #[test]
    fn percentiles_of_one_round_are_its_own() {
        let found = percentiles(&[round(1..=1000)]);
        assert_eq!(found.count, 1000);
        near(found.p50_us, 500.0);
        near(found.p99_us, 990.0);
        near(found.p999_us, 999.0);
        near(found.max_us, 1000.0);
    }

    #[test]
    fn a_disturbed_round_shows_in_the_tail_only() {
        let calm = || round((0..1000).map(|_| 100));
        let found = percentiles(&[calm(), round((0..1000).map(|_| 9000)), calm()]);
        near(found.p50_us, 100.0);
        near(found.p99_us, 100.0);
        near(found.p999_us, 9000.0);
        near(found.max_us, 9000.0);
    }

    #[test]
    fn empty_rounds_say_nothing() {
        assert_eq!(percentiles(&[]), Percentiles::default());
        let found = percentiles(&[round([]), round([7])]);
        assert_eq!(found.count, 1);
        near(found.p50_us, 7.0);
    }

    #[test]
    fn more_than_a_minute_is_a_minute() {
        let found = percentiles(&[round([61_000_000])]);
        near(found.max_us, 60_000_000.0);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
