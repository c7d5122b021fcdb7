//! Sluice in the kernel: entry points and their verdict tables, nothing else.
//!
//! A packet's way: `packet` -> `gate` (parse, fragments, conntrack, classify; what is rarer in `stages`) -> `reject`,
//! `events`, counters -> one of the tables below.
#![no_std]
#![no_main]
#![feature(core_intrinsics, adt_const_params)]
#![allow(internal_features, reason = "the BPF target's atomics are only there as intrinsics")]

mod arena;
mod asks;
mod atomic;
mod budget;
mod bypass;
mod classify;
mod conntrack;
mod cookies;
mod counters;
mod endpoints;
mod entering;
mod events;
mod forward;
mod fragments;
mod gate;
mod judge;
mod limits;
mod localports;
mod mapping;
mod maps;
mod medium;
mod nat;
mod nataccounts;
mod object;
mod opaque;
mod packet;
mod ports;
mod prefix;
mod reject;
mod resync;
mod rules;
mod sets;
mod snat;
mod stages;
mod table;
mod tracking;
mod translate;
mod verdict;
mod way;
mod words;
mod work;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX},
    helpers::generated::bpf_ktime_get_ns,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use firewall_common::abi::table::Direction;

use table::{V4, V6};
use verdict::Outcome;

/// TCX_NEXT and TC_ACT_UNSPEC: the next program, then the stack (include/uapi/linux/bpf.h).
const TC_NEXT: i32 = -1;
/// TC_ACT_SHOT.
const TC_SHOT: i32 = 2;
/// TC_ACT_REDIRECT.
const TC_REDIRECT: i32 = 7;

/// Ingress, in the driver (or generic XDP).
#[xdp(frags)]
#[inline(always)]
pub fn sluice_xdp(ctx: XdpContext) -> u32 {
    xdp_verdict(gate::run(&packet::Xdp(&ctx), Direction::In))
}

/// A stage at XDP (`firewall_common::abi::stage`).
#[xdp(frags)]
#[inline(always)]
pub fn sluice_x_begin4(ctx: XdpContext) -> u32 {
    xdp_verdict(stages::begin::<V4, _>(&packet::Xdp(&ctx)))
}

/// As above.
#[xdp(frags)]
#[inline(always)]
pub fn sluice_x_flow4(ctx: XdpContext) -> u32 {
    xdp_verdict(stages::flow::<V4, _>(&packet::Xdp(&ctx)))
}

/// As above.
#[xdp(frags)]
#[inline(always)]
pub fn sluice_x_flow6(ctx: XdpContext) -> u32 {
    xdp_verdict(stages::flow::<V6, _>(&packet::Xdp(&ctx)))
}

/// As above.
#[xdp(frags)]
#[inline(always)]
pub fn sluice_x_begin6(ctx: XdpContext) -> u32 {
    xdp_verdict(stages::begin::<V6, _>(&packet::Xdp(&ctx)))
}

/// As above.
#[xdp(frags)]
#[inline(always)]
pub fn sluice_x_judge4(ctx: XdpContext) -> u32 {
    xdp_verdict(stages::judge::<V4, _>(&packet::Xdp(&ctx)))
}

/// As above.
#[xdp(frags)]
#[inline(always)]
pub fn sluice_x_judge6(ctx: XdpContext) -> u32 {
    xdp_verdict(stages::judge::<V6, _>(&packet::Xdp(&ctx)))
}

/// As above.
#[xdp(frags)]
#[inline(always)]
pub fn sluice_x_end(ctx: XdpContext) -> u32 {
    xdp_verdict(stages::end(&packet::Xdp(&ctx)))
}

#[inline(always)]
fn xdp_verdict(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Pass => XDP_PASS,
        Outcome::Drop => XDP_DROP,
        Outcome::Bounce => XDP_TX,
        Outcome::Away => XDP_REDIRECT,
    }
}

/// Ingress, at TCX or clsact.
#[classifier]
#[inline(always)]
pub fn sluice_tc_in(ctx: TcContext) -> i32 {
    let skb = packet::Skb(&ctx);
    if skb.is_answer() {
        return TC_NEXT;
    }
    // Only our own word counts at egress, not one that came along with the buffer.
    skb.was_judged();
    skb.pull();
    tc_verdict(gate::run(&skb, Direction::In))
}

/// A stage at TC, both ways.
#[classifier]
#[inline(always)]
pub fn sluice_t_begin4(ctx: TcContext) -> i32 {
    tc_verdict(stages::begin::<V4, _>(&packet::Skb(&ctx)))
}

/// As above.
#[classifier]
#[inline(always)]
pub fn sluice_t_flow4(ctx: TcContext) -> i32 {
    tc_verdict(stages::flow::<V4, _>(&packet::Skb(&ctx)))
}

/// As above.
#[classifier]
#[inline(always)]
pub fn sluice_t_flow6(ctx: TcContext) -> i32 {
    tc_verdict(stages::flow::<V6, _>(&packet::Skb(&ctx)))
}

/// As above.
#[classifier]
#[inline(always)]
pub fn sluice_t_begin6(ctx: TcContext) -> i32 {
    tc_verdict(stages::begin::<V6, _>(&packet::Skb(&ctx)))
}

/// As above.
#[classifier]
#[inline(always)]
pub fn sluice_t_judge4(ctx: TcContext) -> i32 {
    tc_verdict(stages::judge::<V4, _>(&packet::Skb(&ctx)))
}

/// As above.
#[classifier]
#[inline(always)]
pub fn sluice_t_judge6(ctx: TcContext) -> i32 {
    tc_verdict(stages::judge::<V6, _>(&packet::Skb(&ctx)))
}

/// As above.
#[classifier]
#[inline(always)]
pub fn sluice_t_end(ctx: TcContext) -> i32 {
    tc_verdict(stages::end(&packet::Skb(&ctx)))
}

/// Ingress, behind XDP: hands connections that cookies made to their listeners, which XDP can't. Judges
/// nothing.
#[classifier]
#[inline(always)]
pub fn sluice_cookies_in(ctx: TcContext) -> i32 {
    if cookies::are_out() {
        gate::look_for_cookie(&packet::Network(&ctx));
    }
    TC_NEXT
}

/// Egress, at TCX or clsact.
#[classifier]
#[inline(always)]
pub fn sluice_tc_out(ctx: TcContext) -> i32 {
    let skb = packet::Skb(&ctx);
    if skb.is_answer() || skb.was_judged() {
        return TC_NEXT;
    }
    skb.pull();
    tc_verdict(gate::run(&skb, Direction::Out))
}

#[inline(always)]
fn tc_verdict(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Pass => TC_NEXT,
        Outcome::Drop => TC_SHOT,
        Outcome::Bounce | Outcome::Away => TC_REDIRECT,
    }
}

/// Reads both clocks at one moment. Never attached: the daemon runs it through BPF_PROG_TEST_RUN.
#[classifier]
pub fn sluice_clock(_ctx: TcContext) -> i32 {
    if let Some(reading) = maps::CLOCK.get_ptr_mut(0) {
        // SAFETY: a map value of this type; only this test run writes it.
        unsafe {
            (*reading).ticks = budget::now();
            (*reading).monotonic_ns = bpf_ktime_get_ns();
        }
    }
    0
}
