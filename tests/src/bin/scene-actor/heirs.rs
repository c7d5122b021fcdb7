//! Processes and threads that end before their sockets do.

use super::{crowd::with_number, next, stay, sys, tell};
use sluice_tests::lab::pass;
use std::io::{Error, Read as _, Result, Write as _};
use std::net::{TcpListener, TcpStream};

/// Connects, passes the descriptor through standard input (SCM_RIGHTS) at the next byte there, and ends.
pub fn give(to: &str) -> Result<()> {
    let stream = TcpStream::connect(to)?;
    tell(&serde_json::json!({"port": stream.local_addr()?.port()}));
    std::io::stdin().read_exact(&mut [0])?;
    pass(std::io::stdin(), &stream)
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
