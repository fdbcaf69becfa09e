//! A line per group and server over time, of the first run.

use plotters::prelude::*;

use super::{Area, axes, color, failed};
use crate::compare::Error;
use crate::compare::report::Group;

pub fn draw(area: &Area<'_>, subjects: &[String], groups: &[Group], series: &str) -> Result<(), Error> {
    let cells = groups.iter().flat_map(|group| &group.cells);
    let lines = cells.filter_map(|cell| {
        let subject = subjects.iter().position(|name| *name == cell.subject)?;
        Some((subject, cell.runs.first()?.series.get(series)?))
    });
    let lines = lines.collect::<Vec<_>>();
    let points = lines.iter().flat_map(|(_, points)| points.iter());
    let (width, height) = points.fold((1.0_f64, 1.0_f64), |(x, y), point| (x.max(point.0), y.max(point.1)));
    let label = |x: &f64| format!("{x:.0}");
    let mut chart = axes(area, 0.0..width, 0.0..height * 1.1, 11, &label)?;
    for (subject, points) in lines {
        let line = LineSeries::new(points.iter().copied(), color(subject).stroke_width(2));
        chart.draw_series(line).map_err(failed)?;
    }
    Ok(())
}
