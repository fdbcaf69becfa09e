//! A report as text and as Markdown.

use std::fmt::Write;

use super::report::{Cell, Column, Group, Layout, Report, ratio_to_baseline, ratio_to_peer};

/// The rows of ratios, where there is anything to compare with.
type Ratio = fn(&Column, &[Cell]) -> Option<f64>;
const RATIOS: [(&str, Ratio); 2] =
    [("ratio to baseline", ratio_to_baseline), ("ratio to the better peer", ratio_to_peer)];

/// One group as rows of cells: a header, a row per server, the ratios last.
type Rows = Vec<Vec<String>>;

impl Report {
    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n{}\n", self.machine, self.command);
        for (title, rows) in self.tables() {
            let widths = (0..rows[0].len())
                .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
                .collect::<Vec<_>>();
            out.push_str(&format!("\n{title}\n"));
            for row in rows {
                let mut line = format!("  {:<width$}", row[0], width = widths[0]);
                for (cell, width) in row.iter().zip(&widths).skip(1) {
                    write!(line, "  {cell:>width$}").expect("writing to a string");
                }
                out.push_str(line.trim_end());
                out.push('\n');
            }
        }
        out
    }

    pub fn markdown(&self) -> String {
        let mut out = format!("{}\n\n    {}\n", self.machine, self.command);
        for (title, rows) in self.tables() {
            out.push_str(&format!("\n### {title}\n\n"));
            for (index, row) in rows.iter().enumerate() {
                let cells = row.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>();
                out.push_str(&format!("| {} |\n", cells.join(" | ")));
                if index == 0 {
                    out.push_str(&format!("|---|{}\n", "---:|".repeat(row.len() - 1)));
                }
            }
        }
        out
    }

    fn tables(&self) -> Vec<(String, Rows)> {
        let groups = self.sections.iter().flat_map(|section| {
            section.groups.iter().map(|group| {
                let runs = group.cells.iter().map(|cell| cell.runs.len()).max().unwrap_or(0);
                (format!("{}, median of {runs}", group.name), rows(section.layout, group))
            })
        });
        groups.collect()
    }
}

fn rows(layout: &Layout, group: &Group) -> Rows {
    let notes = group.cells.iter().any(|cell| cell.median.note.is_some());
    let cells = |first: &str, values: &mut dyn Iterator<Item = String>, errors: String, note: String| {
        let mut row = vec![first.to_owned()];
        row.extend(values);
        row.push(errors);
        row.extend(notes.then_some(note));
        row
    };
    let titles = &mut layout.columns.iter().map(|column| column.title.to_owned());
    let mut rows = vec![cells("server", titles, "errors".to_owned(), "note".to_owned())];
    for cell in &group.cells {
        let mut values = layout.columns.iter().map(|column| match cell.median.value(column.title) {
            Some(value) => format!("{value:.*}", column.decimals),
            None => "-".to_owned(),
        });
        let note = cell.median.note.clone().unwrap_or_else(String::new);
        rows.push(cells(&cell.subject, &mut values, cell.median.errors.to_string(), note));
    }
    for (name, ratio) in RATIOS {
        let ratios = layout.columns.iter().map(|column| ratio(column, &group.cells)).collect::<Vec<_>>();
        if ratios.iter().any(Option::is_some) {
            let mut ratios = ratios.into_iter().map(|ratio| ratio.map_or_else(String::new, times));
            rows.push(cells(name, &mut ratios, String::new(), String::new()));
        }
    }
    rows
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}x")
}

#[cfg(test)]
mod tests {
    use crate::compare::report::tests::example;

    #[test]
    fn text_is_aligned_and_says_what_it_ran_on() {
        let text = example().text();
        let lines = text.lines().collect::<Vec<_>>();
        assert!(lines[0].contains("A CPU & more, 2 cores") && lines[1] == "bench-harness compare");
        assert_eq!(lines[3], "put, median of 3");
        let end = |line: &str, word: &str| line.find(word).unwrap() + word.len();
        assert_eq!(end(lines[4], "op/s"), end(lines[5], "6000"));
        assert_eq!(end(lines[4], "op/s"), end(lines[8], "2.00x"));
        assert!(lines[6].ends_with("4  refused: not | now"), "{}", lines[6]);
    }

    #[test]
    fn markdown_tables_have_the_same_columns_in_every_row() {
        let markdown = example().markdown();
        let plain = markdown.replace("\\|", "/");
        let mut columns =
            plain.lines().filter(|line| line.starts_with('|')).map(|line| line.matches('|').count());
        let first = columns.next().unwrap();
        assert!(first == 8 && columns.all(|count| count == first), "{markdown}");
        assert!(markdown.contains("| pinion | 6000 |"));
    }
}
