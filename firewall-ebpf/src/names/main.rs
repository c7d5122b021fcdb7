//! What names of remote hosts are read from, and no more: DNS questions and answers of local sockets, and ClientHellos on
//! their way from them. Nothing is judged or changed; user space reads the messages.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "the BPF target's atomics are only there as intrinsics")]

#[path = "../atomic.rs"]
#[allow(dead_code, reason = "the filter's programs need more of them")]
mod atomic;
#[path = "../buffer.rs"]
mod buffer;
mod maps;
#[path = "../object.rs"]
mod object;
#[path = "../opaque.rs"]
#[allow(dead_code, reason = "the filter's programs need more of it")]
mod opaque;
mod packet;
mod socket;
mod tell;

use aya_ebpf::{
    bindings::__sk_buff, helpers::generated::bpf_tcp_sock, macros::cgroup_skb,
    programs::SkBuffContext,
};
use firewall_common::abi::observed::{ANSWER_MOST, HELLO_MOST, ObservedKind, QUESTION_MOST};

use buffer::{load, socket_of, word};
use packet::Packet;
use tell::tell;

/// The packet goes on, whatever was seen.
const ALLOW: i32 = 1;
/// IPPROTO_TCP, IPPROTO_UDP.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Bytes of a UDP header.
const UDP_HEADER: u32 = 8;
/// Port of DNS, as it stands in a packet.
const DNS: [u8; 2] = 53u16.to_be_bytes();
/// Segments with data that may belong to a ClientHello: with the least MSS of IPv4 (536) it has four.
const SEGMENTS: u32 = 4;

/// Where a DNS message begins in a datagram whose port at byte `port` of the header is DNS's; or of whatever port, where
/// it is `known` to be one.
#[inline(always)]
unsafe fn message(skb: *mut __sk_buff, port: u32, known: bool) -> Option<(Packet, u32)> {
    // SAFETY: the program's context.
    unsafe {
        let packet = Packet::read(skb, UDP)?;
        let mut ports = [0u8; 2];
        load(skb, packet.at + port, ports.as_mut_ptr(), 2)?;
        let at = packet.at + UDP_HEADER;
        (known || ports == DNS).then_some((packet, at))
    }
}

#[inline(always)]
unsafe fn answer(skb: *mut __sk_buff) -> Option<()> {
    // SAFETY: the program's context.
    unsafe {
        let sk = socket_of(skb);
        if sk.is_null() {
            return None;
        }
        if word(&raw const (*sk).protocol) != u32::from(UDP) {
            return None;
        }
        let (packet, at) = message(skb, 0, false)?;
        tell::<ANSWER_MOST>(skb, sk, &packet, at, ObservedKind::Answer)
    }
}

#[inline(always)]
unsafe fn sent(skb: *mut __sk_buff) -> Option<()> {
    // SAFETY: the program's context.
    unsafe {
        let sk = socket_of(skb);
        if sk.is_null() {
            return None;
        }
        let protocol = word(&raw const (*sk).protocol);
        if protocol == u32::from(UDP) {
            // What netfilter makes of the port has been done by now.
            let asked = (&raw const (*sk).dst_port).read_volatile() == u16::from_ne_bytes(DNS);
            let (packet, at) = message(skb, 2, asked)?;
            return tell::<QUESTION_MOST>(skb, sk, &packet, at, ObservedKind::Question);
        }
        if protocol != u32::from(TCP) {
            return None;
        }
        let tcp = bpf_tcp_sock(sk);
        if tcp.is_null() {
            return None;
        }
        // All packets but the first few of a connection cost no more than this. Those of this one are counted.
        let segments = word(&raw const (*tcp).data_segs_out);
        if segments == 0 || segments > SEGMENTS {
            return None;
        }
        let packet = Packet::read(skb, TCP)?;
        let mut offset = [0u8; 1];
        load(skb, packet.at + 12, offset.as_mut_ptr(), 1)?;
        let at = packet.at + u32::from(offset[0] >> 4) * 4;
        // A handshake's record (22) of SSL 3.0 or TLS, and in it a ClientHello (1).
        let mut begin = [0u8; 6];
        load(skb, at, begin.as_mut_ptr(), 6)?;
        if begin[0] != 22 || begin[1] != 3 || begin[5] != 1 {
            return None;
        }
        tell::<HELLO_MOST>(skb, sk, &packet, at, ObservedKind::Hello)
    }
}

/// A packet is about to be given to a socket: perhaps a DNS answer.
#[cgroup_skb]
pub fn sluice_name_in(ctx: SkBuffContext) -> i32 {
    // SAFETY: the program's context.
    unsafe { answer(ctx.skb.skb) };
    ALLOW
}

/// A packet leaves a socket: perhaps a DNS question, or a ClientHello.
#[cgroup_skb]
pub fn sluice_name_out(ctx: SkBuffContext) -> i32 {
    // SAFETY: the program's context.
    unsafe { sent(ctx.skb.skb) };
    ALLOW
}
