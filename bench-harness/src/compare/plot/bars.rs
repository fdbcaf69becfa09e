//! A bar per group, column and server.

use std::ops::Range;

use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use super::{Area, Chart, axes, color, failed};
use crate::compare::Error;
use crate::compare::report::Group;

/// Values below this are drawn as this on a logarithmic scale.
const LOGARITHMIC_MIN: f64 = 0.01;

/// Where it stands, which server's it is, its value.
struct Bar {
    left: f64,
    right: f64,
    subject: usize,
    value: f64,
}

pub fn draw(
    area: &Area<'_>,
    subjects: &[String],
    groups: &[Group],
    columns: &[&str],
    logarithmic: bool,
) -> Result<(), Error> {
    let bars = layout(subjects, groups, columns);
    let width = 0.0..groups.len().max(1) as f64;
    let highest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    // Labels stand in the middle of their group.
    let label = |x: &f64| {
        let middle = (x.fract() - 0.5).abs() < 0.01;
        if middle { groups.get(*x as usize).map_or_else(String::new, name) } else { String::new() }
    };
    let labels = groups.len() * 2 + 1;
    if logarithmic {
        let heights = (LOGARITHMIC_MIN..highest.max(1.0) * 1.5).log_scale();
        fill(axes(area, width, heights, labels, &label)?, &bars, LOGARITHMIC_MIN)
    } else {
        let heights: Range<f64> = 0.0..if highest > 0.0 { highest * 1.1 } else { 1.0 };
        fill(axes(area, width, heights, labels, &label)?, &bars, 0.0)
    }
}

/// Without what all groups of a section begin with.
fn name(group: &Group) -> String {
    group.name.rsplit(": ").next().unwrap_or_default().to_owned()
}

fn fill<X, Y>(mut chart: Chart<'_, '_, X, Y>, bars: &[Bar], low: f64) -> Result<(), Error>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let rectangles = bars.iter().map(|bar| {
        let corners = [(bar.left, low), (bar.right, bar.value.max(low))];
        Rectangle::new(corners, color(bar.subject).filled())
    });
    chart.draw_series(rectangles).map_err(failed)?;
    Ok(())
}

/// Group `g` takes the stretch from `g` to `g + 1`, each column in it an equal part, each server a bar.
fn layout(subjects: &[String], groups: &[Group], columns: &[&str]) -> Vec<Bar> {
    let mut all = Vec::new();
    let part = 0.9 / columns.len() as f64;
    let width = part * 0.85 / subjects.len() as f64;
    for (group, Group { cells, .. }) in groups.iter().enumerate() {
        for (place, column) in columns.iter().enumerate() {
            for cell in cells {
                let subject = subjects.iter().position(|name| *name == cell.subject);
                let (Some(subject), Some(value)) = (subject, cell.median.value(column)) else { continue };
                let left = group as f64 + 0.05 + part * place as f64 + width * subject as f64;
                all.push(Bar { left, right: left + width, subject, value });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::tests::example;

    #[test]
    fn bars_stand_side_by_side() {
        let report = example();
        let bars = layout(&report.subjects, &report.sections[0].groups, &["p99 ms", "p99.9 ms"]);
        // One of three servers has no p99.9.
        assert_eq!(bars.len(), 2 * 5);
        assert!(bars.windows(2).all(|pair| pair[0].right <= pair[1].left + 1e-9));
    }
}
