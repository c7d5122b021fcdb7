//! The only packet-pointer arithmetic: a bounds-checked cursor over XDP frames and socket buffers, and
//! the way an answer leaves.

mod xdp;

pub use xdp::Xdp;

use aya_ebpf::{
    EbpfContext as _,
    cty::c_void,
    helpers::generated::{
        bpf_fib_lookup, bpf_redirect, bpf_redirect_neigh, bpf_skb_change_tail, bpf_skb_load_bytes,
        bpf_skb_load_bytes_relative, bpf_skb_pull_data, bpf_skb_store_bytes,
    },
    maps::ProgramArray,
    programs::TcContext,
};
use firewall_common::{
    abi::{iface::DEFERRED, table::Direction},
    wire::{Cursor, Facts, cursor::Pod},
};

use crate::{
    cookies,
    forward::{self, Route},
    localports,
    stages::STAGES_TC,
    translate,
    verdict::Outcome,
    work::Work,
};

/// Parsed offsets stay below this; tells the verifier how far a variable offset can reach.
const MAX_OFFSET: usize = 0x3fff;

/// BPF_HDR_START_NET.
const FROM_NETWORK: u32 = 1;

/// Bytes of headers that must be readable, where the packet has them.
const HEADERS: u32 = 192;

/// `__sk_buff.mark` of an answer on its way to the next hook, back in to a local process or out by the way
/// that the packet came: our own program there lets it by.
pub const ANSWER_MARK: u32 = 0x51_1ce;

/// Bytes of a packet by a length that only the packet tells.
pub trait Load {
    /// Copies `len` bytes, 4 to 64, at `off` out of the packet; whether it has that many.
    fn load_part(&self, off: usize, to: &mut [u8; 64], len: u32) -> bool;
}

/// A packet at a hook.
pub trait Packet: Cursor + Load {
    /// Packets to be translated are left to the TC program behind this one, which sees partial checksums: a
    /// frame of a veth or of a virtual machine carries the pseudo header's sum alone, and nothing tells.
    const DEFERS: bool;
    /// The stages that such a packet goes through.
    const STAGES: &'static ProgramArray;
    /// Leaves the packet to the next program; `false`: that can't be.
    fn defer(&self) -> bool;
    /// Whether the packet is judged at this hook, where XDP stands in front of it.
    fn is_deferred(&self) -> bool;
    /// Whether the public port that its flow has just got is that of a local socket.
    fn is_lent_from_here(&self, work: &Work) -> bool;
    /// What helpers are called with.
    fn context(&self) -> *mut c_void;
    /// Interface of the hook.
    fn ifindex(&self) -> u32;
    /// Length of the frame, bytes; cheap where the first buffer already holds `at_least`.
    fn frame_len(&self, at_least: usize) -> u32;
    /// Copies `to.len()` bytes at `off` out of the packet; whether it has that many.
    fn copy<const N: usize>(&self, off: usize, to: &mut [u8; N]) -> bool;
    /// Segments the buffer stands for, at least 1.
    fn segments(&self) -> u32;
    /// VLAN id that the driver took off, 0 if none.
    fn stripped_vlan(&self) -> u16;
    /// Whether the kernel finds and watches the neighbours of forwarded packets; else they are sent to
    /// hardware addresses as the routing table tells them.
    const ASKS_NEIGHBOURS: bool;
    /// Bytes from the IP header on; of each segment, where the buffer stands for several.
    fn segment_len(&self, facts: &Facts) -> u32;
    /// Asks the kernel's routing table; whether the packet can go on at once.
    fn find_route(&self, route: &mut Route) -> bool;
    /// Sends the packet out as `work.route` says, translated for both hooks, one hop less to live.
    /// `judged`: a program of ours at that interface has to know. `None`: not this one; it is as it was.
    fn forward(&self, work: &Work, judged: bool) -> Option<Outcome>;
    /// Hands the packet, once it is as it should be, to the AF_XDP socket of its queue; whether there
    /// is one.
    fn hand_over(&self, work: &Work) -> bool;
    /// It goes on to the stack: a connection that a cookie made is given to its listener, where this hook can.
    fn let_by(&self, work: &Work);
    /// Rewrites the packet as `work.rewrite` says, with its checksums; `false`: it can't be.
    fn translate(&self, work: &Work) -> bool;
    /// Cuts (or stretches) the packet to `l3 + N` bytes, swaps the Ethernet addresses, writes `bytes`
    /// at `l3` and sends it back to where it came from.
    fn answer<const N: usize>(&self, l3: usize, bytes: &[u8; N], direction: Direction) -> Outcome;
}

/// `struct bpf_redir_neigh` (include/uapi/linux/bpf.h).
#[repr(C)]
struct NextHop {
    family: u32,
    address: [u8; 16],
}

/// PACKET_HOST (include/uapi/linux/if_packet.h).
const TO_US: u32 = 0;

/// TC_ACT_REDIRECT.
const REDIRECTED: i64 = 7;

/// `__sk_buff.tc_index` of a packet that was forwarded past the stack: our program at its egress has
/// nothing left to do.
const JUDGED: u32 = 0x51ce;

/// BPF_FIB_LKUP_RET_SUCCESS: a neighbour is known, and the packet isn't too big. Everything else is the
/// stack's.
#[inline(always)]
fn find_route(ctx: *mut c_void, route: &mut Route) -> bool {
    let len = size_of::<Route>() as i32;
    // SAFETY: the context is the program's; the structure has the kernel's layout and length.
    unsafe { bpf_fib_lookup(ctx, core::ptr::from_mut(route).cast(), len, 0) == 0 }
}

/// A value at `off` of the packet between two pointers.
#[inline(always)]
fn read<T: Pod>(data: usize, data_end: usize, off: usize) -> Option<T> {
    if off > MAX_OFFSET {
        return None;
    }
    let at = data + off;
    if at + size_of::<T>() > data_end {
        return None;
    }
    // SAFETY: the end was just checked, as the verifier demands; any bytes are a value.
    Some(unsafe { core::ptr::read_unaligned(at as *const T) })
}

/// A socket buffer at a TC hook.
pub struct Skb<'a>(pub &'a TcContext);

impl Skb<'_> {
    /// Where the frame begins; as for XDP.
    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: the context is the one this program was called with.
        unsafe { (&raw const (*self.0.skb.skb).data).read_volatile() as usize }
    }
    /// Where its readable part ends.
    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0.skb.skb).data_end).read_volatile() as usize }
    }
    /// Makes the headers readable where they lie in fragments of the buffer.
    #[inline(always)]
    pub fn pull(&self) {
        let linear = self.data_end() - self.data();
        let len = self.0.len();
        if linear < HEADERS as usize && (linear as u32) < len {
            let want = if len < HEADERS { len } else { HEADERS };
            // SAFETY: the context is ours. Failure leaves the buffer as it was: the parser then says
            // what is missing.
            unsafe { bpf_skb_pull_data(self.0.as_ptr().cast(), want) };
        }
    }
    /// Whether this is our own answer on its way (see [`ANSWER_MARK`]); takes the mark off.
    #[inline(always)]
    pub fn is_answer(&self) -> bool {
        let skb = self.0.skb.skb;
        // SAFETY: the context is ours; `mark` may be read and written at a TC hook.
        unsafe {
            if (*skb).mark != ANSWER_MARK {
                return false;
            }
            (*skb).mark = 0;
        }
        true
    }
}

impl Skb<'_> {
    /// Whether a program of ours at ingress already did what egress has to (see [`JUDGED`]); takes the
    /// word off.
    #[inline(always)]
    pub fn was_judged(&self) -> bool {
        let skb = self.0.skb.skb;
        // SAFETY: the context is ours; `tc_index` may be read and written at a TC hook.
        unsafe {
            if (*skb).tc_index != JUDGED {
                return false;
            }
            (*skb).tc_index = 0;
        }
        true
    }
    /// Out by a route: the kernel writes the Ethernet header.
    #[inline(always)]
    fn send(&self, route: &Route) -> bool {
        let mut hop = NextHop { family: u32::from(route.family), address: route.dst };
        let len = size_of::<NextHop>() as i32;
        // SAFETY: the helper reads the structure, which has the kernel's layout and length.
        let said = unsafe { bpf_redirect_neigh(route.ifindex, (&raw mut hop).cast(), len, 0) };
        said == REDIRECTED
    }
}

impl Cursor for Skb<'_> {
    #[inline(always)]
    fn load<T: Pod>(&self, off: usize) -> Option<T> {
        read(self.data(), self.data_end(), off)
    }
    #[inline(always)]
    fn holds(&self, end: usize) -> bool {
        end <= self.len()
    }
    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len() as usize
    }
    #[inline(always)]
    fn aggregated(&self) -> bool {
        self.segments() > 1
    }
}

impl Load for Skb<'_> {
    #[inline(always)]
    fn load_part(&self, off: usize, to: &mut [u8; 64], len: u32) -> bool {
        let to = to.as_mut_ptr().cast();
        // SAFETY: the helper fills `len` bytes, at most 64, or fails.
        unsafe { bpf_skb_load_bytes(self.0.as_ptr().cast(), off as u32, to, len) == 0 }
    }
}

impl Packet for Skb<'_> {
    const DEFERS: bool = false;
    const STAGES: &'static ProgramArray = &STAGES_TC;
    #[inline(always)]
    fn defer(&self) -> bool {
        false
    }
    #[inline(always)]
    fn is_deferred(&self) -> bool {
        let skb = self.0.skb.skb;
        // SAFETY: the context is ours.
        let (at, end) = unsafe { ((*skb).data_meta as usize, (*skb).data as usize) };
        if at + 4 > end {
            return false;
        }
        // SAFETY: the four bytes are metadata, as was just checked.
        unsafe { (at as *const u32).read_unaligned() == DEFERRED }
    }
    #[inline(always)]
    fn is_lent_from_here(&self, work: &Work) -> bool {
        localports::is_taken(self.context(), work)
    }
    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.0.skb.skb.cast()
    }
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is ours.
        unsafe { (*self.0.skb.skb).ifindex }
    }
    #[inline(always)]
    fn frame_len(&self, _: usize) -> u32 {
        self.0.len()
    }
    #[inline(always)]
    fn copy<const N: usize>(&self, off: usize, to: &mut [u8; N]) -> bool {
        let to = to.as_mut_ptr().cast();
        // SAFETY: the helper fills the N bytes it is given, or fails.
        unsafe { bpf_skb_load_bytes(self.0.as_ptr().cast(), off as u32, to, N as u32) == 0 }
    }
    #[inline(always)]
    fn segments(&self) -> u32 {
        // SAFETY: the context is ours.
        let n = unsafe { (*self.0.skb.skb).gso_segs };
        if n == 0 { 1 } else { n }
    }
    #[inline(always)]
    fn stripped_vlan(&self) -> u16 {
        // SAFETY: the context is ours.
        unsafe {
            let skb = self.0.skb.skb;
            if (*skb).vlan_present != 0 { (*skb).vlan_tci as u16 & 0x0fff } else { 0 }
        }
    }
    #[inline(always)]
    fn let_by(&self, work: &Work) {
        if matches!(work.direction, Direction::In) {
            cookies::hand_over(self.context(), self);
        }
    }
    #[inline(always)]
    fn translate(&self, work: &Work) -> bool {
        translate::skb(self.0.skb.skb, work, work.rewrite)
    }
    const ASKS_NEIGHBOURS: bool = true;
    #[inline(always)]
    fn segment_len(&self, facts: &Facts) -> u32 {
        // SAFETY: the context is ours.
        forward::segment_len(facts, unsafe { (*self.0.skb.skb).gso_size })
    }
    #[inline(always)]
    fn find_route(&self, route: &mut Route) -> bool {
        find_route(self.0.as_ptr().cast(), route)
    }
    #[inline(always)]
    fn forward(&self, work: &Work, judged: bool) -> Option<Outcome> {
        let skb = self.0.skb.skb;
        // SAFETY: the context is ours; `tc_index` may be written at a TC hook.
        unsafe {
            // A tag (of whatever number), or sent to somebody else.
            if (*skb).vlan_present != 0 || (*skb).pkt_type != TO_US {
                return None;
            }
            if judged {
                (&raw mut (*skb).tc_index).write_volatile(JUDGED);
                if (&raw const (*skb).tc_index).read_volatile() != JUDGED {
                    // A kernel without traffic control keeps no such word.
                    return None;
                }
            }
        }
        let sent = translate::next_hop(skb, work) && self.send(&work.route);
        Some(if sent { Outcome::Away } else { Outcome::Drop })
    }
    #[inline(always)]
    fn hand_over(&self, _: &Work) -> bool {
        // AF_XDP sockets take frames from drivers.
        false
    }
    #[inline(always)]
    fn answer<const N: usize>(&self, l3: usize, bytes: &[u8; N], direction: Direction) -> Outcome {
        let ctx = self.0.skb.skb;
        // By helper, already swapped: a check of the packet's first bytes would be dropped as implied
        // by those before, which the verifier doesn't see.
        let mut swapped = [0u8; 12];
        let to = swapped.as_mut_ptr();
        // SAFETY: each call fills six bytes of the twelve, or fails.
        let read = unsafe {
            bpf_skb_load_bytes(ctx.cast(), 6, to.cast(), 6)
                | bpf_skb_load_bytes(ctx.cast(), 0, to.add(6).cast(), 6)
        };
        if read != 0 {
            return Outcome::Drop;
        }
        // SAFETY: the context is ours; each helper checks its ranges against the buffer, and the
        // source arrays are of the length given.
        unsafe {
            if bpf_skb_change_tail(ctx, (l3 + N) as u32, 0) != 0
                || bpf_skb_store_bytes(ctx.cast(), 0, swapped.as_ptr().cast(), 12, 0) != 0
                || bpf_skb_store_bytes(
                    ctx.cast(),
                    l3 as u32,
                    bytes.as_ptr().cast(),
                    N as u32,
                    u64::from(aya_ebpf::bindings::BPF_F_INVALIDATE_HASH),
                ) != 0
            {
                return Outcome::Drop;
            }
            (*ctx).mark = ANSWER_MARK;
            let flags = match direction {
                // Out by the way it came.
                Direction::In => 0,
                // Back into the machine, as if the other side had answered.
                Direction::Out => u64::from(aya_ebpf::bindings::BPF_F_INGRESS),
            };
            bpf_redirect((*ctx).ifindex, flags);
        }
        Outcome::Bounce
    }
}

/// A socket buffer from its network header on: behind generic XDP the kernel may have forgotten how long the
/// link header is (it copies the buffer, and `mac_len` isn't copied), and begins the packet at either.
pub struct Network<'a>(pub &'a TcContext);

impl Network<'_> {
    /// EtherType, host-endian.
    #[inline(always)]
    pub fn ethertype(&self) -> u16 {
        // SAFETY: the context is ours.
        u16::from_be(unsafe { (*self.0.skb.skb).protocol } as u16)
    }
    /// What helpers are called with.
    #[inline(always)]
    pub fn context(&self) -> *mut c_void {
        self.0.skb.skb.cast()
    }
}

impl Cursor for Network<'_> {
    #[inline(always)]
    fn load<T: Pod>(&self, off: usize) -> Option<T> {
        let mut to = T::zeroed();
        let (at, len) = ((&raw mut to).cast(), size_of::<T>() as u32);
        // SAFETY: the helper fills the bytes of the value, which may be any, or fails.
        let got = unsafe {
            bpf_skb_load_bytes_relative(self.context(), off as u32, at, len, FROM_NETWORK)
        };
        if got == 0 { Some(to) } else { None }
    }
    /// At most the link header too many: whoever judged the packet knows better.
    #[inline(always)]
    fn holds(&self, end: usize) -> bool {
        end <= self.len()
    }
    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len() as usize
    }
    #[inline(always)]
    fn aggregated(&self) -> bool {
        false
    }
}

impl Load for Network<'_> {
    #[inline(always)]
    fn load_part(&self, off: usize, to: &mut [u8; 64], len: u32) -> bool {
        let to = to.as_mut_ptr().cast();
        // SAFETY: the helper fills `len` bytes, at most 64, or fails.
        unsafe {
            bpf_skb_load_bytes_relative(self.context(), off as u32, to, len, FROM_NETWORK) == 0
        }
    }
}
