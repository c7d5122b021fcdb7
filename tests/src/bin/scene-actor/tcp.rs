//! One connection, and every way to move its bytes.

use super::{ring, stay, sys, tell};
use std::io::{Error, Read as _, Result, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

/// Bytes of a call.
const PIECE: usize = 16_384;

fn say(stream: &TcpStream, sent: usize, received: usize) -> Result<()> {
    let port = stream.local_addr()?.port();
    tell(&serde_json::json!({"port": port, "sent": sent, "received": received}));
    stay();
    Ok(())
}

/// Calls `step` with what is left until nothing is.
fn all(bytes: usize, mut step: impl FnMut(usize) -> Result<usize>) -> Result<usize> {
    let mut moved = 0;
    while moved < bytes {
        match step((bytes - moved).min(PIECE))? {
            0 => break,
            n => moved += n,
        }
    }
    Ok(moved)
}

/// Connects and sends.
pub fn send(way: &str, to: &str, bytes: usize) -> Result<()> {
    let mut stream = TcpStream::connect(to)?;
    let socket = stream.as_raw_fd();
    let sent = match way {
        "write" => all(bytes, |n| stream.write(&[7; PIECE][..n])),
        "sendfile" => {
            let file = sys::file(bytes)?;
            let mut at = 0;
            all(bytes, |n| {
                // SAFETY: the place outlives the call; all else is numbers.
                sys::done(unsafe { libc::sendfile(socket, file.as_raw_fd(), &raw mut at, n) })
            })
        }
        "splice" => {
            let (file, (out, into)) = (sys::file(bytes)?, sys::pipe()?);
            let mut at = 0;
            all(bytes, |n| {
                let filled = sys::splice(&file, Some(at), &into, n)?;
                at += filled as i64;
                all(filled, |n| sys::splice(&out, None, &stream, n))
            })
        }
        "zerocopy" => {
            sys::set(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
            let kept = vec![7; PIECE];
            all(bytes, |n| {
                // SAFETY: the buffer is as long as said, and outlives the connection.
                sys::done(unsafe {
                    libc::send(socket, kept.as_ptr().cast(), n, libc::MSG_ZEROCOPY)
                })
            })
        }
        "uring" => ring::send(socket, bytes, PIECE, ring::Kind::Plain),
        "uring-polled" => ring::send(socket, bytes, PIECE, ring::Kind::Polled),
        "uring-zerocopy" => ring::send(socket, bytes, PIECE, ring::Kind::ZeroCopy),
        _ => Err(Error::other(format!("{way}: no such way"))),
    }?;
    say(&stream, sent, 0)
}

/// Connects and receives.
pub fn receive(way: &str, to: &str, bytes: usize) -> Result<()> {
    let mut stream = TcpStream::connect(to)?;
    let mut buffer = vec![0; PIECE];
    let received = match way {
        "read" => all(bytes, |n| stream.read(&mut buffer[..n])),
        "peeked" => all(bytes, |n| {
            stream.peek(&mut buffer)?;
            stream.read(&mut buffer[..n])
        }),
        "splice" => {
            let nowhere = std::fs::File::options().write(true).open("/dev/null")?;
            let (out, into) = sys::pipe()?;
            all(bytes, |n| {
                let filled = sys::splice(&stream, None, &into, n)?;
                all(filled, |n| sys::splice(&out, None, &nowhere, n))
            })
        }
        "uring" => ring::receive(stream.as_raw_fd(), bytes, PIECE),
        _ => Err(Error::other(format!("{way}: no such way"))),
    }?;
    say(&stream, 0, received)
}
