//! The peers with a rule set.

use super::super::netfilter::{Router, nft};
use super::super::ours::HOT_TRIES;
use super::super::train::{Engine, HEADER, Then, Train, WIDE_HEADER, header_of};
use super::super::xdp_filter;
use super::cases::Case;
use super::{HEADERS, Load, Round, Subject};
use crate::bpf;
use crate::ruleset::foreign;
use std::net::{IpAddr, Ipv4Addr};

/// Sets that rules are shared out to, at most: a packet asks all of them.
const MOST_SETS: usize = 128;
/// Most rules that are shared out: who overlaps whom is asked pair by pair.
const MOST_SHARED_OUT: usize = 20_000;
/// Packets of the hot case: each costs tens of milliseconds of grace periods.
const HOT: usize = 16;
/// What a measurement may take, nanoseconds.
const LONG: f64 = 3e8;

/// A filter behind the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// nftables, rule by rule.
    Linear,
    /// nftables, by sets.
    Sets,
    /// iptables.
    Iptables,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Linear, Self::Sets, Self::Iptables];

    /// Subject's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linear => "nft linear",
            Self::Sets => "nft sets",
            Self::Iptables => "iptables-legacy",
        }
    }
}

/// One of them with its rules, and the packets.
pub(super) struct Netfilter {
    kind: Kind,
    v6: bool,
    router: Router,
    train: Train,
    pass: Engine,
    drop: Engine,
    hot: Vec<Vec<u8>>,
    many: Vec<Vec<u8>>,
    /// Frames of a measurement: hot, many.
    repeat: (usize, usize),
}

impl Netfilter {
    /// Gives it the rules.
    ///
    /// # Errors
    /// In words, where it refuses or can't express them.
    pub fn new(kind: Kind, load: &Load) -> Result<Self, String> {
        let (router, v6) = (Router::new()?, load.is_v6());
        match kind {
            Kind::Linear => nft(&router.ns, &foreign::nft_linear(&load.rules))?,
            Kind::Sets if load.rules.len() > MOST_SHARED_OUT => {
                return Err(format!("above {MOST_SHARED_OUT} rules"));
            }
            Kind::Sets => {
                let text = foreign::nft_sets(&load.rules, MOST_SETS);
                nft(&router.ns, &text.ok_or("the rules overlap too much for sets")?)?;
            }
            Kind::Iptables => {
                let text = foreign::iptables(&load.rules);
                let restored = router.ns.feed(Self::iptables(v6, "-restore"), &[], &text);
                restored.map_err(|error| error.to_string())?;
            }
        }
        let width = if v6 { WIDE_HEADER } else { HEADER };
        let train = Train::of_width(width, HEADERS)?;
        let (pass, drop) = (
            train.engine(bpf::Kind::XDP, Then::Return(2))?,
            train.engine(bpf::Kind::XDP, Then::Return(1))?,
        );
        let macs = (crate::packet::SRC_MAC, router.mac);
        let header = |key: &crate::ruleset::Key| header_of(&key.frame(macs.0, macs.1), width);
        let mut peer = Self {
            kind,
            v6,
            router,
            pass,
            drop,
            train,
            hot: load.hot.iter().take(HOT).map(header).collect(),
            many: load.many.iter().map(header).collect(),
            repeat: (0, 0),
        };
        peer.train.fill(&peer.many)?;
        let each = peer.router.time(&peer.pass, 256)?;
        let affordable = |time: f64| (time / each) as usize;
        peer.repeat = (
            affordable(LONG / HOT as f64).clamp(64, 16_384),
            affordable(2.0 * LONG).clamp(256, HEADERS),
        );
        Ok(peer)
    }

    fn iptables(v6: bool, end: &str) -> &'static str {
        match (v6, end) {
            (false, "") => "iptables-legacy",
            (true, "") => "ip6tables-legacy",
            (false, _) => "iptables-legacy-restore",
            (true, _) => "ip6tables-legacy-restore",
        }
    }

    /// Packets that no rule took.
    fn passed(&self) -> Result<u64, String> {
        let (program, args): (_, &[&str]) = match self.kind {
            Kind::Iptables => (Self::iptables(self.v6, ""), &["-t", "raw", "-nvxL", "PREROUTING"]),
            Kind::Linear | Kind::Sets => {
                let family = if self.v6 { "ip6" } else { "ip" };
                ("nft", &["list", "counter", family, "bench", "passed"])
            }
        };
        let text = self.router.ns.exec(program, args).map_err(|error| error.to_string())?;
        let at = if self.kind == Kind::Iptables { "policy ACCEPT " } else { "packets " };
        text.split_once(at)
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
            .ok_or_else(|| format!("no count of what passed in {text:.200}"))
    }

    /// Frames passed to the stack, less frames dropped by XDP, of the train as it stands.
    fn over_dropped(&self, repeat: usize, dropped: f64) -> Result<f64, String> {
        self.train.rewind()?;
        Ok(self.router.time(&self.pass, repeat)? - dropped)
    }
}

impl Subject for Netfilter {
    fn round(&mut self) -> Result<Round, String> {
        let before = self.passed()?;
        let (few, lots) = self.repeat;
        self.train.fill(&self.many)?;
        let dropped = self.router.time(&self.drop, lots)?;
        let many = self.over_dropped(lots, dropped)?;
        // What a call costs by itself is shared by fewer frames here.
        self.train.fill(&self.hot)?;
        let dropped = self.router.time(&self.drop, few)?;
        let mut hot = Vec::with_capacity(self.hot.len());
        for header in &self.hot {
            self.train.fill(&[header])?;
            hot.push(self.over_dropped(few, dropped)?);
        }
        match self.passed()? - before {
            0 => Ok(Round { hot, many }),
            passed => Err(format!("{passed} packets were taken by no rule")),
        }
    }
}

/// `xdp-filter` with as many destination addresses as there are rules, each a packet's own.
pub(super) struct XdpFilter {
    filter: xdp_filter::XdpFilter,
    behind: xdp_filter::Behind,
    hot: Vec<Vec<u8>>,
    many: Vec<Vec<u8>>,
}

/// Runs of each hot packet.
const REPEAT: u32 = 20_000;

impl XdpFilter {
    /// Gives it the addresses of packets of the rules.
    ///
    /// # Errors
    /// In words, where it can't express anything like the case.
    pub fn new(case: Case, load: &Load) -> Result<Self, String> {
        if !case.stands_apart() {
            return Err(
                "it knows neither prefixes nor ranges, and no rule of several fields".into()
            );
        }
        let mut filter = xdp_filter::XdpFilter::new()?;
        // One packet for each rule, so that as many addresses as rules drop them all.
        let keys = |of: &[crate::ruleset::Key]| -> Vec<crate::ruleset::Key> {
            of.iter()
                .filter_map(|key| crate::ruleset::first_match(&load.rules, key))
                .map(|rule| own_packet(load, rule))
                .collect()
        };
        let own: Vec<Ipv4Addr> = (0..load.rules.len())
            .filter_map(|rule| match own_packet(load, rule).dst {
                IpAddr::V4(v4) => Some(v4),
                IpAddr::V6(_) => None,
            })
            .collect();
        filter.drop_what_goes_to(own)?;
        let behind = filter.behind(Train::new(HEADERS)?)?;
        let (src, dst) = filter.macs();
        let frames =
            |keys: Vec<crate::ruleset::Key>| keys.into_iter().map(move |key| key.frame(src, dst));
        Ok(Self {
            hot: frames(keys(&load.hot)).collect(),
            many: frames(keys(&load.many)).map(|frame| header_of(&frame, HEADER)).collect(),
            filter,
            behind,
        })
    }
}

/// The same packet of a rule each time.
fn own_packet(load: &Load, rule: usize) -> crate::ruleset::Key {
    crate::ruleset::draw::key_of(&load.rules[rule], &mut crate::rng::Rng::new(rule as u64))
}

impl Subject for XdpFilter {
    fn round(&mut self) -> Result<Round, String> {
        let hot: Result<_, String> =
            self.hot.iter().map(|frame| self.filter.over_empty(frame, REPEAT)).collect();
        let mut many = f64::INFINITY;
        for _ in 0..HOT_TRIES {
            many = many.min(self.filter.train_over_empty(&self.behind, &self.many)?);
        }
        Ok(Round { hot: hot?, many })
    }
}
