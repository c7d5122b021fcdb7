//! SYN cookies: SYNs to listeners of this machine are answered here, without anything being kept; the ACK
//! that brings the cookie back begins the flow, and its listener gets the connection as if it had sent the
//! SYN-ACK itself. `firewall_common::flow::cookie` says what a cookie is, docs/adr/0007 why it is so.
//!
//! The listener is told at TC ingress, where the kernel takes such connections
//! (`bpf_sk_assign_tcp_reqsk`): by the gate itself, or by a small program behind XDP.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_fib_lookup as Fib, bpf_sock_tuple},
    cty::c_void,
    helpers::generated::{
        bpf_check_mtu, bpf_fib_lookup, bpf_ktime_get_ns, bpf_sk_release, bpf_skc_lookup_tcp,
        bpf_skc_to_mptcp_sock, bpf_skc_to_tcp_sock,
    },
};
use firewall_common::{
    abi::{
        control::{
            COOKIES_ON, COOKIES_SACK, COOKIES_SCALE, COOKIES_TIMESTAMPS, Control, CookieClock,
        },
        flow::{Flow, bits},
        kfunc,
        table::{ACTION_COOKIES, Direction, RuleTable},
    },
    flow::{
        cookie::{self, Offers},
        tcp::{self, TcpState},
        window,
    },
    wire::{
        Facts, Fragment, eth,
        options::Options,
        synack::{self, SynAck},
        transport,
    },
};

use crate::{
    atomic, budget,
    conntrack::segment,
    gate,
    maps::{COOKIES, WORK},
    opaque::{put, volatile},
    packet::{Load, Packet},
    tracking::NOT_FOUND,
    verdict::Outcome,
    work::Work,
};

/// TCP_LISTEN (include/net/tcp_states.h).
const LISTEN: u32 = 10;
/// BPF_FIB_LKUP_RET_NOT_FWDED: for the machine itself, or for nobody.
const NOT_FORWARDED: i64 = 4;
/// BPF_FIB_LKUP_RET_FWD_DISABLED: the machine doesn't forward what comes in here.
const NO_ROUTER: i64 = 5;
/// BPF_F_CURRENT_NETNS.
const THIS_NETNS: u64 = u64::MAX;
/// AF_INET and AF_INET6.
const FAMILIES: [u8; 2] = [2, 10];
/// MSS that is offered where the interface's MTU can't be told: what every host takes.
const LEAST_MSS: u32 = 536;

/// What a packet has to do with cookies.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CookieState {
    /// Nothing.
    None = 0,
    /// It brings a good one back.
    Good = 1,
    /// It belongs to a connection that a cookie made and that hasn't answered yet: it may bring it again.
    Again = 2,
}

/// A cookie that is made, or that was brought back.
#[repr(C)]
pub struct Cookie {
    /// What is hashed.
    words: [u64; cookie::WORDS],
    /// The answer.
    answer: SynAck,
    /// What the client's SYN said, as its ACK tells.
    said: Options,
    /// Where to look for the listener.
    tuple: bpf_sock_tuple,
    /// Where to look for the route.
    route: Fib,
    /// MTU of the interface.
    mtu: u32,
    /// Class of the client's MSS.
    class: u8,
    /// See [`CookieState`].
    pub state: CookieState,
}

/// `struct bpf_tcp_req_attrs` (include/net/tcp.h).
#[repr(C)]
struct Attributes {
    rcv_tsval: u32,
    rcv_tsecr: u32,
    mss: u16,
    rcv_wscale: u8,
    snd_wscale: u8,
    ecn_ok: u8,
    wscale_ok: u8,
    sack_ok: u8,
    tstamp_ok: u8,
    usec_ts_ok: u8,
    reserved: [u8; 3],
}

const ATTRIBUTES: u32 = core::mem::size_of::<Attributes>() as u32;
const _: () = assert!(ATTRIBUTES == 20);

#[inline(always)]
fn clock() -> Option<*mut CookieClock> {
    COOKIES.get_ptr_mut(0)
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing and has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

/// Whether a cookie that is still good was sent by anybody here. Costs a load where none was sent ever.
#[inline(always)]
pub fn are_out() -> bool {
    let Some(clock) = clock() else { return false };
    // SAFETY: a live map value, an aligned word.
    let last = unsafe { (&raw const (*clock).last).read_volatile() };
    last != 0 && cookie::period(now_ns()) + 1 - last <= cookie::GOOD_FOR
}

/// Whether a packet is shaped as one that brings a cookie back.
#[inline(always)]
pub fn is_shaped(f: &Facts) -> bool {
    use transport::{ACK, RST, SYN, TCP};
    f.proto == TCP && f.fragment == Fragment::Whole && f.tcp_flags & (SYN | ACK | RST) == ACK
}

/// Whether the packet at hand, which the flow table doesn't settle, may bring a cookie back.
#[inline(always)]
pub fn may_bring_one(work: &Work) -> bool {
    volatile(&work.found) == NOT_FOUND
        && matches!(work.direction, Direction::In)
        && is_shaped(&work.facts)
        && are_out()
}

/// Whether an allowed packet that would begin a flow is to be answered with a cookie: a rule says so, or
/// there are too many.
#[inline(always)]
pub fn is_asked_for(table: &RuleTable, flags: u8, work: &Work) -> bool {
    use transport::{ACK, FIN, RST, SYN, TCP};
    let f = &work.facts;
    if f.proto != TCP
        || !matches!(work.direction, Direction::In)
        || f.fragment != Fragment::Whole
        || f.tcp_flags & (SYN | ACK | RST | FIN) != SYN
    {
        return false;
    }
    let flooded = budget::is_flooded(&table.settings);
    let Some(control) = gate::control() else { return false };
    (flooded || flags & ACTION_COOKIES != 0) && volatile(&control.cookies) & COOKIES_ON != 0
}

#[inline(always)]
fn offers(control: &Control) -> Offers {
    let have = volatile(&control.cookies);
    let timestamps = have & COOKIES_TIMESTAMPS != 0;
    Offers {
        timestamps,
        scale: timestamps && have & COOKIES_SCALE != 0,
        sack: timestamps && have & COOKIES_SACK != 0,
    }
}

/// Whether the packet at hand brings a good cookie; then the work says what the SYN said.
#[inline(always)]
pub fn check<P: Load>(pkt: &P, work: &mut Work) -> bool {
    gate::read_options(pkt, work);
    sluice_cookie_check() != 0
}

/// See [`check`]. A global function: verified once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_cookie_check() -> u32 {
    let (Some(control), Some(work)) = (gate::control(), WORK.get_ptr_mut(0)) else { return 0 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let f = &work.facts;
    let brought = f.ack.wrapping_sub(1);
    let Some(period) = cookie::period_in(brought, cookie::period(now_ns())) else { return 0 };
    let class = cookie::class_in(brought);
    let c = &mut work.cookie;
    cookie::fill(&mut c.words, f, f.seq.wrapping_sub(1), period, class);
    if cookie::make(cookie::hash(&c.words, control.cookie_key), period, class) != brought {
        return 0;
    }
    c.class = class;
    c.said = Options::default();
    if work.options.has_timestamp && offers(control).timestamps {
        c.said = cookie::options_in(work.options.echo);
        c.said.timestamp = work.options.timestamp;
        c.said.echo = work.options.echo;
    }
    put(&mut c.state, CookieState::Good);
    1
}

/// Makes the flow's record one of a connection whose handshake a cookie made.
#[inline(always)]
pub fn begin(flow: &mut Flow, f: &Facts, c: &Cookie) {
    flow.first_flags = transport::SYN;
    flow.tcp_state = tcp::next(TcpState::Established, false, f.tcp_flags) as u8;
    flow.bits |= bits::COOKIE | bits::TOLD_ESTABLISHED;
    if c.said.has_scale {
        flow.scales = c.said.scale | cookie::SCALE << 4;
        flow.bits |= bits::SCALE_ORIG | bits::SCALE_REPLY;
    }
    if c.said.sack {
        flow.bits |= bits::SACK_ORIG | bits::SACK_REPLY;
    }
    let room = u32::from(cookie::WINDOW);
    window::begin_answered(&mut flow.windows, &segment(f), room, flow.bits, flow.scales);
}

/// Writes the packet's tuple as the kernel looks sockets up; how long it is.
#[inline(always)]
fn tuple(c: &mut Cookie, f: &Facts) -> u32 {
    let word = |b: &[u8; 16], i: usize| u32::from_ne_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
    let (sport, dport) = (u16::from_ne_bytes(f.sport), u16::from_ne_bytes(f.dport));
    if f.family == 4 {
        let to = &raw mut c.tuple.__bindgen_anon_1.ipv4;
        // SAFETY: a member of the union, whole words.
        unsafe {
            (*to).saddr = word(&f.src, 0);
            (*to).daddr = word(&f.dst, 0);
            (*to).sport = sport;
            (*to).dport = dport;
        }
        12
    } else {
        let to = &raw mut c.tuple.__bindgen_anon_1.ipv6;
        // SAFETY: as above.
        unsafe {
            (*to).saddr = [word(&f.src, 0), word(&f.src, 4), word(&f.src, 8), word(&f.src, 12)];
            (*to).daddr = [word(&f.dst, 0), word(&f.dst, 4), word(&f.dst, 8), word(&f.dst, 12)];
            (*to).sport = sport;
            (*to).dport = dport;
        }
        36
    }
}

/// Whether the packet is for this machine and a listener would take it. Connections and handshakes that the
/// kernel knows are nobody's business here; a listener for MPTCP takes no connection from a cookie.
#[inline(never)]
pub fn listens<P: Packet>(pkt: &P, work: &mut Work) -> bool {
    let ctx = pkt.context();
    let (f, c) = (&work.facts, &mut work.cookie);
    let len = tuple(c, f);
    let at = &raw mut c.tuple;
    // SAFETY: the context is the program's; the tuple is as long as said, and lives in the work.
    let found = unsafe {
        // By constants: the verifier wants to know the length.
        let sk = if len == 12 {
            bpf_skc_lookup_tcp(ctx, at, 12, THIS_NETNS, 0)
        } else {
            bpf_skc_lookup_tcp(ctx, at, 36, THIS_NETNS, 0)
        };
        if sk.is_null() {
            return false;
        }
        let listens = (*sk).state == LISTEN && bpf_skc_to_mptcp_sock(sk.cast()).is_null();
        bpf_sk_release(sk.cast());
        listens
    };
    found && is_local(ctx, work)
}

/// Whether the packet's destination is this machine: a listener for every address would be found for
/// packets that are only forwarded, too.
#[inline(always)]
fn is_local(ctx: *mut c_void, work: &mut Work) -> bool {
    let (f, to) = (&work.facts, &raw mut work.cookie.route);
    let word = |b: &[u8; 16], i: usize| u32::from_ne_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
    // SAFETY: all-zero bytes are a value; the members of the unions are whole words; the helper is told
    // how long it is.
    let how = unsafe {
        to.write_bytes(0, 1);
        (*to).ifindex = work.ifindex;
        (*to).l4_protocol = transport::TCP;
        if f.family == 4 {
            (*to).family = FAMILIES[0];
            (*to).__bindgen_anon_3.ipv4_src = word(&f.src, 0);
            (*to).__bindgen_anon_4.ipv4_dst = word(&f.dst, 0);
        } else {
            (*to).family = FAMILIES[1];
            (*to).__bindgen_anon_3.ipv6_src =
                [word(&f.src, 0), word(&f.src, 4), word(&f.src, 8), word(&f.src, 12)];
            (*to).__bindgen_anon_4.ipv6_dst =
                [word(&f.dst, 0), word(&f.dst, 4), word(&f.dst, 8), word(&f.dst, 12)];
        }
        bpf_fib_lookup(ctx, to, core::mem::size_of::<Fib>() as i32, 0)
    };
    how == NOT_FORWARDED || how == NO_ROUTER
}

/// Makes the answer to the SYN at hand; `false`: it can't be answered, and goes on as any other.
#[inline(never)]
pub fn prepare<P: Packet>(pkt: &P, work: &mut Work) -> bool {
    let (family, mss) = (work.facts.family, work.options.mss);
    // The stack takes one tag off; what is behind another isn't IP to the socket's layer.
    let tags = (u32::from(work.facts.l3) - eth::HEADER as u32) / 4;
    if tags + u32::from(pkt.stripped_vlan() != 0) > 1 {
        return false;
    }
    let Some(class) = cookie::class_of(family, mss) else { return false };
    work.cookie.class = class;
    if !listens(pkt, work) {
        return false;
    }
    work.cookie.mtu = 0;
    let mtu = &raw mut work.cookie.mtu;
    // SAFETY: the context is the program's; the helper writes the interface's MTU, whatever it returns.
    unsafe { bpf_check_mtu(pkt.context(), 0, mtu, 0, 0) };
    sluice_cookie_make();
    true
}

/// Second half of [`prepare`]. A global function: verified once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sluice_cookie_make() -> u32 {
    let (Some(control), Some(work)) = (gate::control(), WORK.get_ptr_mut(0)) else { return 0 };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    let (f, c, said) = (&work.facts, &mut work.cookie, &work.options);
    let now = now_ns();
    let period = cookie::period(now);
    let class = volatile(&c.class);
    cookie::fill(&mut c.words, f, f.seq, period, class);
    let headers = if f.family == 4 { 40 } else { 60 };
    let mss = volatile(&c.mtu).saturating_sub(headers);
    let mss = if mss < LEAST_MSS { LEAST_MSS } else { mss };
    let offers = offers(control);
    let a = &mut c.answer;
    a.seq = cookie::make(cookie::hash(&c.words, control.cookie_key), period, class);
    a.ack = f.seq.wrapping_add(1);
    a.window = cookie::WINDOW;
    a.mss = if mss > u16::MAX as u32 { u16::MAX } else { mss as u16 };
    a.scale = cookie::SCALE;
    a.has_scale = said.has_scale && offers.scale;
    a.sack = said.sack && offers.sack;
    // A clock of about a millisecond; only what it is at the ACK counts.
    a.timestamp = cookie::timestamp((now >> 20) as u32, said, offers);
    a.echo = said.timestamp;
    put(&mut c.state, CookieState::None);
    if let Some(clock) = clock() {
        // SAFETY: a live map value, an aligned word. CPUs that write at the same time write the same.
        unsafe {
            if (&raw const (*clock).last).read_volatile() != period + 1 {
                (&raw mut (*clock).last).write_volatile(period + 1);
            }
        }
    }
    1
}

/// `N` bytes of the room for an answer.
#[inline(always)]
fn room<const N: usize>(answer: &mut [u8; 96]) -> &mut [u8; N] {
    const { assert!(N <= 96) };
    // SAFETY: the array is at least N bytes long.
    unsafe { &mut *answer.as_mut_ptr().cast::<[u8; N]>() }
}

/// Turns the SYN into the answer that [`prepare`] made.
#[inline(never)]
pub fn answer<P: Packet>(pkt: &P, work: &mut Work) -> Outcome {
    let Some(control) = gate::control() else { return Outcome::Drop };
    let long = work.options.has_timestamp && offers(control).timestamps;
    let (f, a) = (&work.facts, &work.cookie.answer);
    let l3 = f.l3 as usize;
    if f.family == 4 {
        if long {
            let out = room::<{ synack::LONG4 }>(&mut work.answer);
            synack::over4(out, f, a);
            pkt.answer(l3, out, Direction::In)
        } else {
            let out = room::<{ synack::SHORT4 }>(&mut work.answer);
            synack::over4(out, f, a);
            pkt.answer(l3, out, Direction::In)
        }
    } else if long {
        let out = room::<{ synack::LONG6 }>(&mut work.answer);
        synack::over6(out, f, a);
        pkt.answer(l3, out, Direction::In)
    } else {
        let out = room::<{ synack::SHORT6 }>(&mut work.answer);
        synack::over6(out, f, a);
        pkt.answer(l3, out, Direction::In)
    }
}

/// Gives the packet at hand the connection request that its cookie stands for, so that the listener takes
/// it. Where it brings none, or nobody listens, it goes on as it is.
#[inline(always)]
pub fn hand_over<P: Load>(ctx: *mut c_void, pkt: &P) {
    let Some(work) = WORK.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own entry; programs of one CPU don't nest.
    let work = unsafe { &mut *work };
    match volatile(&work.cookie.state) {
        CookieState::None => return,
        CookieState::Good => {}
        CookieState::Again => {
            if !is_shaped(&work.facts) || !check(pkt, work) {
                return;
            }
        }
    }
    assign(ctx, work);
}

/// See [`hand_over`].
#[inline(never)]
fn assign(ctx: *mut c_void, work: &mut Work) {
    let (f, c) = (&work.facts, &mut work.cookie);
    let len = tuple(c, f);
    let said = &c.said;
    let mut attributes = Attributes {
        rcv_tsval: said.timestamp,
        rcv_tsecr: said.echo,
        mss: cookie::mss_of(f.family, c.class),
        rcv_wscale: cookie::SCALE,
        snd_wscale: said.scale,
        ecn_ok: 0,
        wscale_ok: said.has_scale as u8,
        sack_ok: said.sack as u8,
        tstamp_ok: said.has_timestamp as u8,
        usec_ts_ok: 0,
        reserved: [0; 3],
    };
    let at = &raw mut c.tuple;
    // SAFETY: as in `listens`; what is called last is `bpf_sk_assign_tcp_reqsk` once the loader has written
    // its number in (see `abi::kfunc`), and has this signature.
    unsafe {
        let sk = if len == 12 {
            bpf_skc_lookup_tcp(ctx, at, 12, THIS_NETNS, 0)
        } else {
            bpf_skc_lookup_tcp(ctx, at, 36, THIS_NETNS, 0)
        };
        if sk.is_null() {
            return;
        }
        if (*sk).state == LISTEN {
            let listener = bpf_skc_to_tcp_sock(sk.cast());
            if !listener.is_null() {
                let assign: unsafe extern "C" fn(
                    *mut __sk_buff,
                    *mut c_void,
                    *mut Attributes,
                    u32,
                ) -> i32 = core::mem::transmute(kfunc::SK_ASSIGN_TCP_REQSK as usize);
                let failed =
                    assign(ctx.cast(), listener.cast(), &raw mut attributes, ATTRIBUTES) != 0;
                if failed && let Some(clock) = clock() {
                    atomic::add(&raw mut (*clock).refused, 1);
                }
            }
        }
        bpf_sk_release(sk.cast());
    }
}
