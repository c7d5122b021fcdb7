//! The figures, for programs and for people.

use super::CASES;
use serde_json::json;

/// One figure.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Who.
    pub subject: &'static str,
    /// On what.
    pub case: &'static str,
    /// Of what.
    pub unit: &'static str,
    /// How many rounds.
    pub runs: usize,
    /// Least of them.
    pub min: f64,
    /// Middle one.
    pub median: f64,
    /// Most.
    pub max: f64,
}

impl Sample {
    pub(super) fn new(
        subject: &'static str,
        case: &'static str,
        unit: &'static str,
        runs: &[f64],
    ) -> Self {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
        let median = if sorted.len() % 2 == 1 {
            at(sorted.len() / 2)
        } else {
            (at(sorted.len() / 2) + at((sorted.len() / 2).wrapping_sub(1))) / 2.0
        };
        Self {
            subject,
            case,
            unit,
            runs: sorted.len(),
            min: at(0),
            median,
            max: at(sorted.len().wrapping_sub(1)),
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// One JSON object a line.
pub fn print_json(samples: &[Sample]) {
    for s in samples {
        println!(
            "{}",
            json!({
                "bench": "packet", "subject": s.subject, "case": s.case, "unit": s.unit, "runs": s.runs,
                "value": rounded(s.median), "min": rounded(s.min), "median": rounded(s.median), "max": rounded(s.max),
            })
        );
    }
}

/// A table: cases down, subjects across.
pub fn print_table(samples: &[Sample]) {
    let mut columns: Vec<(&str, &str)> = Vec::new();
    for s in samples {
        if !columns.contains(&(s.subject, s.unit)) {
            columns.push((s.subject, s.unit));
        }
    }
    let title = |column: &(&str, &str)| {
        if column.0 == "ratio" { column.1.to_owned() } else { column.0.to_owned() }
    };
    print!("{:<12}", "");
    columns.iter().for_each(|column| print!("{:>24}", title(column)));
    println!();
    for case in CASES {
        print!("{case:<12}");
        for (subject, unit) in &columns {
            let found =
                samples.iter().find(|s| (s.subject, s.unit, s.case) == (*subject, *unit, case));
            let cell = match found {
                Some(s) if s.subject == "ratio" => format!("{:.2}x", s.median),
                Some(s) => format!("{:.1} ({:.0}-{:.0})", s.median, s.min, s.max),
                None => "-".to_owned(),
            };
            print!("{cell:>24}");
        }
        println!();
    }
    println!(
        "ns a packet over an empty program: median (least-most) of the rounds; x: Sluice's median over the peer's"
    );
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Sample::new("", "", "", &[3.0, 1.0, 2.0]).median, 2.0);
        let even = Sample::new("", "", "", &[4.0, 1.0, 2.0, 3.0]);
        assert_eq!((even.min, even.median, even.max, even.runs), (1.0, 2.5, 4.0, 4));
    }
}
