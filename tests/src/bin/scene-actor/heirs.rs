//! Processes and threads that end before their sockets do.

use super::{crowd::with_number, next, stay, sys, tell};
use std::io::{Error, Read as _, Result, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

/// Connects, passes the descriptor through standard input (SCM_RIGHTS) at the next byte there, and ends.
pub fn give(to: &str) -> Result<()> {
    let stream = TcpStream::connect(to)?;
    tell(&serde_json::json!({"port": stream.local_addr()?.port()}));
    let mut byte = [0u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0u64; 4];
    // SAFETY: all-zero bytes are a valid message; what it leads to outlives the calls, and there is room for a header
    // and a descriptor.
    unsafe {
        sys::done(libc::read(0, byte.as_mut_ptr().cast(), 1))?;
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(head).cast::<i32>().write_unaligned(stream.as_raw_fd());
        sys::done(libc::sendmsg(0, &raw const message, 0)).map(drop)
    }
}

/// A child makes a listener, leaves it to a child of its own, and ends; at the next line another process with the
/// same number makes one.
pub fn heirs(at: &str) -> Result<()> {
    let (stop, ends) = sys::pipe()?;
    let (out, into) = sys::pipe()?;
    let number = sys::fork()?;
    if number == 0 {
        let listener = TcpListener::bind(at)?;
        let heir = sys::fork()?;
        if heir == 0 {
            drop((ends, into));
            std::fs::File::from(stop).read_to_end(&mut Vec::new())?;
        } else {
            let said = format!("{heir} {}", listener.local_addr()?.port());
            std::fs::File::from(into).write_all(said.as_bytes())?;
        }
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    drop(into);
    let mut said = String::new();
    std::fs::File::from(out).read_to_string(&mut said)?;
    sys::reap(number)?;
    let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [heir, port] = numbers[..] else { return Err(Error::other("a child's word")) };
    tell(&serde_json::json!({"number": number, "heir": heir, "port": port}));
    next();
    let other = with_number(number)?;
    if other == 0 {
        let listener = TcpListener::bind(at)?;
        tell(&serde_json::json!({"port": listener.local_addr()?.port()}));
        drop(ends);
        std::fs::File::from(stop).read_to_end(&mut Vec::new())?;
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    stay();
    drop(ends);
    sys::reap(other).map(drop)
}

/// The first thread makes a listener and ends, and so does another; a third stays.
pub fn threads(at: &str) -> Result<()> {
    let first = TcpListener::bind(at)?;
    let port = first.local_addr()?.port();
    let at = at.to_owned();
    let made = std::thread::spawn(move || TcpListener::bind(at)).join();
    let second = made.map_err(|_| Error::other("a thread"))??;
    let other = second.local_addr()?.port();
    std::thread::spawn(move || {
        // Until the first thread is nothing but a number.
        let stat = || std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        while !stat().rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        tell(&serde_json::json!({"first": port, "second": other}));
        stay();
        drop((first, second));
        std::process::exit(0);
    });
    // SAFETY: ends this thread alone: it owns nothing that others use.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Ok(())
}
