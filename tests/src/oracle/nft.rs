//! Rules in the language of nftables.

use super::rules::{
    Action, Addresses, End, Flags, INTERFACES, MARK_PORT, MARK_TO, Place, Ports, Rule, Rules, State,
};
use std::fmt::Write as _;

/// Name of the table.
pub(super) const TABLE: &str = "oracle";

/// Protocols that have ports, for rules that ask for ports and name no protocol.
const WITH_PORTS: &str = "{ 6, 17, 132, 136 }";

impl Rules {
    /// As a file for `nft -f`. Each rule has a named counter; a rule about both families is two of nft's that share
    /// it. `zone` keeps what is tracked under these rules apart from what was tracked under others.
    pub fn to_nft(&self, zone: u16) -> String {
        let family = if self.place == Place::Ingress { "netdev" } else { "inet" };
        let mut head = format!("flush ruleset\ntable {family} {TABLE} {{\n");
        let mut chain = String::new();
        let (fence, rest) = (self.fence(), self.rest());
        for name in [&fence, &rest].into_iter().chain(self.rules.iter().map(|rule| &rule.name)) {
            let _ = writeln!(head, " counter {name} {{ }}");
        }
        let hook = match self.place {
            Place::Ingress => {
                let devices = INTERFACES.join(", ");
                format!("hook ingress devices = {{ {devices} }} priority 0")
            }
            Place::Raw => "hook prerouting priority raw".into(),
            Place::Tracked(_) => "hook prerouting priority mangle".into(),
        };
        // What comes back isn't asked for: it comes in at other interfaces.
        let ours = INTERFACES.map(|name| format!("\"{name}\"")).join(", ");
        if self.place.tracks() {
            let _ = writeln!(
                head,
                " chain zone {{ type filter hook prerouting priority raw;\n  ct zone set {zone}\n }}"
            );
        }
        let _ = writeln!(chain, " chain gate {{\n  type filter {hook};");
        let _ = writeln!(chain, "  iifname != {{ {ours} }} accept");
        // ARP isn't seen here but at ingress, where other rules would take it.
        chain.push_str("  meta protocol arp accept\n");
        let enter = if self.place.tracks() { "ct mark set 1 accept" } else { "accept" };
        if self.place.tracks() {
            // What a rule let in has a mark: the packets of a flow that was let in pass without rules.
            chain.push_str("  ct mark 1 accept\n");
        }
        let _ = writeln!(
            chain,
            "  ip daddr {MARK_TO} udp dport {MARK_PORT} counter name \"{fence}\" {enter}"
        );
        for rule in self.rules.iter().filter(|rule| rule.enabled) {
            for text in self.lines(rule, &mut head) {
                let verdict = match rule.action {
                    Action::Allow => enter,
                    // Both vanish; who is told isn't compared.
                    Action::Drop | Action::Reject => "drop",
                    Action::Count => "",
                };
                let _ = writeln!(chain, "  {text} counter name \"{}\" {verdict}", rule.name);
            }
        }
        let default = if self.default_allow { enter } else { "drop" };
        let _ = writeln!(chain, "  counter name \"{rest}\" {default}\n }}\n}}");
        head + &chain
    }

    /// A rule's conditions, a line for each family; none where no packet can meet them. Sets go to `head`.
    fn lines(&self, rule: &Rule, head: &mut String) -> Vec<String> {
        let asks =
            rule.family.is_some() || rule.from.addresses.is_some() || rule.to.addresses.is_some();
        if !asks {
            return self.text(rule, None, head).into_iter().collect();
        }
        [4, 6]
            .into_iter()
            .filter(|family| rule.family.is_none_or(|asked| asked == *family))
            .filter_map(|family| self.text(rule, Some(family), head))
            .collect()
    }

    fn text(&self, rule: &Rule, family: Option<u8>, head: &mut String) -> Option<String> {
        let mut out = Vec::new();
        if let Some((not, names)) = &rule.on {
            let names: Vec<String> = names
                .iter()
                .flat_map(|name| if *name == "any-wan" { INTERFACES.to_vec() } else { vec![*name] })
                .map(|name| format!("\"{name}\""))
                .collect();
            out.push(format!("iifname {}{{ {} }}", unequal(*not), names.join(", ")));
        }
        match family {
            Some(4) => out.push("meta protocol ip".into()),
            Some(_) => out.push("meta protocol ip6".into()),
            None => {}
        }
        if let Some((types, codes)) = &rule.icmp {
            let v6 = rule.protos == [58];
            if family.is_some_and(|family| (family == 6) != v6) {
                return None;
            }
            let word = if v6 { "icmpv6" } else { "icmp" };
            out.push(format!("{word} type {{ {} }}", numbers(types)));
            if !codes.is_empty() {
                out.push(format!("{word} code {{ {} }}", numbers(codes)));
            }
        } else if !rule.protos.is_empty() {
            out.push(format!("meta l4proto {{ {} }}", numbers(&rule.protos)));
        } else if rule.flags.is_some() {
            out.push("meta l4proto tcp".into());
        } else if rule.from.ports.is_some() || rule.to.ports.is_some() {
            out.push(format!("meta l4proto {WITH_PORTS}"));
        }
        for (end, addresses, port) in [(&rule.from, "saddr", "sport"), (&rule.to, "daddr", "dport")]
        {
            if let Some(family) = family {
                out.extend(self.addresses_of(rule, end, family, addresses, head)?);
            }
            out.extend(self.ports_of(rule, end, port, head)?);
        }
        out.extend(rule.flags.map(|flags| match flags {
            Flags::All(set) => format!("tcp flags & {set:#x} == {set:#x}"),
            Flags::Of(set, mask) => format!("tcp flags & {mask:#x} == {set:#x}"),
            Flags::None => "tcp flags == 0x0".into(),
            Flags::Only(set) => format!("tcp flags == {set:#x}"),
        }));
        out.extend(rule.state.map(|state| {
            let words = match state {
                State::New => "new",
                State::Invalid => "invalid",
                State::Untracked => "untracked",
                State::Stray => "invalid,untracked",
            };
            format!("ct state {words}")
        }));
        Some(out.join(" "))
    }

    /// Conditions on an end's addresses of one family; none where nothing of that family can meet them.
    fn addresses_of(
        &self,
        rule: &Rule,
        end: &End,
        family: u8,
        word: &str,
        head: &mut String,
    ) -> Option<Vec<String>> {
        let Some(list) = &end.addresses else { return Some(Vec::new()) };
        let all = self.addresses(&list.members);
        let values: Vec<String> =
            all.iter().filter(|a| a.is_v4() == (family == 4)).map(address).collect();
        if values.is_empty() {
            // Nothing is in an empty list, everything is outside of it.
            return list.not.then(Vec::new);
        }
        let (ip, kind) = if family == 4 { ("ip", "ipv4_addr") } else { ("ip6", "ipv6_addr") };
        let name = format!("{}-{word}-{family}", rule.name);
        let value = one_or_set(&name, kind, list.not, &values, head);
        Some(vec![format!("{ip} {word} {}{value}", unequal(list.not))])
    }

    fn ports_of(
        &self,
        rule: &Rule,
        end: &End,
        word: &str,
        head: &mut String,
    ) -> Option<Vec<String>> {
        let Some(list) = &end.ports else { return Some(Vec::new()) };
        let values: Vec<String> = self.ports(&list.members).into_iter().map(ports).collect();
        if values.is_empty() {
            // What has no port is outside of no list: it takes a header to have one that isn't listed.
            return list.not.then(|| vec![format!("th {word} 0-65535")]);
        }
        let name = format!("{}-{word}", rule.name);
        let value = one_or_set(&name, "inet_service", list.not, &values, head);
        Some(vec![format!("th {word} {}{value}", unequal(list.not))])
    }
}

/// One value as it is, several as a named set: only those may overlap.
fn one_or_set(name: &str, kind: &str, not: bool, values: &[String], head: &mut String) -> String {
    // Not behind `!=`: nft 1.0.6 makes one comparison of `th sport != 1 th dport != 2`, which then holds unless both
    // ports are the ones named.
    if let ([one], false) = (values, not) {
        return one.clone();
    }
    // Both families of a rule may come here for the same ports.
    let name = name.replace('-', "_");
    if !head.contains(&format!(" set {name} ")) {
        let _ = writeln!(
            head,
            " set {name} {{ type {kind}; flags interval; auto-merge; elements = {{ {} }} }}",
            values.join(", ")
        );
    }
    format!("@{name}")
}

fn address(addresses: &Addresses) -> String {
    match addresses {
        Addresses::One(a) => a.to_string(),
        Addresses::Prefix(a, bits) => format!("{a}/{bits}"),
        Addresses::Range(a, b) => format!("{a}-{b}"),
    }
}

fn ports((low, high): Ports) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

fn numbers(list: &[u8]) -> String {
    list.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

fn unequal(not: bool) -> &'static str {
    if not { "!= " } else { "" }
}
