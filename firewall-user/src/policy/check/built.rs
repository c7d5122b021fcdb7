//! What the language speaks of and the kernel doesn't do yet: said, so that nobody relies on it.

use super::super::ast::{Mapping, SynCookies, Translation};
use super::super::span::Span;
use super::Report;

/// Warns of everything that has no effect.
pub fn check(report: &mut Report<'_>) {
    let policy = report.policy;
    let mut say = |span: Span, what: &str| {
        report.warn("not-in-force", span, format!("{what} has no effect yet"), None);
    };
    let top = Span::default();
    if policy.options.syn_cookies != SynCookies::Off {
        say(top, "`option syn-cookies`");
    }
    for rule in policy.rules.iter().filter(|rule| rule.enabled) {
        if rule.syn_cookies {
            say(rule.name.span, "`syn-cookies`");
        }
    }
    for nat in policy.nats.iter().filter(|nat| nat.enabled) {
        let mapping = match &nat.translation {
            Translation::Masquerade(mapping) | Translation::Source { mapping, .. } => Some(mapping),
            Translation::Prefix { .. } => {
                say(nat.name.span, "translating IPv6 prefixes");
                None
            }
            _ => None,
        };
        if mapping.is_some_and(|mapping: &Mapping| mapping.endpoint_independent) {
            say(nat.name.span, "`endpoint-independent`");
        }
    }
}
