//! What was measured: samples by server, medians of several runs, Pinion's ratios to the better peer and to
//! another build of itself.
//!
//! A report has a section per kind of scenario, a section has groups (a table each), a group a cell per server.
//! Nothing here knows what is measured: a section's layout names its columns, a sample has values for some of them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::machine::Machine;
use super::subject::{BASELINE, PINION, Subject};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    Lower,
    Higher,
    /// Not compared.
    Neither,
}

/// A number that samples have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    pub title: &'static str,
    pub better: Better,
    pub decimals: usize,
}

impl Column {
    pub const fn lower(title: &'static str, decimals: usize) -> Self {
        Self { title, better: Better::Lower, decimals }
    }

    pub const fn higher(title: &'static str, decimals: usize) -> Self {
        Self { title, better: Better::Higher, decimals }
    }

    pub const fn plain(title: &'static str, decimals: usize) -> Self {
        Self { title, better: Better::Neither, decimals }
    }
}

/// A chart of the plot.
#[derive(Clone, Copy, Debug)]
pub enum Panel {
    /// A stretch per group, in it a part per column, in it a bar per server.
    Bars { caption: &'static str, columns: &'static [&'static str], logarithmic: bool },
    /// A line per server over time, of the first run of each.
    Lines { caption: &'static str, series: &'static str },
}

/// How the samples of one kind of scenario are shown.
#[derive(Debug, Serialize)]
pub struct Layout {
    pub name: &'static str,
    pub columns: &'static [Column],
    #[serde(skip)]
    pub panels: &'static [Panel],
}

/// What one run showed; the median of several has the same shape. Values a server or client does not give are
/// absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// By the column's title, in its unit.
    pub values: BTreeMap<&'static str, f64>,
    /// Operations that failed.
    pub errors: u64,
    /// What numbers do not tell: why a server refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// By name: seconds and value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub series: BTreeMap<&'static str, Vec<(f64, f64)>>,
}

impl Sample {
    pub fn with(mut self, title: &'static str, value: impl Into<Option<f64>>) -> Self {
        if let Some(value) = value.into() {
            self.values.insert(title, value);
        }
        self
    }

    pub fn value(&self, title: &str) -> Option<f64> {
        self.values.get(title).copied()
    }
}

/// All runs of one server in one group.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub subject: String,
    pub median: Sample,
    pub runs: Vec<Sample>,
}

#[derive(Debug, Serialize)]
pub struct Group {
    pub name: String,
    pub cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
pub struct Section {
    #[serde(flatten)]
    pub layout: &'static Layout,
    pub groups: Vec<Group>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// How this comparison was started.
    pub command: String,
    pub subjects: Vec<String>,
    pub options: serde_json::Value,
    pub sections: Vec<Section>,
}

impl Report {
    pub fn new(machine: Machine, options: serde_json::Value, subjects: &[Subject]) -> Self {
        Self {
            machine,
            command: command(std::env::args()),
            subjects: subjects.iter().map(|subject| subject.name.clone()).collect(),
            options,
            sections: Vec::new(),
        }
    }

    pub fn add(&mut self, layout: &'static Layout, group: &str, subject: &str, sample: Sample) {
        for title in sample.values.keys() {
            assert!(
                layout.columns.iter().any(|column| column.title == *title),
                "{} has no column {title}",
                layout.name
            );
        }
        let section = found_or_added(
            &mut self.sections,
            |section| section.layout.name == layout.name,
            || Section { layout, groups: Vec::new() },
        );
        let group = found_or_added(
            &mut section.groups,
            |known| known.name == group,
            || Group { name: group.to_owned(), cells: Vec::new() },
        );
        let cell = found_or_added(
            &mut group.cells,
            |cell| cell.subject == subject,
            || Cell { subject: subject.to_owned(), median: Sample::default(), runs: Vec::new() },
        );
        cell.runs.push(sample);
    }

    pub fn finish(&mut self) {
        for section in &mut self.sections {
            for cell in section.groups.iter_mut().flat_map(|group| &mut group.cells) {
                for Column { title, .. } in section.layout.columns {
                    let values = cell.runs.iter().filter_map(|run| run.value(title)).collect();
                    cell.median = std::mem::take(&mut cell.median).with(title, median(values));
                }
                // An error or a note of any run must be seen.
                cell.median.errors = cell.runs.iter().map(|run| run.errors).sum();
                cell.median.note = cell.runs.iter().find_map(|run| run.note.clone());
            }
        }
    }

    /// Of all runs.
    pub fn errors(&self) -> u64 {
        let groups = self.sections.iter().flat_map(|section| &section.groups);
        groups.flat_map(|group| &group.cells).map(|cell| cell.median.errors).sum()
    }
}

fn found_or_added<T>(list: &mut Vec<T>, same: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let place = list.iter().position(same).unwrap_or_else(|| {
        list.push(new());
        list.len() - 1
    });
    &mut list[place]
}

/// Pinion's value over the better peer's, in one column of one group.
pub fn ratio_to_peer(column: &Column, cells: &[Cell]) -> Option<f64> {
    let value = |cell: &Cell| cell.median.value(column.title);
    let own = cells.iter().find(|cell| cell.subject == PINION).and_then(value)?;
    let peers =
        cells.iter().filter(|cell| ![PINION, BASELINE].contains(&&cell.subject[..])).filter_map(value);
    let best = match column.better {
        Better::Higher => peers.reduce(f64::max),
        Better::Lower => peers.reduce(f64::min),
        Better::Neither => None,
    }?;
    (best > 0.0).then(|| own / best)
}

/// Pinion's value over its other build's, in one column of one group: also in those that have no better or worse
/// between different servers.
pub fn ratio_to_baseline(column: &Column, cells: &[Cell]) -> Option<f64> {
    let value = |name| cells.iter().find(|cell| cell.subject == name)?.median.value(column.title);
    let (own, baseline) = (value(PINION)?, value(BASELINE)?);
    (baseline > 0.0).then(|| own / baseline)
}

/// The middle one, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// The command line with the program by its name: where it was built says nothing.
fn command(mut words: impl Iterator<Item = String>) -> String {
    let program = words.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    let quoted = |word: String| if word.contains([' ', '"', '\'']) { format!("{word:?}") } else { word };
    std::iter::once(name).chain(words.map(quoted)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub mod tests;
