//! A report as one SVG: latency percentiles above, CPU per operation below, a group of bars per load.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Error;
use super::report::{Cell, Report};

const HEIGHT: u32 = 900;
const WIDTH_MIN: u32 = 1000;
/// Enough for the longest name of a group.
const GROUP_WIDTH: u32 = 190;
const TEXT: (&str, u32) = ("sans-serif", 15);
const COLORS: [RGBColor; 6] = [
    RGBColor(214, 96, 33),
    RGBColor(54, 108, 173),
    RGBColor(120, 160, 205),
    RGBColor(90, 140, 70),
    RGBColor(140, 110, 160),
    RGBColor(120, 120, 120),
];
/// Latencies below this are drawn as this: the scale is logarithmic.
const LATENCY_MS_MIN: f64 = 0.01;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Plot(error.to_string())
}

pub fn svg(report: &Report) -> Result<String, Error> {
    let groups = u32::try_from(report.groups().len()).map_err(failed)?;
    let size = (WIDTH_MIN.max(groups * GROUP_WIDTH), HEIGHT);
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, size).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (above, below) = root.split_vertically(HEIGHT / 2);
        let percentiles: [Series; 3] = [
            ("p50", |cell| Some(cell.median.p50_us / 1e3)),
            ("p99", |cell| Some(cell.median.p99_us / 1e3)),
            ("p99.9", |cell| cell.median.p999_us.map(|us| us / 1e3)),
        ];
        let cpu: [Series; 1] = [("CPU", |cell| Some(cell.median.server_cpu_us))];
        latency(report, &above, &percentiles)?;
        bars(report, &below, &cpu)?;
        root.present().map_err(failed)?;
    }
    Ok(out)
}

/// A bar: where it stands, which subject's it is, its value.
struct Bar {
    left: f64,
    right: f64,
    subject: usize,
    value: f64,
}

type Series = (&'static str, fn(&Cell) -> Option<f64>);

/// Group `g` takes the stretch from `g` to `g + 1`, each series in it an equal part, each subject a bar.
fn layout(report: &Report, series: &[Series]) -> (Vec<String>, Vec<Bar>) {
    let mut names = Vec::new();
    let mut all = Vec::new();
    for (group, (load, client, cells)) in report.groups().into_iter().enumerate() {
        names.push(format!("{load} ({})", client.name()));
        let part = 0.9 / series.len() as f64;
        let width = part * 0.85 / report.subjects.len() as f64;
        for (place, (_, get)) in series.iter().enumerate() {
            for cell in &cells {
                let subject = report.subjects.iter().position(|name| *name == cell.subject);
                let (Some(subject), Some(value)) = (subject, get(cell)) else { continue };
                let left = group as f64 + 0.05 + part * place as f64 + width * subject as f64;
                all.push(Bar { left, right: left + width, subject, value });
            }
        }
    }
    (names, all)
}

fn latency(report: &Report, area: &Area<'_>, series: &[Series]) -> Result<(), Error> {
    let (names, bars) = layout(report, series);
    // A decade and a half above the highest bar is the legend's.
    let top = bars.iter().map(|bar| bar.value).fold(1.0, f64::max) * 30.0;
    let mut chart = ChartBuilder::on(area)
        .caption("Latency in ms (log scale): p50, p99, p99.9 from left to right in each group", TEXT)
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..names.len().max(1) as f64, (LATENCY_MS_MIN..top).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(names.len() * 2 + 1)
        .x_label_formatter(&|x| group_name(&names, *x))
        .draw()
        .map_err(failed)?;
    for (subject, name) in report.subjects.iter().enumerate() {
        let color = COLORS[subject % COLORS.len()];
        let own = bars.iter().filter(|bar| bar.subject == subject);
        let rectangles = own.map(|bar| {
            let corners = [(bar.left, LATENCY_MS_MIN), (bar.right, bar.value.max(LATENCY_MS_MIN))];
            Rectangle::new(corners, color.filled())
        });
        let drawn = chart.draw_series(rectangles).map_err(failed)?;
        drawn
            .label(name.as_str())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()
        .map_err(failed)
}

fn bars(report: &Report, area: &Area<'_>, series: &[Series]) -> Result<(), Error> {
    let (names, bars) = layout(report, series);
    let top = bars.iter().map(|bar| bar.value).fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption("Server CPU per operation in us", TEXT)
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..names.len().max(1) as f64, 0.0..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(names.len() * 2 + 1)
        .x_label_formatter(&|x| group_name(&names, *x))
        .draw()
        .map_err(failed)?;
    let rectangles = bars.iter().map(|bar| {
        let color = COLORS[bar.subject % COLORS.len()];
        Rectangle::new([(bar.left, 0.0), (bar.right, bar.value)], color.filled())
    });
    chart.draw_series(rectangles).map_err(failed)?;
    Ok(())
}

/// Labels stand in the middle of their group.
fn group_name(names: &[String], x: f64) -> String {
    let middle = (x.fract() - 0.5).abs() < 0.01;
    if middle { names.get(x as usize).cloned().unwrap_or_default() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::tests::example;

    #[test]
    fn draws_every_subject_and_load() {
        let svg = svg(&example()).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for name in ["pinion", "etcd-3.5", "put (harness)", "get (harness)", "p99.9"] {
            assert!(svg.contains(name), "{name}");
        }
        let (_, bars) = layout(&example(), &[("p50", |cell| Some(cell.median.p50_us))]);
        assert_eq!(bars.len(), 6);
        assert!(bars.windows(2).all(|pair| pair[0].right <= pair[1].left + 1e-9));
    }
}
