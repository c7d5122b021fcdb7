//! A call for the network, or a packet that asks a socket: what rules are told of it.

use aya_ebpf::bindings::{__sk_buff, bpf_sock, bpf_sock_addr};
use core::{mem::MaybeUninit, ptr};
use firewall_common::abi::table::Direction;

use crate::buffer;

/// IPPROTO_TCP, IPPROTO_UDP.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
/// Flags of TCP (RFC 9293, section 3.1).
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// SCTP and UDP-Lite begin with their ports as well.
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

/// `::ffff:0:0/96` (RFC 4291, section 2.5.5.2), third word: such a call is for IPv4.
const MAPPED: u32 = 0xffff_u32.to_be();

/// Ends as of the call: `src` is this end of what goes out, `dst` this end of what comes in. Words only, each written by
/// itself: on the stack the verifier wants every access aligned.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Call {
    /// Source; IPv4 in the first word. Of what goes out it isn't known yet: zeros.
    pub src: [u32; 4],
    /// Destination.
    pub dst: [u32; 4],
    /// Ports, big-endian; 0 where there are none.
    pub sport: u32,
    pub dport: u32,
    /// IPPROTO_*.
    pub proto: u32,
    /// 4 or 6.
    pub family: u32,
    /// 1: it comes in.
    incoming: u32,
    _pad: u32,
}

impl Call {
    /// All zeros, in place: moved about, it would stand on the stack twice.
    #[inline(always)]
    fn zeroed(call: &mut MaybeUninit<Self>) -> &mut Self {
        let words = call.as_mut_ptr().cast::<u64>();
        let mut i = 0;
        while i < size_of::<Self>() / 8 {
            // SAFETY: within the value, which stands at a multiple of eight.
            unsafe { words.add(i).write_volatile(0) };
            i += 1;
        }
        // SAFETY: integers, all written.
        unsafe { call.assume_init_mut() }
    }

    /// Whether it comes in.
    #[inline(always)]
    pub fn comes_in(&self) -> bool {
        self.incoming != 0
    }

    /// Direction, as rules have it.
    #[inline(always)]
    pub fn direction(&self) -> Direction {
        if self.comes_in() { Direction::In } else { Direction::Out }
    }

    /// Whether the protocol has ports.
    #[inline(always)]
    pub fn has_ports(&self) -> bool {
        matches!(self.proto as u8, TCP | UDP | SCTP | UDPLITE)
    }

    /// What `connect` or `sendmsg` asks for. (`struct bpf_sock_addr`: every word has to be read whole.)
    ///
    /// # Safety
    /// The context of such a program, for addresses of `family`.
    #[inline(always)]
    pub unsafe fn asked(
        place: &mut MaybeUninit<Self>,
        ctx: *const bpf_sock_addr,
        family: u8,
    ) -> &Self {
        // SAFETY: the caller's promise.
        unsafe {
            let read = |word: *const u32| word.read_volatile();
            let call = Self::zeroed(place);
            put(&mut call.dport, read(&raw const (*ctx).user_port) & 0xffff);
            put(&mut call.proto, read(&raw const (*ctx).protocol));
            put(&mut call.family, u32::from(family));
            if family == 4 {
                put(&mut call.dst[0], read(&raw const (*ctx).user_ip4));
                return call;
            }
            let words = (&raw const (*ctx).user_ip6).cast::<u32>();
            let (a, b, c, d) =
                (read(words), read(words.add(1)), read(words.add(2)), read(words.add(3)));
            if a == 0 && b == 0 && c == MAPPED {
                put(&mut call.dst[0], d);
                put(&mut call.family, 4);
                return call;
            }
            put(&mut call.dst[0], a);
            put(&mut call.dst[1], b);
            put(&mut call.dst[2], c);
            put(&mut call.dst[3], d);
            call
        }
    }

    /// What a packet says, from its IP header on; `None`: it can't be read, or asks for nothing.
    ///
    /// # Safety
    /// The context of a `cgroup_skb` program.
    #[inline(always)]
    pub unsafe fn packet(
        place: &mut MaybeUninit<Self>,
        skb: *mut __sk_buff,
        incoming: bool,
    ) -> Option<&Self> {
        let call = Self::zeroed(place);
        put(&mut call.incoming, u32::from(incoming));
        // SAFETY: the caller's promise; each read is within what it fills.
        let at = unsafe {
            let mut first = [0u8; 8];
            load(skb, 0, &mut first)?;
            if first[0] >> 4 == 4 {
                put(&mut call.family, 4);
                let mut rest = [0u32; 3];
                load(skb, 8, &mut rest)?;
                put(&mut call.proto, u32::from_be(rest[0]) >> 16 & 0xff);
                call.src[0] = rest[1];
                call.dst[0] = rest[2];
                u32::from(first[0] & 15) * 4
            } else {
                put(&mut call.family, 6);
                load(skb, 8, &mut call.src)?;
                load(skb, 24, &mut call.dst)?;
                let mut proto = first[6];
                let at = behind_extensions(skb, &mut proto)?;
                put(&mut call.proto, u32::from(proto));
                at
            }
        };
        if call.has_ports() {
            let mut ports = [0u16; 2];
            // SAFETY: as above.
            unsafe { load(skb, at, &mut ports)? };
            put(&mut call.sport, u32::from(ports[0]));
            put(&mut call.dport, u32::from(ports[1]));
        }
        if call.proto == u32::from(TCP) {
            let mut flags = [0u8; 2];
            // SAFETY: as above.
            unsafe { load(skb, at + 12, &mut flags)? };
            // The end of a handshake comes by its listener, too: only a SYN asks.
            if flags[1] & (SYN | ACK) != SYN {
                return None;
            }
        }
        Some(call)
    }
}

/// Stores a word by itself.
#[inline(always)]
fn put(place: &mut u32, value: u32) {
    // SAFETY: a reference is valid for writes.
    unsafe { (&raw mut *place).write_volatile(value) };
}

/// Where the upper layer's header begins, and in `proto` whose it is (RFC 8200, section 4): at most four
/// extensions are walked.
#[inline(always)]
unsafe fn behind_extensions(skb: *mut __sk_buff, proto: &mut u8) -> Option<u32> {
    let mut at = 40;
    let mut left = 4;
    while left != 0 {
        // Hop-by-hop, routing, destination options.
        if !matches!(*proto, 0 | 43 | 60) {
            break;
        }
        let mut head = [0u8; 2];
        // SAFETY: the caller's promise.
        unsafe { load(skb, at, &mut head)? };
        *proto = head[0];
        at += (u32::from(head[1]) + 1) * 8;
        left -= 1;
    }
    Some(at)
}

/// Fills `into` with the packet's bytes from `at` on.
#[inline(always)]
unsafe fn load<T>(skb: *mut __sk_buff, at: u32, into: &mut T) -> Option<()> {
    // SAFETY: the caller's promise; the helper writes as many bytes as the value has.
    unsafe { buffer::load(skb, at, ptr::from_mut(into).cast(), size_of::<T>() as u32) }
}

/// Whether a socket is connected, as far as its port goes.
///
/// # Safety
/// A full socket.
#[inline(always)]
pub unsafe fn is_connected(sk: *const bpf_sock) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (&raw const (*sk).dst_port).read_volatile() != 0 }
}
