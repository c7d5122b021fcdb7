//! Calls through io_uring.

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::io::{Error, Result};
use std::os::fd::RawFd;

/// How data is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The submitting thread calls.
    Plain,
    /// A thread of the kernel's takes what is submitted.
    Polled,
    /// From the caller's memory.
    ZeroCopy,
}

/// Submits one request and waits for its last answer; the first one's result.
pub fn call(ring: &mut IoUring, request: &squeue::Entry) -> Result<usize> {
    // SAFETY: the callers' buffers outlive this call, which waits until the kernel is done with them.
    unsafe { ring.submission().push(request) }.map_err(Error::other)?;
    let mut result = None;
    loop {
        ring.submit_and_wait(1)?;
        let answers: Vec<cqueue::Entry> = ring.completion().collect();
        for answer in answers {
            result.get_or_insert(answer.result());
            if !cqueue::more(answer.flags()) {
                let first = result.unwrap_or_default();
                return usize::try_from(first).map_err(|_| Error::from_raw_os_error(-first));
            }
        }
    }
}

/// A ring.
pub fn new(kind: Kind) -> Result<IoUring> {
    let mut builder = IoUring::builder();
    if kind == Kind::Polled {
        builder.setup_sqpoll(50);
    }
    builder.build(8)
}

/// Sends so many bytes; how many were taken.
pub fn send(socket: RawFd, bytes: usize, piece: usize, kind: Kind) -> Result<usize> {
    let (mut ring, data) = (new(kind)?, vec![7u8; piece]);
    let mut sent = 0;
    while sent < bytes {
        let n = (bytes - sent).min(piece) as u32;
        let to = types::Fd(socket);
        let request = match kind {
            Kind::ZeroCopy => opcode::SendZc::new(to, data.as_ptr(), n).build(),
            _ => opcode::Send::new(to, data.as_ptr(), n).build(),
        };
        sent += call(&mut ring, &request)?;
    }
    Ok(sent)
}

/// Receives so many bytes, each call at most a piece of them, or until there are no more.
pub fn receive(socket: RawFd, bytes: usize, piece: usize) -> Result<usize> {
    let (mut ring, mut data) = (new(Kind::Plain)?, vec![0u8; piece]);
    let mut received = 0;
    while received < bytes {
        let n = (bytes - received).min(piece) as u32;
        let request = opcode::Recv::new(types::Fd(socket), data.as_mut_ptr(), n).build();
        match call(&mut ring, &request)? {
            0 => break,
            n => received += n,
        }
    }
    Ok(received)
}
