//! Range and RangeStream.

use bench_harness::pb::etcdserverpb as pb;

use super::Generator;

impl Generator {
    pub(super) fn range(&mut self) -> pb::RangeRequest {
        let (key, range_end) = self.key_range(70);
        let (sort_order, sort_target) = if self.rng.percent(50) { (0, 0) } else { self.sort() };
        pb::RangeRequest {
            key,
            range_end,
            limit: self.limit(),
            revision: self.read_revision(),
            sort_order,
            sort_target,
            serializable: self.rng.percent(30),
            keys_only: self.rng.percent(20),
            count_only: self.rng.percent(12),
            min_mod_revision: self.filter(),
            max_mod_revision: self.filter(),
            min_create_revision: self.filter(),
            max_create_revision: self.filter(),
        }
    }

    /// Mostly without what a stream refuses, so that streams flow.
    pub(super) fn range_stream(&mut self) -> pb::RangeRequest {
        let range = self.range();
        if self.rng.percent(15) {
            return range;
        }
        pb::RangeRequest {
            sort_order: i32::from(self.rng.percent(20)),
            sort_target: 0,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
            ..range
        }
    }

    fn sort(&mut self) -> (i32, i32) {
        let order = match self.rng.below(100) {
            0..20 => 0,
            20..57 => 1,
            57..97 => 2,
            _ => self.rng.pick(&[3, -1, 99, i32::MAX]),
        };
        let target = match self.rng.below(100) {
            0..20 => 0,
            20..97 => self.rng.between(1, 4) as i32,
            _ => self.rng.pick(&[5, -1, 99, i32::MIN]),
        };
        (order, target)
    }

    fn limit(&mut self) -> i64 {
        match self.rng.below(100) {
            0..50 => 0,
            50..80 => self.rng.between(1, 5),
            80..94 => self.rng.between(6, 50),
            94..96 => -self.rng.between(1, 3),
            96 => i64::MIN,
            97 => i64::MAX,
            98 => i64::MAX - 1,
            _ => i64::from(i32::MAX) + 1,
        }
    }

    fn filter(&mut self) -> i64 {
        match self.rng.below(100) {
            0..88 => 0,
            88..95 => self.rng.between((self.revision - 200).max(0), self.revision + 2),
            95..98 => self.rng.between(0, self.revision),
            98 => -self.rng.between(1, 3),
            _ => self.rng.pick(&[i64::MIN, i64::MAX]),
        }
    }
}
