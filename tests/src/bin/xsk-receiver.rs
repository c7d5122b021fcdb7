//! A sample of a program that `bypass ... => xsk` hands packets to: binds an AF_XDP socket to a queue,
//! enters it in Sluice's map, and says what it got.
//!
//! `xsk-receiver --pins /sys/fs/bpf/sluice --interface eth1 --first 64 [--queue 0] [--packets N]
//! [--seconds S]`: `--first` is what `sluice status` says of the interface. Prints `ready`, then, after so
//! many packets or so long, one JSON object: packets, bytes, and how many the socket had no room for.

use sluice_tests::bpf::Map;
use sluice_tests::lab::XskReceiver;
use std::ffi::CString;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What was asked for.
struct Ask {
    pins: PathBuf,
    interface: String,
    first: u32,
    queue: u32,
    packets: u64,
    seconds: u64,
}

fn arguments() -> Result<Ask, String> {
    let mut ask = Ask {
        pins: PathBuf::from("/sys/fs/bpf/sluice"),
        interface: String::new(),
        first: 0,
        queue: 0,
        packets: u64::MAX,
        seconds: 10,
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} wants a value"))?;
        let number = || value.parse().map_err(|_| format!("{name} {value}: not a number"));
        match name.as_str() {
            "--pins" => ask.pins = value.into(),
            "--interface" => ask.interface = value,
            "--first" => ask.first = number()? as u32,
            "--queue" => ask.queue = number()? as u32,
            "--packets" => ask.packets = number()?,
            "--seconds" => ask.seconds = number()?,
            _ => return Err(format!("unknown argument {name}")),
        }
    }
    Ok(ask)
}

/// A socket that was closed a moment ago may still hold its queue.
fn bind(index: u32, queue: u32) -> std::io::Result<XskReceiver> {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        match XskReceiver::bind(index, queue) {
            Err(e) if e.kind() == ErrorKind::ResourceBusy && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

fn run(ask: &Ask) -> Result<(), String> {
    let name = CString::new(ask.interface.as_str()).map_err(|e| e.to_string())?;
    // SAFETY: a terminated string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(format!("no interface `{}`", ask.interface));
    }
    let path = ask.pins.join("XSKS");
    let map = Map::pinned(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let socket = bind(index, ask.queue)
        .map_err(|e| format!("binding to queue {} of {}: {e}", ask.queue, ask.interface))?;
    let place = ask.first + ask.queue;
    socket.register(&map, place).map_err(|e| format!("place {place} of XSKS: {e}"))?;
    println!("ready");
    let end = Instant::now() + Duration::from_secs(ask.seconds);
    let (mut packets, mut bytes) = (0u64, 0u64);
    while packets < ask.packets {
        let left = end.saturating_duration_since(Instant::now());
        let Some(frame) = socket.receive(left) else { break };
        packets += 1;
        bytes += frame.len() as u64;
    }
    let lost = socket.lost().map_err(|e| format!("the socket's statistics: {e}"))?;
    println!("{}", serde_json::json!({"packets": packets, "bytes": bytes, "lost": lost}));
    Ok(())
}

fn main() -> ExitCode {
    match arguments().and_then(|ask| run(&ask)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xsk-receiver: {why}");
            ExitCode::FAILURE
        }
    }
}
