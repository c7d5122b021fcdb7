//! Packets drawn from a rule set: a rule at random, and in each of its fields a value at random.

use super::{Detail, Prefix, Rule, proto};
use crate::packet::{Packet, tcp};
use crate::rng::Rng;
use std::net::IpAddr;

/// What rules ask of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Protocol number.
    pub proto: u8,
    /// Source port; 0 where the protocol has none.
    pub sport: u16,
    /// Destination port; 0 where the protocol has none.
    pub dport: u16,
    /// Flags of TCP, else 0.
    pub flags: u8,
    /// Type of ICMP or ICMPv6, else 0.
    pub icmp_type: u8,
}

/// Flags that segments mostly have, those that begin something first.
const FLAGS: [u8; 7] = [
    tcp::SYN,
    tcp::ACK,
    tcp::SYN | tcp::ACK,
    tcp::PSH | tcp::ACK,
    tcp::FIN | tcp::ACK,
    tcp::RST,
    tcp::RST | tcp::ACK,
];

/// A packet that some rule of the set takes, not always the drawn one: an earlier may take it first.
///
/// # Panics
/// Where there is no rule.
pub fn key(rules: &[Rule], rng: &mut Rng) -> Key {
    key_of(rng.pick(rules), rng)
}

/// So many of them.
///
/// # Panics
/// Where there is no rule.
pub fn keys(rules: &[Rule], count: usize, seed: u64) -> Vec<Key> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| key(rules, &mut rng)).collect()
}

/// A packet that this rule takes.
pub fn key_of(rule: &Rule, rng: &mut Rng) -> Key {
    let proto = rule.proto.unwrap_or_else(|| *rng.pick(&[proto::TCP, proto::UDP]));
    let mut key = Key {
        src: address(rule.src, rng),
        dst: address(rule.dst, rng),
        proto,
        sport: 0,
        dport: 0,
        flags: 0,
        icmp_type: 0,
    };
    if matches!(proto, proto::TCP | proto::UDP) {
        let mut port = |(low, high): (u16, u16)| rng.between(low.into(), high.into()) as u16;
        (key.sport, key.dport) = (port(rule.sport), port(rule.dport));
    }
    match (proto, rule.detail) {
        (proto::TCP, Some(Detail::Flags { set, of })) => {
            let fits = FLAGS.into_iter().find(|flags| flags & of == set);
            key.flags = fits.unwrap_or(set);
        }
        (proto::TCP, _) => key.flags = tcp::SYN,
        (_, Some(Detail::IcmpType(kind))) => key.icmp_type = kind,
        (proto::ICMP, _) => key.icmp_type = 8,
        (proto::ICMPV6, _) => key.icmp_type = 128,
        _ => {}
    }
    key
}

/// An address in a prefix: where it may be anything, one that hosts have.
fn address(prefix: Prefix, rng: &mut Rng) -> IpAddr {
    let mut any = || prefix.with_host(u128::from(rng.bits()) << 64 | u128::from(rng.bits()));
    if prefix.length() > 8 {
        return any();
    }
    // A prefix may hold none of them.
    (0..64).map(|_| any()).find(is_plain).unwrap_or_else(any)
}

/// Whether it is a host's: neither of this machine, nor of this network, nor of several.
fn is_plain(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => (1..224).contains(&v4.octets()[0]) && !v4.is_loopback(),
        IpAddr::V6(v6) => v6.octets()[0] >> 5 == 1,
    }
}

impl Key {
    /// The packet as a frame, 60 bytes and more with its padding.
    pub fn frame(&self, src_mac: [u8; 6], dst_mac: [u8; 6]) -> Vec<u8> {
        let packet =
            Packet::new().macs(src_mac, dst_mac).ip(&self.src.to_string(), &self.dst.to_string());
        let packet = match self.proto {
            proto::TCP => {
                let ack = if self.flags & tcp::ACK == 0 { 0 } else { 1 };
                packet.tcp(self.sport, self.dport).flags(self.flags).seq(1, ack)
            }
            proto::UDP => packet.udp(self.sport, self.dport).payload(&[0; 12]),
            proto::ICMP | proto::ICMPV6 => {
                packet.icmp(self.icmp_type, 0, [0, 1, 0, 1]).payload(&[0; 12])
            }
            // Long enough for whatever header it may have.
            other => packet.proto(other).payload(&[0; 20]),
        };
        let mut frame = packet.build();
        frame.resize(frame.len().max(60), 0);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, key_of, keys};
    use crate::packet::{tcp, verify_checksums};
    use crate::rng::Rng;
    use crate::ruleset::{first_match, random, v6};

    #[test]
    fn drawn_packets_are_their_rules_own() {
        let mut rng = Rng::new(1);
        for seed in 0..6 {
            let old = random::classbench_like(300, seed);
            for rules in [v6::twin(&old), old, random::five_tuples(300, seed)] {
                for rule in &rules {
                    let key = key_of(rule, &mut rng);
                    assert!(rule.matches(&key), "{rule:?} {key:?}");
                }
                for key in keys(&rules, 300, seed) {
                    assert!(first_match(&rules, &key).is_some());
                }
            }
        }
    }

    #[test]
    fn frames_are_whole() {
        let key = Key {
            src: "192.0.2.1".parse().unwrap(),
            dst: "198.51.100.1".parse().unwrap(),
            proto: 6,
            sport: 1,
            dport: 2,
            flags: tcp::SYN,
            icmp_type: 0,
        };
        for proto in [1, 6, 17, 47, 58] {
            let frame = Key { proto, icmp_type: 8, ..key }.frame([2; 6], [4; 6]);
            assert!(frame.len() >= 60);
            verify_checksums(&frame).unwrap();
        }
        let (src, dst) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        for proto in [6, 17, 47, 58] {
            let key = Key { proto, src, dst, icmp_type: 128, ..key };
            verify_checksums(&key.frame([2; 6], [4; 6])).unwrap();
        }
    }
}
