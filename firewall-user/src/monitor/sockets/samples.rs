//! Sockets over time: what a look at all descriptors found, kept for so many looks and so many sockets.
//!
//! Nobody's packets pay for it, and neither does memory: sockets that were asked for one by one have room first, then
//! those that carry most. Who had no room is counted.

use super::{Socket, SocketTable, TCP, bytes};
use crate::{
    monitor::{Clock, text},
    view::{SocketSampleView, SocketSamplesView},
};
use std::collections::{HashMap, VecDeque};

/// Samples of a socket.
const EACH: usize = 120;
/// Sockets with samples.
const SOCKETS: usize = 1_024;
/// From one sample to the next, at least, ns.
const LEAST_NS: u64 = 900_000_000;

/// What a socket had done by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    /// CLOCK_MONOTONIC, ns.
    at_ns: u64,
    sent: u64,
    received: u64,
    retransmits: u32,
    /// Smoothed, microseconds; 0: not measured.
    rtt_us: u32,
    /// Segments.
    cwnd: u32,
}

#[derive(Clone, Debug, Default)]
struct Ring {
    samples: VecDeque<Sample>,
    /// When somebody asked for it last; 0: never.
    asked_ns: u64,
    /// When it carried something last.
    moved_ns: u64,
    ended: bool,
}

impl Ring {
    /// Takes a sample, unless the one before was just taken; the last of all (`ends`) in any case.
    fn push(&mut self, sample: Sample, ends: bool) {
        if let Some(last) = self.samples.back() {
            let least = if ends { 1 } else { LEAST_NS };
            if sample.at_ns < last.at_ns + least {
                return;
            }
            if (sample.sent, sample.received) != (last.sent, last.received) {
                self.moved_ns = sample.at_ns;
            }
        } else {
            self.moved_ns = sample.at_ns;
        }
        if self.samples.len() == EACH {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Who is to go first where there is no room: what has ended, then what nobody asked for, then what was asked for or
    /// carried something longest ago.
    const fn worth(&self) -> (bool, u64, u64) {
        (!self.ended, self.asked_ns, self.moved_ns)
    }
}

/// Of all sockets that have them.
#[derive(Debug, Default)]
pub(super) struct Samples {
    rings: HashMap<u64, Ring>,
    /// Sockets that carried something and had no room, at the last look.
    pub(super) without: u64,
    /// Rings that made room for others.
    pub(super) forgotten: u64,
}

impl Samples {
    /// Takes one of each socket that has room, at a look at all of them.
    fn look<'a>(&mut self, live: impl Iterator<Item = (&'a u64, &'a Socket)>, now_ns: u64) {
        let mut new: Vec<(u64, &u64, &Socket)> = Vec::new();
        for (cookie, socket) in live {
            if let Some(ring) = self.rings.get_mut(cookie) {
                ring.push(sample(socket, now_ns), false);
            } else if socket.rate != (0, 0) {
                new.push((socket.rate.0.saturating_add(socket.rate.1), cookie, socket));
            }
        }
        // The busiest first.
        new.sort_unstable_by_key(|(rate, cookie, _)| (std::cmp::Reverse(*rate), **cookie));
        let all = new.len();
        self.without = 0;
        for (at, (_, cookie, socket)) in new.into_iter().enumerate() {
            if self.rings.len() >= SOCKETS && !self.make_room(now_ns) {
                // Nor is there room for those behind it.
                self.without = (all - at) as u64;
                break;
            }
            self.rings.entry(*cookie).or_default().push(sample(socket, now_ns), false);
        }
    }

    /// Takes one away, if there is one that has ended or carries nothing; whether it did.
    fn make_room(&mut self, now_ns: u64) -> bool {
        /// So long may a socket be idle.
        const IDLE_NS: u64 = 600_000_000_000;
        let idle = |ring: &Ring| {
            ring.ended || ring.moved_ns.max(ring.asked_ns).saturating_add(IDLE_NS) < now_ns
        };
        let gone = self.rings.iter().filter(|(_, ring)| idle(ring));
        let gone = gone.min_by_key(|(_, ring)| ring.worth()).map(|(cookie, _)| *cookie);
        if let Some(cookie) = gone {
            self.rings.remove(&cookie);
            self.forgotten += 1;
        }
        gone.is_some()
    }

    /// Somebody asks for this one: it has room from now on.
    fn ask(&mut self, cookie: u64, socket: &Socket, now_ns: u64) {
        if !self.rings.contains_key(&cookie) && self.rings.len() >= SOCKETS {
            let least = self.rings.iter().min_by_key(|(_, ring)| ring.worth());
            if let Some(least) = least.map(|(cookie, _)| *cookie) {
                self.rings.remove(&least);
                self.forgotten += 1;
            }
        }
        let ring = self.rings.entry(cookie).or_default();
        ring.asked_ns = now_ns;
        ring.push(sample(socket, now_ns), false);
    }

    /// Its last sample; what it had is kept for a while.
    pub(super) fn end(&mut self, cookie: u64, socket: &Socket, now_ns: u64) {
        if let Some(ring) = self.rings.get_mut(&cookie) {
            ring.push(sample(socket, now_ns), true);
            ring.ended = true;
        }
    }
}

impl SocketTable {
    /// A sample of every socket that has room for it, after a look at all descriptors.
    pub fn sample(&mut self, now_ns: u64) {
        for (cookie, ring) in &mut self.samples.rings {
            // Its end may have been lost.
            ring.ended |= !self.live.contains_key(cookie);
        }
        self.samples.look(self.live.iter(), now_ns);
    }

    /// A socket over time, live or ended; `None`: there is none of this id. It is sampled from now on.
    pub fn samples(&mut self, cookie: u64, clock: &Clock) -> Option<SocketSamplesView> {
        if let Some(socket) = self.live.get(&cookie) {
            self.samples.ask(cookie, socket, clock.monotonic_ns);
        } else if !self.ended.iter().any(|ended| ended.socket.row.usage.cookie == cookie) {
            return None;
        }
        let ring = self.samples.rings.get(&cookie);
        Some(SocketSamplesView {
            id: format!("{cookie:x}"),
            ended: !self.live.contains_key(&cookie),
            rows: ring.map_or_else(Vec::new, |ring| views(&ring.samples, clock)),
        })
    }
}

fn sample(socket: &Socket, at_ns: u64) -> Sample {
    let (sent, received) = bytes(&socket.row);
    let tcp = socket.row.protocol == TCP;
    Sample {
        at_ns,
        sent,
        received,
        retransmits: socket.row.retransmits,
        rtt_us: if tcp { socket.row.srtt_us } else { 0 },
        cwnd: if tcp { socket.row.cwnd } else { 0 },
    }
}

/// Each with what was done since the one before.
fn views(samples: &VecDeque<Sample>, clock: &Clock) -> Vec<SocketSampleView> {
    let mut before: Option<&Sample> = None;
    let mut rows = Vec::with_capacity(samples.len());
    for now in samples {
        let since = |f: fn(&Sample) -> u64| before.map(|then| f(now).saturating_sub(f(then)));
        let rate = |f: fn(&Sample) -> u64| {
            let span = u128::from(before.map_or(0, |then| now.at_ns - then.at_ns).max(1));
            since(f).map(|bytes| (u128::from(bytes) * 1_000_000_000 / span) as u64)
        };
        rows.push(SocketSampleView {
            time: text::time(clock.monotonic_to_unix(now.at_ns)),
            rtt_us: (now.rtt_us != 0).then_some(now.rtt_us.into()),
            cwnd: (now.cwnd != 0).then_some(now.cwnd.into()),
            retransmits: since(|sample| sample.retransmits.into()),
            sent_rate: rate(|sample| sample.sent),
            received_rate: rate(|sample| sample.received),
        });
        before = Some(now);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::sockets::tests::{event, keys, row};
    use firewall_common::abi::socket::{HeldSocket, SocketClass, SocketRow};

    const SECOND: u64 = 1_000_000_000;

    fn carrying(cookie: u64, bytes: u64, retransmits: u32, srtt_us: u32) -> SocketRow {
        SocketRow { bytes_acked: bytes, retransmits, srtt_us, cwnd: 10, ..row(cookie, 1) }
    }

    fn held(row: SocketRow) -> HeldSocket {
        HeldSocket { row, ..HeldSocket::default() }
    }

    fn clock(seconds: u64) -> Clock {
        Clock { monotonic_ns: seconds * SECOND, ..Clock::default() }
    }

    fn look(table: &mut SocketTable, rows: &[SocketRow], seconds: u64) {
        let all: Vec<HeldSocket> = rows.iter().map(|row| held(*row)).collect();
        table.snapshot(&all, seconds * SECOND, 1, false, &keys);
        table.sample(seconds * SECOND);
    }

    #[test]
    fn a_socket_is_told_step_by_step() {
        let mut table = SocketTable::default();
        assert_eq!(table.samples(1, &clock(1)), None);
        look(&mut table, &[carrying(1, 0, 0, 100)], 1);
        assert_eq!(table.samples(1, &clock(1)).expect("it lives").rows.len(), 1);
        look(&mut table, &[carrying(1, 4_000, 0, 100)], 3);
        look(&mut table, &[carrying(1, 4_000, 2, 50_000)], 4);
        // Too soon to say anything.
        look(&mut table, &[carrying(1, 4_001, 2, 50_000)], 4);
        let told = table.samples(1, &clock(4)).expect("it lives");
        let rows: Vec<_> = told
            .rows
            .iter()
            .map(|row| (row.sent_rate, row.retransmits, row.rtt_us, row.cwnd))
            .collect();
        assert_eq!(
            rows,
            [
                (None, None, Some(100), Some(10)),
                (Some(2_000), Some(0), Some(100), Some(10)),
                (Some(0), Some(2), Some(50_000), Some(10)),
            ]
        );
        // Its end is told, however soon it comes.
        let mut closed = event(SocketClass::Closed, 1, carrying(1, 6_000, 3, 50_000), 1);
        closed.time_ns = 4 * SECOND + SECOND / 2;
        table.event(&closed, &keys);
        let told = table.samples(1, &clock(9)).expect("it was there");
        let last = told.rows.last().expect("its end");
        assert!(told.ended);
        assert_eq!((last.sent_rate, last.retransmits), (Some(4_000), Some(1)));
    }

    #[test]
    fn there_is_room_for_so_many_and_the_busiest_have_it() {
        let mut table = SocketTable::default();
        let all = |bytes: u64| -> Vec<SocketRow> {
            (1..=SOCKETS as u64 + 10).map(|n| carrying(n, n * bytes, 0, 100)).collect()
        };
        look(&mut table, &all(0), 1);
        look(&mut table, &all(1_000), 2);
        assert_eq!((table.samples.rings.len(), table.samples.without), (SOCKETS, 10));
        assert!(!table.samples.rings.contains_key(&10) && table.samples.rings.contains_key(&11));
        for second in 3..=200 {
            look(&mut table, &all(1_000 * second), second);
        }
        assert!(table.samples.rings.values().all(|ring| ring.samples.len() <= EACH));
        // Whoever is asked for has room at once.
        assert_eq!(table.samples(5, &clock(200)).expect("it lives").rows.len(), 1);
        assert_eq!((table.samples.rings.len(), table.samples.forgotten), (SOCKETS, 1));
        // What has ended makes room first.
        let mut closed = event(SocketClass::Closed, 1, carrying(900, 0, 0, 1), 1);
        closed.time_ns = 201 * SECOND;
        table.event(&closed, &keys);
        look(&mut table, &all(300_000)[..20], 202);
        assert!(!table.samples.rings.contains_key(&900));
        assert!(table.samples.rings.contains_key(&5), "it was asked for");
    }
}
