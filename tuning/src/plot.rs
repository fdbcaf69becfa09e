//! A report as one SVG of four panels. Each has its legend in a row of its own above the drawing, so
//! that nothing covers anything.

use std::fmt::Write;

use crate::{
    figures::{Beside, Writes},
    report::Report,
};

const WIDTH: f64 = 1200.0;
const PANEL: (f64, f64) = (600.0, 430.0);
const HEAD: f64 = 46.0;
/// Around the drawing of a panel: room for ticks, title and legend, and labels.
const LEFT: f64 = 78.0;
const RIGHT: f64 = 24.0;
const ABOVE: f64 = 64.0;
const BELOW: f64 = 58.0;
const COLORS: [&str; 6] = ["#366cad", "#d66021", "#5a8c46", "#8c6ea0", "#b8860b", "#666666"];
/// Of the text at 12 pixels, generously.
const CHAR_WIDTH: f64 = 7.2;

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Lines,
    Bars,
}

struct Series {
    name: String,
    /// One for each label of the x axis.
    values: Vec<Option<f64>>,
}

struct Panel {
    title: String,
    x_title: String,
    y_title: &'static str,
    labels: Vec<String>,
    series: Vec<Series>,
    /// Dashed lines across.
    limits: Vec<(f64, &'static str)>,
    shape: Shape,
    log: bool,
}

pub fn svg(report: &Report) -> String {
    let mut out = Svg(String::new());
    let height = HEAD + 2.0 * PANEL.1;
    out.add(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    ));
    let device = &report.device;
    let head = format!(
        "{} ({} on {}, kernel {})",
        device.dir.display(),
        device.file_system,
        device.source,
        device.kernel
    );
    out.text((WIDTH / 2.0, 28.0), &head, "font-size=\"16\" text-anchor=\"middle\"");
    let panels = [by_size(report), by_depth(report), by_state(report), by_checkpoint(report)];
    for (at, panel) in panels.iter().enumerate() {
        let corner = ((at % 2) as f64 * PANEL.0, HEAD + (at / 2) as f64 * PANEL.1);
        out.panel(panel, corner);
    }
    out.0 += "</svg>\n";
    out.0
}

fn size_name(bytes: u32) -> String {
    if bytes >= 1024 { format!("{} KiB", f64::from(bytes) / 1024.0) } else { format!("{bytes} B") }
}

fn latencies(rows: &[Option<&Writes>]) -> Vec<Series> {
    let pick = |name: &str, of: fn(&Writes) -> f64| Series {
        name: name.into(),
        values: rows.iter().map(|row| row.map(of)).collect(),
    };
    vec![
        pick("p50", |w| w.latency.p50_us),
        pick("p99", |w| w.latency.p99_us),
        pick("p99.9", |w| w.latency.p999_us),
    ]
}

fn by_size(report: &Report) -> Panel {
    let sizes = report.sizes();
    let depth = report.depths().first().copied().unwrap_or(1);
    let rows: Vec<_> = sizes.iter().map(|&bytes| report.at(bytes, depth)).collect();
    Panel {
        title: format!("Latency of a durable write, {depth} in flight"),
        x_title: "size of a write".into(),
        y_title: "us",
        labels: sizes.iter().map(|&bytes| size_name(bytes)).collect(),
        series: latencies(&rows),
        limits: Vec::new(),
        shape: Shape::Lines,
        log: true,
    }
}

fn by_depth(report: &Report) -> Panel {
    let (sizes, depths) = (report.sizes(), report.depths());
    let shown = [512, 4096, 16_384, 65_536];
    let some: Vec<u32> = sizes.iter().copied().filter(|bytes| shown.contains(bytes)).collect();
    let some = if some.is_empty() { sizes.into_iter().take(4).collect() } else { some };
    let series = some.iter().map(|&bytes| Series {
        name: size_name(bytes),
        values: depths.iter().map(|&depth| report.at(bytes, depth).map(|w| w.per_second)).collect(),
    });
    Panel {
        title: "Durable writes per second".into(),
        x_title: "writes in flight".into(),
        y_title: "writes/s",
        labels: depths.iter().map(u32::to_string).collect(),
        series: series.collect(),
        limits: Vec::new(),
        shape: Shape::Lines,
        log: false,
    }
}

fn by_state(report: &Report) -> Panel {
    let mut labels: Vec<String> = report.states.iter().map(|state| state.state.into()).collect();
    let mut rows: Vec<Option<&Writes>> = report.states.iter().map(|state| Some(&state.writes)).collect();
    for way in report.ways.iter().filter(|way| way.writes.in_flight == 1).skip(1) {
        labels.push(way.way.into());
        rows.push(Some(&way.writes));
    }
    let mut series = latencies(&rows);
    series.truncate(2);
    Panel {
        title: format!(
            "State of the file, and fdatasync: {}, one in flight",
            size_name(report.usual_bytes())
        ),
        x_title: "O_DSYNC, but for the last".into(),
        y_title: "us",
        labels,
        series,
        limits: Vec::new(),
        shape: Shape::Bars,
        log: false,
    }
}

fn by_checkpoint(report: &Report) -> Panel {
    let beside = &report.load.beside;
    let steps =
        |of: fn(&Beside) -> f64| beside.iter().map(|b| (b.step.count > 0).then(|| of(b) / 1e3)).collect();
    let logs = |of: fn(&Beside) -> f64| beside.iter().map(|b| Some(of(b) / 1e3)).collect();
    Panel {
        title: format!("A checkpoint beside the log, {} writes/s", report.load.writes_per_second),
        x_title: "checkpoint, MB/s".into(),
        y_title: "ms",
        labels: beside.iter().map(|b| if b.mbps == 0 { "none".into() } else { b.mbps.to_string() }).collect(),
        series: vec![
            Series { name: "log p50".into(), values: logs(|b| b.log.p50_us) },
            Series { name: "log p99".into(), values: logs(|b| b.log.p99_us) },
            Series { name: "log p99.9".into(), values: logs(|b| b.log.p999_us) },
            Series { name: "step p99".into(), values: steps(|b| b.step.p99_us) },
        ],
        limits: vec![(10.0, "wal_fsync limit 10 ms"), (25.0, "backend_commit limit 25 ms")],
        shape: Shape::Lines,
        log: true,
    }
}

/// From values to pixels, with round ticks.
struct Scale {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<f64>,
}

impl Scale {
    fn of(values: &[f64], log: bool) -> Self {
        let positive = || values.iter().copied().filter(|value| *value > 0.0);
        let high = positive().fold(f64::MIN_POSITIVE, f64::max);
        if log {
            let low = positive().fold(f64::INFINITY, f64::min);
            if !low.is_finite() {
                return Self { low: 1.0, high: 10.0, log, ticks: vec![1.0, 10.0] };
            }
            let (low, high) = (round(low, f64::floor), round(high * 1.02, f64::ceil).max(low * 2.0));
            let first = low.log10().floor() as i32;
            let last = high.log10().ceil() as i32;
            let ticks = (first..=last).flat_map(|e| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(e)));
            let ticks = ticks.filter(|tick| *tick >= low * 0.999 && *tick <= high * 1.001).collect();
            return Self { low, high, log, ticks };
        }
        if positive().next().is_none() {
            return Self { low: 0.0, high: 1.0, log, ticks: vec![0.0, 1.0] };
        }
        let step = round(high / 6.0, f64::ceil);
        let count = (high * 1.02 / step).ceil();
        let ticks = (0..=count as u32).map(|at| f64::from(at) * step).collect();
        Self { low: 0.0, high: count * step, log, ticks }
    }

    /// 0 at the bottom, 1 at the top.
    fn share(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }
}

/// To 1, 2 or 5 times a power of ten: down with `floor`, up with `ceil`.
fn round(value: f64, way: fn(f64) -> f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let digit = value / power;
    let up = way(0.5) > 0.0;
    let steps: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
    let found = if up {
        steps.into_iter().find(|step| digit <= step * 1.000_001)
    } else {
        steps.into_iter().rev().find(|step| digit >= step * 0.999_999)
    };
    found.unwrap_or(1.0) * power
}

fn number(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{}k", value / 1000.0)
    } else {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').into()
    }
}

struct Svg(String);

impl Svg {
    fn add(&mut self, text: std::fmt::Arguments) {
        self.0.write_fmt(text).expect("a string takes everything");
    }

    fn text(&mut self, (x, y): (f64, f64), text: &str, attributes: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.add(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{text}</text>\n"));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), attributes: &str) {
        self.add(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {attributes}/>\n",
            from.0, from.1, to.0, to.1
        ));
    }

    fn panel(&mut self, panel: &Panel, (x, y): (f64, f64)) {
        let (left, right) = (x + LEFT, x + PANEL.0 - RIGHT);
        let (top, bottom) = (y + ABOVE, y + PANEL.1 - BELOW);
        let mut values: Vec<f64> =
            panel.series.iter().flat_map(|s| s.values.iter().copied().flatten()).collect();
        values.extend(panel.limits.iter().map(|(limit, _)| *limit));
        let scale = Scale::of(&values, panel.log);
        let height = |value: f64| bottom - scale.share(value) * (bottom - top);
        let slot = (right - left) / panel.labels.len().max(1) as f64;
        let middle = |at: usize| left + (at as f64 + 0.5) * slot;

        self.text((left, y + 20.0), &panel.title, "font-size=\"14\" font-weight=\"bold\"");
        self.legend(panel, (left, y + 44.0));
        for &tick in &scale.ticks {
            self.line((left, height(tick)), (right, height(tick)), "stroke=\"#dddddd\"");
            self.text((left - 8.0, height(tick) + 4.0), &number(tick), "text-anchor=\"end\"");
        }
        self.line((left, bottom), (right, bottom), "stroke=\"black\"");
        self.line((left, top), (left, bottom), "stroke=\"black\"");
        for (at, label) in panel.labels.iter().enumerate() {
            self.text((middle(at), bottom + 18.0), label, "text-anchor=\"middle\" font-size=\"11\"");
        }
        self.text(((left + right) / 2.0, bottom + 38.0), &panel.x_title, "text-anchor=\"middle\"");
        let (tx, ty) = (x + 20.0, (top + bottom) / 2.0);
        let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 {tx:.1} {ty:.1})\"");
        self.text((tx, ty), panel.y_title, &turned);
        for (limit, name) in &panel.limits {
            let y = height(*limit);
            self.line((left, y), (right, y), "stroke=\"#aa0000\" stroke-dasharray=\"6 4\"");
            self.text((right - 4.0, y - 4.0), name, "text-anchor=\"end\" font-size=\"11\" fill=\"#aa0000\"");
        }
        for (nth, series) in panel.series.iter().enumerate() {
            let color = COLORS[nth % COLORS.len()];
            match panel.shape {
                Shape::Lines => self.polyline(series, color, middle, height),
                Shape::Bars => {
                    let width = slot * 0.7 / panel.series.len() as f64;
                    let start = -slot * 0.35 + nth as f64 * width;
                    for (at, value) in series.values.iter().enumerate() {
                        let Some(value) = *value else { continue };
                        let (bar, y) = (middle(at) + start, height(value));
                        self.add(format_args!(
                            "<rect x=\"{bar:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{color}\"/>\n",
                            width - 2.0,
                            bottom - y
                        ));
                        let place = (bar + width / 2.0 - 1.0, y - 4.0);
                        self.text(place, &format!("{value:.0}"), "text-anchor=\"middle\" font-size=\"11\"");
                    }
                }
            }
        }
    }

    fn legend(&mut self, panel: &Panel, (mut x, y): (f64, f64)) {
        for (nth, series) in panel.series.iter().enumerate() {
            let color = COLORS[nth % COLORS.len()];
            self.add(format_args!(
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"16\" height=\"8\" fill=\"{color}\"/>\n",
                y - 9.0
            ));
            self.text((x + 21.0, y), &series.name, "");
            x += 42.0 + series.name.chars().count() as f64 * CHAR_WIDTH;
        }
    }

    fn polyline(
        &mut self,
        series: &Series,
        color: &str,
        middle: impl Fn(usize) -> f64,
        height: impl Fn(f64) -> f64,
    ) {
        let points = series.values.iter().enumerate();
        let points: Vec<(f64, f64)> =
            points.filter_map(|(at, value)| value.map(|value| (middle(at), height(value)))).collect();
        let path: String = points.iter().map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
        self.add(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n",
            path.trim_end()
        ));
        for (x, y) in points {
            self.add(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{color}\"/>\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{beside, report};

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        let scale = Scale::of(&[83.0, 240.0, 3100.0], true);
        assert_eq!((scale.low, scale.high), (50.0, 5000.0));
        assert_eq!(scale.ticks, [50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]);
        let scale = Scale::of(&[7100.0, 61_000.0], false);
        assert_eq!((scale.low, scale.high), (0.0, 80_000.0));
        assert_eq!(scale.ticks, [0.0, 20_000.0, 40_000.0, 60_000.0, 80_000.0]);
        for log in [true, false] {
            for values in [&[][..], &[0.0], &[1.0], &[0.003, 0.003]] {
                let scale = Scale::of(values, log);
                assert!(
                    scale.high > scale.low && scale.ticks.len() >= 2,
                    "{values:?} {log}: {:?}",
                    scale.ticks
                );
                assert!(values.iter().all(|value| scale.share(*value).is_finite()));
            }
        }
    }

    #[test]
    fn shares_go_from_the_bottom_to_the_top() {
        let scale = Scale::of(&[10.0, 900.0], true);
        assert_eq!((scale.share(10.0), scale.share(1000.0)), (0.0, 1.0));
        assert!((scale.share(100.0) - 0.5).abs() < 1e-9);
        assert_eq!(scale.share(0.0), 0.0);
    }

    #[test]
    fn rounding() {
        assert_eq!(round(83.0, f64::floor), 50.0);
        assert_eq!(round(83.0, f64::ceil), 100.0);
        assert_eq!(round(0.2, f64::floor), 0.2);
        assert_eq!(round(0.2, f64::ceil), 0.2);
        assert_eq!((number(20_000.0), number(0.05), number(5.0)), ("20k".into(), "0.05".into(), "5".into()));
    }

    #[test]
    fn every_panel_is_drawn() {
        let mut report = report(1.0, vec![beside(0, 200.0, 0.0), beside(8, 220.0, 900.0)]);
        report.device.source = "a<b>&c".into();
        let svg = svg(&report);
        for words in
            ["a&lt;b&gt;&amp;c", "64 KiB", "extending", "writes in flight", "backend_commit limit", "p99.9"]
        {
            assert!(svg.contains(words), "lacks {words}");
        }
        assert_eq!(svg.matches("<polyline").count(), 3 + 4 + 4);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
