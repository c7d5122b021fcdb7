//! What stands around the arrow.

use super::super::super::ast::AddrRange;
use super::super::super::lex::Kind;
use super::super::super::span::Spanned;
use super::super::{at_word, bump, kind, peek, value, word};
use super::{Extras, Fault, Input, Parsed, Target, What, at_next_part, last_span};
use winnow::prelude::*;

/// `=> ADDRESSES`, `=> ADDRESS port PORTS`, `=> port PORTS`.
pub fn target(input: &mut Input<'_, '_>, what: What, extras: &mut Extras) -> Parsed<()> {
    let arrow = bump(input);
    if what.both_ways() {
        let message = format!("`{}` translates both ways", what.name());
        return Err(Fault::new("bad-target", arrow.span, message)
            .expect("`<=>`")
            .hint(Some(format!("write `{}`", what.example()))));
    }
    if what == What::Masquerade {
        return Err(Fault::new(
            "bad-target",
            arrow.span,
            "`masquerade` takes the interface's address",
        )
        .hint(Some("to use another: `nat NAME source on wan from ... => ADDRESS`".into())));
    }
    if extras.target.is_some() {
        return Err(Fault::new("said-twice", arrow.span, "`=>` is said twice"));
    }
    let addrs = if at_word(input, "port") { None } else { Some(address(input)?) };
    let ports = if at_word(input, "port") {
        bump(input);
        let token = word("a port or a range").parse_next(input)?;
        Some(Spanned::new(value::port_range(token, "a port or a range")?, token.span))
    } else {
        None
    };
    if !at_next_part(input) {
        let fault = Fault::unexpected(input).expect("the end of the line");
        return Err(if addrs.is_some() && ports.is_none() {
            fault.expect("`port`")
        } else {
            fault
        });
    }
    let span = arrow.span.to(last_span(input, arrow.span));
    extras.target = Some(Target { addrs, ports, span });
    Ok(())
}

/// `INSIDE <=> OUTSIDE`.
pub fn pair(input: &mut Input<'_, '_>, what: What, extras: &mut Extras) -> Parsed<()> {
    let inside = address(input)?;
    if peek(input).kind == Kind::Arrow {
        // The better report is that of the arrow.
        return target(input, what, extras);
    }
    kind(Kind::BothWays, "`<=>`").parse_next(input)?;
    let outside = address(input)?;
    let span = inside.span;
    if extras.pair.replace((inside, outside)).is_some() {
        return Err(Fault::new("said-twice", span, "there are two pairs of prefixes")
            .hint(Some("write one `nat` for each".into())));
    }
    Ok(())
}

/// Addresses that are written out.
fn address(input: &mut Input<'_, '_>) -> Parsed<Spanned<AddrRange>> {
    let token = peek(input);
    if token.kind == Kind::SetRef || token.kind == Kind::Open {
        return Err(Fault::new("bad-target", token.span, "a list can't stand here")
            .expect("an address, a prefix or a range"));
    }
    let token = word("an address").parse_next(input)?;
    // `10.0.0.5:80` is what others write.
    if let Some((addr, port)) = token.text.rsplit_once(':')
        && addr.parse::<std::net::Ipv4Addr>().is_ok()
    {
        let message = format!("`{}` is not an address", token.text);
        return Err(Fault::new("bad-address", token.span, message)
            .hint(Some(format!("write `{addr} port {port}`"))));
    }
    Ok(Spanned::new(value::addr_range(token)?, token.span))
}
