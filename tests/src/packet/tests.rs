//! The builder against bytes that were written by hand.

use super::*;

#[test]
fn a_tcp_frame_byte_by_byte() {
    let frame = Packet::new().ipv4("10.0.0.1", "10.0.0.2").tcp(0x1234, 80).seq(1, 0).build();
    let expected = "020000000002020000000001080045000028123440004006149a0a0000010a000002\
                    12340050000000010000000050 02fde8"
        .replace(' ', "");
    assert!(hex(&frame).starts_with(&expected), "{}", hex(&frame));
    assert_eq!(verify_checksums(&frame), Ok(()));
}

#[test]
fn every_transport_has_right_checksums_in_both_families() {
    for (a, b) in [("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8::2")] {
        for n in 0..40 {
            for packet in [
                Packet::new().ip(a, b).tcp(1, 2).fill(n),
                Packet::new().ip(a, b).udp(1, 2).fill(n),
                Packet::new().vlan(3).tag(0x8100, 4).ip(a, b).ping(7).fill(n),
            ] {
                assert_eq!(verify_checksums(&packet.build()), Ok(()));
            }
        }
    }
}

#[test]
fn a_wrong_checksum_is_seen() {
    let frame = Packet::new().ipv4("10.0.0.1", "10.0.0.2").udp(1, 2).lie_checksum(0x1111).build();
    assert!(verify_checksums(&frame).is_err());
    let frame = Packet::new().ipv4("10.0.0.1", "10.0.0.2").udp(1, 2).lie_ip_checksum(1).build();
    assert!(verify_checksums(&frame).is_err());
}

#[test]
fn extension_headers_are_chained() {
    let frame = Packet::new()
        .ipv6("::1", "::2")
        .hop_by_hop()
        .routing()
        .fragment6(9, 0, true)
        .udp(1, 2)
        .fill(8)
        .build();
    assert_eq!((frame[20], frame[54], frame[62], frame[70]), (0, 43, 44, 17));
    assert_eq!(u16::from_be_bytes([frame[18], frame[19]]), 8 * 3 + 8 + 8);
}
