//! System calls that the standard library has no name for.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Error, Result, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What a call returned, or the error that it set.
pub fn done(returned: isize) -> Result<usize> {
    usize::try_from(returned).map_err(|_| Error::last_os_error())
}

/// A new socket.
pub fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: takes numbers; the descriptor is nobody else's.
    unsafe {
        let raw = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
        done(raw as isize)?;
        Ok(OwnedFd::from_raw_fd(raw))
    }
}

/// Sets a number as an option.
pub fn set(socket: RawFd, level: i32, option: i32, value: i32) -> Result<()> {
    // SAFETY: the value is as long as said and outlives the call.
    let failed = unsafe { libc::setsockopt(socket, level, option, (&raw const value).cast(), 4) };
    done(failed as isize).map(drop)
}

/// A file in memory with so many bytes.
pub fn file(bytes: usize) -> Result<File> {
    let name: &CStr = c"scene";
    // SAFETY: a terminated string; the descriptor is nobody else's.
    let mut file = unsafe {
        let raw = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
        done(raw as isize)?;
        File::from(OwnedFd::from_raw_fd(raw))
    };
    file.write_all(&vec![7; bytes])?;
    Ok(file)
}

/// A pipe: its end to read from, its end to write to.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: room for two descriptors, which are nobody else's.
    unsafe {
        done(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) as isize)?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Moves at most `length` bytes between a pipe and something else; `at`: where in the file that they come from.
pub fn splice(
    from: &impl AsRawFd,
    at: Option<i64>,
    to: &impl AsRawFd,
    length: usize,
) -> Result<usize> {
    let mut at = at;
    let place = at.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: the place outlives the call; all else is numbers.
    done(unsafe {
        libc::splice(from.as_raw_fd(), place, to.as_raw_fd(), std::ptr::null_mut(), length, 0)
    })
}

/// Forks: 0 in the child.
pub fn fork() -> Result<i32> {
    // SAFETY: this program has one thread.
    let child = unsafe { libc::fork() };
    done(child as isize)?;
    Ok(child)
}

/// Waits for a child; whether it ended well.
pub fn reap(child: i32) -> Result<bool> {
    let mut status = 0;
    // SAFETY: a child of ours, and a number to write to.
    done(unsafe { libc::waitpid(child, &raw mut status, 0) } as isize)?;
    Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
}

/// The kernel's own number of a socket (SO_COOKIE), which is never used again.
pub fn cookie(socket: &impl AsRawFd) -> Result<u64> {
    let (mut cookie, mut length) = (0u64, 8);
    // SAFETY: room for what is asked for, as long as said.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    done(failed as isize).map(|_| cookie)
}
