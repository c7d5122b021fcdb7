//! `in on wan tcp 203.0.113.9:4242 > 10.0.0.5:22 syn`: the parser.

use super::hex;
use crate::policy::{
    Diagnostic, Severity,
    span::{Span, Spanned},
    words,
};
use firewall_common::abi::table::{Direction, State};
use std::net::IpAddr;

/// A packet as it was described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Which way.
    pub direction: Direction,
    /// The interface, or a group of the policy's that stands for one.
    pub iface: Spanned<String>,
    /// What conversation it is to be a part of: `New` or `Established`; `None`: whatever the live flow table
    /// knows.
    pub state: Option<State>,
    /// With `state established`: it goes from the responder to the originator.
    pub reply: bool,
    /// Its bytes.
    pub content: Content,
}

/// What a packet is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The frame comes from elsewhere.
    Elsewhere,
    /// A frame as it was dumped.
    Dump(Vec<u8>),
    /// To be built.
    Made(Box<Made>),
}

/// A packet to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// VLAN ids, the outer one first; at most two.
    pub vlans: Vec<u16>,
    /// ARP: who has `dst`, tells `src`. Nothing else counts then.
    pub arp: bool,
    /// IP protocol.
    pub proto: u8,
    /// Source.
    pub src: IpAddr,
    /// Destination, of the same family.
    pub dst: IpAddr,
    /// Ports; 0 where there are none.
    pub ports: (u16, u16),
    /// ICMP type and code.
    pub icmp: (u8, u8),
    /// ICMP identifier.
    pub id: u16,
    /// TCP flags byte.
    pub flags: u8,
    /// TCP sequence and acknowledgement numbers.
    pub numbers: (u32, u32),
    /// TCP window.
    pub window: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bytes behind the transport header, zeroes.
    pub length: u16,
    /// Its place in a fragmented datagram.
    pub fragment: Option<Piece>,
}

/// A fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins, bytes: a multiple of eight.
    pub offset: u16,
    /// Whether more come behind it.
    pub more: bool,
}

/// Words that may follow the addresses.
const OPTIONS: [&str; 19] = [
    "syn",
    "ack",
    "fin",
    "rst",
    "psh",
    "urg",
    "ece",
    "cwr",
    "flags",
    "seq",
    "acknowledges",
    "window",
    "type",
    "code",
    "id",
    "ttl",
    "length",
    "fragment",
    "state",
];
const PROTOCOL: &str =
    "a protocol (tcp, udp, icmp, icmpv6, sctp, udplite, proto N), `arp` or `hex`";

type Parsed<T> = Result<T, Box<Diagnostic>>;

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<(&'t str, Span)>,
    at: usize,
}

/// Reads a description.
///
/// # Errors
/// What is wrong with it: the column, what was seen there, what was expected.
pub fn parse(text: &str) -> Result<Description, Box<Diagnostic>> {
    let mut parser = Parser { text, tokens: lex(text), at: 0 };
    parser.description()
}

/// Words, and `>` by itself.
fn lex(text: &str) -> Vec<(&str, Span)> {
    let mut tokens = Vec::new();
    let mut begin = None;
    for (i, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let ends = c.is_whitespace() || c == '>';
        if ends && let Some(from) = begin.take() {
            tokens.push((&text[from..i], Span::new(from, i)));
        }
        if c == '>' {
            tokens.push((&text[i..=i], Span::new(i, i + 1)));
        } else if !ends && begin.is_none() {
            begin = Some(i);
        }
    }
    tokens
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&'t str> {
        self.tokens.get(self.at).map(|(text, _)| *text)
    }

    fn span(&self) -> Span {
        let end = Span::new(self.text.len(), self.text.len());
        self.tokens.get(self.at).map_or(end, |(_, span)| *span)
    }

    fn next(&mut self, expected: &str) -> Parsed<(&'t str, Span)> {
        let found = self.tokens.get(self.at).copied();
        let found = found.ok_or_else(|| self.expected(expected))?;
        self.at += 1;
        Ok(found)
    }

    fn fault(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, "packet", "packet", self.text, span, message)
    }

    /// Something else was expected here.
    fn expected(&self, what: &str) -> Box<Diagnostic> {
        let message = match self.peek() {
            Some(seen) => format!("`{seen}` can't stand here"),
            None => "the packet ends too early".to_owned(),
        };
        Box::new(self.fault(self.span(), message).expected(what.to_owned()))
    }

    /// One of some words was expected here; the hint says which was meant.
    fn expected_word(&self, what: &str, all: &[&str]) -> Box<Diagnostic> {
        let hint = self.peek().and_then(|seen| words::hint(seen, all));
        Box::new((*self.expected(what)).hint(hint))
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.peek() == Some(word);
        self.at += usize::from(there);
        there
    }

    fn description(&mut self) -> Parsed<Description> {
        let direction = match self.peek() {
            Some("in") => Direction::In,
            Some("out") => Direction::Out,
            _ => return Err(self.expected_word("`in` or `out`", &["in", "out"])),
        };
        self.at += 1;
        if !self.take("on") {
            return Err(self.expected("`on` and the interface's name"));
        }
        let (name, span) = self.next("the interface's name")?;
        let iface = Spanned::new(name.to_owned(), span);
        let mut about = Description {
            direction,
            iface,
            state: None,
            reply: false,
            content: Content::Elsewhere,
        };
        let mut vlans = Vec::new();
        while self.take("vlan") {
            if vlans.len() == 2 {
                let fault = self.fault(self.span(), "a third VLAN tag");
                return Err(Box::new(
                    fault
                        .expected("at most two".to_owned())
                        .hint("a frame with more is dumped: `in on NAME hex ...`".to_owned()),
                ));
            }
            vlans.push(self.number::<u16>("a VLAN id, 0 to 4095", 4095)?);
        }
        if matches!(self.peek(), None | Some("state")) && vlans.is_empty() {
            while self.peek().is_some() {
                self.conversation(&mut about)?;
            }
            return Ok(about);
        }
        if self.take("hex") {
            let begin = self.span().start;
            // What conversation it is a part of stands behind the dump.
            let ends = self.tokens[self.at..].iter().find(|(word, _)| *word == "state");
            let end = ends.map_or(self.text.len(), |(_, span)| span.start);
            about.content = Content::Dump(self.dump(begin, end)?);
            while self.tokens.get(self.at).is_some_and(|(_, span)| span.start < end) {
                self.at += 1;
            }
            while self.peek().is_some() {
                self.conversation(&mut about)?;
            }
            return Ok(about);
        }
        about.content = Content::Made(Box::new(self.made(vlans, &mut about)?));
        Ok(about)
    }

    fn dump(&self, begin: usize, end: usize) -> Parsed<Vec<u8>> {
        let moved = |span: Span| Span::new(span.start + begin, span.end + begin);
        let bytes = hex::bytes(&self.text[begin..end]).map_err(|(message, span)| {
            let expected = "pairs of hexadecimal digits".to_owned();
            Box::new(self.fault(moved(span), message).expected(expected))
        })?;
        if bytes.len() < 14 {
            let message = format!("{} bytes are no frame", bytes.len());
            let fault = self.fault(Span::new(begin, end), message);
            return Err(Box::new(
                fault.expected("at least an Ethernet header, 14 bytes".to_owned()),
            ));
        }
        Ok(bytes)
    }

    fn made(&mut self, vlans: Vec<u16>, about: &mut Description) -> Parsed<Made> {
        let arp = self.take("arp");
        let proto = if arp { 0 } else { self.protocol()? };
        let has_ports = words::WITH_PORTS.contains(&proto);
        let (src, sport) = self.end("the source", has_ports)?;
        if !self.take(">") {
            return Err(self.expected("`>` and the destination"));
        }
        let begin = self.span();
        let (dst, dport) = self.end("the destination", has_ports)?;
        let family = |addr: IpAddr| if addr.is_ipv4() { "IPv4" } else { "IPv6" };
        let mixed = |span, message: String, expected: &str| {
            Err(Box::new(self.fault(span, message).expected(expected.to_owned())))
        };
        if src.is_ipv4() != dst.is_ipv4() {
            let message =
                format!("an {} packet can't go to an {} address", family(src), family(dst));
            return mixed(begin, message, &format!("an {} address", family(src)));
        }
        if (arp || proto == words::ICMP) && !src.is_ipv4() {
            let name = if arp { "arp" } else { "icmp" };
            return mixed(begin, format!("{name} is of IPv4"), "IPv4 addresses, or `icmpv6`");
        }
        if proto == words::ICMPV6 && src.is_ipv4() {
            return mixed(begin, "icmpv6 is of IPv6".to_owned(), "IPv6 addresses, or `icmp`");
        }
        let mut made = Made {
            vlans,
            arp,
            proto,
            src,
            dst,
            ports: (sport, dport),
            icmp: if proto == words::ICMPV6 { (128, 0) } else { (8, 0) },
            id: 1,
            flags: 0,
            numbers: (1_000_000, 0),
            window: 65_535,
            ttl: 64,
            length: 0,
            fragment: None,
        };
        let mut flags = None;
        while let Some(word) = self.peek() {
            self.option(word, &mut made, &mut flags, about)?;
        }
        if proto == words::TCP {
            let usual = if about.state == Some(State::Established) { "ack" } else { "syn" };
            let usual = words::number(words::TCP_FLAGS, usual).unwrap_or_default();
            made.flags = flags.unwrap_or(usual);
            if made.flags & 0x10 != 0 && made.numbers.1 == 0 {
                made.numbers.1 = 2_000_000;
            }
        }
        Ok(made)
    }

    fn protocol(&mut self) -> Parsed<u8> {
        let word = self.peek().ok_or_else(|| self.expected(PROTOCOL))?;
        if word == "proto" {
            self.at += 1;
            let what = "a protocol's name or number";
            let word = self.peek().ok_or_else(|| self.expected(what))?;
            let number = words::number(words::PROTOCOLS, word).or_else(|| word.parse().ok());
            let number = number.ok_or_else(|| self.expected(what))?;
            self.at += 1;
            return Ok(number);
        }
        let usual = ["tcp", "udp", "icmp", "icmpv6", "sctp", "udplite"];
        let Some(number) = words::number(words::PROTOCOLS, word).filter(|_| usual.contains(&word))
        else {
            let all =
                ["tcp", "udp", "icmp", "icmpv6", "sctp", "udplite", "proto", "arp", "hex", "vlan"];
            return Err(self.expected_word(PROTOCOL, &all));
        };
        self.at += 1;
        Ok(number)
    }

    /// An address, and its port where the protocol has ports.
    fn end(&mut self, whose: &str, has_ports: bool) -> Parsed<(IpAddr, u16)> {
        let what = if has_ports {
            format!("{whose} as ADDRESS:PORT or [ADDRESS]:PORT")
        } else {
            format!("{whose}'s address")
        };
        let (word, span) = self.next(&what)?;
        let refuse = |hint: Option<&str>| {
            let fault = self.fault(span, format!("`{word}` is not {whose}"));
            Box::new(fault.expected(what.clone()).hint(hint.map(str::to_owned)))
        };
        let (host, port) = match word.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, ""))) => (host, None),
            Some(Some((host, rest))) => {
                (host, Some(rest.strip_prefix(':').ok_or_else(|| refuse(None))?))
            }
            Some(None) => return Err(refuse(Some("`]` is missing"))),
            None if word.matches(':').count() == 1 => {
                word.split_once(':').map_or((word, None), |(host, port)| (host, Some(port)))
            }
            None => (word, None),
        };
        let addr: IpAddr = host.parse().map_err(|_| {
            let name = host.contains(|c: char| c.is_ascii_alphabetic()) && !host.contains(':');
            refuse(name.then_some("names are never looked up: write the address"))
        })?;
        match (port, has_ports) {
            (None, false) => Ok((addr, 0)),
            (Some(_), false) => Err(refuse(Some("this protocol has no ports"))),
            (None, true) => Err(refuse(Some(if addr.is_ipv6() {
                "an IPv6 address with a port stands in brackets: [2001:db8::1]:443"
            } else {
                "the port is missing"
            }))),
            (Some(port), true) => port
                .parse()
                .map(|port| (addr, port))
                .map_err(|_| refuse(Some("ports are 0 to 65535"))),
        }
    }

    fn number<T: TryFrom<u64>>(&mut self, what: &str, max: u64) -> Parsed<T> {
        let word = self.peek().ok_or_else(|| self.expected(what))?;
        let number = word.parse::<u64>().ok().filter(|number| *number <= max);
        let number = number.and_then(|number| T::try_from(number).ok());
        let number = number.ok_or_else(|| self.expected(what))?;
        self.at += 1;
        Ok(number)
    }

    fn option(
        &mut self,
        word: &str,
        made: &mut Made,
        flags: &mut Option<u8>,
        about: &mut Description,
    ) -> Parsed<()> {
        let is_tcp = made.proto == words::TCP && !made.arp;
        let is_icmp = !made.arp && matches!(made.proto, words::ICMP | words::ICMPV6);
        if matches!(word, "state" | "reply") {
            return self.conversation(about);
        }
        let first = word.split(',').next().unwrap_or(word);
        if word == "flags" || words::number(words::TCP_FLAGS, first).is_some() {
            if !is_tcp {
                return Err(self.only("TCP"));
            }
            self.at += usize::from(word == "flags");
            *flags = Some(flags.unwrap_or(0) | self.flags()?);
            return Ok(());
        }
        let tcp = matches!(word, "seq" | "acknowledges" | "window");
        let icmp = matches!(word, "type" | "code" | "id");
        if !OPTIONS.contains(&word) {
            return Err(self.expected_word(
                "an option, such as `syn`, `ttl 64`, `length 100`, or the end",
                &OPTIONS,
            ));
        }
        if tcp && !is_tcp {
            return Err(self.only("TCP"));
        }
        if icmp && !is_icmp {
            return Err(self.only("ICMP and ICMPv6"));
        }
        self.at += 1;
        let whole = u64::from(u32::MAX);
        match word {
            "seq" => made.numbers.0 = self.number("a sequence number", whole)?,
            "acknowledges" => made.numbers.1 = self.number("a sequence number", whole)?,
            "window" => made.window = self.number("a window, 0 to 65535", 65_535)?,
            "type" => made.icmp.0 = self.icmp_type(made.proto)?,
            "code" => made.icmp.1 = self.number("a code, 0 to 255", 255)?,
            "id" => made.id = self.number("an identifier, 0 to 65535", 65_535)?,
            "ttl" => made.ttl = self.number("a TTL, 0 to 255", 255)?,
            "length" => made.length = self.number("bytes of payload, 0 to 9000", 9000)?,
            _ => made.fragment = Some(self.fragment()?),
        }
        Ok(())
    }

    /// A word that this packet can't have.
    fn only(&self, what: &str) -> Box<Diagnostic> {
        let seen = self.peek().unwrap_or_default();
        Box::new(self.fault(self.span(), format!("`{seen}` is of {what}")))
    }

    fn flags(&mut self) -> Parsed<u8> {
        let what =
            "flags, such as `syn` or `syn,ack` (fin, syn, rst, psh, ack, urg, ece, cwr, none)";
        let (word, span) = self.next(what)?;
        if word == "none" {
            return Ok(0);
        }
        let mut flags = 0;
        let mut at = span.start;
        for name in word.split(',') {
            flags |= words::number(words::TCP_FLAGS, name).ok_or_else(|| {
                let here = Span::new(at, at + name.len());
                let fault = self.fault(here, format!("`{name}` is no TCP flag"));
                Box::new(fault.expected(what.to_owned()))
            })?;
            at += name.len() + 1;
        }
        Ok(flags)
    }

    fn icmp_type(&mut self, proto: u8) -> Parsed<u8> {
        let table = if proto == words::ICMPV6 { words::ICMPV6_TYPES } else { words::ICMP_TYPES };
        if let Some(kind) = self.peek().and_then(|word| words::number(table, word)) {
            self.at += 1;
            return Ok(kind);
        }
        self.number("a type's name or number", 255)
    }

    fn fragment(&mut self) -> Parsed<Piece> {
        let what = "where it begins, bytes, a multiple of 8; `+` behind it: more follow";
        let word = self.peek().ok_or_else(|| self.expected(what))?;
        let more = word.ends_with('+');
        let offset = word.strip_suffix('+').unwrap_or(word).parse::<u16>().ok();
        let offset = offset.filter(|offset| offset.is_multiple_of(8));
        let offset = offset.ok_or_else(|| self.expected(what))?;
        self.at += 1;
        Ok(Piece { offset, more })
    }

    /// `state new`, `state established [reply]`.
    fn conversation(&mut self, about: &mut Description) -> Parsed<()> {
        if self.peek() == Some("reply") {
            if about.state != Some(State::Established) {
                return Err(self.expected("`state established` before `reply`"));
            }
            self.at += 1;
            about.reply = true;
            return Ok(());
        }
        if !self.take("state") {
            return Err(self.expected("`state new`, `state established` or the end"));
        }
        about.state = match self.peek() {
            Some("new") => Some(State::New),
            Some("established") => Some(State::Established),
            _ => return Err(self.expected_word("`new` or `established`", &["new", "established"])),
        };
        self.at += 1;
        Ok(())
    }
}
