//! Answers to rejected packets. Rare, so kept out of line.

use firewall_common::wire::{
    Facts, Fragment,
    answer::{self, Segment},
    facts::IcmpKind,
    ipv4, transport,
};

use crate::{packet::Packet, verdict::Outcome, work::Work};

/// Whether this packet may be answered at all (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e), and
/// never a RST for a RST). Headers with options or extensions aren't quoted, so not answered either.
#[inline(always)]
pub fn possible(f: &Facts) -> bool {
    if f.group != 0 || f.fragment == Fragment::Later || f.icmp == IcmpKind::Error {
        return false;
    }
    let no_host = if f.family == 4 {
        f.src[0] == 0 || f.src[0] >= 224 || f.dst[0] >= 224
    } else {
        f.src[0] == 0xff || f.dst[0] == 0xff || f.src == [0; 16]
    };
    if no_host {
        return false;
    }
    if f.proto == transport::TCP {
        return f.tcp_flags & transport::RST == 0;
    }
    let header = f.l4 - f.l3;
    if f.family == 4 {
        header == ipv4::HEADER as u16 && f.ip_len >= 28
    } else {
        header == 40 && f.ip_len >= 48
    }
}

/// `N` bytes at `AT` of the room for an answer.
#[inline(always)]
fn room<const N: usize, const AT: usize>(answer: &mut [u8; 96]) -> &mut [u8; N] {
    const { assert!(AT + N <= 96) };
    // SAFETY: the array is at least AT + N bytes long.
    unsafe { &mut *answer.as_mut_ptr().add(AT).cast::<[u8; N]>() }
}

/// Sends the answer.
#[inline(never)]
pub fn answer<P: Packet>(pkt: &P, work: &mut Work) -> Outcome {
    let (f, direction) = (&work.facts, work.direction);
    let (l3, l4) = (f.l3 as usize, f.l4 as usize);
    if f.proto == transport::TCP {
        let numbers = room::<8, 0>(&mut work.answer);
        if !pkt.copy(l4 + 4, numbers) {
            return Outcome::Drop;
        }
        let n = *numbers;
        let head = (f.l4 - f.l3) as u32 + f.l4_len as u32;
        let segment = Segment {
            seq: u32::from_be_bytes([n[0], n[1], n[2], n[3]]),
            ack: u32::from_be_bytes([n[4], n[5], n[6], n[7]]),
            payload: f.ip_len.saturating_sub(head),
        };
        return if f.family == 4 {
            let out = room::<40, 0>(&mut work.answer);
            answer::rst4(out, f, segment);
            pkt.answer(l3, out, direction)
        } else {
            let out = room::<60, 0>(&mut work.answer);
            answer::rst6(out, f, segment);
            pkt.answer(l3, out, direction)
        };
    }
    if f.family == 4 {
        if !pkt.copy(l3, room::<28, 28>(&mut work.answer)) {
            return Outcome::Drop;
        }
        let out = room::<56, 0>(&mut work.answer);
        answer::unreachable4(out, f);
        pkt.answer(l3, out, direction)
    } else {
        if !pkt.copy(l3, room::<48, 48>(&mut work.answer)) {
            return Outcome::Drop;
        }
        let out = room::<96, 0>(&mut work.answer);
        answer::unreachable6(out, f);
        pkt.answer(l3, out, direction)
    }
}
