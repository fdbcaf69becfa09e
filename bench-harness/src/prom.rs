//! Reads a `/metrics` page (Prometheus text format): values, histograms, quantiles, what changed between two.

use std::net::SocketAddr;
use std::time::Duration;

use crate::http;

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error("/metrics answered {0}")]
    Status(u16),
    #[error("/metrics line {line} cannot be read: {text}")]
    Malformed { line: usize, text: String },
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Sample {
    fn matches(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.name == name && labels.iter().all(|(label, value)| self.label(label) == Some(value))
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// One page of metrics.
#[derive(Clone, Debug, Default)]
pub struct Scrape(Vec<Sample>);

/// Fetches and reads the metrics of a server.
pub fn scrape(addr: SocketAddr) -> Result<Scrape, Error> {
    let response = http::get(addr, "/metrics", TIMEOUT)?;
    if response.status != 200 {
        return Err(Error::Status(response.status));
    }
    Scrape::parse(&String::from_utf8_lossy(&response.body))
}

impl Scrape {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut samples = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let malformed = || Error::Malformed { line: index + 1, text: line.to_owned() };
            samples.push(sample(line).ok_or_else(malformed)?);
        }
        Ok(Self(samples))
    }

    /// The sum of all samples with this name and these labels, others left open; `None` when there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found =
            self.0.iter().filter(|sample| sample.matches(name, labels)).map(|sample| sample.value);
        let first = found.next()?;
        Some(first + found.sum::<f64>())
    }

    /// A histogram, added up over the labels left open.
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Option<Histogram> {
        let bucket = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.0.iter().filter(|sample| sample.matches(&bucket, labels)) {
            let bound = number(sample.label("le")?)?;
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((bound, sample.value)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let sum = self.value(&format!("{name}_sum"), labels)?;
        let count = self.value(&format!("{name}_count"), labels)?;
        Some(Histogram { buckets, sum, count })
    }
}

/// Cumulative buckets, as Prometheus has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Upper bound, and how many observations were at most that.
    pub buckets: Vec<(f64, f64)>,
    pub sum: f64,
    pub count: f64,
}

impl Histogram {
    /// What was observed after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| earlier.buckets.iter().find(|(known, _)| *known == bound);
        let change =
            |(bound, count): &(f64, f64)| (*bound, count - before(*bound).map_or(0.0, |(_, count)| *count));
        Self {
            buckets: self.buckets.iter().map(change).collect(),
            sum: self.sum - earlier.sum,
            count: self.count - earlier.count,
        }
    }

    pub fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    /// By linear interpolation within the bucket; observations above the last finite bound count as that bound.
    /// `None` when nothing was observed.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        assert!((0.0..=1.0).contains(&quantile));
        let total = self.buckets.last()?.1;
        if total <= 0.0 {
            return None;
        }
        let rank = quantile * total;
        let mut lower = (0.0, 0.0);
        for &(bound, count) in &self.buckets {
            if count >= rank {
                if bound.is_infinite() {
                    return Some(lower.0);
                }
                let within = if count > lower.1 { (rank - lower.1) / (count - lower.1) } else { 1.0 };
                return Some(lower.0 + (bound - lower.0) * within);
            }
            lower = (bound, count);
        }
        Some(lower.0)
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        text => text.parse().ok(),
    }
}

/// `name{label="value",...} number [timestamp]`
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' ', '\t'])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((label.trim().to_owned(), value));
            rest = after;
        }
    }
    let value = number(rest.split_ascii_whitespace().next()?)?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, unescaped, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[place + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"
# HELP fsync_seconds How long.
# TYPE fsync_seconds histogram
fsync_seconds_bucket{shard="0",le="0.001"} 50
fsync_seconds_bucket{shard="0",le="0.002"} 90
fsync_seconds_bucket{shard="0",le="+Inf"} 100
fsync_seconds_sum{shard="0"} 0.2
fsync_seconds_count{shard="0"} 100
fsync_seconds_bucket{shard="1",le="0.001"} 10
fsync_seconds_bucket{shard="1",le="0.002"} 10
fsync_seconds_bucket{shard="1",le="+Inf"} 10
fsync_seconds_sum{shard="1"} 0.01
fsync_seconds_count{shard="1"} 10
calls_total{method="Put \"x\" {y}, \\z",code="OK"} 12 1700000000
calls_total{method="Range",code="OK"} 3e2
up 1
"#;

    #[test]
    fn reads_labels_with_quotes_braces_and_commas() {
        let scrape = Scrape::parse(PAGE).unwrap();
        assert_eq!(scrape.value("calls_total", &[]), Some(312.0));
        assert_eq!(
            scrape.value("calls_total", &[("method", r#"Put "x" {y}, \z"#), ("code", "OK")]),
            Some(12.0)
        );
        assert_eq!(scrape.value("up", &[]), Some(1.0));
        assert_eq!(scrape.value("calls_total", &[("code", "no")]), None);
    }

    #[test]
    fn quantiles_interpolate_within_buckets() {
        let scrape = Scrape::parse(PAGE).unwrap();
        let one = scrape.histogram("fsync_seconds", &[("shard", "0")]).unwrap();
        assert_eq!(one.quantile(0.25), Some(0.0005));
        assert_eq!(one.quantile(0.5), Some(0.001));
        assert_eq!(one.quantile(0.7), Some(0.0015));
        assert_eq!(one.quantile(0.99), Some(0.002));
        assert_eq!(one.mean(), Some(0.002));
        let all = scrape.histogram("fsync_seconds", &[]).unwrap();
        assert_eq!((all.count, all.buckets[0]), (110.0, (0.001, 60.0)));
        assert!(scrape.histogram("nothing", &[]).is_none());
    }

    #[test]
    fn a_difference_is_of_what_came_after() {
        let histogram = |counts: [f64; 2], sum| Histogram {
            buckets: vec![(1.0, counts[0]), (f64::INFINITY, counts[1])],
            sum,
            count: counts[1],
        };
        let change = histogram([8.0, 10.0], 5.0).since(&histogram([7.0, 7.0], 1.0));
        assert_eq!(change, histogram([1.0, 3.0], 4.0));
        assert_eq!(histogram([7.0, 7.0], 1.0).since(&histogram([7.0, 7.0], 1.0)).quantile(0.5), None);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for page in ["a{b=\"c} 1", "a", "a{b} 1", "a x"] {
            assert!(matches!(Scrape::parse(page), Err(Error::Malformed { line: 1, .. })), "{page}");
        }
    }
}
