//! What a command prints.
//!
//! A reader that goes away (`mesto cluster status | head -1`) is not a failure, so a line that
//! cannot be written is dropped.

use std::io::{self, Write as _};

/// Writes a line to standard output.
pub fn say(line: &str) {
    drop(writeln!(io::stdout().lock(), "{line}"));
}

/// Writes a line to standard error.
pub(crate) fn complain(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// An error with its causes, one after the other. A message that says its cause itself, as those of
/// the store and the configuration do, is not followed by it once more.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Lays rows out in columns that are as wide as their widest cell; the first row is the heading.
/// Cells are measured in characters, which fits what commands print.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        use anyhow::Context as _;
        let missing = |path: &str| crate::config::Config::load(std::path::Path::new(path));
        let read: anyhow::Result<_> = missing("does-not-exist.toml").map_err(Into::into);
        let text = chain(&read.context("cannot start").expect_err("there is no file"));
        assert_eq!(text.matches("os error 2").count(), 1, "{text}");
        assert!(text.starts_with("cannot start: cannot read the configuration"));
        let plain: anyhow::Result<()> = Err(io::Error::other("inner").into());
        let text = chain(&plain.context("outer").expect_err("it failed"));
        assert_eq!(text, "outer: inner");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["node", "state"], ["1", "follower"], ["12345", "место"]];
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.map(str::to_owned).to_vec())
            .collect();
        assert_eq!(
            table(&rows),
            ["node   state", "1      follower", "12345  место"]
        );
        assert!(table(&[]).is_empty());
    }
}
