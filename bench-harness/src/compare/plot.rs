//! A report as one SVG: the panels of its sections, one below the other.
//!
//! `bars` and `lines` draw the two kinds of panels into the area they get. A panel has its caption and its legend in
//! a strip of their own above the axes, so that nothing is ever drawn over.

mod bars;
mod lines;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::Error;
use super::report::{Panel, Report};

const PANEL_HEIGHT: u32 = 450;
const HEAD_HEIGHT: u32 = 52;
const WIDTH_MIN: u32 = 1000;
/// Enough for the longest usual name of a group.
const GROUP_WIDTH: u32 = 190;
const TEXT: (&str, u32) = ("sans-serif", 15);
/// Of the text, about; the legend has no other way to know.
const LETTER_WIDTH: i32 = 9;
const LEFT: i32 = 60;
const COLORS: [RGBColor; 6] = [
    RGBColor(214, 96, 33),
    RGBColor(54, 108, 173),
    RGBColor(120, 160, 205),
    RGBColor(90, 140, 70),
    RGBColor(140, 110, 160),
    RGBColor(120, 120, 120),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Plot(error.to_string())
}

fn color(subject: usize) -> RGBColor {
    COLORS[subject % COLORS.len()]
}

pub fn svg(report: &Report) -> Result<String, Error> {
    let panels = report
        .sections
        .iter()
        .flat_map(|section| section.layout.panels.iter().map(move |panel| (section, panel)));
    let panels = panels.collect::<Vec<_>>();
    let groups = report.sections.iter().map(|section| section.groups.len()).max().unwrap_or(0);
    let groups = u32::try_from(groups).map_err(failed)?;
    let height = PANEL_HEIGHT * u32::try_from(panels.len().max(1)).map_err(failed)?;
    let size = (WIDTH_MIN.max(groups * GROUP_WIDTH), height);
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, size).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let areas = root.split_evenly((panels.len().max(1), 1));
        for ((section, panel), area) in panels.into_iter().zip(areas) {
            let (head, body) = area.split_vertically(HEAD_HEIGHT);
            match panel {
                Panel::Bars { caption, columns, logarithmic } => {
                    draw_head(&head, caption, &report.subjects)?;
                    bars::draw(&body, &report.subjects, &section.groups, columns, *logarithmic)?;
                }
                Panel::Lines { caption, series } => {
                    draw_head(&head, caption, &report.subjects)?;
                    lines::draw(&body, &report.subjects, &section.groups, series)?;
                }
            }
        }
        root.present().map_err(failed)?;
    }
    Ok(out)
}

/// The caption, and below it the servers with their colours.
fn draw_head(area: &Area<'_>, caption: &str, subjects: &[String]) -> Result<(), Error> {
    let style = TEXT.into_font().color(&BLACK);
    area.draw(&Text::new(caption.to_owned(), (LEFT, 10), style.clone())).map_err(failed)?;
    let mut x = LEFT;
    for (subject, name) in subjects.iter().enumerate() {
        let square = Rectangle::new([(x, 34), (x + 12, 46)], color(subject).filled());
        area.draw(&square).map_err(failed)?;
        area.draw(&Text::new(name.clone(), (x + 18, 33), style.clone())).map_err(failed)?;
        x += 18 + LETTER_WIDTH * i32::try_from(name.len()).map_err(failed)? + 20;
    }
    Ok(())
}

/// The axes, as all panels have them; what the labels of the x axis say is the panel's.
fn axes<'a, 'b, X, Y>(
    area: &'a Area<'b>,
    x: X,
    y: Y,
    x_labels: usize,
    x_label: &dyn Fn(&f64) -> String,
) -> Result<Chart<'a, 'b, X::CoordDescType, Y::CoordDescType>, Error>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(x, y)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(x_labels)
        .x_label_formatter(x_label)
        .draw()
        .map_err(failed)?;
    Ok(chart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::tests::example;

    #[test]
    fn draws_every_subject_group_and_panel() {
        let svg = svg(&example()).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for name in ["pinion", "etcd-3.5", "put", "get", "p99.9", "Disk in MiB over time"] {
            assert!(svg.contains(name), "{name}");
        }
        assert!(svg.contains(&format!("height=\"{}\"", 3 * PANEL_HEIGHT)), "three panels");
        assert!(svg.matches("<polyline").count() >= 6, "a line per server and group");
    }
}
