//! Descriptors that go from one process to another (SCM_RIGHTS, unix(7)).

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{Error, IoSlice, IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

/// Room for a message with one descriptor.
const ROOM: usize = rustix::cmsg_space!(ScmRights(1));

/// Sends a descriptor through a Unix socket, in a message of one byte.
///
/// # Errors
/// The kernel's.
pub fn pass(through: impl AsFd, descriptor: impl AsFd) -> Result<()> {
    let mut room = [const { MaybeUninit::uninit() }; ROOM];
    let mut control = SendAncillaryBuffer::new(&mut room);
    let descriptors = [descriptor.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Error::other("no room for a descriptor"));
    }
    sendmsg(through, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// The descriptor that the next message brings.
///
/// # Errors
/// The kernel's, or the message brings none.
pub fn passed(through: impl AsFd) -> Result<OwnedFd> {
    let mut room = [const { MaybeUninit::uninit() }; ROOM];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut byte = [0];
    recvmsg(through, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| Error::other("no descriptor came"))
}
