//! How long messages to another member and back took, in sum: what etcd's `/v2/stats/leader` tells of a follower.

use std::time::Duration;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trips {
    pub count: u64,
    /// What could not be sent.
    pub failed: u64,
    /// Milliseconds, as all of these.
    pub current: f64,
    pub minimum: f64,
    pub maximum: f64,
    sum: f64,
    squares: f64,
}

impl Trips {
    pub(super) fn took(&mut self, took: Duration) {
        let took = took.as_secs_f64() * 1000.0;
        self.minimum = if self.count == 0 { took } else { self.minimum.min(took) };
        (self.current, self.maximum) = (took, self.maximum.max(took));
        (self.count, self.sum, self.squares) = (self.count + 1, self.sum + took, self.squares + took * took);
    }

    pub fn average(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    pub fn standard_deviation(&self) -> f64 {
        let average = self.average();
        let variance =
            if self.count == 0 { 0.0 } else { self.squares / self.count as f64 - average * average };
        variance.max(0.0).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trips_are_summed_up() {
        let mut trips = Trips::default();
        assert_eq!((trips.average(), trips.standard_deviation()), (0.0, 0.0));
        for took in [2, 4] {
            trips.took(Duration::from_millis(took));
        }
        assert_eq!((trips.current, trips.minimum, trips.maximum, trips.count), (4.0, 2.0, 4.0, 2));
        assert_eq!((trips.average(), trips.standard_deviation()), (3.0, 1.0));
    }
}
