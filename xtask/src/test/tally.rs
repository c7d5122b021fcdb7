//! Counting tests in what their runners print.

use serde_json::Value;

/// A test that did not run, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// The test's name as it gave it.
    pub test: String,
    /// Its reason.
    pub reason: String,
}

/// Counts over one or more runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that ran and passed.
    pub passed: u64,
    /// Tests that failed, and suites that did not finish.
    pub failed: u64,
    /// Tests that did not run.
    pub skips: Vec<Skip>,
    /// Failed tests by name, as far as they are known.
    pub failures: Vec<String>,
}

impl Tally {
    /// Adds another run's counts.
    pub fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skips.extend(other.skips);
        self.failures.extend(other.failures);
    }

    /// Counts something that failed as a whole.
    pub fn fail(&mut self, what: impl Into<String>) {
        self.failed += 1;
        self.failures.push(what.into());
    }

    /// The line that closes a test run.
    pub fn line(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skips.len())
    }
}

/// Counts what `cargo test` printed. A test that says `SKIP name: reason` returned early, so its
/// runner takes it for passed; an `#[ignore]`d one is a skip too.
pub fn cargo(text: &str) -> Tally {
    let mut tally = Tally::default();
    let mut skipped_as_passed = 0;
    let mut ended = 0;
    let mut begun = 0;
    for line in text.lines() {
        if is_start(line) {
            begun += 1;
        } else if let Some((passed, failed)) = result_line(line) {
            ended += 1;
            tally.passed += passed;
            tally.failed += failed;
        } else if let Some(skip) = skip_line(line) {
            // Several lines of one test (a loop that skips each case) are one skip.
            if !tally.skips.iter().any(|s| s.test == skip.test) {
                skipped_as_passed += 1;
                tally.skips.push(skip);
            }
        } else if let Some((name, how)) = test_line(line) {
            match how {
                Line::Failed => tally.failures.push(name),
                Line::Ignored(reason) => tally.skips.push(Skip { test: name, reason }),
            }
        }
    }
    tally.passed = tally.passed.saturating_sub(skipped_as_passed);
    // A runner that crashed prints no result line.
    for _ in ended..begun {
        tally.fail("a test runner ended without a result");
    }
    tally
}

fn is_start(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("running ") else {
        return false;
    };
    let mut words = rest.split(' ');
    let count = words.next().is_some_and(|w| w.parse::<u64>().is_ok());
    count && matches!(words.next(), Some("test" | "tests")) && words.next().is_none()
}

fn result_line(line: &str) -> Option<(u64, u64)> {
    // Output that a test wrote past the capture may stand before it on the same line.
    let at = line.find("test result: ")?;
    let rest = &line[at..];
    let number = |word: &str| {
        let end = rest.find(word)?;
        rest[..end].trim_end().rsplit([' ', ';']).next()?.parse().ok()
    };
    Some((number(" passed;")?, number(" failed;")?))
}

fn skip_line(line: &str) -> Option<Skip> {
    let rest = line.trim_start().strip_prefix("SKIP ")?;
    let (test, reason) = rest.split_once(": ")?;
    Some(Skip { test: test.trim().to_owned(), reason: reason.trim().to_owned() })
}

enum Line {
    Failed,
    Ignored(String),
}

fn test_line(line: &str) -> Option<(String, Line)> {
    let rest = line.strip_prefix("test ")?;
    let (name, how) = rest.split_once(" ... ")?;
    let how = how.trim();
    if how == "FAILED" {
        return Some((name.to_owned(), Line::Failed));
    }
    let reason = how.strip_prefix("ignored")?;
    let reason = reason.trim_start_matches([',', ' ']);
    let reason = if reason.is_empty() { "ignored" } else { reason };
    Some((name.to_owned(), Line::Ignored(reason.to_owned())))
}

/// Counts vitest's JSON report; `None` where it is none.
pub fn vitest(report: &Value) -> Option<Tally> {
    let mut tally = Tally::default();
    for file in report.get("testResults")?.as_array()? {
        let tests = file.get("assertionResults")?.as_array()?;
        let name = file.get("name").and_then(Value::as_str).unwrap_or("?");
        let name = name.rsplit('/').next().unwrap_or(name);
        if tests.is_empty() && file.get("status").and_then(Value::as_str) == Some("failed") {
            tally.fail(format!("{name} (did not load)"));
        }
        for test in tests {
            let title = test.get("fullName").and_then(Value::as_str).unwrap_or("?");
            let full = format!("{name} {title}");
            match test.get("status").and_then(Value::as_str) {
                Some("passed") => tally.passed += 1,
                Some("pending" | "skipped" | "todo" | "disabled") => {
                    tally.skips.push(Skip { test: full, reason: "ignored".to_owned() })
                }
                _ => tally.fail(full),
            }
        }
    }
    Some(tally)
}

/// Counts lines `ok - NAME`, `not ok - NAME` and `SKIP NAME: REASON`: what scripts print.
pub fn tap(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines() {
        let line = line.trim();
        let after = |prefix: &str| {
            line.strip_prefix(prefix)
                .map(|rest| rest.trim_start_matches([' ', '-', ':']).to_owned())
        };
        if let Some(name) = after("not ok ") {
            tally.fail(name);
        } else if after("ok ").is_some() {
            tally.passed += 1;
        } else if let Some(skip) = skip_line(line) {
            tally.skips.push(skip);
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARGO: &str = "
running 3 tests
test a::works ... ok
test a::breaks ... FAILED
test slow ... ignored, takes an hour

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 2 tests
test needs_root ... 
SKIP needs_root: not root
ok
test fine ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    fn skip(test: &str, reason: &str) -> Skip {
        Skip { test: test.into(), reason: reason.into() }
    }

    #[test]
    fn cargos_output_is_counted() {
        let tally = cargo(CARGO);
        assert_eq!((tally.passed, tally.failed), (2, 1));
        assert_eq!(tally.skips, [skip("slow", "takes an hour"), skip("needs_root", "not root")]);
        assert_eq!(tally.failures, ["a::breaks"]);
        assert_eq!(tally.line(), "2 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn a_runner_that_crashed_is_a_failure() {
        let tally = cargo("running 4 tests\ntest a ... ok\nSegmentation fault\n");
        assert_eq!(tally.failed, 1);
    }

    #[test]
    fn what_a_test_prints_is_not_taken_for_a_result() {
        let tally = cargo("running 9 tests of my own\ntest x ... maybe\n");
        assert_eq!(tally, Tally::default());
    }

    #[test]
    fn a_test_that_skips_each_of_its_cases_is_one_skip() {
        let text = "running 1 test\nSKIP a: x\nSKIP a: y\ntest a ... ok\n\
                    test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured;\n";
        let tally = cargo(text);
        assert_eq!((tally.passed, tally.skips.len()), (0, 1));
    }

    #[test]
    fn vitests_report_is_counted() {
        let report = serde_json::json!({"testResults": [
            {"name": "/x/rates.test.ts", "status": "failed", "assertionResults": [
                {"fullName": "adds", "status": "passed"},
                {"fullName": "wraps", "status": "failed"},
                {"fullName": "later", "status": "todo"},
            ]},
            {"name": "/x/broken.test.ts", "status": "failed", "assertionResults": []},
        ]});
        let tally = vitest(&report).unwrap();
        assert_eq!((tally.passed, tally.failed), (1, 2));
        assert_eq!(tally.skips, [skip("rates.test.ts later", "ignored")]);
        assert_eq!(tally.failures, ["rates.test.ts wraps", "broken.test.ts (did not load)"]);
        assert!(vitest(&serde_json::json!({})).is_none());
    }

    #[test]
    fn scripts_are_counted() {
        let tally = tap("ok - flows appear\nnot ok - rule shows\nSKIP shot: no chromium\nnoise\n");
        assert_eq!((tally.passed, tally.failed), (1, 1));
        assert_eq!(tally.skips, [skip("shot", "no chromium")]);
    }
}
