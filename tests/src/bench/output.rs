//! The figures, for programs and for people.

use serde_json::json;

/// Everything a benchmark found out, round by round.
#[derive(Debug)]
pub struct Figures {
    bench: &'static str,
    only: Option<String>,
    rows: Vec<Row>,
    missing: Vec<Missing>,
}

/// What was measured of one subject in one case.
#[derive(Clone, Debug)]
struct Row {
    subject: String,
    case: String,
    unit: String,
    runs: Vec<f64>,
}

/// What could not be measured.
#[derive(Clone, Debug)]
struct Missing {
    subject: String,
    case: String,
    why: String,
}

impl Row {
    /// Least, middle and most of the rounds.
    fn spread(&self) -> (f64, f64, f64) {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
        let median =
            if n % 2 == 1 { at(n / 2) } else { (at(n / 2) + at((n / 2).wrapping_sub(1))) / 2.0 };
        (at(0), median, at(n.wrapping_sub(1)))
    }
}

impl Figures {
    /// None yet.
    pub(super) fn new(bench: &'static str) -> Self {
        Self { bench, only: None, rows: Vec::new(), missing: Vec::new() }
    }

    /// None yet, and only of cases whose names begin so.
    pub(super) fn of(bench: &'static str, only: Option<String>) -> Self {
        Self { only, ..Self::new(bench) }
    }

    /// Whether one of these cases is asked for.
    pub(super) fn wants(&self, cases: &[&str]) -> bool {
        self.only.as_deref().is_none_or(|only| cases.iter().any(|case| case.starts_with(only)))
    }

    /// One more round of a subject in a case.
    pub(super) fn add(&mut self, subject: &str, case: &str, unit: &str, value: f64) {
        let same = |row: &&mut Row| row.subject == subject && row.case == case && row.unit == unit;
        match self.rows.iter_mut().find(same) {
            Some(row) => row.runs.push(value),
            None => self.rows.push(Row {
                subject: subject.into(),
                case: case.into(),
                unit: unit.into(),
                runs: vec![value],
            }),
        }
    }

    /// A subject that can't be measured in a case (`*`: in none), and why; told once.
    pub(super) fn missing(&mut self, subject: &str, case: &str, why: impl Into<String>) {
        let (subject, case, why) = (subject.to_owned(), case.to_owned(), why.into());
        if self.missing.iter().any(|m| (&m.subject, &m.case) == (&subject, &case)) {
            return;
        }
        eprintln!("bench: {subject} is missing in {case}: {why}");
        self.missing.push(Missing { subject, case, why });
    }

    /// Middle of the rounds.
    #[cfg(test)]
    fn median(&self, subject: &str, case: &str) -> Option<f64> {
        self.rows.iter().find(|r| r.subject == subject && r.case == case).map(|r| r.spread().1)
    }

    /// Adds `ours` over `peer`, in every case that both have in the same unit.
    pub(super) fn ratio_to(&mut self, ours: &str, peer: &str) {
        let mut ratios: Vec<Row> = Vec::new();
        for row in self.rows.iter().filter(|row| row.subject == ours) {
            let of_peer =
                |r: &&Row| r.subject == peer && (&r.case, &r.unit) == (&row.case, &row.unit);
            let Some(theirs) = self.rows.iter().find(of_peer).map(|r| r.spread().1) else {
                continue;
            };
            // A peer that costs nothing, or lets nothing through, is no measure; a case has one ratio,
            // in the unit that comes first.
            if theirs.abs() < 0.1 || ratios.iter().any(|r| r.case == row.case) {
                continue;
            }
            ratios.push(Row {
                subject: "ratio".into(),
                case: row.case.clone(),
                unit: format!("of {peer}"),
                runs: vec![row.spread().1 / theirs],
            });
        }
        self.rows.extend(ratios);
    }

    /// Adds `ours` over whichever of the peers is best (least), in every case that somebody else has in the same unit.
    pub(super) fn ratio_to_best(&mut self, ours: &str, peers: &[&str]) {
        let mut ratios: Vec<Row> = Vec::new();
        for row in self.rows.iter().filter(|row| row.subject == ours) {
            let theirs = self.rows.iter().filter(|r| {
                peers.contains(&r.subject.as_str()) && (&r.case, &r.unit) == (&row.case, &row.unit)
            });
            let best = theirs.map(|r| r.spread().1).min_by(f64::total_cmp);
            // As in `ratio_to`.
            let Some(best) = best.filter(|best| *best >= 0.1) else { continue };
            if ratios.iter().all(|r| r.case != row.case) {
                ratios.push(Row {
                    subject: "ratio".into(),
                    case: row.case.clone(),
                    unit: "of the best peer".into(),
                    runs: vec![row.spread().1 / best],
                });
            }
        }
        self.rows.extend(ratios);
    }

    /// Subjects that were measured, in the order in which they came; the ratios come last.
    fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = Vec::new();
        for row in &self.rows {
            let title = title(row);
            if !columns.contains(&title) {
                columns.push(title);
            }
        }
        columns.sort_by_key(|title| title.starts_with("of "));
        columns
    }

    /// One JSON object a line.
    pub fn print_json(&self) {
        for row in &self.rows {
            let (min, median, max) = row.spread();
            println!(
                "{}",
                json!({
                    "bench": self.bench, "subject": row.subject, "case": row.case,
                    "unit": row.unit, "runs": row.runs.len(), "value": rounded(median),
                    "min": rounded(min), "median": rounded(median), "max": rounded(max),
                })
            );
        }
        for Missing { subject, case, why } in &self.missing {
            println!(
                "{}",
                json!({"bench": self.bench, "subject": subject, "case": case, "missing": why})
            );
        }
    }

    /// A table: cases down, subjects across.
    pub fn print_table(&self) {
        let columns = self.columns();
        let mut lines: Vec<(&str, &str)> = Vec::new();
        for row in self.rows.iter().filter(|row| row.subject != "ratio") {
            if !lines.contains(&(row.case.as_str(), row.unit.as_str())) {
                lines.push((&row.case, &row.unit));
            }
        }
        print!("{:<42}", "");
        columns.iter().for_each(|column| print!("{column:>24}"));
        println!();
        for (n, (case, unit)) in lines.iter().enumerate() {
            print!("{:<42}", format!("{case}, {unit}"));
            for column in &columns {
                let found = self.rows.iter().find(|row| {
                    // A ratio has no unit: it stands in the first line of its case.
                    let first = lines.iter().position(|(c, _)| c == case) == Some(n);
                    title(row) == *column
                        && row.case == *case
                        && (row.unit == *unit || (row.subject == "ratio" && first))
                });
                print!("{:>24}", found.map_or_else(|| "-".to_owned(), cell));
            }
            println!();
        }
        for Missing { subject, case, why } in &self.missing {
            println!("missing: {subject}, {case}: {why}");
        }
        println!("median (least-most) of the rounds; \"of\": Sluice's median over the peer's");
    }
}

/// What a row's column is called.
fn title(row: &Row) -> String {
    if row.subject == "ratio" { row.unit.clone() } else { row.subject.clone() }
}

fn cell(row: &Row) -> String {
    let (min, median, max) = row.spread();
    if row.subject == "ratio" {
        format!("{median:.2}x")
    } else if row.runs.len() == 1 {
        format!("{median:.1}")
    } else if median < 100.0 {
        format!("{median:.1} ({min:.1}-{max:.1})")
    } else {
        format!("{median:.0} ({min:.0}-{max:.0})")
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::Figures;

    fn figures(subjects: &[(&str, &[f64])]) -> Figures {
        let mut all = Figures::new("test");
        for (subject, runs) in subjects {
            runs.iter().for_each(|value| all.add(subject, "case", "ns", *value));
        }
        all
    }

    #[test]
    fn the_median_is_the_middle() {
        let all = figures(&[("odd", &[3.0, 1.0, 2.0]), ("even", &[4.0, 1.0, 2.0, 3.0])]);
        assert_eq!(all.median("odd", "case"), Some(2.0));
        assert_eq!(all.rows[1].spread(), (1.0, 2.5, 4.0));
    }

    #[test]
    fn a_ratio_is_ours_over_theirs() {
        let mut all = figures(&[("sluice", &[3.0]), ("peer", &[6.0]), ("free", &[0.0])]);
        all.ratio_to("sluice", "peer");
        all.ratio_to("sluice", "free");
        assert_eq!(all.median("ratio", "case"), Some(0.5));
        assert_eq!(all.rows.iter().filter(|row| row.subject == "ratio").count(), 1);
    }

    #[test]
    fn the_best_peer_is_the_quickest() {
        let mut all = figures(&[("sluice", &[3.0]), ("slow", &[12.0]), ("quick", &[6.0])]);
        all.ratio_to_best("sluice", &["slow", "quick", "absent"]);
        assert_eq!(all.median("ratio", "case"), Some(0.5));
    }
}
