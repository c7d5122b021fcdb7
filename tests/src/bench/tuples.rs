//! Flows by number, and their packets.

use super::train::{Header, header};
use crate::packet::{Packet, tcp};
use crate::rng::Rng;
use std::net::Ipv4Addr;

/// Both ends of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuple {
    /// Who begins.
    pub client: (Ipv4Addr, u16),
    /// To whom.
    pub server: (Ipv4Addr, u16),
}

/// MAC addresses of frames: from, to.
pub(super) type Macs = ([u8; 6], [u8; 6]);

/// Flow number `i` of some set of flows: a client of its own in 10.`set`.0.0/12, a port that is anything.
pub(super) fn tuple(set: u8, i: usize, server: (Ipv4Addr, u16)) -> Tuple {
    let port = 1024 + Rng::new(i as u64 ^ u64::from(set) << 32).below(64_000) as u16;
    let client = 0x0a00_0000u32 + (u32::from(set) << 20) + i as u32;
    Tuple { client: (client.into(), port), server }
}

/// A step of a TCP connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The client's SYN.
    Syn,
    /// The server's answer.
    SynAck,
    /// The client's ACK: of the handshake, and whenever else. It moves no window.
    Ack,
}

/// Initial sequence numbers of both ends.
const ISN: (u32, u32) = (1000, 5000);

impl Tuple {
    fn packet(&self, macs: Macs, back: bool) -> Packet {
        let (from, to) = if back { (self.server, self.client) } else { (self.client, self.server) };
        Packet::new().macs(macs.0, macs.1).ipv4(&from.0.to_string(), &to.0.to_string())
    }

    fn ports(&self, back: bool) -> (u16, u16) {
        if back { (self.server.1, self.client.1) } else { (self.client.1, self.server.1) }
    }

    /// A TCP segment of its life.
    pub fn tcp(&self, macs: Macs, step: Step) -> Header {
        let back = step == Step::SynAck;
        let (flags, seq, ack) = match step {
            Step::Syn => (tcp::SYN, ISN.0, 0),
            Step::SynAck => (tcp::SYN | tcp::ACK, ISN.1, ISN.0 + 1),
            Step::Ack => (tcp::ACK, ISN.0 + 1, ISN.1 + 1),
        };
        let (sport, dport) = self.ports(back);
        header(&self.packet(macs, back).tcp(sport, dport).flags(flags).seq(seq, ack).build())
    }

    /// A datagram.
    pub fn udp(&self, macs: Macs) -> Header {
        let (sport, dport) = self.ports(false);
        // Headers alone are written into the packet; what follows stays, and is zero.
        header(&self.packet(macs, false).udp(sport, dport).payload(&[0; 18]).build())
    }
}

/// Shuffles: who comes next is to be nobody's guess.
pub(super) fn shuffle<T>(all: &mut [T]) {
    let mut rng = Rng::new(7);
    for i in (1..all.len()).rev() {
        all.swap(i, rng.below(i + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::{Step, tuple};
    use crate::bench::train::{HEADER, frame};
    use crate::packet::verify_checksums;

    #[test]
    fn headers_in_a_blank_frame_are_whole_packets() {
        let flow = tuple(3, 77, ([198, 51, 100, 20].into(), 443));
        let macs = ([2; 6], [4; 6]);
        for header in [flow.udp(macs), flow.tcp(macs, Step::Syn), flow.tcp(macs, Step::SynAck)] {
            let mut frame = frame();
            frame[..HEADER].copy_from_slice(&header);
            verify_checksums(&frame).unwrap();
        }
    }
}
