//! ClassBench's files: `@src/len dst/len sport : sport dport : dport proto/mask flags/mask`, a rule a line.
//!
//! The last field is 16 bits of the transport header's own: its high byte is TCP's flags or ICMP's type.

use super::{ANY_PORT, Detail, Prefix, Rule, proto};
use std::net::Ipv4Addr;
use std::path::Path;
use thiserror::Error;

/// Why a file isn't a rule set.
#[derive(Debug, Error)]
pub enum ClassBenchError {
    /// It can't be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// Which.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A line is none of ClassBench's.
    #[error("line {line}: `{seen}`, expected {expected}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// The field, or all of it.
        seen: String,
        /// What should stand there.
        expected: &'static str,
    },
}

/// Reads a file.
///
/// # Errors
/// Where it can't be read, or a line isn't a rule.
pub fn load(path: &Path) -> Result<Vec<Rule>, ClassBenchError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ClassBenchError::Unreadable { path: path.display().to_string(), error })?;
    parse(&text)
}

/// Reads the text of a file; blank lines are none.
///
/// # Errors
/// Where a line isn't a rule.
pub fn parse(text: &str) -> Result<Vec<Rule>, ClassBenchError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(i, text)| {
            rule(text).map_err(|(seen, expected)| ClassBenchError::Line {
                line: i + 1,
                seen: seen.to_owned(),
                expected,
            })
        })
        .collect()
}

type Field<'a, T> = Result<T, (&'a str, &'static str)>;

fn rule(text: &str) -> Field<'_, Rule> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [src, dst, s_low, s_colon, s_high, d_low, d_colon, d_high, protocol, detail] = fields[..]
    else {
        return Err((
            text,
            "ten fields: @src/len dst/len low : high low : high proto/mask flags/mask",
        ));
    };
    for colon in [s_colon, d_colon] {
        if colon != ":" {
            return Err((colon, "a colon between two ports"));
        }
    }
    let src = prefix(src.strip_prefix('@').ok_or((src, "`@` before the source"))?)?;
    let dst = prefix(dst)?;
    let (sport, dport) = (ports(s_low, s_high)?, ports(d_low, d_high)?);
    let proto = match masked(protocol)? {
        (_, 0) => None,
        (number, 0xff) => Some(number as u8),
        _ => return Err((protocol, "a protocol with mask 0xFF or 0x00")),
    };
    let has_ports = sport != ANY_PORT || dport != ANY_PORT;
    if has_ports && !matches!(proto, Some(proto::TCP | proto::UDP)) {
        return Err((protocol, "TCP or UDP (0x06/0xFF, 0x11/0xFF), because it has ports"));
    }
    let detail = match (proto, masked(detail)?) {
        (_, (_, 0)) => None,
        (Some(proto::TCP), (value, mask)) if mask & 0xff == 0 => {
            let (set, of) = ((value >> 8) as u8, (mask >> 8) as u8);
            Some(Detail::Flags { set: set & of, of })
        }
        (Some(proto::ICMP), (value, 0xff00)) => Some(Detail::IcmpType((value >> 8) as u8)),
        _ => return Err((detail, "flags of TCP, or a type of ICMP with mask 0xff00")),
    };
    Ok(Rule { src, dst, sport, dport, proto, detail })
}

fn prefix(text: &str) -> Field<'_, Prefix> {
    let wrong = (text, "an IPv4 address, `/`, and a length up to 32");
    let (address, len) = text.split_once('/').ok_or(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong)?;
    match len.parse() {
        Ok(len) if len <= 32 => Ok(Prefix::new(address.into(), len)),
        _ => Err(wrong),
    }
}

fn ports<'a>(low: &'a str, high: &'a str) -> Field<'a, (u16, u16)> {
    let port = |text: &'a str| text.parse::<u16>().map_err(|_| (text, "a port"));
    let (low, top) = (port(low)?, port(high)?);
    if low > top { Err((high, "no less than the first port")) } else { Ok((low, top)) }
}

/// Value and mask, both hexadecimal.
fn masked(text: &str) -> Field<'_, (u16, u16)> {
    let wrong = (text, "two hexadecimal numbers up to 16 bits: 0x06/0xFF");
    let number = |text: &str| {
        u16::from_str_radix(text.strip_prefix("0x").ok_or(wrong)?, 16).map_err(|_| wrong)
    };
    let (value, mask) = text.split_once('/').ok_or(wrong)?;
    Ok((number(value)?, number(mask)?))
}

#[cfg(test)]
mod tests {
    use super::{load, parse};
    use crate::packet::tcp::{ACK, SYN};
    use crate::ruleset::{ANY_PORT, Detail};

    #[test]
    fn lines_are_rules() {
        let rules = parse(
            "@186.11.101.36/32\t20.69.109.43/32\t0 : 65535\t1521 : 1521\t0x06/0xFF\t0x0200/0x1200\t\n\
             @175.74.54.161/31\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x01/0xFF\t0x0f00/0xff00\n\
             @0.0.0.0/0\t1.2.3.4/24\t0 : 65535\t0 : 65535\t0x00/0x00\t0x0000/0x0000\n",
        )
        .unwrap();
        assert_eq!(rules[0].detail, Some(Detail::Flags { set: SYN, of: SYN | ACK }));
        assert_eq!((rules[0].sport, rules[0].dport), (ANY_PORT, (1521, 1521)));
        assert_eq!(rules[1].src.to_string(), "175.74.54.160/31");
        assert_eq!((rules[1].proto, rules[1].detail), (Some(1), Some(Detail::IcmpType(15))));
        assert_eq!((rules[2].proto, rules[2].dst.to_string().as_str()), (None, "1.2.3.0/24"));
    }

    #[test]
    fn other_lines_say_what_was_expected() {
        let said = |text: &str| parse(text).unwrap_err().to_string();
        let line = "@1.2.3.4/32 1.2.3.4/32 0 : 65535 5 : 4 0x06/0xFF 0x0000/0x0000";
        assert_eq!(said(line), "line 1: `4`, expected no less than the first port");
        assert!(said("\n1.2.3.4/32").starts_with("line 2: `1.2.3.4/32`, expected ten fields"));
        let line = "@1.2.3.4/32 1.2.3.4/32 0 : 65535 4 : 4 0x2f/0xFF 0x0000/0x0000";
        assert!(said(line).contains("TCP or UDP"), "{}", said(line));
    }

    #[test]
    fn every_sample_is_read() {
        let Some(folder) = crate::skip::shared_data("classbench") else {
            return crate::skip::skip(
                "ruleset::classbench::every_sample_is_read",
                "no shared data",
            );
        };
        for (name, rules) in [("acl1_1k", 942), ("fw1_1k", 857), ("ipc1_10k", 9518)] {
            assert_eq!(load(&folder.join(name)).unwrap().len(), rules, "{name}");
        }
    }
}
