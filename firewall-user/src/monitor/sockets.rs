//! The live model of sockets: snapshots and events in, rows out. No I/O, no clock.
//!
//! A snapshot says what there is; events say what happened since. What neither tells any more is gone: a TCP
//! socket without a descriptor lives on until it says that it is closed, unless events were lost.

mod attributes;
mod exits;
mod naming;
mod rules;
mod samples;
mod summing;

pub use attributes::{Attribute, AttributeError, LETTERS};
pub use summing::KeysOf;

use super::{
    Clock,
    summary::{Befores, EVERY, Summary},
    text,
};
use crate::names::{Named, Names};
use crate::view::{
    SOCKET_TCP_STATES, SocketEventStatsView, SocketHolderView, SocketStatsView, SocketView,
};
use firewall_common::abi::{
    counter::EventCounter,
    socket::{HeldSocket, Process, SOCKET_CLASSES, SocketClass, SocketEvent, SocketRow},
};
use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Ended sockets that are kept.
const ENDED: usize = 10_000;
/// Holders of a socket that are listed.
const HOLDERS: usize = 64;

/// AF_INET, AF_INET6, AF_PACKET, AF_XDP.
const INET: u16 = 2;
const INET6: u16 = 10;
const PACKET: u16 = 17;
const XDP: u16 = 44;
/// IPPROTO_TCP.
const TCP: u16 = 6;
/// SOCK_RAW.
const RAW: u16 = 3;
/// TCP_ESTABLISHED, TCP_SYN_SENT, TCP_CLOSE_WAIT, TCP_LISTEN.
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

#[derive(Clone, Debug, Default)]
struct Socket {
    row: SocketRow,
    holders: Vec<(Process, u32)>,
    /// Its owner was stamped by a hook, and not found afterwards.
    stamped: bool,
    /// Bytes a second, sent and received.
    rate: (u64, u64),
    /// When the row was read, CLOCK_MONOTONIC ns.
    read_ns: u64,
    /// What it had done when the summaries were reset last.
    before: Befores,
    /// The rule that let its packets in, as far as that was seen.
    rule: Option<Arc<str>>,
    /// The rule that refused one.
    refused: Option<Arc<str>>,
    /// What others than the kernel say of it.
    attributes: Vec<Attribute>,
    /// What it reached is called.
    named: Option<Box<Named>>,
}

#[derive(Clone, Debug)]
struct Ended {
    socket: Socket,
    at_ns: u64,
    why: &'static str,
    /// Looks for its rule that there were.
    looks: u8,
    /// When its owner did, if that was before (CLOCK_MONOTONIC ns).
    owner_exited_ns: Option<u64>,
    /// It is in the table of rules.
    settled: bool,
}

/// What of the machine the rows are told for.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Inode of the daemon's network namespace.
    pub netns: u32,
    /// Now, on both clocks.
    pub clock: Clock,
}

/// Every socket that is known.
#[derive(Debug, Default)]
pub struct SocketTable {
    live: HashMap<u64, Socket>,
    ended: VecDeque<Ended>,
    ended_dropped: u64,
    /// How many were ever put there.
    ended_ever: u64,
    /// How many have ended before the first whose rule is still looked for.
    settled: u64,
    /// Ended ones that made room before their rule was found.
    unsettled_dropped: u64,
    delivered: [u64; SOCKET_CLASSES],
    descriptors: u64,
    snapshot_us: u64,
    summary: Summary,
    /// What hosts are called, if that is wanted.
    names: Option<Names>,
    /// Cookies of those that events told of since sockets were named last.
    unnamed: Vec<u64>,
    /// How many had ended by then.
    named_ever: u64,
    /// Sockets over time.
    samples: samples::Samples,
    exits: exits::Exits,
}

impl SocketTable {
    /// Learns from an event.
    pub fn event(&mut self, event: &SocketEvent, keys: KeysOf<'_>) {
        if let Some(count) = self.delivered.get_mut(usize::from(event.class)) {
            *count += 1;
        }
        let cookie = event.row.usage.cookie;
        if event.class == SocketClass::Exited.raw() {
            self.exited(&event.row.usage.owner, event.time_ns);
            return;
        }
        if event.class != SocketClass::Closed.raw() {
            let socket = self.live.entry(cookie).or_default();
            socket.stamped |= stamps(event, &socket.row);
            socket.take(event.row, event.time_ns);
            if self.names.is_some() {
                self.unnamed.push(cookie);
            }
            return;
        }
        let mut socket = self.live.remove(&cookie).unwrap_or_default();
        socket.stamped |= stamps(event, &socket.row);
        let mut last = event.row;
        // At its end it is bound to nothing any more; and the hook where others than TCP's end sees little.
        if last.family == 0 {
            last = SocketRow { usage: last.usage, ..socket.row };
        } else if last.local_port == 0 {
            last.local_port = socket.row.local_port;
        }
        if last.family == 0 {
            // Nothing was ever seen of it but that it ends.
            return;
        }
        let why = cause(&last, event.before);
        socket.take(last, event.time_ns);
        if socket.row.protocol == TCP && event.before == LISTEN {
            socket.row.state = LISTEN;
        }
        self.samples.end(cookie, &socket, event.time_ns);
        self.sum_up(summing::AT_ONCE, &socket, event.time_ns, keys);
        self.keep(socket, event.time_ns, why, keys);
    }

    /// Keeps an ended socket; the oldest makes room.
    fn keep(&mut self, socket: Socket, at_ns: u64, why: &'static str, keys: KeysOf<'_>) {
        if self.ended.len() == ENDED {
            self.make_room(keys);
        }
        self.ended_ever += 1;
        let owner_exited_ns = self.exits.of(&socket.row.usage.owner);
        let mut ended = Ended { socket, at_ns, why, looks: 0, owner_exited_ns, settled: false };
        // A refusal may be long ago: whoever asks now is told.
        rules::blame(&mut ended);
        self.ended.push_back(ended);
    }

    /// Learns from a look at all descriptors at `now_ns` (CLOCK_MONOTONIC), which took `took_us`. `gap`: events
    /// were lost since the last one, so that sockets may be gone of which nobody said so.
    pub fn snapshot(
        &mut self,
        held: &[HeldSocket],
        now_ns: u64,
        took_us: u64,
        gap: bool,
        keys: KeysOf<'_>,
    ) {
        self.descriptors = held.len() as u64;
        self.snapshot_us = took_us;
        let mut before = std::mem::take(&mut self.live);
        for one in held {
            let cookie = one.row.usage.cookie;
            let socket = self.live.entry(cookie).or_insert_with(|| {
                let mut socket = before.remove(&cookie).unwrap_or_default();
                socket.holders.clear();
                socket.take(one.row, now_ns);
                // What was made before the monitor has no such time.
                socket.stamped |= one.row.usage.created_ns != 0;
                socket
            });
            if socket.holders.len() < HOLDERS {
                socket.holders.push((one.holder, one.descriptor));
            }
        }
        // Closed by whoever held it, and still at work, or held by none but a message or a ring of io_uring; or made
        // since.
        let stays =
            |socket: &Socket| socket.read_ns > now_ns || (tells_its_end(&socket.row) && !gap);
        for (cookie, mut socket) in before {
            socket.holders.clear();
            if stays(&socket) {
                self.live.insert(cookie, socket);
            } else {
                // Nobody said so, but it has ended. Sockets that only see packets never do. Of a connection why it
                // ended isn't known.
                if socket.row.protocol == TCP {
                    self.sum_up(EVERY, &socket, now_ns, keys);
                } else {
                    self.sum_up(summing::AT_ONCE, &socket, now_ns, keys);
                    self.keep(socket, now_ns, "closed", keys);
                }
            }
        }
        self.forget_exits();
    }

    /// Live sockets and who owns them.
    pub fn live<'a>(
        &'a self,
        place: &'a Place,
    ) -> impl Iterator<Item = (SocketView, Process)> + 'a {
        self.live.values().map(|socket| (self.view_of(socket, place), socket.row.usage.owner))
    }

    /// Owners of live sockets, as often as they own one.
    pub fn owners(&self) -> impl Iterator<Item = &Process> {
        self.live.values().map(|socket| &socket.row.usage.owner)
    }

    /// A live socket as the kernel has it, and who holds it at which descriptor.
    pub fn held(&self, cookie: u64) -> Option<(SocketRow, Vec<(u32, u32)>)> {
        let socket = self.live.get(&cookie)?;
        let holders = socket.holders.iter().map(|(process, at)| (process.tgid, *at)).collect();
        Some((socket.row, holders))
    }

    /// Ended ones, the latest first.
    pub fn ended<'a>(
        &'a self,
        place: &'a Place,
    ) -> impl Iterator<Item = (SocketView, Process)> + 'a {
        let row = |ended: &Ended| (ended.view(place), ended.socket.row.usage.owner);
        self.ended.iter().rev().map(row)
    }

    /// Those that ended since `seen` of them had, the latest first, and how many of them weren't kept; `seen` is
    /// brought up to date.
    pub fn ended_since<'a>(
        &'a self,
        seen: &mut u64,
        place: &'a Place,
    ) -> (u64, impl Iterator<Item = (SocketView, Process)> + 'a) {
        let new = self.ended_ever - std::mem::replace(seen, self.ended_ever);
        let kept = usize::try_from(new).unwrap_or(usize::MAX).min(self.ended.len());
        (new - kept as u64, self.ended(place).take(kept))
    }

    /// What was told and lost; `counters` are the kernel's.
    pub fn stats(&self, counters: &[EventCounter; SOCKET_CLASSES]) -> SocketStatsView {
        SocketStatsView {
            live: self.live.len() as u64,
            ended: self.ended.len() as u64,
            ended_dropped: self.ended_dropped,
            events: SocketClass::ALL
                .iter()
                .zip(counters.iter().zip(self.delivered))
                .map(|(class, (kernel, delivered))| SocketEventStatsView {
                    class: class.name().to_owned(),
                    produced: kernel.produced,
                    delivered,
                    lost: kernel.lost,
                })
                .collect(),
            snapshot_us: self.snapshot_us,
            descriptors: self.descriptors,
            rules_unsettled: self.unsettled_dropped,
            exits_unwatched: counters[usize::from(SocketClass::Exited.raw())].suppressed,
            exits_forgotten: self.exits.forgotten(),
            tables: self.summary.tables(),
            names: self.names.as_ref().map(Names::stats),
            samples_without: self.samples.without,
            samples_forgotten: self.samples.forgotten,
            ..SocketStatsView::default()
        }
    }
}

impl Ended {
    fn view(&self, place: &Place) -> SocketView {
        let mut view = self.socket.view(place);
        view.closed = Some(text::time(place.clock.monotonic_to_unix(self.at_ns)));
        view.ended = Some(self.why.to_owned());
        view.owner_exited = exits::shown(self.owner_exited_ns, place);
        if let (rules::DROPPED, Some(rule)) = (self.why, &self.socket.refused) {
            view.rule = Some(rule.to_string());
        }
        (view.sent_rate, view.received_rate) = (0, 0);
        view
    }
}

impl Socket {
    /// Takes a newer row.
    fn take(&mut self, row: SocketRow, now_ns: u64) {
        let span = now_ns.saturating_sub(self.read_ns);
        let rate = |now: u64, before: u64| {
            let bytes = u128::from(now.saturating_sub(before)) * 1_000_000_000;
            (bytes / u128::from(span.max(1))) as u64
        };
        // Over less than a tenth of a second a rate says nothing.
        if self.read_ns != 0 && span >= 100_000_000 {
            let (sent, received) = bytes(&row);
            let before = bytes(&self.row);
            self.rate = (rate(sent, before.0), rate(received, before.1));
            self.read_ns = now_ns;
        } else if self.read_ns == 0 {
            self.read_ns = now_ns;
        }
        // Events don't tell of drops.
        let (drops, drop_reason) = if row.drops >= self.row.drops {
            (row.drops, row.drop_reason)
        } else {
            (self.row.drops, self.row.drop_reason)
        };
        self.row = SocketRow { drops, drop_reason, ..row };
    }

    /// Whether the other end began: it came into being with the request.
    fn was_asked(&self) -> bool {
        let usage = &self.row.usage;
        usage.asked_ns != 0 && usage.asked_ns == usage.created_ns
    }

    fn view(&self, place: &Place) -> SocketView {
        let (row, usage) = (&self.row, &self.row.usage);
        let (sent_bytes, received_bytes) = bytes(row);
        let now = place.clock.monotonic_ns;
        let since = |ns: u64| (ns != 0).then(|| now.saturating_sub(ns) / 1_000_000);
        let known = |process: &Process| (process.tgid != 0).then_some(process.tgid);
        let name = |process: &Process| (process.tgid != 0).then(|| comm(process));
        let handshake = (usage.asked_ns, usage.established_ns);
        let (remote_name, name_source, other_names) = self.told_name();
        SocketView {
            id: format!("{:x}", usage.cookie),
            proto: proto(row),
            family: match row.family {
                INET => 4,
                INET6 => 6,
                _ => 0,
            },
            state: state(row).to_owned(),
            local: address(row.family, &row.local),
            local_port: row.local_port,
            remote: address(row.family, &row.remote),
            remote_port: row.remote_port,
            netns: row.netns,
            own_netns: row.netns == place.netns,
            uid: row.uid,
            pid: known(&usage.owner),
            comm: name(&usage.owner),
            confidence: match (usage.owner.tgid, self.stamped) {
                (0, _) => "unknown",
                (_, true) => "stamped",
                (_, false) => "held",
            }
            .to_owned(),
            user_pid: known(&usage.user),
            user_comm: name(&usage.user),
            holders: self
                .holders
                .iter()
                .map(|(process, descriptor)| SocketHolderView {
                    pid: process.tgid,
                    comm: comm(process),
                    descriptor: *descriptor,
                })
                .collect(),
            created: (usage.created_ns != 0)
                .then(|| text::time(place.clock.monotonic_to_unix(usage.created_ns))),
            age_ms: since(usage.created_ns),
            idle_ms: since(usage.used_ns),
            connect_us: (row.protocol == TCP && handshake.0 != 0 && handshake.1 >= handshake.0)
                .then(|| (handshake.1 - handshake.0) / 1000),
            sent_bytes,
            received_bytes,
            sends: usage.sends.into(),
            receives: usage.receives.into(),
            sent_rate: self.rate.0,
            received_rate: self.rate.1,
            segments_out: row.segs_out.into(),
            segments_in: row.segs_in.into(),
            rtt_us: (row.srtt_us != 0).then_some(row.srtt_us.into()),
            retransmits: row.retransmits.into(),
            drops: row.drops.into(),
            drop_reason: (row.drops > 0).then(|| row.drop_reason.to_string()),
            rule: self.rule.as_deref().map(str::to_owned),
            note: note(row).map(str::to_owned),
            name: remote_name,
            name_source,
            other_names,
            ..SocketView::default()
        }
    }
}

/// Whether the owner that an event tells of was stamped by a hook: where the socket was made, or where one that was
/// nobody's `before` begins. An owner that was only found holding it stays that.
fn stamps(event: &SocketEvent, before: &SocketRow) -> bool {
    let usage = &event.row.usage;
    let begins =
        event.class == SocketClass::Listening.raw() || event.class == SocketClass::Connecting.raw();
    usage.owner.tgid != 0 && (usage.created_ns != 0 || (begins && before.usage.owner.tgid == 0))
}

/// Whether an event is sure to come at a socket's end: of those without connections if they were made with the hooks
/// in place, and used.
fn tells_its_end(row: &SocketRow) -> bool {
    let usage = &row.usage;
    let used = usage.created_ns != 0 && usage.established_ns != 0;
    row.protocol == TCP || (matches!(row.family, INET | INET6) && used)
}

/// Bytes that a socket sent and received.
fn bytes(row: &SocketRow) -> (u64, u64) {
    if row.protocol == TCP {
        (row.bytes_acked, row.bytes_received)
    } else {
        (row.usage.sent_bytes, row.usage.received_bytes)
    }
}

/// A process, as `name/number`.
pub fn process(process: &Process) -> String {
    format!("{}/{}", comm(process), process.tgid)
}

/// Whom a socket is connected with; `*`: nobody, or anybody.
pub fn remote(row: &SocketRow) -> String {
    let text = address(row.family, &row.remote);
    let nobody = row.remote_port == 0 || matches!(text.as_str(), "" | "0.0.0.0" | "::");
    if nobody { "*".to_owned() } else { text }
}

/// What the kernel calls a process.
pub fn comm(process: &Process) -> String {
    let end = process.comm.iter().position(|byte| *byte == 0).unwrap_or(process.comm.len());
    String::from_utf8_lossy(&process.comm[..end]).into_owned()
}

fn address(family: u16, bytes: &[u8; 16]) -> String {
    match family {
        INET => IpAddr::from(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])).to_string(),
        INET6 => Ipv6Addr::from(*bytes).to_canonical().to_string(),
        _ => String::new(),
    }
}

/// Its protocol, as rows have it.
pub fn proto(row: &SocketRow) -> String {
    match (row.family, row.kind, row.protocol) {
        (PACKET, ..) => "packet".into(),
        (XDP, ..) => "xdp".into(),
        (_, RAW, number) => format!("raw/{number}"),
        (_, _, 6) => "tcp".into(),
        (_, _, 17) => "udp".into(),
        (_, _, 1) => "icmp".into(),
        (_, _, 58) => "icmpv6".into(),
        (_, _, 132) => "sctp".into(),
        (_, _, 136) => "udplite".into(),
        (_, _, 262) => "mptcp".into(),
        (_, _, number) => number.to_string(),
    }
}

fn state(row: &SocketRow) -> &'static str {
    match (row.family, row.protocol) {
        (INET | INET6, TCP) => {
            SOCKET_TCP_STATES.get(usize::from(row.state)).copied().unwrap_or("unknown")
        }
        (INET | INET6, _) if row.kind != RAW && row.state == ESTABLISHED => "connected",
        (INET | INET6, _) if row.kind != RAW => "unconnected",
        _ => "open",
    }
}

fn note(row: &SocketRow) -> Option<&'static str> {
    match (row.family, row.kind) {
        (PACKET, _) => {
            Some("sees packets before rules at TC judge them, also those that are dropped")
        }
        (XDP, _) => Some("takes packets past the stack: no rule at TC sees them"),
        (_, RAW) => Some("may send packets with headers of its own making"),
        _ => None,
    }
}

/// Why a socket ended, by the error that was pending and the state that it left.
fn cause(row: &SocketRow, before: u8) -> &'static str {
    match row.error as i32 {
        libc::ECONNREFUSED => "refused",
        libc::ETIMEDOUT => "timed-out",
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN => "no-route",
        libc::ECONNRESET | libc::EPIPE => "reset",
        libc::ECONNABORTED => "killed",
        0 if row.protocol == TCP && before == SYN_SENT => "abandoned",
        // In order it would have gone through other states, and what comes from outside leaves an error: who closed it
        // here left data unread, had SO_LINGER at 0, or had not accepted it (`__tcp_close`, `tcp_disconnect` in
        // net/ipv4/tcp.c). The other end gets a reset.
        0 if row.protocol == TCP && matches!(before, ESTABLISHED | CLOSE_WAIT) => "aborted",
        0 => "closed",
        _ => "failed",
    }
}

#[cfg(test)]
mod tests;
