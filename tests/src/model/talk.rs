//! Conversations: who talks to whom over what, packet by packet.

use super::generate::{PORTS, Step, host};
use super::parse::{self, Frame, Ip, Segment};
use super::policy::Way;
use crate::packet::{Packet, tcp};
use crate::rng::Rng;
use std::net::IpAddr;

const FLAGS: [u8; 10] = [
    tcp::SYN,
    tcp::SYN,
    tcp::SYN | tcp::ACK,
    tcp::ACK,
    tcp::ACK | tcp::PSH,
    tcp::FIN | tcp::ACK,
    tcp::FIN,
    tcp::RST,
    tcp::RST | tcp::ACK,
    0,
];

/// Two ends that talk, and where the gate sees them.
#[derive(Clone, Debug)]
pub struct Talk {
    a: IpAddr,
    b: IpAddr,
    proto: u8,
    a_port: u16,
    b_port: u16,
    /// Interface on `a`'s side, and on `b`'s side; the same where the gate itself is an end.
    near: usize,
    far: usize,
    forwarded: bool,
    vlan: Option<u16>,
    numbers: Numbers,
}

/// What a TCP connection has come to, as its two ends know it.
#[derive(Clone, Debug)]
struct Numbers {
    /// Next number of each end.
    next: [u32; 2],
    /// Window scale that each end's SYN offers.
    scale: [Option<u8>; 2],
    /// Steps of the handshake that are done.
    done: usize,
}

impl Numbers {
    /// Flags, numbers and window of a segment: most of the time such as fit.
    fn segment(
        &mut self,
        rng: &mut Rng,
        packet: Packet,
        forth: bool,
        opens: bool,
        size: usize,
    ) -> Packet {
        let (me, other) = (usize::from(!forth), usize::from(forth));
        if self.done == 3 && rng.one_in(12) {
            // Both ends are started anew, and nobody says good-bye.
            (self.next, self.done) = ([rng.bits() as u32, rng.bits() as u32], 0);
        }
        let flags = if opens {
            self.done += 1;
            [tcp::SYN, tcp::SYN | tcp::ACK, tcp::ACK][self.done - 1]
        } else if self.done == 3 && !rng.one_in(4) {
            *rng.pick(&[tcp::ACK, tcp::ACK, tcp::ACK | tcp::PSH, tcp::FIN | tcp::ACK])
        } else {
            *rng.pick(&FLAGS)
        };
        let has = |flag: u8| u32::from(flags & flag != 0);
        let (mut seq, mut ack) = (self.next[me], self.next[other]);
        match if opens { 0 } else { rng.below(14) } {
            // Sent again, or a keep-alive.
            9 => seq = seq.wrapping_sub(rng.below(70) as u32),
            // At an edge of a window, if it is one of ours.
            10 => seq = edge(rng, seq),
            11 => ack = edge(rng, ack),
            // At a RST's only two numbers, or beside them.
            12 => seq = seq.wrapping_add(rng.below(3) as u32).wrapping_sub(1),
            13 => (seq, ack) = (rng.bits() as u32, rng.bits() as u32),
            _ if flags & tcp::RST == 0 => {
                let numbers = size as u32 + has(tcp::SYN) + has(tcp::FIN);
                self.next[me] = seq.wrapping_add(numbers);
            }
            _ => {}
        }
        let window = *rng.pick(&[0, 1, 500, 8192, 65_535, 65_535]);
        let window = if opens { 65_535 } else { window };
        let ack = if has(tcp::ACK) == 1 || rng.one_in(4) { ack } else { 0 };
        let packet = packet.flags(flags).seq(seq, ack).window(window);
        match self.scale[me] {
            Some(scale) if has(tcp::SYN) == 1 => {
                packet.tcp_options(&[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, scale])
            }
            _ => packet,
        }
    }
}

/// A number at which some window may end.
fn edge(rng: &mut Rng, number: u32) -> u32 {
    let far = *rng.pick(&[1, 500, 8192, 65_535, 66_000, 65_535 << 4]);
    let near = number.wrapping_add(rng.below(5) as u32).wrapping_sub(2);
    if rng.one_in(2) { near.wrapping_add(far) } else { near.wrapping_sub(far) }
}

impl Talk {
    /// Somebody with somebody.
    pub fn random(rng: &mut Rng, interfaces: usize) -> Self {
        let family = *rng.pick(&[4, 4, 6]);
        Self {
            a: host(rng, family),
            b: host(rng, family),
            proto: *rng.pick(&[6, 6, 6, 17, 17, if family == 4 { 1 } else { 58 }, 132, 47]),
            a_port: *rng.pick(&[1024, 40_000, 8080, 53]),
            b_port: *rng.pick(&PORTS),
            near: rng.below(interfaces),
            far: rng.below(interfaces),
            forwarded: rng.one_in(3),
            vlan: rng.one_in(5).then(|| rng.between(1, 4094) as u16),
            numbers: Numbers {
                next: [rng.bits() as u32, rng.bits() as u32],
                scale: [0, 0].map(|_: u8| (!rng.one_in(3)).then(|| rng.below(9) as u8)),
                done: 0,
            },
        }
    }

    /// Makes it a plain TCP connection.
    pub fn only_tcp(&mut self) {
        (self.proto, self.vlan) = (6, None);
    }

    /// One segment of a TCP connection, and whether it goes there.
    pub fn segment(&mut self, rng: &mut Rng) -> (bool, Segment) {
        loop {
            let (forth, opens) = self.direction(rng);
            let size = rng.below(40);
            let frame = self.packet(rng, forth, opens, size).build();
            if let Ok(Frame::Ip(Ip { segment: Some(segment), .. })) = parse::read(&frame) {
                return (forth, segment);
            }
        }
    }

    /// Whether the next packet goes there, and whether it is of a handshake as it should be: most
    /// connections begin so.
    fn direction(&self, rng: &mut Rng) -> (bool, bool) {
        let opens = self.proto == 6 && self.numbers.done < 3 && !rng.one_in(4);
        (if opens { self.numbers.done != 1 } else { rng.below(5) < 3 }, opens)
    }

    /// One packet of the conversation, at one hook or (forwarded) at both.
    pub fn step(&mut self, rng: &mut Rng) -> Vec<Step> {
        let (forth, opens) = self.direction(rng);
        let in_pieces = packet_can_fragment(self.proto) && rng.one_in(14);
        let size = if in_pieces { 64 } else { rng.below(40) };
        let mut frames: Vec<Vec<u8>> = if rng.one_in(14) {
            vec![self.clone().error(rng, forth).build()]
        } else if in_pieces {
            let packet = self.packet(rng, forth, opens, size);
            let mut frames: Vec<_> =
                packet.fragments(24, rng.below(3) as u32).iter().map(Packet::build).collect();
            if rng.one_in(4) {
                frames.remove(0);
            }
            frames
        } else {
            vec![self.packet(rng, forth, opens, size).build()]
        };
        if rng.one_in(16) {
            frames = frames.into_iter().map(|frame| mangled(rng, frame)).collect();
        }
        // `a` stands before the near interface: its packets come in there and go out at the far one.
        let hops: Vec<(Way, usize)> = match (self.forwarded, forth) {
            (false, true) => vec![(Way::In, self.near)],
            (false, false) => vec![(Way::Out, self.near)],
            (true, true) => vec![(Way::In, self.near), (Way::Out, self.far)],
            (true, false) => vec![(Way::In, self.far), (Way::Out, self.near)],
        };
        frames
            .into_iter()
            .flat_map(|bytes| {
                hops.iter()
                    .map(|&(way, interface)| Step::Frame { way, interface, bytes: bytes.clone() })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn header(&self, forth: bool) -> Packet {
        let (src, dst) = if forth { (self.a, self.b) } else { (self.b, self.a) };
        let packet = match self.vlan {
            Some(id) => Packet::new().vlan(id),
            None => Packet::new(),
        };
        packet.ip(&src.to_string(), &dst.to_string())
    }

    fn packet(&mut self, rng: &mut Rng, forth: bool, opens: bool, size: usize) -> Packet {
        let mut packet = self.header(forth);
        if rng.one_in(8) {
            packet = if self.a.is_ipv4() {
                packet.options(&[1; 8])
            } else {
                packet.hop_by_hop().destination_options()
            };
        }
        let (sport, dport) =
            if forth { (self.a_port, self.b_port) } else { (self.b_port, self.a_port) };
        let packet = match self.proto {
            6 => self.numbers.segment(rng, packet.tcp(sport, dport), forth, opens, size),
            17 => packet.udp(sport, dport),
            1 | 58 => match rng.below(8) {
                0 => packet.icmp(*rng.pick(&[5, 13, 14, 100, 134, 200]), 0, [1, 2, 3, 4]),
                _ if forth => packet.ping(self.a_port),
                _ => packet.pong(self.a_port),
            },
            132 => packet
                .proto(132)
                .payload(&[&sport.to_be_bytes()[..], &dport.to_be_bytes(), &[0; 8]].concat()),
            other => packet.proto(other),
        };
        if self.proto == 132 {
            return packet;
        }
        packet.fill(size).trailer(if rng.one_in(5) { 6 } else { 0 })
    }

    /// An ICMP error from the other end about a packet of this conversation.
    fn error(&mut self, rng: &mut Rng, forth: bool) -> Packet {
        let size = rng.below(40);
        let mut about = self.packet(rng, !forth, false, size).ip_packet();
        if rng.one_in(4) {
            about.truncate(rng.between(0, 40));
        }
        let kind =
            if self.a.is_ipv4() { *rng.pick(&[3, 11, 12]) } else { *rng.pick(&[1, 2, 3, 4]) };
        self.header(forth).icmp(kind, 1, [0; 4]).payload(&about)
    }
}

fn packet_can_fragment(proto: u8) -> bool {
    matches!(proto, 6 | 17 | 1 | 58)
}

/// A frame that lost its end, or one of whose header bytes is wrong.
fn mangled(rng: &mut Rng, mut frame: Vec<u8>) -> Vec<u8> {
    if rng.one_in(2) {
        frame.truncate(rng.between(14, frame.len()));
    } else {
        let at = rng.between(12, frame.len().min(70) - 1);
        frame[at] = rng.bits() as u8;
    }
    frame
}
