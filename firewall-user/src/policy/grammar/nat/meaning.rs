//! What the parts of a translation mean together.

use super::super::super::ast::{
    AddrItem, AddrRange, Blocks, Conditions, Family, Mapping, Match, PortItem, PortTarget, Prefix,
    Translation,
};
use super::super::super::span::{Span, Spanned};
use super::super::super::words::{self, TCP, UDP};
use super::{Extras, Fault, Parsed, Target, What};
use firewall_common::abi::iface::IFACE_SLOTS;
use firewall_common::abi::nat::POOL_ADDRESSES;
use firewall_common::abi::table::Direction;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ports that are used where the policy doesn't say which.
const PORTS: (u16, u16) = (1024, 65_535);
/// Most public addresses of all pools together.
const POOL: u32 = (POOL_ADDRESSES - IFACE_SLOTS) as u32;
/// Longest prefix that IPv6 prefix translation knows (RFC 6296 section 3.5).
const LONGEST: u8 = 64;

/// Conditions and extras to translation. Direction and family are filled in.
pub fn translation(
    what: Spanned<What>,
    when: &mut Conditions,
    extras: &Extras,
) -> Parsed<Translation> {
    let (span, what) = (what.span, what.value);
    if when.on.is_none() {
        let message = "this translation doesn't say at which interface";
        return Err(Fault::new("nat-interface", span, message)
            .expect("`on`")
            .hint(Some(format!("write `{}`", what.example()))));
    }
    if what != What::Prefix {
        for list in [&when.src.addrs, &when.dst.addrs].into_iter().flatten() {
            let v6 = |item: &&Spanned<AddrItem>| {
                matches!(item.value, AddrItem::Range(AddrRange::V6(..)))
            };
            if let Some(item) = list.items.iter().find(v6) {
                return Err(only_v4(what, item.span));
            }
        }
    }
    when.family = Some(if what == What::Prefix { Family::V6 } else { Family::V4 });
    when.direction = match what {
        What::Masquerade | What::Source => Some(Direction::Out),
        What::Destination | What::Redirect => Some(Direction::In),
        What::Static | What::Prefix => None,
    };
    let mapping = Mapping {
        ports: extras.ports.as_ref().map_or(PORTS, |ports| ports.value),
        endpoint_independent: extras.endpoint_independent.is_some(),
    };
    match what {
        What::Masquerade => Ok(Translation::Masquerade(mapping)),
        What::Source => source(wanted(extras, span, what)?, when, mapping, extras),
        What::Destination => destination(wanted(extras, span, what)?, when, extras),
        What::Redirect => redirect(wanted(extras, span, what)?, when),
        What::Static | What::Prefix => pair(span, what, extras),
    }
}

/// The error of an IPv6 address where only IPv4 is translated.
pub fn only_v4(what: What, at: Span) -> Fault {
    Fault::new("nat-family", at, format!("`{}` translates IPv4 only", what.name())).hint(Some(
        "IPv6 is translated by whole prefixes: `nat NAME prefix on wan fd00:1::/48 <=> 2001:db8:1::/48`"
            .into(),
    ))
}

/// What stands behind `=>`, which this kind needs.
fn wanted(extras: &Extras, span: Span, what: What) -> Parsed<&Target> {
    extras.target.as_ref().ok_or_else(|| {
        Fault::new("no-target", span, "this translation doesn't say to what")
            .expect("`=>`")
            .hint(Some(format!("write `{}`", what.example())))
    })
}

/// IPv4 addresses that can stand in a packet that is answered.
fn unicast(what: What, addrs: &Spanned<AddrRange>) -> Parsed<(Ipv4Addr, Ipv4Addr)> {
    let AddrRange::V4(first, last) = addrs.value else {
        return Err(only_v4(what, addrs.span));
    };
    let (first, last) = (Ipv4Addr::from(first), Ipv4Addr::from(last));
    if first.octets()[0] == 0 || last.octets()[0] >= 224 {
        return Err(Fault::new("bad-target", addrs.span, "nobody has this address")
            .expect("an address that packets can be sent to"));
    }
    Ok((first, last))
}

fn source(
    target: &Target,
    when: &Conditions,
    mapping: Mapping,
    extras: &Extras,
) -> Parsed<Translation> {
    let Some(addrs) = &target.addrs else {
        return Err(Fault::new("bad-target", target.span, "`source` needs an address")
            .hint(Some("write the ports as `ports A-B`".into())));
    };
    if let Some(ports) = &target.ports {
        return Err(Fault::new("bad-target", ports.span, "a source has no one port")
            .hint(Some("write the ports to use as `ports A-B`".into())));
    }
    let pool = unicast(What::Source, addrs)?;
    let addresses = u32::from(pool.1) - u32::from(pool.0);
    if addresses >= POOL {
        let message = format!("this pool has {} addresses", u64::from(addresses) + 1);
        return Err(Fault::new("pool-size", addrs.span, message)
            .expect(format!("at most {POOL} in all pools together")));
    }
    let blocks = match &extras.blocks {
        Some(size) => Some(blocks(size, when, mapping, addresses + 1)?),
        None => None,
    };
    Ok(Translation::Source { pool, mapping, blocks })
}

/// Each host's block has to have a place: a block is of one address, so that what is left over at the
/// end of an address's ports is not used.
fn blocks(
    size: &Spanned<u16>,
    when: &Conditions,
    mapping: Mapping,
    addresses: u32,
) -> Parsed<Blocks> {
    let hosts = match &when.src.addrs {
        Some(Match { negated: false, items }) if items.len() == 1 => match &items[0].value {
            AddrItem::Range(AddrRange::V4(first, last)) => v4_prefix(*first, *last),
            _ => None,
        },
        _ => None,
    };
    let Some(inside) = hosts else {
        return Err(Fault::new("nat-blocks", size.span, "whose blocks they are can't be reckoned")
            .expect("`from` with one prefix")
            .hint(Some("each host of the prefix gets a block: `from 100.64.0.0/24`".into())));
    };
    let ports = u32::from(mapping.ports.1 - mapping.ports.0) + 1;
    let (hosts, each) = (1u64 << (32 - inside.len), u64::from(ports / u32::from(size.value)));
    let room = each * u64::from(addresses);
    if hosts > room {
        let message = format!(
            "{hosts} hosts with {} ports each don't fit: there is room for {room}",
            size.value
        );
        let most = u64::from(ports) * u64::from(addresses) / hosts;
        // The largest size that does fit, found downwards from what the bare numbers say.
        let fits = (1..=most.min(u64::from(ports)))
            .rev()
            .find(|n| u64::from(ports) / n * u64::from(addresses) >= hosts);
        let hint = fits.map_or_else(
            || "use more addresses, or fewer hosts".to_owned(),
            |n| format!("use more addresses, or blocks of at most {n}"),
        );
        return Err(Fault::new("nat-blocks", size.span, message).hint(Some(hint)));
    }
    Ok(Blocks { size: size.value, inside })
}

fn destination(target: &Target, when: &mut Conditions, extras: &Extras) -> Parsed<Translation> {
    let Some(addrs) = &target.addrs else {
        return Err(Fault::new("bad-target", target.span, "`destination` needs an address")
            .hint(Some("to the machine itself it is `redirect`".into())));
    };
    let (first, last) = unicast(What::Destination, addrs)?;
    if first != last {
        return Err(Fault::new("bad-target", addrs.span, "these are several addresses")
            .expect("one address")
            .hint(Some("for one to one translation of a prefix there is `static`".into())));
    }
    let ports = port_target(target, when)?;
    if let (Some(hairpin), None) = (extras.hairpin, &when.dst.addrs) {
        return Err(Fault::new("nat-hairpin", hairpin, "`hairpin` needs the public address")
            .expect("`to ADDRESS`")
            .hint(Some(
                "without it whatever the inside sends to any such port would be meant".into(),
            )));
    }
    Ok(Translation::Destination { to: first, ports, hairpin: extras.hairpin.is_some() })
}

fn redirect(target: &Target, when: &mut Conditions) -> Parsed<Translation> {
    if let Some(addrs) = &target.addrs {
        return Err(Fault::new("bad-target", addrs.span, "`redirect` goes to the machine itself")
            .expect("`port`")
            .hint(Some("to another address it is `destination`".into())));
    }
    Ok(Translation::Redirect { ports: port_target(target, when)? })
}

/// The ports behind `=>`, against those that were asked for.
fn port_target(target: &Target, when: &mut Conditions) -> Parsed<Option<PortTarget>> {
    let Some(ports) = &target.ports else { return Ok(None) };
    let (first, last) = ports.value;
    if first == 0 {
        return Err(Fault::new("bad-port", ports.span, "nobody listens on port 0")
            .expect("a port from 1 to 65535"));
    }
    match &when.protos {
        None => when.protos = Some(vec![TCP, UDP]),
        Some(protos) => {
            if let Some(other) = protos.iter().find(|p| ![TCP, UDP].contains(p)) {
                let name = words::protocol_name(*other);
                return Err(Fault::new(
                    "no-ports",
                    ports.span,
                    format!("ports of {name} can't be translated"),
                )
                .hint(Some("those of tcp and udp can".into())));
            }
        }
    }
    if first == last {
        return Ok(Some(PortTarget { ports: ports.value, from: None }));
    }
    let asked = match &when.dst.ports {
        Some(Match { negated: false, items }) if items.len() == 1 => match items[0].value {
            PortItem::Range(a, b) => Some((a, b)),
            PortItem::Set(_) => None,
        },
        _ => None,
    };
    match asked {
        Some((a, b)) if b - a == last - first && a > 0 => {
            Ok(Some(PortTarget { ports: ports.value, from: Some(a) }))
        }
        Some((a, b)) => Err(Fault::new(
            "nat-ports",
            ports.span,
            format!("{} ports can't become {}", u32::from(b - a) + 1, u32::from(last - first) + 1),
        )
        .expect("a range as long as the one behind `to port`, or one port")
        .hint((a == 0).then(|| "the range that is asked for must not begin at 0".into()))),
        None => Err(Fault::new("nat-ports", ports.span, "which port becomes which can't be said")
            .expect("one port")
            .hint(Some("a range becomes a range: `to port 8000-8009 => ... port 80-89`".into()))),
    }
}

/// The two sides of `<=>`.
fn pair(span: Span, what: What, extras: &Extras) -> Parsed<Translation> {
    let Some((inside, outside)) = &extras.pair else {
        return Err(Fault::new(
            "no-target",
            span,
            "this translation doesn't say what becomes what",
        )
        .expect("`INSIDE <=> OUTSIDE`")
        .hint(Some(format!("write `{}`", what.example()))));
    };
    let same_length = |a: u8, b: u8| {
        (a == b).then_some(()).ok_or_else(|| {
            Fault::new("nat-prefix", outside.span, format!("a /{a} can't become a /{b}"))
                .expect("prefixes of the same length")
        })
    };
    let apart = |overlap: bool| {
        (!overlap).then_some(()).ok_or_else(|| {
            Fault::new("nat-prefix", outside.span, "the two overlap")
                .expect("one prefix inside and another outside")
        })
    };
    let crooked = |at: Span| {
        Fault::new("nat-prefix", at, "this range is no prefix")
            .expect("an address or a prefix such as `10.0.0.8/29`")
    };
    if what == What::Static {
        let sides = [inside, outside].map(|side| -> Parsed<_> {
            let (first, last) = unicast(what, side)?;
            v4_prefix(first.into(), last.into()).ok_or_else(|| crooked(side.span))
        });
        let [a, b] = sides;
        let (a, b) = (a?, b?);
        same_length(a.len, b.len)?;
        apart(a.first == b.first)?;
        return Ok(Translation::Static { inside: a, outside: b });
    }
    let sides = [inside, outside].map(|side| -> Parsed<_> {
        let AddrRange::V6(first, last) = side.value else {
            return Err(Fault::new("nat-family", side.span, "`prefix` translates IPv6 only")
                .hint(Some(format!("for IPv4 there is `{}`", What::Static.example()))));
        };
        let prefix = v6_prefix(first, last).ok_or_else(|| crooked(side.span))?;
        if prefix.len > LONGEST || prefix.len == 0 {
            return Err(Fault::new(
                "nat-prefix",
                side.span,
                format!("a /{} can't be translated", prefix.len),
            )
            .expect(format!("a prefix of 1 to {LONGEST} bits"))
            .hint(Some(
                "the rest takes up the difference that checksums would see (RFC 6296)".into(),
            )));
        }
        Ok(prefix)
    });
    let [a, b] = sides;
    let (a, b) = (a?, b?);
    same_length(a.len, b.len)?;
    apart(a.first == b.first)?;
    Ok(Translation::Prefix { inside: a, outside: b })
}

/// A range of addresses as a prefix, if it is one.
fn v4_prefix(first: u32, last: u32) -> Option<Prefix<Ipv4Addr>> {
    let len = (first ^ last).leading_zeros() as u8;
    let first = Ipv4Addr::from(first);
    let whole = AddrRange::prefix(IpAddr::V4(first), len) == AddrRange::V4(first.into(), last);
    whole.then_some(Prefix { first, len })
}

/// See [`v4_prefix`].
fn v6_prefix(first: u128, last: u128) -> Option<Prefix<Ipv6Addr>> {
    let len = (first ^ last).leading_zeros() as u8;
    let first = Ipv6Addr::from(first);
    let whole = AddrRange::prefix(IpAddr::V6(first), len) == AddrRange::V6(first.into(), last);
    whole.then_some(Prefix { first, len })
}
