//! Translation end to end: real tools through a real gate, from hosts inside to a server outside and back.
//!
//! One file a topic below `e2e_nat/`; this one holds what they share.

#[path = "e2e_nat/forward.rs"]
mod forward;
#[path = "e2e_nat/masquerade.rs"]
mod masquerade;
#[path = "e2e_nat/modes.rs"]
mod modes;
#[path = "e2e_nat/peer.rs"]
mod peer;
#[path = "e2e_nat/pool.rs"]
mod pool;
#[path = "e2e_nat/survival.rs"]
mod survival;
#[path = "e2e_nat/totals.rs"]
mod totals;

use sluice_tests::lab::{Daemon, DaemonOptions, NatLab, NetNs, Run, run};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);
/// A tool with much to do, on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// Long enough for a packet that is let through, on a busy machine; short enough to wait out.
const SILENCE: Duration = Duration::from_millis(700);

/// What the inside may do, and what is translated of it.
const POLICY: &str = "
interface wan = wan0
interface lan = lan0
default in drop
default out allow
nat out masquerade on wan from 10.9.0.0/24
rule inside allow in on lan
";

/// The lab with a daemon at its gate, or a skip under this test's name.
fn setup(test: &str, tools: &[&str], policy: &str) -> Option<(NatLab, Daemon)> {
    let lab = NatLab::or_skip(test, tools)?;
    let daemon = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(policy))?;
    Some((lab, daemon))
}

/// Gets a page, as `curl` does; what it says where it can't.
fn curl(ns: &NetNs, arguments: &str) -> Run {
    run(ns, &format!("curl -sS -f --noproxy * --connect-timeout 5 {arguments}"), LONG)
}

/// Sends `payload` to an echo server and reads it back.
fn echoes(stream: &mut TcpStream, payload: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(payload)?;
    let mut back = vec![0; payload.len()];
    stream.read_exact(&mut back)?;
    if back == payload { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

/// Bytes that look like nothing in particular, the same every time.
fn noise(length: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let words: Vec<u64> = std::iter::repeat_with(next).take(length.div_ceil(8)).collect();
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    bytes.truncate(length);
    bytes
}
