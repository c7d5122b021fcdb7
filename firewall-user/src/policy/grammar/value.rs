//! Single values: addresses, ports, durations, rates, names.

use super::super::ast::{AddrRange, Element};
use super::super::lex::{Kind, Token};
use super::super::span::Spanned;
use super::super::words;
use super::{Fault, Input, Parsed, bump, peek, word};
use firewall_common::abi::names::NAME_LEN;
use std::net::IpAddr;
use winnow::prelude::*;

/// Longest name of an interface (the kernel's IFNAMSIZ without its NUL).
const IFACE_NAME_LEN: usize = 15;

/// The name of a rule or set: letters, digits, `_`, `.`, `-`, up to 56 bytes.
pub fn name<'s>(input: &mut Input<'_, 's>, what: &'static str) -> Parsed<Spanned<String>> {
    let token = word(what).parse_next(input)?;
    let text = token.text;
    if let Some(wrong) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "_.-".contains(*c))) {
        return Err(Fault::new("bad-name", token.span, format!("`{wrong}` can't stand in a name"))
            .expect("a name of letters, digits, `_`, `.` and `-`"));
    }
    if text.len() > NAME_LEN {
        return Err(Fault::new(
            "bad-name",
            token.span,
            format!("this name has {} characters", text.len()),
        )
        .expect(format!("at most {NAME_LEN}")));
    }
    Ok(Spanned::new(text.to_owned(), token.span))
}

/// The name of an interface or interface group.
pub fn interface<'s>(input: &mut Input<'_, 's>) -> Parsed<Spanned<String>> {
    let token = peek(input);
    if token.kind == Kind::SetRef {
        return Err(Fault::new("wrong-kind", token.span, format!("`{}` is a set", token.text))
            .expect("an interface")
            .hint(Some("an interface group is used by its bare name, without `@`".into())));
    }
    let token = word("an interface").parse_next(input)?;
    let bad = token.text.len() > IFACE_NAME_LEN || token.text.contains(['/', ':', '*', '%']);
    if bad && token.text.len() > IFACE_NAME_LEN {
        return Err(Fault::new(
            "bad-interface",
            token.span,
            format!("no interface can be called this: it has {} characters", token.text.len()),
        )
        .expect(format!("at most {IFACE_NAME_LEN}")));
    }
    if bad {
        let hint = token
            .text
            .contains('*')
            .then(|| "list the interfaces; there are no wildcards".to_owned());
        return Err(Fault::new(
            "bad-interface",
            token.span,
            format!("`{}` can't be an interface", token.text),
        )
        .expect("a name such as `eth0`")
        .hint(hint));
    }
    Ok(Spanned::new(token.text.to_owned(), token.span))
}

/// `@NAME`, or nothing if something else comes.
fn set_ref<'s>(input: &mut Input<'_, 's>) -> Option<Spanned<String>> {
    let token = peek(input);
    (token.kind == Kind::SetRef).then(|| {
        bump(input);
        Spanned::new(token.text[1..].to_owned(), token.span)
    })
}

/// An element of a set: either kind, told apart by its looks.
pub fn element<'s>(input: &mut Input<'_, 's>) -> Parsed<Spanned<Element>> {
    if let Some(name) = set_ref(input) {
        return Ok(Spanned::new(Element::Set(name.value), name.span));
    }
    let token = word("an address, a port or `@set`").parse_next(input)?;
    if token.text.contains(['.', ':']) || token.text.contains('/') {
        return Ok(Spanned::new(Element::Addr(addr_range(token)?), token.span));
    }
    let (first, last) = port_range(token, "an address, a port or `@set`")?;
    Ok(Spanned::new(Element::Ports(first, last), token.span))
}

/// An address of a rule.
pub fn addr<'s>(input: &mut Input<'_, 's>) -> Parsed<Spanned<Element>> {
    if let Some(name) = set_ref(input) {
        return Ok(Spanned::new(Element::Set(name.value), name.span));
    }
    let token = peek(input);
    if token.kind == Kind::Word && (words::CLAUSES.contains(&token.text) || token.text == "port") {
        return Err(Fault::unexpected(input).expect("an address, a prefix, a range or `@set`"));
    }
    let token = word("an address, a prefix, a range or `@set`").parse_next(input)?;
    Ok(Spanned::new(Element::Addr(addr_range(token)?), token.span))
}

/// A port of a rule.
pub fn port<'s>(input: &mut Input<'_, 's>) -> Parsed<Spanned<Element>> {
    if let Some(name) = set_ref(input) {
        return Ok(Spanned::new(Element::Set(name.value), name.span));
    }
    let token = word("a port, a range or `@set`").parse_next(input)?;
    let (first, last) = port_range(token, "a port, a range or `@set`")?;
    Ok(Spanned::new(Element::Ports(first, last), token.span))
}

/// `A`, `A/LEN` or `A-B`.
pub fn addr_range(token: Token<'_>) -> Parsed<AddrRange> {
    let text = token.text;
    if let Some((first, last)) = text.split_once('-')
        && (first.parse::<IpAddr>().is_ok() || last.parse::<IpAddr>().is_ok())
    {
        return match (one_addr(first, token)?, one_addr(last, token)?) {
            (IpAddr::V4(a), IpAddr::V4(b)) if a <= b => Ok(AddrRange::V4(a.into(), b.into())),
            (IpAddr::V6(a), IpAddr::V6(b)) if a <= b => Ok(AddrRange::V6(a.into(), b.into())),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Err(Fault::new(
                "bad-range",
                token.span,
                format!("`{text}` begins in one family and ends in the other"),
            )
            .expect("two IPv4 or two IPv6 addresses")),
            _ => {
                Err(Fault::new("bad-range", token.span, format!("`{text}` ends before it begins"))
                    .hint(Some(format!("write `{last}-{first}`"))))
            }
        };
    }
    let Some((addr, len)) = text.split_once('/') else {
        let addr = one_addr(text, token)?;
        return Ok(AddrRange::prefix(addr, 128));
    };
    let addr = one_addr(addr, token)?;
    let (family, width) = if addr.is_ipv4() { ("IPv4", 32) } else { ("IPv6", 128) };
    if let Ok(mask) = len.parse::<std::net::Ipv4Addr>() {
        let bits = u32::from(mask).leading_ones();
        return Err(Fault::new("bad-prefix", token.span, format!("`{len}` is a netmask"))
            .expect("a prefix length")
            .hint(Some(format!("write `{addr}/{bits}`"))));
    }
    let Ok(len) = len.parse::<u32>() else {
        return Err(Fault::new(
            "bad-prefix",
            token.span,
            format!("`{len}` is not a prefix length"),
        )
        .expect(format!("a number from 0 to {width}")));
    };
    if len > width {
        return Err(Fault::new(
            "bad-prefix",
            token.span,
            format!("`/{len}` is too long for {family}"),
        )
        .expect(format!("a prefix length from 0 to {width}")));
    }
    let range = AddrRange::prefix(addr, len as u8);
    let network = range.ends().0;
    if network != addr {
        return Err(Fault::new(
            "bad-prefix",
            token.span,
            format!("`{text}` has bits set behind its prefix"),
        )
        .hint(Some(format!(
            "write `{network}/{len}` for the network, or `{addr}` for the one host"
        ))));
    }
    Ok(range)
}

fn one_addr(text: &str, token: Token<'_>) -> Parsed<IpAddr> {
    text.parse().map_err(|_| {
        let fault = Fault::new("bad-address", token.span, format!("`{text}` is not an address"))
            .expect("an IPv4 or IPv6 address, a prefix, a range or `@set`");
        let octets: Vec<&str> = text.split('.').collect();
        let numeric = octets.iter().all(|o| !o.is_empty() && o.bytes().all(|b| b.is_ascii_digit()));
        let hint = if text == "any" || text == "all" {
            Some("leave the list out to match any address".into())
        } else if numeric && octets.len() == 4 {
            octets
                .iter()
                .find(|o| o.parse::<u8>().is_err() || o.len() > 1 && o.starts_with('0'))
                .map(|o| {
                    if o.starts_with('0') {
                        format!("`{o}` has a leading zero")
                    } else {
                        format!("`{o}` is more than 255")
                    }
                })
        } else if numeric && octets.len() > 1 {
            Some(format!("an IPv4 address has four numbers, this has {}", octets.len()))
        } else if text.contains('%') {
            Some("zones are not part of an address: say `on INTERFACE`".into())
        } else if text.contains(':')
            && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.')
        {
            Some("an IPv6 address has eight groups, or fewer around one `::`".into())
        } else if text.contains(':') {
            None
        } else if text.contains('.') {
            Some("names are not looked up: write the address".into())
        } else if super::super::suggest::nearest(text, ["port", "not"]).is_some_and(|w| w != text) {
            words::hint(text, &["port", "not"])
        } else {
            set_hint(text)
        };
        fault.hint(hint)
    })
}

/// For a word that may be the name of a set.
fn set_hint(text: &str) -> Option<String> {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        .then(|| format!("a set is used with `@`: `@{text}`"))
}

/// `N` or `A-B`.
pub fn port_range(token: Token<'_>, what: &str) -> Parsed<(u16, u16)> {
    let text = token.text;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |part: &str| -> Parsed<u16> {
        part.parse::<u16>().map_err(|_| {
            if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
                return Fault::new("bad-port", token.span, format!("port {part} is too large"))
                    .expect("a port from 0 to 65535");
            }
            let hint = if let Some((a, b)) = text.split_once(':').filter(|_| !text.contains("::")) {
                Some(format!("a range is written `{a}-{b}`"))
            } else if part.is_empty() {
                Some("a range has two ends, with no space between: `1024-65535`".into())
            } else if let Some(port) = words::service(text) {
                Some(format!("ports are numbers: `{port}`"))
            } else {
                set_hint(text)
            };
            Fault::new("bad-port", token.span, format!("`{text}` is not a port"))
                .expect(what)
                .hint(hint)
        })
    };
    let (a, b) = (number(first)?, number(last)?);
    if a > b {
        return Err(Fault::new("bad-range", token.span, format!("`{text}` ends before it begins"))
            .hint(Some(format!("write `{last}-{first}`"))));
    }
    Ok((a, b))
}

/// `30s`, `2h4m`, `500ms`, in milliseconds: from 100 ms to 30 days.
pub fn duration<'s>(input: &mut Input<'_, 's>) -> Parsed<u32> {
    let token = word("a duration such as `30s` or `2h4m`").parse_next(input)?;
    let Some(ms) = super::super::units::duration_ms(token.text) else {
        let bare = token.text.bytes().all(|b| b.is_ascii_digit());
        let hint =
            bare.then(|| format!("say the unit: `{}s`; the units are ms, s, m, h, d", token.text));
        return Err(Fault::new(
            "bad-duration",
            token.span,
            format!("`{}` is not a duration", token.text),
        )
        .expect("a duration such as `30s` or `2h4m`")
        .hint(hint));
    };
    if !(100..=30 * 86_400_000).contains(&ms) {
        return Err(Fault::new(
            "bad-duration",
            token.span,
            format!("`{}` is out of range", token.text),
        )
        .expect("a duration from 100ms to 30d"));
    }
    Ok(ms as u32)
}

/// `1000/s`.
pub fn rate<'s>(input: &mut Input<'_, 's>) -> Parsed<u32> {
    let token = word("a rate such as `1000/s`").parse_next(input)?;
    let wrong = || {
        Fault::new("bad-rate", token.span, format!("`{}` is not a rate", token.text))
            .expect("a rate such as `1000/s`")
    };
    let Some(number) = token.text.strip_suffix("/s") else {
        let bare = token.text.bytes().all(|b| b.is_ascii_digit());
        let per_minute = token.text.split_once('/').map(|_| "rates are given a second".to_owned());
        return Err(wrong().hint(if bare {
            Some(format!("write `{}/s`", token.text))
        } else {
            per_minute
        }));
    };
    match super::super::units::count(number) {
        Some(n) if n <= u64::from(u32::MAX) => Ok(n as u32),
        Some(_) => Err(wrong().hint(Some(format!("at most {}/s", u32::MAX)))),
        None => Err(wrong()),
    }
}

/// How many flows: `200`, `10k`; not 0.
pub fn flows<'s>(input: &mut Input<'_, 's>) -> Parsed<u32> {
    let token = word("`off` or a number such as `1000`").parse_next(input)?;
    let number = super::super::units::count(token.text).and_then(|n| u32::try_from(n).ok());
    number.filter(|n| *n > 0).ok_or_else(|| {
        Fault::new("bad-number", token.span, format!("`{}` is not a number of flows", token.text))
            .expect("`off` or a number such as `1000`")
            .hint((token.text == "0").then(|| "say `off` for no limit".to_owned()))
    })
}

/// A number that fits a byte, or a name from `table`.
pub fn byte<'s>(
    input: &mut Input<'_, 's>,
    table: &'static [(&'static str, u8)],
    what: &'static str,
) -> Parsed<Spanned<u8>> {
    let token = word(what).parse_next(input)?;
    if let Some(value) = words::number(table, token.text) {
        return Ok(Spanned::new(value, token.span));
    }
    if !token.text.is_empty() && token.text.bytes().all(|b| b.is_ascii_digit()) {
        return match token.text.parse() {
            Ok(value) => Ok(Spanned::new(value, token.span)),
            Err(_) => {
                Err(Fault::new("bad-number", token.span, format!("{} is too large", token.text))
                    .expect("a number from 0 to 255"))
            }
        };
    }
    let names: Vec<&str> = table.iter().map(|(n, _)| *n).collect();
    let hint = words::hint(token.text, &names)
        .or_else(|| (!names.is_empty()).then(|| format!("the names are: {}", names.join(", "))));
    Err(Fault::new("unknown-name", token.span, format!("`{}` is not {what}", token.text))
        .expect(if table.is_empty() {
            "a number from 0 to 255"
        } else {
            "a name or a number from 0 to 255"
        })
        .hint(hint))
}
