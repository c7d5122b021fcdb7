//! Sockets without connections: UDP, ICMP, raw, AF_PACKET.

use super::{ring, stay, sys, tell};
use std::io::{Error, Result};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

/// A payload that comes back.
const MARK: u8 = 0x5c;

fn say(port: u16, sent: usize, received: usize) {
    tell(&serde_json::json!({"port": port, "sent": sent, "received": received}));
    stay();
}

/// Sends so many datagrams of this size, each of which is sent back to it; so are those of `icmp` and `raw`, by
/// the kernel or since they are its own.
pub fn exchange(way: &str, to: &str, count: usize, size: usize) -> Result<()> {
    match way {
        "ping" => pings(to, libc::SOCK_DGRAM, count, size),
        "ping-raw" => pings(to, libc::SOCK_RAW, count, size),
        "raw" => raw(to, count, size),
        _ => udp(way, to, count, size),
    }
}

fn udp(way: &str, to: &str, count: usize, size: usize) -> Result<()> {
    let to: SocketAddr = to.parse().map_err(Error::other)?;
    let socket = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" })?;
    if way != "unconnected" {
        socket.connect(to)?;
    }
    let raw = socket.as_raw_fd();
    let data = vec![MARK; size];
    let mut buffer = vec![0; 65_536];
    let (mut sent, mut received) = (0, 0);
    // One after the other: none is lost for want of room.
    for _ in 0..count {
        let mut back = 1;
        sent += match way {
            "connected" => socket.send(&data)?,
            "unconnected" => socket.send_to(&data, to)?,
            "many" => {
                back = 4;
                several(raw, &data, back)?
            }
            "segments" => {
                back = 4;
                sys::set(raw, libc::SOL_UDP, libc::UDP_SEGMENT, size as i32)?;
                socket.send(&vec![MARK; size * back])?
            }
            "uring" => ring::send(raw, size, size, ring::Kind::Plain)?,
            _ => return Err(Error::other(format!("{way}: no such way"))),
        };
        for _ in 0..back {
            received += match way {
                "uring" => ring::receive(raw, size, size)?,
                "unconnected" => socket.recv_from(&mut buffer)?.0,
                _ => socket.recv(&mut buffer)?,
            };
        }
    }
    say(socket.local_addr()?.port(), sent, received);
    Ok(())
}

/// The same datagram several times in one call.
fn several(socket: RawFd, data: &[u8], times: usize) -> Result<usize> {
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let mut messages = Vec::new();
    for _ in 0..times {
        // SAFETY: all-zero bytes are a valid message without address, parts and control data.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = &raw mut part;
        message.msg_hdr.msg_iovlen = 1;
        messages.push(message);
    }
    // SAFETY: each message has one part, which is data that outlives the call; nothing is written there.
    let taken = sys::done(
        unsafe { libc::sendmmsg(socket, messages.as_mut_ptr(), times as u32, 0) } as isize,
    )?;
    Ok(messages.iter().take(taken).map(|message| message.msg_len as usize).sum())
}

/// An address as the kernel takes it.
fn place(to: &str) -> Result<(Vec<u8>, bool)> {
    let to: std::net::IpAddr = to.parse().map_err(Error::other)?;
    let bytes = |from: *const u8, length: usize| {
        // SAFETY: a whole structure of plain numbers.
        unsafe { std::slice::from_raw_parts(from, length) }.to_vec()
    };
    Ok(match to {
        std::net::IpAddr::V4(to) => {
            // SAFETY: all-zero bytes are a valid address.
            let mut all: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            all.sin_family = libc::AF_INET as u16;
            all.sin_addr.s_addr = u32::from_ne_bytes(to.octets());
            (bytes((&raw const all).cast(), size_of_val(&all)), true)
        }
        std::net::IpAddr::V6(to) => {
            // SAFETY: as above.
            let mut all: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            all.sin6_family = libc::AF_INET6 as u16;
            all.sin6_addr.s6_addr = to.octets();
            (bytes((&raw const all).cast(), size_of_val(&all)), false)
        }
    })
}

fn send_to(socket: &OwnedFd, data: &[u8], to: &[u8]) -> Result<usize> {
    // SAFETY: data and address are as long as said and outlive the call.
    sys::done(unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            data.as_ptr().cast(),
            data.len(),
            0,
            to.as_ptr().cast(),
            to.len() as u32,
        )
    })
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is as long as said and outlives the call.
    sys::done(unsafe {
        libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0)
    })
}

/// Echo requests, and their replies; a raw socket of the loopback device hears its own requests, too.
fn pings(to: &str, kind: i32, count: usize, size: usize) -> Result<()> {
    let (to, four) = place(to)?;
    let (family, protocol, request) = if four {
        (libc::AF_INET, libc::IPPROTO_ICMP, 8)
    } else {
        (libc::AF_INET6, libc::IPPROTO_ICMPV6, 128)
    };
    let socket = sys::socket(family, kind, protocol)?;
    let mut buffer = vec![0; 65_536];
    let (mut sent, mut received) = (0, 0);
    for i in 0..count {
        // Type, code, checksum, identifier, sequence number (RFC 792).
        let mut packet = vec![request, 0, 0, 0, 0x12, 0x34, (i >> 8) as u8, i as u8];
        packet.resize(8 + size, MARK);
        if kind == libc::SOCK_RAW && four {
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        sent += send_to(&socket, &packet, &to)?;
        loop {
            let n = receive(&socket, &mut buffer)?;
            received += n;
            // A raw socket of IPv4 is given the header before it.
            let start = if kind == libc::SOCK_RAW && four { 20 } else { 0 };
            if buffer[start] != request {
                break;
            }
        }
    }
    say(0, sent, received);
    Ok(())
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A protocol of its own (253: RFC 3692's for experiments); what it sends to this machine it receives.
fn raw(to: &str, count: usize, size: usize) -> Result<()> {
    let (to, four) = place(to)?;
    let family = if four { libc::AF_INET } else { libc::AF_INET6 };
    let socket = sys::socket(family, libc::SOCK_RAW, 253)?;
    let mut buffer = vec![0; 65_536];
    let (mut sent, mut received) = (0, 0);
    for _ in 0..count {
        sent += send_to(&socket, &vec![MARK; size], &to)?;
        received += receive(&socket, &mut buffer)?;
    }
    say(0, sent, received);
    Ok(())
}

/// Whole frames on the loopback device.
pub fn frames(count: usize, size: usize) -> Result<()> {
    // RFC 5342's for local experiments.
    const KIND: u16 = 0x88b5;
    let socket = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(KIND.to_be()))?;
    // SAFETY: a terminated string.
    let index = unsafe { libc::if_nametoindex(c"lo".as_ptr()) };
    // SAFETY: all-zero bytes are a valid address.
    let mut at: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    at.sll_family = libc::AF_PACKET as u16;
    at.sll_protocol = KIND.to_be();
    at.sll_ifindex = index as i32;
    let length = size_of_val(&at);
    // SAFETY: the address is as long as said and outlives the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const at).cast(), length as u32) };
    sys::done(bound as isize)?;
    // SAFETY: a whole structure of plain numbers.
    let to = unsafe { std::slice::from_raw_parts((&raw const at).cast::<u8>(), length) }.to_vec();
    sys::set(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    let mut frame = vec![0; 12];
    frame.extend(KIND.to_be_bytes());
    frame.resize(size, MARK);
    let mut buffer = vec![0; 65_536];
    let (mut sent, mut received) = (0, 0);
    for _ in 0..count {
        sent += send_to(&socket, &frame, &to)?;
        received += receive(&socket, &mut buffer)?;
    }
    say(0, sent, received);
    Ok(())
}
