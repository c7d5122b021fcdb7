//! Every checksum of a frame, computed anew: IPv4 headers, transport headers, ICMP messages, and the
//! same of the packets that ICMP errors quote, as far as they are quoted.

use super::checksum;

fn be16(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])
}

/// Checks every checksum that can be checked. Fragments have none but that of their IPv4 header: put them
/// together with [`assemble`].
///
/// # Errors
/// Which one is wrong, in words.
pub fn verify_all(frame: &[u8]) -> Result<(), String> {
    let mut at = 12;
    while at + 6 <= frame.len() && matches!(be16(frame, at), 0x8100 | 0x88a8) {
        at += 4;
    }
    if at + 2 > frame.len() {
        return Err("the frame isn't whole".into());
    }
    match be16(frame, at) {
        0x0800 => packet(&frame[at + 2..], false, "the packet"),
        0x86dd => packet(&frame[at + 2..], true, "the packet"),
        _ => Ok(()),
    }
}

fn packet(ip: &[u8], v6: bool, what: &str) -> Result<(), String> {
    let short = || format!("{what} isn't whole");
    if ip.len() < if v6 { 40 } else { 20 } {
        return Err(short());
    }
    let (src, dst, mut proto, mut l4, end, mut fragment);
    if v6 {
        (src, dst) = (&ip[8..24], &ip[24..40]);
        (proto, l4, end, fragment) = (ip[6], 40, 40 + be16(ip, 4), false);
        while [0, 43, 44, 51, 60].contains(&proto) && !fragment {
            let header = ip.get(l4..l4 + 8).ok_or_else(short)?;
            fragment = proto == 44 && be16(header, 2) & 0xfff9 != 0;
            l4 += match proto {
                44 => 8,
                51 => (usize::from(header[1]) + 2) * 4,
                _ => (usize::from(header[1]) + 1) * 8,
            };
            proto = header[0];
        }
    } else {
        l4 = usize::from(ip[0] & 15) * 4;
        let header = ip.get(..l4).ok_or_else(short)?;
        if checksum::internet(header) != 0 {
            return Err(format!("the IPv4 header checksum of {what} is wrong"));
        }
        (src, dst, proto, end) = (&ip[12..16], &ip[16..20], ip[9], be16(ip, 2));
        fragment = be16(ip, 6) & 0x3fff != 0;
    }
    if fragment {
        return Ok(());
    }
    let Some(segment) = ip.get(l4..end) else {
        // A quotation is cut short, and what covers all of it can't be checked.
        return if what == "the packet" { Err(short()) } else { Ok(()) };
    };
    let sum_at = match proto {
        6 => 16,
        17 | 136 => 6,
        1 | 58 => 2,
        _ => return Ok(()),
    };
    if segment.len() < sum_at + 2 {
        return Err(short());
    }
    let wrong = match proto {
        1 => checksum::internet(segment) != 0,
        // "None was made" (RFC 768); over IPv6 there has to be one (RFC 8200 8.1).
        17 if be16(segment, 6) == 0 => v6,
        _ => checksum::transport(src, dst, proto, segment) != 0,
    };
    if wrong {
        return Err(format!("the checksum of protocol {proto} of {what} is wrong"));
    }
    let error = match proto {
        1 => matches!(segment[0], 3..=5 | 11 | 12),
        58 => segment[0] < 128,
        _ => false,
    };
    if error && what == "the packet" && segment.len() > 8 {
        return packet(&segment[8..], v6, "the quoted packet");
    }
    Ok(())
}

/// The packet that IPv4 fragments make, in their order, without options: its checksums can be checked.
///
/// # Panics
/// Where they are no such fragments.
pub fn assemble(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = frames[0].clone();
    for frame in &frames[1..] {
        let total = be16(frame, 16);
        let offset = (be16(frame, 20) & 0x1fff) * 8;
        assert_eq!(whole.len(), 34 + offset, "fragments in order, without gaps");
        whole.extend(&frame[34..14 + total]);
    }
    let total = (whole.len() - 14) as u16;
    whole[16..18].copy_from_slice(&total.to_be_bytes());
    whole[20..22].fill(0);
    whole[24..26].fill(0);
    let sum = checksum::internet(&whole[14..34]);
    whole[24..26].copy_from_slice(&sum.to_be_bytes());
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;

    fn error(v6: bool, about: &[u8]) -> Vec<u8> {
        let packet = if v6 {
            Packet::new().ipv6("::9", "::1")
        } else {
            Packet::new().ipv4("9.9.9.9", "10.0.0.1")
        };
        packet.icmp(if v6 { 1 } else { 3 }, 1, [0; 4]).payload(about).build()
    }

    #[test]
    fn each_checksum_is_looked_at() {
        for v6 in [false, true] {
            let plain = || {
                if v6 {
                    Packet::new().ipv6("::1", "::2").hop_by_hop()
                } else {
                    Packet::new().ipv4("10.0.0.1", "10.0.0.2").options(&[1; 4])
                }
            };
            for packet in [plain().tcp(1, 2).fill(11), plain().udp(1, 2).fill(6), plain().ping(9)] {
                let frame = packet.clone().vlan(4).build();
                assert_eq!(verify_all(&frame), Ok(()));
                assert!(verify_all(&packet.clone().lie_checksum(0x4711).build()).is_err());
                assert_eq!(verify_all(&error(v6, &packet.ip_packet())), Ok(()));
                let cut = error(v6, &packet.ip_packet()[..if v6 { 50 } else { 30 }]);
                assert_eq!(verify_all(&cut), Ok(()), "cut short, nothing is known of it");
                let lie = packet.lie_checksum(0x4711).ip_packet();
                assert!(verify_all(&error(v6, &lie)).is_err(), "the quoted one counts");
            }
        }
        let frame = Packet::new().ipv4("10.0.0.1", "10.0.0.2").udp(1, 2).no_udp_checksum().build();
        assert_eq!(verify_all(&frame), Ok(()));
        let frame = Packet::new().ipv6("::1", "::2").udp(1, 2).lie_checksum(0).build();
        assert!(verify_all(&frame).is_err(), "there is no such thing over IPv6");
        let frame = Packet::new().ipv4("10.0.0.1", "10.0.0.2").lie_ip_checksum(7).tcp(1, 2).build();
        assert!(verify_all(&frame).is_err());
        let mut quoted = Packet::new().ipv4("10.0.0.1", "10.0.0.2").tcp(1, 2).ip_packet();
        quoted[10] ^= 1;
        assert!(verify_all(&error(false, &quoted)).is_err());
    }

    #[test]
    fn fragments_make_the_whole_again() {
        let packet = Packet::new().ipv4("10.0.0.1", "10.0.0.2").udp(1, 2).fill(100);
        let parts: Vec<_> = packet.fragments(48, 7).iter().map(Packet::build).collect();
        let whole = assemble(&parts);
        assert_eq!(whole[34..], packet.build()[34..]);
        assert_eq!(verify_all(&whole), Ok(()));
    }
}
