//! `sluice nat`.

use super::{
    format,
    list::today,
    out::{CliError, Head, Out, Tone},
};
use crate::{
    server::client::{Client, escape},
    store::when,
    view::{NatBindingView, NatBlockView, NatWhoView},
};
use serde_json::Value;
use std::{net::IpAddr, process::ExitCode, str::FromStr};

/// An address, with or without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicEndpoint {
    address: IpAddr,
    port: Option<u16>,
}

/// What can be written.
const EXPECTED: &str = "`203.0.113.5`, `203.0.113.5:40021`, `2001:db8::1` or `[2001:db8::1]:40021`";

impl FromStr for PublicEndpoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |at: usize, what: &str| {
            let column = 1 + text.get(..at).unwrap_or("").chars().count();
            format!("column {column}: {what}; expected {EXPECTED}")
        };
        let port = |at: usize, digits: &str| {
            let port = digits.parse::<u16>().ok().filter(|_| !digits.starts_with('+'));
            port.ok_or_else(|| wrong(at, &format!("`{digits}` is no port from 0 to 65535")))
        };
        if let Some(inner) = text.strip_prefix('[') {
            let (address, rest) =
                inner.split_once(']').ok_or_else(|| wrong(text.len(), "`]` is missing"))?;
            let address = address
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| wrong(1, &format!("`{address}` is no IPv6 address")))?;
            let at = text.len() - rest.len();
            let port = match rest.strip_prefix(':') {
                Some(digits) => Some(port(at + 1, digits)?),
                None if rest.is_empty() => None,
                None => return Err(wrong(at, &format!("`{rest}` behind the bracket"))),
            };
            return Ok(Self { address: address.into(), port });
        }
        if let Ok(address) = text.parse() {
            return Ok(Self { address, port: None });
        }
        // Two colons or more: IPv6, and what is wrong with it isn't the port.
        let (address, digits) = match text.split_once(':') {
            Some((address, digits)) if !digits.contains(':') => (address, Some(digits)),
            _ => (text, None),
        };
        let parsed =
            address.parse().map_err(|_| wrong(0, &format!("`{address}` is no address")))?;
        let at = address.len() + 1;
        Ok(Self { address: parsed, port: digits.map(|digits| port(at, digits)).transpose()? })
    }
}

pub async fn who(
    out: &Out,
    client: &Client,
    endpoint: &PublicEndpoint,
    at: Option<i64>,
    proto: Option<&str>,
    limit: usize,
) -> Result<ExitCode, CliError> {
    let mut path = format!("/api/v1/nat/who?address={}&limit={limit}", endpoint.address);
    for (name, value) in [
        ("port", endpoint.port.map(|port| port.to_string())),
        ("at", at.map(when::show)),
        ("proto", proto.map(str::to_owned)),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escape(&value)));
        }
    }
    if out.json {
        // As it came: a newer daemon may say more than this binary knows.
        let answer: Value = client.get(&path).await?;
        out.object(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer: NatWhoView = client.get(&path).await?;
    bindings(out, &answer.bindings)?;
    if answer.more {
        out.line(out.paint("there are more; --limit shows them", Tone::Dim))?;
    }
    if !answer.blocks.is_empty() {
        if !answer.bindings.is_empty() {
            out.line("")?;
        }
        blocks(out, &answer.blocks)?;
    }
    if answer.bindings.is_empty() && answer.blocks.is_empty() {
        let endpoint = format::endpoint(&answer.address, answer.port.unwrap_or_default());
        out.line(format!("the history knows nobody behind {endpoint} at {}", answer.at))?;
    }
    // Both are of one form, which sorts as time does.
    if answer.at < answer.since {
        let note = format!("the history is whole from {} on only", answer.since);
        out.line(out.paint(&note, Tone::Odd))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn bindings(out: &Out, rows: &[NatBindingView]) -> Result<(), CliError> {
    if rows.is_empty() {
        return Ok(());
    }
    const HEADS: [Head; 12] = [
        Head::text("HOST"),
        Head::text("PROTO"),
        Head::text("FROM"),
        Head::text("TO"),
        Head::text("AS"),
        Head::text("KIND"),
        Head::text("RULE"),
        Head::text("BEGAN"),
        Head::text("ENDED"),
        Head::number("PACKETS"),
        Head::number("BYTES"),
        Head::number("BACK"),
    ];
    let today = today();
    out.rows(rows, &HEADS, |row| {
        let ended = match (&row.end, &row.ended) {
            (Some(end), Some(why)) => format!("{} ({why})", format::time(end, &today)),
            _ => "lives".to_owned(),
        };
        let kind = if row.origin == "sluice" {
            row.kind.clone()
        } else {
            format!("{} ({})", row.kind, row.origin)
        };
        vec![
            (row.host.clone(), Tone::Good),
            (row.proto.clone(), Tone::Plain),
            (format::endpoint(&row.src, row.sport), Tone::Plain),
            (format::endpoint(&row.dst, row.dport), Tone::Plain),
            (translated(row), Tone::Plain),
            (kind, Tone::Plain),
            (row.rule.clone(), Tone::Plain),
            (format::time(&row.start, &today), Tone::Plain),
            (ended, Tone::Plain),
            (format::count(row.packets + row.reply_packets), Tone::Plain),
            (format::bytes(row.bytes), Tone::Plain),
            (format::bytes(row.reply_bytes), Tone::Plain),
        ]
    })
}

/// What became of the ends that are translated.
fn translated(row: &NatBindingView) -> String {
    let mut ends = Vec::new();
    if (&row.src, row.sport) != (&row.to_src, row.to_sport) {
        ends.push(format!("from {}", format::endpoint(&row.to_src, row.to_sport)));
    }
    if (&row.dst, row.dport) != (&row.to_dst, row.to_dport) {
        ends.push(format!("to {}", format::endpoint(&row.to_dst, row.to_dport)));
    }
    ends.join(" ")
}

fn blocks(out: &Out, rows: &[NatBlockView]) -> Result<(), CliError> {
    const HEADS: [Head; 6] = [
        Head::text("HOST"),
        Head::text("PORTS OF ITS BLOCK"),
        Head::text("OF"),
        Head::text("RULE"),
        Head::text("SINCE"),
        Head::text("UNTIL"),
    ];
    let today = today();
    out.rows(rows, &HEADS, |row| {
        let until = row.end.as_ref().map(|end| format::time(end, &today));
        vec![
            (row.host.clone(), Tone::Good),
            (format!("{} {}-{}", row.address, row.port_first, row.port_last), Tone::Plain),
            (row.prefix.clone(), Tone::Plain),
            (row.rule.clone(), Tone::Plain),
            (format::time(&row.start, &today), Tone::Plain),
            (until.unwrap_or_else(|| "now".to_owned()), Tone::Plain),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let parse = |text: &str| {
            let end = text.parse::<PublicEndpoint>()?;
            Ok::<_, String>((end.address.to_string(), end.port))
        };
        let is = |address: &str, port| Ok((address.to_owned(), port));
        assert_eq!(parse("203.0.113.5:40021"), is("203.0.113.5", Some(40021)));
        assert_eq!(parse("203.0.113.5"), is("203.0.113.5", None));
        assert_eq!(parse("[2001:db8::1]:1"), is("2001:db8::1", Some(1)));
        assert_eq!(parse("[2001:db8::1]"), is("2001:db8::1", None));
        assert_eq!(parse("2001:db8::1"), is("2001:db8::1", None));
        for (text, seen) in [
            ("203.0.113.5:99999", "column 13: `99999` is no port"),
            ("203.0.113.5:", "column 13: `` is no port"),
            ("203.0.113:80", "column 1: `203.0.113` is no address"),
            ("gate.example:80", "column 1: `gate.example` is no address"),
            ("[2001:db8::1:80", "column 16: `]` is missing"),
            ("[2001:db8::1]80", "column 14: `80` behind"),
            ("[2001:db8::1]:x", "column 15: `x` is no port"),
            ("[203.0.113.5]:80", "column 2: `203.0.113.5` is no IPv6"),
            ("2001:db8::1::2", "column 1: `2001:db8::1::2` is no address"),
            ("", "column 1: `` is no address"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(seen) && error.contains("expected"), "{text}: {error}");
        }
    }

    #[test]
    fn only_what_is_translated_is_shown() {
        let row = NatBindingView {
            src: "10.0.0.1".into(),
            sport: 5,
            to_src: "203.0.113.5".into(),
            to_sport: 6,
            dst: "198.51.100.1".into(),
            to_dst: "198.51.100.1".into(),
            ..NatBindingView::default()
        };
        assert_eq!(translated(&row), "from 203.0.113.5:6");
        let both = NatBindingView { to_dst: "10.0.0.2".into(), to_dport: 8, ..row };
        assert_eq!(translated(&both), "from 203.0.113.5:6 to 10.0.0.2:8");
    }
}
