//! What the language speaks of and the kernel doesn't do yet: said, so that nobody relies on it.

use super::super::ast::Action;
use super::super::span::Span;
use super::Report;

/// Warns of everything that has no effect.
pub fn check(report: &mut Report<'_>) {
    let policy = report.policy;
    let mut say = |span: Span, what: &str| {
        report.warn("not-in-force", span, format!("{what} has no effect yet"), None);
    };
    let top = Span::default();
    if policy.options.fast_path {
        say(top, "`option fast-path`");
    }
    for rule in policy.rules.iter().filter(|rule| rule.enabled) {
        if rule.action == Action::Bypass {
            say(rule.name.span, "handing packets to an AF_XDP socket");
        }
    }
}
