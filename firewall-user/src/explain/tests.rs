//! Descriptions, what is wrong with them, and the frames that they mean.

use super::*;
use crate::policy::Diagnostic;
use firewall_common::{abi::table::Direction, wire::Fragment};

fn made(text: &str) -> Vec<u8> {
    match parse(text).unwrap_or_else(|error| panic!("{error}")).content {
        Content::Made(made) => build(&made),
        other => panic!("{other:?}"),
    }
}

fn line(text: &str) -> String {
    understand(&made(text)).line()
}

#[test]
fn a_description_means_a_frame_that_says_the_same() {
    for (text, said) in [
        (
            "in on wan tcp 203.0.113.9:4242 > 10.0.0.5:22 syn",
            "tcp 203.0.113.9:4242 > 10.0.0.5:22 syn ttl 64, 40 bytes of IP",
        ),
        (
            "in on wan tcp [2001:db8::1]:1>[2001:db8::2]:443 flags syn,ack ttl 3 length 10",
            "tcp [2001:db8::1]:1 > [2001:db8::2]:443 syn,ack ttl 3, 70 bytes of IP",
        ),
        (
            "out on lan vlan 5 vlan 6 udp 10.0.0.1:53 > 10.0.0.2:4000 length 100",
            "vlan 5 udp 10.0.0.1:53 > 10.0.0.2:4000 ttl 64, 128 bytes of IP",
        ),
        (
            "in on wan icmp 10.0.0.1 > 10.0.0.2",
            "icmp 10.0.0.1 > 10.0.0.2 type echo-request code 0 ttl 64, 28 bytes of IP",
        ),
        (
            "in on wan icmpv6 fe80::1 > ff02::1 type neighbour-solicitation ttl 255",
            "icmpv6 fe80::1 > ff02::1 type neighbour-solicitation code 0 ttl 255, 48 bytes of IP",
        ),
        (
            "in on wan proto gre 10.0.0.1 > 10.0.0.2 length 8",
            "gre 10.0.0.1 > 10.0.0.2 ttl 64, 28 bytes of IP",
        ),
        (
            "in on wan sctp 10.0.0.1:7 > 10.0.0.2:9",
            "sctp 10.0.0.1:7 > 10.0.0.2:9 ttl 64, 32 bytes of IP",
        ),
        (
            "in on wan udp 10.0.0.1:7 > 10.0.0.2:9 fragment 0+ length 16",
            "udp 10.0.0.1:7 > 10.0.0.2:9 first fragment ttl 64, 44 bytes of IP",
        ),
        (
            "in on wan udp [2001:db8::1]:7 > [2001:db8::2]:9 fragment 64 length 16",
            "udp 2001:db8::1 > 2001:db8::2 later fragment ttl 64, 64 bytes of IP",
        ),
        ("in on wan arp 10.0.0.1 > 10.0.0.2", "arp"),
    ] {
        assert_eq!(line(text), said, "{text}");
    }
}

#[test]
fn numbers_and_flags_arrive() {
    let facts = understand(&made(
        "in on wan tcp 10.0.0.1:1 > 10.0.0.2:2 ack psh seq 7 acknowledges 8 window 9",
    ))
    .facts;
    assert_eq!((facts.seq, facts.ack, facts.window, facts.tcp_flags), (7, 8, 9, 0x18));
    assert_eq!(facts.fragment, Fragment::Whole);
}

#[test]
fn a_dump_is_taken_as_it_is() {
    let frame = made("in on wan tcp 10.0.0.1:1 > 10.0.0.2:2 syn");
    let text = hex_text(&frame);
    for dump in [
        format!("in on wan hex {text}"),
        format!("in on wan hex 0x{text} state new"),
        format!("in on wan hex 0x0000: {} 0x0010: {}", &text[..8], &text[8..]),
    ] {
        assert_eq!(parse(&dump).unwrap().content, Content::Dump(frame.clone()), "{dump}");
    }
    assert_eq!(parse("in on wan").unwrap().content, Content::Elsewhere);
}

#[test]
fn errors_name_column_seen_and_expected() {
    let broken = [
        "",
        "inn on wan tcp 10.0.0.1:1 > 10.0.0.2:2",
        "in wan tcp 10.0.0.1:1 > 10.0.0.2:2",
        "in on",
        "in on wan tpc 10.0.0.1:1 > 10.0.0.2:2",
        "in on wan tcp 10.0.0.1 > 10.0.0.2:2",
        "in on wan tcp 10.0.0.1:1 > 10.0.0.2:70000",
        "in on wan tcp 2001:db8::1 > [2001:db8::2]:2",
        "in on wan tcp 10.0.0.1:1 10.0.0.2:2",
        "in on wan tcp 10.0.0.1:1 > [2001:db8::2]:2",
        "in on wan tcp example.org:1 > 10.0.0.2:2",
        "in on wan icmp 10.0.0.1:1 > 10.0.0.2",
        "in on wan icmp 10.0.0.1 > 10.0.0.2 syn",
        "in on wan udp 10.0.0.1:1 > 10.0.0.2:2 type 3",
        "in on wan tcp 10.0.0.1:1 > 10.0.0.2:2 sny",
        "in on wan tcp 10.0.0.1:1 > 10.0.0.2:2 flags syn,akc",
        "in on wan tcp 10.0.0.1:1 > 10.0.0.2:2 ttl 256",
        "in on wan tcp 10.0.0.1:1 > 10.0.0.2:2 fragment 5",
        "in on wan tcp 10.0.0.1:1 > 10.0.0.2:2 state related",
        "in on wan vlan 1 vlan 2 vlan 3 tcp 10.0.0.1:1 > 10.0.0.2:2",
        "in on wan vlan 4096 tcp 10.0.0.1:1 > 10.0.0.2:2",
        "in on wan hex 00112233xx",
        "in on wan hex 00 1",
        "in on wan hex 0011",
    ];
    let said: Vec<String> = broken
        .iter()
        .map(|text| {
            let Diagnostic { column, message, expected, hint, .. } = *parse(text).unwrap_err();
            let expected = expected.map(|what| format!("\n  expected {what}")).unwrap_or_default();
            let hint = hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
            format!("{text}\n  column {column}: {message}{expected}{hint}\n")
        })
        .collect();
    insta::assert_snapshot!(said.join(""));
}

#[test]
fn an_opening_leads_up_to_its_packet() {
    let packet =
        understand(&made("in on wan tcp 10.0.0.1:1 > 10.0.0.2:2 ack seq 100 acknowledges 500"));
    let lines = |packets: Vec<Opening>| {
        let line = |(direction, frame): &Opening| {
            let it = understand(frame);
            format!("{} {} {}", direction.name(), it.line(), it.facts.seq)
        };
        packets.iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(
        lines(opening(Direction::In, &packet, false)),
        [
            "in tcp 10.0.0.1:1 > 10.0.0.2:2 syn ttl 64, 40 bytes of IP 99",
            "out tcp 10.0.0.2:2 > 10.0.0.1:1 syn,ack ttl 64, 40 bytes of IP 499",
            "in tcp 10.0.0.1:1 > 10.0.0.2:2 ack ttl 64, 40 bytes of IP 100",
        ]
    );
    assert_eq!(
        lines(opening(Direction::In, &packet, true)),
        [
            "out tcp 10.0.0.2:2 > 10.0.0.1:1 syn ttl 64, 40 bytes of IP 499",
            "in tcp 10.0.0.1:1 > 10.0.0.2:2 syn,ack ttl 64, 40 bytes of IP 99",
            "out tcp 10.0.0.2:2 > 10.0.0.1:1 ack ttl 64, 40 bytes of IP 500",
        ]
    );
    let ping = understand(&made("out on wan icmp 10.0.0.2 > 10.0.0.1 type echo-reply id 7"));
    assert_eq!(lines(opening(Direction::Out, &ping, true)).len(), 2);
    assert!(opening(Direction::Out, &ping, false).is_empty());
}

/// A legacy capture of one packet.
fn pcap(linktype: u32, data: &[u8], length: u32) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, linktype] {
        file.extend_from_slice(&u32::to_le_bytes(word));
    }
    for word in [0, 0, data.len() as u32, length] {
        file.extend_from_slice(&u32::to_le_bytes(word));
    }
    file.extend_from_slice(data);
    file
}

fn captured(file: &[u8]) -> Result<Vec<capture::Captured>, capture::CaptureError> {
    let mut all = Vec::new();
    capture::read::<capture::CaptureError>(file, |packet| {
        all.push(packet);
        Ok(true)
    })?;
    Ok(all)
}

#[test]
fn captures_are_frames() {
    let frame = made("in on wan tcp 10.0.0.1:1 > 10.0.0.2:2 syn");
    let found = captured(&pcap(1, &frame, 1000)).unwrap();
    assert_eq!((found.len(), &found[0].bytes, found[0].length), (1, &frame, 1000));
    let raw = captured(&pcap(101, &frame[14..], 40)).unwrap();
    assert_eq!(raw[0].length, 54);
    assert_eq!(understand(&raw[0].bytes).line(), understand(&frame).line());
    let error = captured(&pcap(105, &frame, 54)).unwrap_err();
    assert!(error.to_string().contains("packet 1 has link type 105; expected Ethernet"), "{error}");
    let whole = pcap(1, &frame, 54);
    let error = captured(&whole[..whole.len() - 3]).unwrap_err();
    assert!(error.to_string().contains("ends within a packet"), "{error}");
    let error = captured(b"this is no capture, whatever it is, and it is long enough").unwrap_err();
    assert!(error.to_string().contains("no capture file"), "{error}");
}
