//! What sockets did: the sums of a row, and what a socket had done before a reset.

use super::Stat;
use crate::view::SummaryRowView;
use firewall_common::abi::socket::{SIZES, Sizes, SocketRow, class_limit};

/// IPPROTO_TCP.
const TCP: u16 = 6;
/// TCP states without a connection: TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE, TCP_LISTEN, TCP_NEW_SYN_RECV.
const UNCONNECTED: [u8; 5] = [2, 3, 7, 10, 12];

/// What the sockets of a row did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// That live.
    live: u64,
    /// That live or have ended.
    total: u64,
    /// Of those that live: that have somebody at the other end.
    connected: u64,
    /// The same of all.
    connections: u64,
    sent_bytes: u64,
    received_bytes: u64,
    /// Segments, or calls where there are none.
    sent_packets: u64,
    received_packets: u64,
    /// Nanoseconds from the SYN to the end of the handshake, of those that began it.
    connect: Stat,
    /// The same of those that were asked.
    accept: Stat,
    /// Bytes of a call.
    read: Stat,
    write: Stat,
    /// Segments sent again, of a connection that had some.
    retransmit: Stat,
    /// Nanoseconds that a socket lived.
    close: Stat,
}

impl Account {
    /// Adds a socket, less what it had done at the last reset. `asked`: the other end began. `ended_ns`: when it
    /// ended (CLOCK_MONOTONIC); none: it lives.
    pub fn add(&mut self, row: &SocketRow, before: &Before, asked: bool, ended_ns: Option<u64>) {
        let usage = &row.usage;
        let (one, lives) = (u64::from(is_connection(row)), u64::from(ended_ns.is_none()));
        self.total += 1;
        self.live += lives;
        self.connections += one;
        self.connected += one * lives;
        let now = Done::by(row);
        let then = &before.done;
        self.sent_bytes += now.sent_bytes.saturating_sub(then.sent_bytes);
        self.received_bytes += now.received_bytes.saturating_sub(then.received_bytes);
        self.sent_packets += now.sent_packets.saturating_sub(then.sent_packets);
        self.received_packets += now.received_packets.saturating_sub(then.received_packets);
        let handshake = row.protocol == TCP && usage.established_ns > usage.asked_ns;
        if handshake && usage.asked_ns != 0 && usage.established_ns > before.at_ns {
            let took = usage.established_ns - usage.asked_ns;
            if asked { self.accept.add(took) } else { self.connect.add(took) }
        }
        let read = less(&usage.received, &before.received);
        let write = less(&usage.sent, &before.sent);
        self.read.add_calls(&read, usage.received_bytes.saturating_sub(before.received_bytes));
        self.write.add_calls(&write, usage.sent_bytes.saturating_sub(before.sent_bytes));
        let again = u64::from(row.retransmits.saturating_sub(before.retransmits));
        if again > 0 {
            self.retransmit.add(again);
        }
        if let Some(ended) = ended_ns
            && usage.created_ns != 0
        {
            self.close.add(ended.saturating_sub(usage.created_ns));
        }
    }

    /// Adds what others did.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.live, other.live),
            (&mut self.total, other.total),
            (&mut self.connected, other.connected),
            (&mut self.connections, other.connections),
            (&mut self.sent_bytes, other.sent_bytes),
            (&mut self.received_bytes, other.received_bytes),
            (&mut self.sent_packets, other.sent_packets),
            (&mut self.received_packets, other.received_packets),
        ] {
            *mine += theirs;
        }
        for (mine, theirs) in [
            (&mut self.connect, &other.connect),
            (&mut self.accept, &other.accept),
            (&mut self.read, &other.read),
            (&mut self.write, &other.write),
            (&mut self.retransmit, &other.retransmit),
            (&mut self.close, &other.close),
        ] {
            mine.merge(theirs);
        }
    }

    /// How many sockets it is the sum of.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// As people see it.
    pub fn view(&self) -> SummaryRowView {
        SummaryRowView {
            live: self.live,
            total: self.total,
            connected: self.connected,
            connections: self.connections,
            sent_bytes: self.sent_bytes,
            received_bytes: self.received_bytes,
            sent_packets: self.sent_packets,
            received_packets: self.received_packets,
            connect_us: self.connect.view(1_000),
            accept_us: self.accept.view(1_000),
            read_bytes: self.read.view(1),
            write_bytes: self.write.view(1),
            retransmits: self.retransmit.view(1),
            life_us: self.close.view(1_000),
            ..SummaryRowView::default()
        }
    }
}

/// Whether a socket has, or had, somebody at the other end. What has ended is closed: its handshake or its bytes
/// tell.
fn is_connection(row: &SocketRow) -> bool {
    if row.protocol != TCP {
        return row.remote_port != 0;
    }
    row.usage.established_ns != 0
        || !UNCONNECTED.contains(&row.state)
        || row.bytes_acked.max(row.bytes_received) > 1
}

/// What a socket has done, by the numbers of its protocol: TCP's own, or those of calls.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    sent_bytes: u64,
    received_bytes: u64,
    sent_packets: u64,
    received_packets: u64,
}

impl Done {
    fn by(row: &SocketRow) -> Self {
        let usage = &row.usage;
        if row.protocol == TCP {
            Self {
                sent_bytes: row.bytes_acked,
                received_bytes: row.bytes_received,
                sent_packets: row.segs_out.into(),
                received_packets: row.segs_in.into(),
            }
        } else {
            Self {
                sent_bytes: usage.sent_bytes,
                received_bytes: usage.received_bytes,
                sent_packets: usage.sends.into(),
                received_packets: usage.receives.into(),
            }
        }
    }
}

/// Calls by size since then.
fn less(now: &Sizes, then: &Sizes) -> Sizes {
    let mut sizes = *now;
    let earlier = then.calls.iter().any(|calls| *calls > 0);
    for (now, then) in sizes.calls.iter_mut().zip(then.calls) {
        *now = now.saturating_sub(then);
    }
    if earlier {
        // Fewest and most may have been before: what their classes say is left.
        let class = |calls: &u32| *calls > 0;
        if let (Some(first), Some(last)) =
            (sizes.calls.iter().position(class), sizes.calls.iter().rposition(class))
        {
            sizes.least = if first == 0 { 1 } else { class_limit(first - 1) + 1 }.max(sizes.least);
            sizes.most =
                if last == SIZES - 1 { sizes.most } else { class_limit(last).min(sizes.most) };
        }
    }
    sizes
}

/// What a socket had done at the last reset.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// When that was, CLOCK_MONOTONIC ns.
    at_ns: u64,
    done: Done,
    /// Segments sent again.
    retransmits: u32,
    /// Calls, and their bytes.
    sent: Sizes,
    received: Sizes,
    sent_bytes: u64,
    received_bytes: u64,
}

impl Before {
    /// Of a socket as it is.
    pub fn of(row: &SocketRow, at_ns: u64) -> Self {
        let usage = &row.usage;
        Self {
            at_ns,
            done: Done::by(row),
            retransmits: row.retransmits,
            sent: usage.sent,
            received: usage.received,
            sent_bytes: usage.sent_bytes,
            received_bytes: usage.received_bytes,
        }
    }
}

/// The same for each table: they can be reset one by one.
#[derive(Clone, Debug, Default)]
pub struct Befores(Vec<(u16, Before)>);

impl Befores {
    /// The tables of `mask` (a bit each) begin anew.
    pub fn reset(&mut self, mask: u16, row: &SocketRow, at_ns: u64) {
        for (tables, _) in &mut self.0 {
            *tables &= !mask;
        }
        self.0.retain(|(tables, _)| *tables != 0);
        self.0.push((mask, Before::of(row, at_ns)));
    }

    /// At the last reset of the tables of `mask`; none: there was none in the socket's time.
    pub fn of(&self, mask: u16) -> Option<&Before> {
        self.0.iter().find(|(tables, _)| tables & mask == mask).map(|(_, before)| before)
    }

    /// Whether there was none at all.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
