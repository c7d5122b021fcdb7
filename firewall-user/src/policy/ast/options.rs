//! `option` statements.

use firewall_common::abi::table::{TIMEOUTS, Timeout, Verdict};

/// What happens to a new flow when the table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowFull {
    /// Its packets are dropped.
    Refuse,
    /// Its packets pass, untracked: replies have to pass the rules by themselves.
    Untracked,
}

/// What happens to TCP segments outside the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpWindow {
    /// They are dropped.
    Strict,
    /// They are counted, and pass.
    Liberal,
    /// Windows are not looked at.
    Off,
}

/// What happens to a new flow that finds the places for unanswered flows taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfOpenFull {
    /// The oldest unanswered flow makes room.
    Evict,
    /// The new one is refused.
    Refuse,
}

/// When a SYN is answered with a cookie, beside what rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynCookies {
    /// Never.
    Off,
    /// Always.
    Always,
    /// From so many SYNs a second on, of the whole machine.
    Above(u32),
}

/// `option` statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A TCP segment without SYN may begin a flow.
    pub tcp_pickup: bool,
    /// What happens to TCP segments outside the window.
    pub tcp_window: TcpWindow,
    /// Verdict for what can't be parsed.
    pub malformed: Verdict,
    /// Verdict for EtherTypes other than IPv4, IPv6, ARP.
    pub ethertypes: Verdict,
    /// Verdict for a later fragment whose first wasn't seen.
    pub fragments: Verdict,
    /// What happens when the flow table is full.
    pub flow_full: FlowFull,
    /// What happens when unanswered flows take all the places they may have.
    pub half_open_full: HalfOpenFull,
    /// Most flows of one source; `None`: no limit.
    pub source_flows: Option<u32>,
    /// When SYNs are answered with cookies.
    pub syn_cookies: SynCookies,
    /// Whether established forwarded flows may skip the stack.
    pub fast_path: bool,
    /// Time-outs by [`Timeout`], milliseconds.
    pub timeouts: [u32; TIMEOUTS],
    /// Sampled events (verdicts and logs) a second, of the whole machine.
    pub sample_rate: u32,
    /// Answers to rejected packets a second, of the whole machine.
    pub reject_rate: u32,
    /// Events of new flows a second, of the whole machine.
    pub new_rate: u32,
}

impl Options {
    /// A time-out where the policy doesn't say one, milliseconds.
    pub const fn default_timeout(timeout: Timeout) -> u32 {
        match timeout {
            Timeout::TcpHandshake => 60_000,
            // RFC 5382 REQ-5: not less than 2 hours 4 minutes.
            Timeout::TcpEstablished => 7_500_000,
            Timeout::TcpHalfClosed => 240_000,
            Timeout::TcpClosed => 10_000,
            Timeout::UdpNew => 30_000,
            // RFC 4787 REQ-5: not less than 2 minutes.
            Timeout::UdpEstablished => 180_000,
            // RFC 4787 REQ-5 recommends 5 minutes or more; a flow that goes to and fro earns them.
            Timeout::UdpStream => 300_000,
            // RFC 5508 REQ-1: not less than 60 seconds.
            Timeout::Icmp => 60_000,
            // As netfilter's: an association outlives long silences by design.
            Timeout::Sctp => 302_400_000,
            Timeout::Gre => 180_000,
            Timeout::Other => 600_000,
            Timeout::Fragment => 30_000,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        let mut timeouts = [0; TIMEOUTS];
        for timeout in Timeout::ALL {
            timeouts[timeout.raw() as usize] = Self::default_timeout(*timeout);
        }
        Self {
            tcp_pickup: true,
            tcp_window: TcpWindow::Strict,
            malformed: Verdict::Drop,
            ethertypes: Verdict::Allow,
            fragments: Verdict::Drop,
            flow_full: FlowFull::Refuse,
            half_open_full: HalfOpenFull::Evict,
            source_flows: None,
            syn_cookies: SynCookies::Off,
            fast_path: false,
            timeouts,
            sample_rate: 1000,
            reject_rate: 100,
            new_rate: 200_000,
        }
    }
}
