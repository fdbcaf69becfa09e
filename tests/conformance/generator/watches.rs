//! Watches: single keys, prefixes, everything; from the past, the future and what was compacted.

use bench_harness::pb::etcdserverpb as pb;

use super::{Generator, STREAMS, Step};

impl Generator {
    pub(super) fn watch_step(&mut self, client: usize, lot: u64) -> Step {
        let place = self.rng.below(STREAMS as u64) as usize;
        match lot {
            0..30 => Step::Open { place, client },
            30..600 => Step::Watch { place, request: self.watch(place) },
            600..950 => Step::Cancel { place, nth: self.rng.below(8) as usize },
            _ => Step::CancelNothing { place, id: self.rng.pick(&[-1, 77, i64::MAX, i64::MIN]) },
        }
    }

    fn watch(&mut self, place: usize) -> pb::WatchCreateRequest {
        let (key, range_end) = self.key_range(60);
        let start_revision = match self.rng.below(100) {
            // A stream with a watch that is yet to begin does not say how far the others are: none of those is behind.
            0..100 if place == STREAMS - 1 => {
                self.rng.between(0, 1) * (self.revision + self.rng.between(1, 20))
            }
            0..45 => 0,
            45..75 => self.rng.between(self.compacted.max(1).min(self.revision), self.revision),
            75..80 => self.compacted,
            80..86 => self.rng.between(0, self.compacted.max(1)),
            86..96 => self.rng.pick(&[-1, -2, i64::MIN]),
            _ => self.revision,
        };
        let filters = match self.rng.below(100) {
            0..70 => Vec::new(),
            70..80 => vec![0],
            80..90 => vec![1],
            90..95 => vec![0, 1],
            _ => vec![7, -1],
        };
        pb::WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: self.rng.percent(20),
            filters,
            prev_kv: self.rng.percent(50),
            watch_id: if self.rng.percent(75) { 0 } else { self.rng.pick(&[1, 2, 5, 100, -5, i64::MAX - 1]) },
            fragment: self.rng.percent(30),
        }
    }
}
