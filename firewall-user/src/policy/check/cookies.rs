//! Rules that ask for SYN cookies and only meet packets that are forwarded: only the machine's own listeners
//! are spoken for.

use super::super::resolved::Resolved;
use super::{CheckContext, Report, rule_span};
use std::net::IpAddr;

/// Warns of rules whose destinations are none of the machine's addresses, where those are known.
pub fn check(resolved: &Resolved, context: &CheckContext, report: &mut Report<'_>) {
    let Some(own) = &context.addresses else { return };
    let policy = report.policy;
    for rule in policy.rules.iter().filter(|rule| rule.enabled && rule.syn_cookies) {
        let Some(to) = &rule.when.dst.addrs else { continue };
        let listed = resolved.addresses(to);
        let is_listed = |address: &IpAddr| match address {
            IpAddr::V4(a) => {
                let a = u32::from(*a);
                listed.v4.as_slice().iter().any(|(from, to)| (*from..=*to).contains(&a))
            }
            IpAddr::V6(a) => {
                let a = u128::from(*a);
                listed.v6.as_slice().iter().any(|(from, to)| (*from..=*to).contains(&a))
            }
        };
        if own.iter().any(|address| is_listed(address) != to.negated) {
            continue;
        }
        report.warn(
            "cookies-forwarded",
            rule_span(rule),
            format!(
                "rule `{}` asks for SYN cookies, and none of its destinations is this machine's: SYNs \
                 that are forwarded are never answered",
                rule.name.value
            ),
            "leave `syn-cookies` to the server, or bound its flows here with `option source-flows`"
                .to_owned(),
        );
    }
}
