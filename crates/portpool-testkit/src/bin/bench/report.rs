//! What was found, as a table for people and as JSON.

use std::{fmt::Write, fs, io, path::Path};

use crate::meter::Comparison;

/// The rows in the order they were measured.
#[derive(Default)]
pub(crate) struct Report(Vec<Row>);

struct Row {
    name: String,
    /// `None` for what is only told: it is not in the file.
    limit: Option<f64>,
    ratio: f64,
    /// `None` where the ratio is a number of MiB or seconds.
    times: Option<Comparison>,
}

impl Row {
    fn is_missed(&self) -> bool {
        self.limit.is_some_and(|limit| !keeps(self.ratio, limit))
    }
}

impl Report {
    /// A row with a limit.
    pub(crate) fn add(&mut self, name: &str, limit: f64, found: Comparison) {
        self.push(name, Some(limit), found.ratio, Some(found));
    }

    /// A row with a limit for the worst of several.
    pub(crate) fn add_worst(&mut self, name: &str, limit: f64, found: &[Comparison]) {
        let worst = found
            .iter()
            .copied()
            .max_by(|a, b| a.ratio.total_cmp(&b.ratio));
        self.add(name, limit, worst.expect("at least one"));
    }

    /// A row that only the table has.
    pub(crate) fn note(&mut self, name: &str, found: Comparison) {
        self.push(name, None, found.ratio, Some(found));
    }

    /// A size with a limit.
    pub(crate) fn add_mib(&mut self, name: &str, limit: f64, mib: f64) {
        self.push(name, Some(limit), mib, None);
    }

    /// A time in seconds with a limit.
    pub(crate) fn add_seconds(&mut self, name: &str, limit: f64, seconds: f64) {
        self.push(name, Some(limit), seconds, None);
    }

    /// A size that only the table has.
    pub(crate) fn note_mib(&mut self, name: &str, mib: f64) {
        self.push(name, None, mib, None);
    }

    pub(crate) fn is_missed(&self) -> bool {
        self.0.iter().any(Row::is_missed)
    }

    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "{:<32}{:>8}{:>16}{:>8}{:>12}{:>12}\n",
            "name", "ratio", "half of rounds", "limit", "p50 ns", "p99 ns"
        );
        for row in &self.0 {
            let name = match row.limit {
                Some(_) => row.name.clone(),
                None => format!("  {}", row.name),
            };
            let limit = row.limit.map_or_else(String::new, |it| format!("{it:.2}"));
            let [spread, p50, p99] = row.times.map_or_else(Default::default, |times| {
                let (low, high) = times.spread;
                [
                    format!("{low:.3}-{high:.3}"),
                    format!("{:.0}", times.p50),
                    format!("{:.0}", times.p99),
                ]
            });
            let verdict = if row.is_missed() { "  MISSED" } else { "" };
            let ratio = row.ratio;
            let line = format!("{name:<32}{ratio:>8.3}{spread:>16}{limit:>8}{p50:>12}{p99:>12}");
            table.push_str(&line);
            table.push_str(verdict);
            table.push('\n');
        }
        table
    }

    /// Writes the rows with a limit, ratios to the two places they are judged by, aside first and then into place.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut rows = Vec::new();
        for row in &self.0 {
            let Some(limit) = row.limit else { continue };
            let (p50, p99) = row.times.map_or((0.0, 0.0), |times| (times.p50, times.p99));
            let mut line = String::new();
            // Names are our own: none needs escaping.
            write!(
                line,
                r#"  {{"name": "{}", "ratio": {:.2}, "limit": {limit}, "p50_ns": {p50:.0}, "p99_ns": {p99:.0}}}"#,
                row.name, row.ratio
            )
            .map_err(io::Error::other)?;
            rows.push(line);
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let aside = path.with_extension("json.new");
        fs::write(&aside, format!("[\n{}\n]\n", rows.join(",\n")))?;
        fs::rename(&aside, path)
    }

    fn push(&mut self, name: &str, limit: Option<f64>, ratio: f64, times: Option<Comparison>) {
        let name = name.to_owned();
        self.0.push(Row {
            name,
            limit,
            ratio,
            times,
        });
    }
}

/// Judged to two places, as it is printed: 1.0x means that no difference can be measured.
fn keeps(ratio: f64, limit: f64) -> bool {
    (ratio * 100.0).round() <= (limit * 100.0).round()
}
