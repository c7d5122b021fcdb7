//! Questions to the kernel over netlink, each with a bounded answer.

use super::error::PathsError;
use crate::netfilter::DecodeError;
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink,
        recvfrom, sendto, socket_with, sockopt,
    },
};
use std::{io, time::Duration};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_DUMP_INTR (include/uapi/linux/netlink.h): what was listed changed meanwhile.
const INTERRUPTED: u16 = 0x10;
/// Dumps that were interrupted are tried so often; the last one counts.
const TRIES: usize = 3;
/// How long the kernel may take to fill one answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// An answer of a dump is never larger: the kernel makes them 32 KiB at most.
const ANSWER: usize = 64 << 10;
/// Messages of a dump that are kept.
const MOST: usize = 65_536;

/// One message of an answer, without its header.
pub type Body = Vec<u8>;

/// A socket for questions.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens one in the caller's network namespace; `None`: rtnetlink.
    ///
    /// # Errors
    /// The kernel refused, or has no such protocol.
    pub fn open(protocol: Option<Protocol>) -> Result<Self, PathsError> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
            .map_err(PathsError::system("opening a netlink socket"))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))
            .map_err(PathsError::system("setting a netlink socket's time-out"))?;
        bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))
            .map_err(PathsError::system("binding a netlink socket"))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// All that the kernel lists for a request of type `kind` with `body` behind the header.
    ///
    /// # Errors
    /// The kernel refused, took too long, or said something strange.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> Result<Vec<Body>, PathsError> {
        let mut answer = self.exchange(kind, libc::NLM_F_DUMP as u16, body)?;
        for _ in 1..TRIES {
            if !answer.interrupted {
                break;
            }
            answer = self.exchange(kind, libc::NLM_F_DUMP as u16, body)?;
        }
        Ok(answer.bodies)
    }

    /// The one answer to a question.
    ///
    /// # Errors
    /// As [`Self::dump`]; [`DecodeError::Missing`] where none came.
    pub fn ask(&mut self, kind: u16, body: &[u8]) -> Result<Body, PathsError> {
        let answer = self.exchange(kind, 0, body)?;
        answer.bodies.into_iter().next().ok_or(DecodeError::Missing("answer").into())
    }

    fn exchange(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<Answer, PathsError> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(kind, flags, self.sequence, body);
        let kernel = netlink::SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &request, SendFlags::empty(), &kernel)
            .map_err(PathsError::system("asking over netlink"))?;
        let mut buffer = vec![0; ANSWER];
        let mut answer = Answer::default();
        loop {
            let (_, length, from) = match recvfrom(&self.socket, &mut buffer[..], RecvFlags::TRUNC)
            {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Err(PathsError::Late),
                other => other.map_err(PathsError::system("reading a netlink answer"))?,
            };
            // Another process may send to our port, but isn't heard.
            let from = from.and_then(|from| netlink::SocketAddrNetlink::try_from(from).ok());
            if from.is_none_or(|from| from.pid() != 0) {
                continue;
            }
            let bytes =
                buffer.get(..length).ok_or(DecodeError::Message { length, seen: buffer.len() })?;
            if answer.take(bytes, self.sequence, flags != 0)? {
                return Ok(answer);
            }
            if answer.bodies.len() > MOST {
                return Err(PathsError::TooMany { limit: MOST });
            }
        }
    }
}

fn request(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16 | flags).to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    // Port 0: the kernel fills it in.
    message.extend([0; 4]);
    message.extend(body);
    message
}

#[derive(Debug, Default)]
struct Answer {
    bodies: Vec<Body>,
    interrupted: bool,
}

impl Answer {
    /// Takes what one `recv` gave; whether that was the end.
    fn take(&mut self, mut bytes: &[u8], sequence: u32, dump: bool) -> Result<bool, PathsError> {
        while !bytes.is_empty() {
            let seen = bytes.len();
            let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
                return Err(DecodeError::Message { length: 0, seen }.into());
            };
            let [l0, l1, l2, l3, t0, t1, f0, f1, s0, s1, s2, s3, ..] = *header;
            let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
            let body = length.checked_sub(HEADER).and_then(|length| rest.get(..length));
            let body = body.ok_or(DecodeError::Message { length, seen })?;
            bytes = rest.get(body.len().next_multiple_of(4)..).unwrap_or_default();
            if u32::from_ne_bytes([s0, s1, s2, s3]) != sequence {
                // Of a dump that was given up.
                continue;
            }
            let kind = u16::from_ne_bytes([t0, t1]);
            self.interrupted |= u16::from_ne_bytes([f0, f1]) & INTERRUPTED != 0;
            if matches!(kind, NLMSG_ERROR | NLMSG_DONE) {
                let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                if code < 0 {
                    return Err(PathsError::Refused(io::Error::from_raw_os_error(-code)));
                }
                return Ok(true);
            }
            self.bodies.push(body.to_vec());
            if !dump {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Appends an attribute.
pub fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend((4 + value.len() as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Text of an attribute: up to its NUL.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A number at a place of a structure.
///
/// # Errors
/// The structure is shorter.
pub fn number(body: &[u8], at: usize) -> Result<u32, DecodeError> {
    let bytes = body.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map(|bytes| u32::from_ne_bytes(*bytes)).ok_or(DecodeError::Missing("fixed part"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = request(kind, 0, sequence, body);
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_dump_goes_to_its_end_and_an_error_is_one() {
        let mut answer = Answer::default();
        let part = [message(16, 2, 7, &[1; 8]), message(16, 2, 6, &[9; 8])].concat();
        assert!(!answer.take(&part, 7, true).unwrap());
        let end = [message(16, 2 | INTERRUPTED, 7, &[2; 4]), message(3, 2, 7, &[0; 4])].concat();
        assert!(answer.take(&end, 7, true).unwrap());
        assert_eq!(answer.bodies, [vec![1; 8], vec![2; 4]], "not what answers another question");
        assert!(answer.interrupted);

        let refused = message(2, 0, 7, &(-libc::EPERM).to_ne_bytes());
        let error = Answer::default().take(&refused, 7, true).unwrap_err();
        assert!(error.to_string().contains("privilege"), "{error}");
        assert!(!error.is_unknown());
        let unknown = message(2, 0, 7, &(-libc::EOPNOTSUPP).to_ne_bytes());
        assert!(Answer::default().take(&unknown, 7, true).unwrap_err().is_unknown());
        // Cut anywhere: an error, not a loop and not a panic.
        for cut in 1..end.len() - 20 {
            assert!(Answer::default().take(&end[..cut], 7, true).is_err(), "{cut}");
        }
    }
}
