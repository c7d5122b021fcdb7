//! The words of the language: keywords, protocols, ICMP types, TCP flags, and what people who come
//! from other firewalls say instead.

use super::suggest::nearest;

/// Words that begin a statement.
pub const STATEMENTS: &[&str] =
    &["interface", "set", "default", "option", "rule", "nat", "disabled"];
/// Words that begin a clause of a rule.
pub const CLAUSES: &[&str] = &[
    "in",
    "out",
    "on",
    "ipv4",
    "ipv6",
    "tcp",
    "udp",
    "icmp",
    "icmpv6",
    "sctp",
    "udplite",
    "proto",
    "from",
    "to",
    "flags",
    "state",
    "process",
    "exe",
    "user",
    "unit",
    "cgroup",
    "no-track",
    "syn-cookies",
    "limit",
    "over",
    "add",
    "update",
    "log",
];
/// What a rule may do.
pub const ACTIONS: &[&str] = &["allow", "drop", "reject", "count", "log", "bypass"];
/// Kinds of translation.
pub const NATS: &[&str] = &["masquerade", "source", "destination", "redirect", "static", "prefix"];
/// Words that begin a condition of a translation.
pub const NAT_CLAUSES: &[&str] =
    &["on", "ipv4", "tcp", "udp", "icmp", "sctp", "udplite", "proto", "from", "to"];
/// Words that begin what else is said of a translation.
pub const NAT_EXTRAS: &[&str] = &["ports", "endpoint-independent", "blocks", "hairpin"];
/// Names of options.
pub const OPTIONS: &[&str] = &[
    "tcp-pickup",
    "tcp-window",
    "malformed",
    "ethertypes",
    "fragments",
    "flow-table-full",
    "half-open-full",
    "source-flows",
    "syn-cookies",
    "fast-path",
    "timeout",
    "sample-rate",
    "reject-rate",
    "new-rate",
];

/// IP protocol numbers by name.
pub const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];
/// ICMP.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMPv6.
pub const ICMPV6: u8 = 58;
/// Protocols whose ports the kernel program reads: TCP, UDP, SCTP, UDP-Lite.
pub const WITH_PORTS: &[u8] = &[TCP, UDP, 132, 136];

/// ICMP types by name.
pub const ICMP_TYPES: &[(&str, u8)] = &[
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
];
/// ICMPv6 types by name.
pub const ICMPV6_TYPES: &[(&str, u8)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-query", 130),
    ("mld-report", 131),
    ("mld-done", 132),
    ("router-solicitation", 133),
    ("router-advertisement", 134),
    ("neighbour-solicitation", 135),
    ("neighbour-advertisement", 136),
    ("redirect", 137),
    ("mldv2-report", 143),
];
/// Bits of the TCP flags byte.
pub const TCP_FLAGS: &[(&str, u8)] = &[
    ("fin", 1),
    ("syn", 2),
    ("rst", 4),
    ("psh", 8),
    ("ack", 16),
    ("urg", 32),
    ("ece", 64),
    ("cwr", 128),
];

/// What others call it, and what it is called here.
const ELSEWHERE: &[(&str, &str)] = &[
    // Kinds of translation where such a word is looked for, else the whole statement.
    ("snat", "source"),
    ("dnat", "destination"),
    ("binat", "static"),
    ("netmap", "static"),
    ("rdr", "redirect"),
    ("rdr-to", "redirect"),
    ("masq", "masquerade"),
    ("nptv6", "prefix"),
    ("npt", "prefix"),
    ("snat", "nat NAME source on INTERFACE from ADDRESSES => ADDRESS"),
    ("dnat", "nat NAME destination on INTERFACE tcp to ADDRESS port N => ADDRESS"),
    ("masquerade", "nat NAME masquerade on INTERFACE"),
    ("binat", "nat NAME static on INTERFACE INSIDE <=> OUTSIDE"),
    ("netmap", "nat NAME static on INTERFACE INSIDE <=> OUTSIDE"),
    ("redirect", "nat NAME redirect on INTERFACE tcp to port N => port M"),
    ("rdr", "nat NAME redirect on INTERFACE tcp to port N => port M"),
    ("notrack", "no-track"),
    ("synproxy", "syn-cookies"),
    ("persistent", "endpoint-independent"),
    ("queue", "bypass"),
    ("accept", "allow"),
    ("pass", "allow"),
    ("permit", "allow"),
    ("deny", "drop"),
    ("block", "drop"),
    ("discard", "drop"),
    ("refuse", "reject"),
    ("counter", "count"),
    ("input", "in"),
    ("inbound", "in"),
    ("ingress", "in"),
    ("output", "out"),
    ("outbound", "out"),
    ("egress", "out"),
    ("iif", "in on NAME"),
    ("iifname", "in on NAME"),
    ("oif", "out on NAME"),
    ("oifname", "out on NAME"),
    ("dev", "on NAME"),
    ("via", "on NAME"),
    ("src", "from ADDRESS"),
    ("source", "from ADDRESS"),
    ("saddr", "from ADDRESS"),
    ("dst", "to ADDRESS"),
    ("destination", "to ADDRESS"),
    ("daddr", "to ADDRESS"),
    ("sport", "from port N"),
    ("dport", "to port N"),
    ("port", "from port N` or `to port N"),
    ("icmp6", "icmpv6"),
    ("ipv6-icmp", "icmpv6"),
    ("inet", "ipv4"),
    ("inet6", "ipv6"),
    ("protocol", "proto NAME"),
    ("icmp-type", "icmp type NAME"),
    ("type", "icmp type NAME"),
    ("code", "icmp type NAME code N"),
    ("skuid", "user NAME"),
    ("uid", "user NAME"),
    ("uid-owner", "user NAME"),
    ("owner", "user NAME"),
    ("comm", "process NAME"),
    ("program", "exe PATH"),
    ("service", "unit NAME"),
    ("cgroupv2", "cgroup PATH"),
    ("ct", "state NAME"),
    ("keep", "state NAME"),
    ("disable", "disabled"),
    ("policy", "default"),
    ("table", "set"),
    ("macro", "set"),
    ("define", "set"),
    ("var", "set"),
];

/// Ports by the names people know, for hints only: a policy says numbers.
const SERVICES: &[(&str, u16)] = &[
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("dns", 53),
    ("domain", 53),
    ("tftp", 69),
    ("http", 80),
    ("www", 80),
    ("pop3", 110),
    ("ntp", 123),
    ("imap", 143),
    ("snmp", 161),
    ("ldap", 389),
    ("https", 443),
    ("syslog", 514),
    ("submission", 587),
    ("ldaps", 636),
    ("imaps", 993),
    ("mysql", 3306),
    ("rdp", 3389),
    ("postgres", 5432),
    ("postgresql", 5432),
    ("redis", 6379),
    ("wireguard", 51820),
];

/// The number or bit of a name in one of the tables above.
pub fn number(table: &[(&str, u8)], name: &str) -> Option<u8> {
    table.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

/// The name of a number in one of the tables above.
pub fn name_of(table: &'static [(&'static str, u8)], number: u8) -> Option<&'static str> {
    table.iter().find(|(_, v)| *v == number).map(|(n, _)| *n)
}

/// A protocol as people read it: its name, or `protocol N`.
pub fn protocol_name(number: u8) -> String {
    name_of(PROTOCOLS, number).map_or_else(|| format!("protocol {number}"), str::to_owned)
}

/// The port a service name stands for.
pub fn service(name: &str) -> Option<u16> {
    SERVICES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, p)| *p)
}

/// A hint for a word that isn't one of `words`: a slip of the finger, or another firewall's word.
pub fn hint(seen: &str, words: &[&str]) -> Option<String> {
    let lower = seen.to_lowercase();
    if let Some(word) = words.iter().find(|w| **w == lower) {
        return Some(format!("words are written in lower case: `{word}`"));
    }
    if lower == "forward" || lower == "forwarded" {
        return Some(
            "forwarded packets meet the `in` rules where they come in and the `out` rules where they leave".into(),
        );
    }
    if let Some((_, here)) = ELSEWHERE
        .iter()
        .find(|(there, here)| *there == lower && (here.contains(' ') || words.contains(here)))
    {
        return Some(format!("here that is `{here}`"));
    }
    nearest(seen, words.iter().copied()).map(|word| format!("did you mean `{word}`?"))
}

/// "a, b or c".
pub fn one_of<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [init @ .., last] => {
            let init: Vec<&str> = init.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", init.join(", "), last.as_ref())
        }
    }
}
