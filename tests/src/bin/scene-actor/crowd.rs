//! More than one process at a socket, or after another.

use super::{next, stay, sys, tell};
use sluice_tests::lab::passed;
use std::ffi::CString;
use std::io::{Error, Read as _, Result, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;

/// Takes a descriptor that is passed over standard input (SCM_RIGHTS) and sends so many bytes through it.
pub fn take(bytes: usize) -> Result<()> {
    let mut stream = TcpStream::from(passed(std::io::stdin())?);
    stream.write_all(&vec![7; bytes])?;
    tell(&serde_json::json!({"port": stream.local_addr()?.port(), "sent": bytes}));
    stay();
    Ok(())
}

/// Hands what one client of a Unix socket says to a TCP server.
pub fn proxy(at: &str, to: &str) -> Result<()> {
    let listener = UnixListener::bind(at)?;
    tell(&serde_json::json!({"ready": true}));
    let (mut client, _) = listener.accept()?;
    let mut server = TcpStream::connect(to)?;
    let moved = std::io::copy(&mut client, &mut server)?;
    tell(&serde_json::json!({"port": server.local_addr()?.port(), "sent": moved}));
    stay();
    Ok(())
}

/// A listener and children who accept: each reads until the other end is done, and answers with its number.
pub fn prefork(children: usize, at: &str) -> Result<()> {
    let listener = TcpListener::bind(at)?;
    let mut pids = Vec::new();
    for _ in 0..children {
        let child = sys::fork()?;
        if child == 0 {
            // SAFETY: takes numbers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let mut kept = Vec::new();
            loop {
                let (mut stream, _) = listener.accept()?;
                let mut all = Vec::new();
                stream.read_to_end(&mut all)?;
                let me = std::process::id().to_string();
                // As much back as came.
                all[..me.len()].copy_from_slice(me.as_bytes());
                all[me.len()] = b' ';
                stream.write_all(&all)?;
                kept.push(stream);
            }
        }
        pids.push(child);
    }
    tell(&serde_json::json!({"port": listener.local_addr()?.port(), "children": pids}));
    stay();
    for child in pids {
        // SAFETY: a child of ours that nobody has waited for.
        unsafe { libc::kill(child, libc::SIGKILL) };
        sys::reap(child)?;
    }
    Ok(())
}

/// The number that this process has outside: /proc is that of the first namespace here.
fn outer_number() -> Result<u32> {
    let link = std::fs::read_link("/proc/self")?;
    link.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| Error::other("/proc/self"))
}

/// Children one after the other, as many as asked for: each connects, sends so many bytes, and is gone. After each
/// five hundred (and at the end) their numbers, outside and here, ports, and the sockets' own numbers are said; goes
/// on at the next line. This process has a socket, too: who looks at it knows which file the children run.
pub fn swarm(count: usize, to: &str, bytes: usize) -> Result<()> {
    let _kept = std::net::UdpSocket::bind("127.0.0.1:0")?;
    tell(&serde_json::json!({"ready": outer_number()?}));
    next();
    let mut told = Vec::new();
    for i in 1..=count {
        let (out, into) = sys::pipe()?;
        let child = sys::fork()?;
        if child == 0 {
            let mut stream = TcpStream::connect(to)?;
            stream.write_all(&vec![7; bytes])?;
            let (port, cookie) = (stream.local_addr()?.port(), sys::cookie(&stream)?);
            let said = format!("{} {port} {cookie}", outer_number()?);
            std::fs::File::from(into).write_all(said.as_bytes())?;
            // Without any of what a process does at its end.
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) };
        }
        drop(into);
        let mut said = String::new();
        std::fs::File::from(out).read_to_string(&mut said)?;
        if !sys::reap(child)? {
            return Err(Error::other("a child failed"));
        }
        let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [pid, port, cookie] = numbers[..] else { return Err(Error::other("a child's word")) };
        let id = format!("{cookie:x}");
        told.push(serde_json::json!({"pid": pid, "inner": child, "port": port, "id": id}));
        if told.len() == 500 || i == count {
            tell(&serde_json::Value::from(std::mem::take(&mut told)));
            if !next() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Children who all try to connect at the next line, once each; they live until the end.
pub fn burst(count: usize, to: &str) -> Result<()> {
    let (go, begins) = sys::pipe()?;
    let (stop, ends) = sys::pipe()?;
    let mut children = Vec::new();
    for _ in 0..count {
        let child = sys::fork()?;
        if child == 0 {
            drop((begins, ends));
            std::fs::File::from(go).read_to_end(&mut Vec::new())?;
            drop(TcpStream::connect(to));
            std::fs::File::from(stop).read_to_end(&mut Vec::new())?;
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) };
        }
        children.push(child);
    }
    tell(&serde_json::json!({"children": children}));
    next();
    drop(begins);
    stay();
    drop(ends);
    for child in children {
        sys::reap(child)?;
    }
    Ok(())
}

/// Children with the same number, one after the other: each runs this program or `other`, in turn, and sends 1,000
/// bytes more than the one before it.
pub fn again(rounds: usize, to: &str, other: &str) -> Result<()> {
    let own = std::env::current_exe()?;
    let own = own.to_str().ok_or_else(|| Error::other("a path"))?;
    // A number that nobody has, and that isn't given out before all others were.
    let number = sys::fork()?;
    if number == 0 {
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    sys::reap(number)?;
    for i in 0..rounds {
        let bytes = ((i + 1) * 1000).to_string();
        let words = [if i % 2 == 0 { own } else { other }, "send", "write", to, &bytes];
        let words: Vec<CString> =
            words.iter().map(|word| CString::new(*word)).collect::<std::result::Result<_, _>>()?;
        let child = with_number(number)?;
        if child == 0 {
            let mut pointers: Vec<*const libc::c_char> =
                words.iter().map(|word| word.as_ptr()).collect();
            pointers.push(std::ptr::null());
            let nothing = std::fs::File::open("/dev/null")?;
            // SAFETY: terminated strings, in a list that ends; numbers.
            unsafe {
                libc::dup2(nothing.as_raw_fd(), 0);
                libc::dup2(2, 1);
                libc::execv(pointers[0], pointers.as_ptr());
            }
            return Err(Error::last_os_error());
        }
        if !sys::reap(child)? {
            return Err(Error::other("a child failed"));
        }
    }
    tell(&serde_json::json!({"number": number}));
    stay();
    Ok(())
}

/// `clone3` with a number of our choice.
pub fn with_number(number: i32) -> Result<i32> {
    let numbers = [number];
    // SAFETY: all-zero bytes are valid arguments: a fork.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.exit_signal = libc::SIGCHLD as u64;
    args.set_tid = numbers.as_ptr() as u64;
    args.set_tid_size = 1;
    // SAFETY: the arguments are as long as said; this program has one thread, and the child goes on as after fork.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    sys::done(child as isize).map(|child| child as i32)
}
