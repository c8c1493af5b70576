//! Stdout: text, tables and JSON, and nothing that a terminal would take for a command.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::exit::Failure;

/// Writes the answer; its colours go only to a terminal.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::unheard(),
        _ => Failure::failed("write to stdout", error),
    })
}

/// Writes the answer as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::failed("write JSON", error))?;
    print(&(text + "\n"))
}

/// Writes one of several answers as JSON: an object a line, as `acquire` does.
pub(crate) fn print_json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string(value).map_err(|error| Failure::failed("write JSON", error))?;
    print(&(text + "\n"))
}

/// Lines of columns, each as wide as its widest cell.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

/// A cell and how it looks.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn styled(text: impl AsRef<str>, style: Style) -> Cell {
        let text = printable(text.as_ref());
        Cell { text, style }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::styled(text, Style::new())
    }
}

impl Table {
    /// A table with these column titles.
    pub(crate) fn titled<const N: usize>(titles: [&str; N]) -> Table {
        let mut table = Table::default();
        table.row(titles.map(|title| Cell::styled(title, Style::new().bold())));
        table
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [impl Into<Cell>; N]) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    pub(crate) fn text(&self) -> String {
        let column_count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..column_count)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(Cell::width).max().unwrap_or(0)
            })
            .collect();
        self.rows.iter().map(|row| line(row, &widths)).collect()
    }
}

fn line(row: &[Cell], widths: &[usize]) -> String {
    let mut line = String::new();
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        let Cell { text, style } = cell;
        line += &format!("{style}{text}{style:#}");
        if column + 1 < row.len() {
            line += &" ".repeat(width - cell.width() + 2);
        }
    }
    line.trim_end().to_owned() + "\n"
}

/// Text of others, such as names of processes, without what would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Of the word before what somebody should know, on stderr.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::titled(["A", "LONGER", "C"]);
        table.row(["wide", "x", ""]);
        assert_eq!(
            anstream::adapter::strip_str(&table.text()).to_string(),
            "A     LONGER  C\nwide  x\n"
        );
    }

    #[test]
    fn names_of_processes_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{9b}c"), "a?[2Jb??c");
    }
}
