//! A report as text and as Markdown.

use std::fmt::Write;

use super::report::{METRICS, Report, ratio};

/// One group as rows of cells: a header, a row per subject, the ratios last.
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
                out.push_str(&format!("| {} |\n", row.join(" | ")));
                if index == 0 {
                    out.push_str(&format!("|---|{}\n", "---:|".repeat(row.len() - 1)));
                }
            }
        }
        out
    }

    fn tables(&self) -> Vec<(String, Rows)> {
        let tables = self.groups().into_iter().map(|(load, client, cells)| {
            let runs = cells.iter().map(|cell| cell.runs.len()).max().unwrap_or(0);
            let title = format!("{load}, client {}, median of {runs}", client.name());
            let header = std::iter::once("server").chain(METRICS.iter().map(|metric| metric.title));
            let mut rows: Rows = vec![header.map(str::to_owned).collect()];
            for cell in &cells {
                let values = METRICS.iter().map(|metric| {
                    (metric.get)(&cell.median)
                        .map_or_else(|| "-".to_owned(), |value| format!("{value:.*}", metric.decimals))
                });
                rows.push(std::iter::once(cell.subject.clone()).chain(values).collect());
            }
            let ratios = METRICS.iter().map(|metric| ratio(metric, &cells)).collect::<Vec<_>>();
            if ratios.iter().any(Option::is_some) {
                let ratios = ratios
                    .into_iter()
                    .map(|ratio| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x")));
                rows.push(std::iter::once("ratio to the better peer".to_owned()).chain(ratios).collect());
            }
            (title, rows)
        });
        tables.collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::compare::report::tests::example;

    #[test]
    fn text_is_aligned_and_says_what_it_ran_on() {
        let text = example().text();
        let lines = text.lines().collect::<Vec<_>>();
        assert!(lines[0].contains("A CPU & more, 2 cores") && lines[1] == "bench-harness compare");
        assert_eq!(lines[3], "put, client harness, median of 3");
        let end = |line: &str, word: &str| line.find(word).unwrap() + word.len();
        assert_eq!(end(lines[4], "op/s"), end(lines[5], "6000"));
        assert_eq!(end(lines[4], "op/s"), end(lines[8], "2.00x"));
    }

    #[test]
    fn markdown_tables_have_the_same_columns_in_every_row() {
        let markdown = example().markdown();
        let mut columns =
            markdown.lines().filter(|line| line.starts_with('|')).map(|line| line.matches('|').count());
        let first = columns.next().unwrap();
        assert!(first > 10 && columns.all(|count| count == first), "{markdown}");
        assert!(markdown.contains("| pinion | 6000 |"));
    }
}
