//! Frames by hand: each header, each lie, each truncation.

use super::*;
use facts::IcmpKind;

fn run(bytes: &[u8]) -> Result<(Parsed, Facts), Reason> {
    let mut facts = Facts::default();
    parse(&Slice(bytes), &mut facts).map(|parsed| (parsed, facts))
}

fn eth(ethertype: u16) -> Vec<u8> {
    let mut v = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    v.extend(ethertype.to_be_bytes());
    v
}

fn ipv4(proto: u8, payload: &[u8]) -> Vec<u8> {
    let mut v = eth(eth::IPV4);
    v.extend([0x45, 0]);
    v.extend((20 + payload.len() as u16).to_be_bytes());
    v.extend([0, 7, 0, 0, 64, proto, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2]);
    v.extend(payload);
    v
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut v = eth(eth::IPV6);
    v.extend([0x60, 0, 0, 0]);
    v.extend((payload.len() as u16).to_be_bytes());
    v.extend([next, 255]);
    v.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    v.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    v.extend(payload);
    v
}

const TCP_SYN: [u8; 20] =
    [0x10, 0x92, 0, 22, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
const UDP_EMPTY: [u8; 8] = [0x14, 0xe9, 0, 53, 0, 8, 0, 0];

#[test]
fn tcp_over_ipv4() {
    let (parsed, f) = run(&ipv4(6, &TCP_SYN)).unwrap();
    assert_eq!(parsed, Parsed::Ip);
    assert_eq!((f.family, f.proto, f.ttl, f.tcp_flags), (4, 6, 64, transport::SYN));
    assert_eq!(f.src[..4], [192, 0, 2, 1]);
    assert_eq!(f.dst[..4], [198, 51, 100, 2]);
    assert_eq!((f.sport, f.dport), ([0x10, 0x92], [0, 22]));
    assert_eq!((f.l3, f.l4, f.ip_len, f.l4_len), (14, 34, 40, 20));
}

#[test]
fn link_padding_is_not_part_of_the_packet() {
    let mut frame = ipv4(17, &UDP_EMPTY);
    frame.resize(60, 0);
    assert_eq!(run(&frame).unwrap().1.ip_len, 28);
}

#[test]
fn every_truncation_has_a_reason() {
    for (frame, reasons) in [
        (
            ipv4(6, &TCP_SYN),
            [Reason::TruncatedEthernet, Reason::TruncatedIpv4, Reason::BadIpv4TotalLength],
        ),
        (
            ipv6(17, &UDP_EMPTY),
            [Reason::TruncatedEthernet, Reason::TruncatedIpv6, Reason::BadIpv6PayloadLength],
        ),
    ] {
        for len in 0..frame.len() {
            let reason = run(&frame[..len]).unwrap_err();
            assert!(reasons.contains(&reason), "{len} bytes: {reason:?}");
        }
    }
}

#[test]
fn short_transport_headers() {
    assert_eq!(run(&ipv4(6, &TCP_SYN[..19])).unwrap_err(), Reason::TruncatedTcp);
    assert_eq!(run(&ipv4(17, &UDP_EMPTY[..7])).unwrap_err(), Reason::TruncatedUdp);
    assert_eq!(run(&ipv4(1, &[8, 0, 0])).unwrap_err(), Reason::TruncatedIcmp);
    assert_eq!(run(&ipv4(132, &[1, 2, 3])).unwrap_err(), Reason::TruncatedTransport);
}

#[test]
fn lies_about_lengths() {
    let mut f = ipv4(6, &TCP_SYN);
    f[14] = 0x44;
    assert_eq!(run(&f).unwrap_err(), Reason::BadIpv4HeaderLength);
    let mut f = ipv4(6, &TCP_SYN);
    f[14] = 0x65;
    assert_eq!(run(&f).unwrap_err(), Reason::BadIpv4Version);
    let mut f = ipv4(6, &TCP_SYN);
    f[17] = 19;
    assert_eq!(run(&f).unwrap_err(), Reason::BadIpv4TotalLength);
    let mut f = ipv4(6, &TCP_SYN);
    f[34 + 12] = 0x40;
    assert_eq!(run(&f).unwrap_err(), Reason::BadTcpDataOffset);
    f[34 + 12] = 0xf0;
    assert_eq!(run(&f).unwrap_err(), Reason::BadTcpDataOffset);
    let mut f = ipv4(17, &UDP_EMPTY);
    f[34 + 5] = 7;
    assert_eq!(run(&f).unwrap_err(), Reason::BadUdpLength);
    f[34 + 5] = 9;
    assert_eq!(run(&f).unwrap_err(), Reason::BadUdpLength);
}

#[test]
fn ipv4_options_move_the_transport_header() {
    let mut f = ipv4(17, &[&[1, 1, 1, 0][..], &UDP_EMPTY].concat());
    f[14] = 0x46;
    let facts = run(&f).unwrap().1;
    assert_eq!((facts.l4, facts.dport), (38, [0, 53]));
}

#[test]
fn vlan_tags_one_two_and_too_many() {
    let plain = ipv4(17, &UDP_EMPTY);
    let tag = |tags: &[[u8; 4]]| {
        let mut f = plain[..12].to_vec();
        f.extend(tags.concat());
        f.extend(&plain[12..]);
        f
    };
    let one = run(&tag(&[[0x81, 0, 0x60, 100]])).unwrap().1;
    assert_eq!((one.vlan, one.l3, one.dport), (100, 18, [0, 53]));
    let two = run(&tag(&[[0x88, 0xa8, 0, 7], [0x81, 0, 0, 100]])).unwrap().1;
    assert_eq!((two.vlan, two.l3), (7, 22));
    assert_eq!(
        run(&tag(&[[0x81, 0, 0, 1], [0x81, 0, 0, 2], [0x81, 0, 0, 3]])).unwrap_err(),
        Reason::TooManyVlans
    );
    assert_eq!(run(&tag(&[[0x81, 0, 0, 1]])[..16]).unwrap_err(), Reason::TruncatedVlan);
}

#[test]
fn fragments() {
    let mut first = ipv4(17, &[&UDP_EMPTY[..], &[0; 16]].concat());
    first[20] = 0x20;
    first[38] = 40; // the datagram is longer than this fragment
    let f = run(&first).unwrap().1;
    assert_eq!((f.fragment, f.frag_id, f.dport), (Fragment::First, [0, 7, 0, 0], [0, 53]));
    let mut later = ipv4(17, &[0xff; 16]);
    later[21] = 3;
    let f = run(&later).unwrap().1;
    assert_eq!((f.fragment, f.sport, f.dport), (Fragment::Later, [0, 0], [0, 0]));
    later[20] = 0x1f;
    later[21] = 0xff;
    assert_eq!(run(&later).unwrap_err(), Reason::BadFragment);
}

#[test]
fn ipv6_extension_headers() {
    let chain = [&[60, 0, 0, 0, 0, 0, 0, 0][..], &[17, 0, 0, 0, 0, 0, 0, 0], &UDP_EMPTY].concat();
    let f = run(&ipv6(0, &chain)).unwrap().1;
    assert_eq!((f.proto, f.l4, f.dport), (17, 14 + 40 + 16, [0, 53]));
    let long: Vec<u8> = [60, 0, 0, 0, 0, 0, 0, 0].repeat(9);
    assert_eq!(run(&ipv6(60, &long)).unwrap_err(), Reason::TooManyExtensions);
    assert_eq!(run(&ipv6(60, &[17, 9, 0, 0, 0, 0, 0, 0])).unwrap_err(), Reason::TruncatedIpv6);
    // Authentication header counts in words of four bytes, less two.
    let auth = [&[17, 4][..], &[0; 22], &UDP_EMPTY].concat();
    assert_eq!(run(&ipv6(51, &auth)).unwrap().1.l4, 14 + 40 + 24);
}

#[test]
fn ipv6_fragments() {
    let head = |offset_and_more: u16| {
        let mut e = vec![17, 0];
        e.extend(offset_and_more.to_be_bytes());
        e.extend([1, 2, 3, 4]);
        e
    };
    let frame = |field| ipv6(44, &[&head(field)[..], &UDP_EMPTY].concat());
    let atomic = run(&frame(0)).unwrap().1;
    assert_eq!((atomic.fragment, atomic.dport), (Fragment::Whole, [0, 53]));
    let first = run(&frame(1)).unwrap().1;
    assert_eq!(
        (first.fragment, first.frag_id, first.dport),
        (Fragment::First, [1, 2, 3, 4], [0, 53])
    );
    let later = run(&frame(0x0101)).unwrap().1;
    assert_eq!((later.fragment, later.proto, later.dport), (Fragment::Later, 17, [0, 0]));
    assert_eq!(run(&frame(0xfff9)).unwrap_err(), Reason::BadFragment);
}

#[test]
fn neighbour_discovery_needs_hop_limit_255() {
    let mut f = ipv6(58, &[135, 0, 0, 0, 0, 0, 0, 0]);
    assert!(run(&f).unwrap().1.is_neighbour_discovery());
    f[14 + 7] = 64;
    assert!(!run(&f).unwrap().1.is_neighbour_discovery());
}

#[test]
fn icmp_roles_and_the_packet_an_error_carries() {
    let echo = run(&ipv4(1, &[8, 0, 0, 0, 0x12, 0x34, 0, 1])).unwrap().1;
    assert_eq!((echo.icmp, echo.sport, echo.dport), (IcmpKind::Query, [0x12, 0x34], [8, 0]));
    let inner = ipv4(17, &UDP_EMPTY);
    let error = ipv4(1, &[&[3, 3, 0, 0, 0, 0, 0, 0][..], &inner[14..]].concat());
    let outer = run(&error).unwrap().1;
    assert_eq!(outer.icmp, IcmpKind::Error);
    let mut about = Facts::default();
    assert!(icmp::embedded(&Slice(&error), &outer, &mut about));
    assert_eq!((about.proto, about.sport, about.dport), (17, [0x14, 0xe9], [0, 53]));
    let short = &error[..error.len() - 1];
    assert!(!icmp::embedded(&Slice(short), &outer, &mut Facts::default()));
}

#[test]
fn arp_and_unknown_ethertypes_are_told_apart() {
    assert_eq!(run(&eth(eth::ARP)).unwrap().0, Parsed::Arp);
    assert_eq!(run(&eth(0x88cc)).unwrap().0, Parsed::OtherEthertype);
}

/// Deterministic noise: whatever the bytes, the parser answers.
#[test]
fn noise_never_panics() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut frame = [0u8; 128];
    for round in 0..200_000u32 {
        for b in frame.iter_mut() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *b = state as u8;
        }
        let (t, ihl) = if round & 1 == 0 { (eth::IPV4, 0x45) } else { (eth::IPV6, 0x60) };
        frame[12..14].copy_from_slice(&t.to_be_bytes());
        frame[14] = ihl;
        let len = (state % 129) as usize;
        if let Ok((Parsed::Ip, facts)) = run(&frame[..len]) {
            assert!(facts.l4 as usize <= len);
        }
    }
}
