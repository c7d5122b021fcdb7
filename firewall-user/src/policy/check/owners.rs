//! Rules by owner that would keep the operator from logging in again: whatever owns the ssh server may be meant.

use super::super::ast::{Action, Match, OwnerMatch, Policy, Rule};
use super::super::classify::{Probe, classify};
use super::super::{Slots, compile};
use super::{Report, SSH_LOCKOUT, SshPeer, rule_span};
use firewall_common::abi::table::{Direction, State, Verdict};

/// Whether a list is about the ssh server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meets {
    Yes,
    Maybe,
    No,
}

/// The first rule by owner that a new session may be refused by, if none above it lets it in for certain.
pub fn check(ssh: &SshPeer, report: &mut Report<'_>) {
    let probe = Probe {
        direction: Direction::In,
        iface: 0,
        src: ssh.peer,
        dst: ssh.local,
        proto: 6,
        sport: ssh.peer_port,
        dport: ssh.local_port,
        icmp: (0, 0),
        tcp_flags: 2,
        state: State::New,
    };
    for rule in report.policy.owner_rules() {
        let meets = meets(&rule.when.owner);
        if meets == Meets::No || !is_about(report.policy, rule, &probe) {
            continue;
        }
        match rule.action {
            Action::Drop | Action::Reject => {
                let message = format!(
                    "this {} keep you from logging in again over ssh ({} port {} to {} port {}): rule `{}` \
                     refuses it, if the server is meant",
                    if meets == Meets::Yes { "would" } else { "might" },
                    ssh.peer,
                    ssh.peer_port,
                    ssh.local,
                    ssh.local_port,
                    rule.name.value
                );
                let hint = format!(
                    "put a rule above it: `rule ssh-server allow in tcp to port {} process sshd`",
                    ssh.local_port
                );
                return report.warn(SSH_LOCKOUT, rule_span(rule), message, hint);
            }
            Action::Allow | Action::Bypass if meets == Meets::Yes => return,
            _ => {}
        }
    }
}

/// Whether the packet's part of a rule is met.
fn is_about(policy: &Policy, rule: &Rule, probe: &Probe) -> bool {
    let mut bare = rule.clone();
    (bare.when.owner, bare.action) = (OwnerMatch::default(), Action::Drop);
    let alone = Policy {
        live: Vec::new(),
        file: String::new(),
        source: String::new(),
        groups: policy.groups.clone(),
        sets: policy.sets.clone(),
        options: policy.options.clone(),
        rules: vec![bare],
        nats: Vec::new(),
        defaults: [Verdict::Allow; 2],
    };
    // What can't be compiled is somebody else's error.
    compile(&alone, &mut Slots::new(), 1)
        .is_ok_and(|compiled| classify(&compiled, probe).verdict == Verdict::Drop)
}

/// Whether the ssh server is meant, going by the names that it has.
fn meets(owner: &OwnerMatch) -> Meets {
    let file = |path: &str| path.rsplit('/').next().is_some_and(|name| name.starts_with("sshd"));
    let unit = |name: &str| {
        ["ssh.service", "sshd.service", "ssh.socket", "sshd.socket"].contains(&name)
            || name.starts_with("ssh@")
            || name.starts_with("sshd@")
    };
    let group = |path: &str| path == "/system.slice" || path.split('/').any(unit);
    type Test<'a> = (&'a Option<Match<String>>, &'a dyn Fn(&str) -> bool);
    let tests: [Test<'_>; 5] = [
        (&owner.processes, &|name| name.starts_with("sshd")),
        (&owner.exes, &file),
        (&owner.users, &|name| matches!(name, "root" | "0")),
        (&owner.units, &unit),
        (&owner.cgroups, &group),
    ];
    let mut all = Meets::Yes;
    for (list, is_server) in tests {
        let Some(list) = list else { continue };
        let listed = list.items.iter().any(|item| is_server(&item.value));
        match (list.negated, listed) {
            (false, true) | (true, false) => {}
            // Its name may be another than those that are known here.
            (false, false) | (true, true) => return Meets::No,
        }
        if list.negated && !list.items.is_empty() {
            all = Meets::Maybe;
        }
    }
    all
}
