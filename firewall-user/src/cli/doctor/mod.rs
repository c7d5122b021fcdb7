//! `sluice doctor`: what this kernel and this machine can and can't do, and what to do about it.

mod bpf;
mod machine;
mod sockets;

use super::out::{CliError, Head, Out, Tone};
use serde::Serialize;
use std::{path::Path, process::ExitCode};

/// How a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Sluice works, with less.
    Warn,
    /// Sluice doesn't work like this.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How it weighs.
    pub grade: Grade,
    /// What was looked at.
    pub what: &'static str,
    /// What was seen.
    pub seen: String,
    /// What to do about it; empty if nothing.
    pub advice: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(what: &'static str, seen: impl Into<String>) -> Self {
        Self { grade: Grade::Ok, what, seen: seen.into(), advice: String::new() }
    }
    /// Works, with less.
    pub fn warn(what: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { grade: Grade::Warn, what, seen: seen.into(), advice: advice.into() }
    }
    /// Doesn't work.
    pub fn fail(what: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { grade: Grade::Fail, what, seen: seen.into(), advice: advice.into() }
    }
}

/// Looks at everything; exit code 1 if something fails.
pub fn run(out: &Out, socket: &Path) -> Result<ExitCode, CliError> {
    let mut findings = vec![
        machine::kernel(),
        machine::embedded(),
        machine::capabilities(),
        bpf::load("XDP programs", bpf::XDP),
        bpf::load("traffic control programs", bpf::SCHED_CLS),
        bpf::tcx(),
        machine::jit(),
        machine::btf(),
        machine::bpffs(),
        machine::memlock(),
        machine::cgroup2(),
        sockets::hooks(),
        sockets::kill(),
        machine::cookies(),
    ];
    findings.extend(machine::interfaces());
    findings.push(machine::group());
    findings.push(machine::daemon(socket));
    let worst = findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Ok);
    out.rows(&findings, &[Head::text(""), Head::text("WHAT"), Head::text("SEEN")], |finding| {
        let (word, tone) = match finding.grade {
            Grade::Ok => ("ok", Tone::Good),
            Grade::Warn => ("warn", Tone::Odd),
            Grade::Fail => ("FAIL", Tone::Bad),
        };
        let mut seen = finding.seen.clone();
        if !finding.advice.is_empty() {
            seen.push_str("; ");
            seen.push_str(&finding.advice);
        }
        vec![(word.to_owned(), tone), (finding.what.to_owned(), Tone::Plain), (seen, Tone::Plain)]
    })?;
    Ok(if worst == Grade::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
