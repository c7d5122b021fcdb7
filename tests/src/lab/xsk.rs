//! The receiving half of an AF_XDP socket, without a library: as a program would have it that `bypass`
//! rules hand packets to. (The crates there are either bind a C library or have a licence of their own.)

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Frames in flight; a power of two.
const FRAMES: u32 = 1024;
/// Room for one: a page.
const CHUNK: usize = 4096;
const UMEM: usize = FRAMES as usize * CHUNK;

/// Memory that the kernel and we share.
#[derive(Debug)]
struct Shared {
    start: *mut u8,
    len: usize,
}

impl Shared {
    fn map(len: usize, fd: Option<(&OwnedFd, i64)>) -> Result<Self> {
        let (raw, offset, how) = match fd {
            Some((fd, offset)) => (fd.as_raw_fd(), offset, libc::MAP_SHARED | libc::MAP_POPULATE),
            None => (-1, 0, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS),
        };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, how, raw, offset) };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        Ok(Self { start: start.cast(), len })
    }

    fn at<T>(&self, offset: u64) -> *mut T {
        let offset = offset as usize;
        assert!(offset + size_of::<T>() <= self.len, "an offset in the mapping");
        // SAFETY: within the mapping, as was just checked.
        unsafe { self.start.add(offset).cast() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of which no pointer outlives us.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// A ring of `FRAMES` entries between the kernel and us.
#[derive(Debug)]
struct Ring {
    memory: Shared,
    offsets: libc::xdp_ring_offset,
}

impl Ring {
    fn new(
        socket: &OwnedFd,
        at: i64,
        offsets: libc::xdp_ring_offset,
        entry: usize,
    ) -> Result<Self> {
        let len = offsets.desc as usize + FRAMES as usize * entry;
        Ok(Self { memory: Shared::map(len, Some((socket, at)))?, offsets })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: an aligned word in the mapping, which both sides change atomically.
        unsafe { &*self.memory.at(self.offsets.producer) }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { &*self.memory.at(self.offsets.consumer) }
    }

    fn entry<T>(&self, index: u32) -> *mut T {
        let place = (index & (FRAMES - 1)) as usize * size_of::<T>();
        self.memory.at(self.offsets.desc + place as u64)
    }
}

/// A bound socket and its rings.
#[derive(Debug)]
pub struct XskReceiver {
    socket: OwnedFd,
    received: Ring,
    fill: Ring,
    umem: Shared,
}

fn set<T>(socket: &OwnedFd, option: i32, value: &T) -> Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is as long as said and outlives the call.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            std::ptr::from_ref(value).cast(),
            len,
        )
    };
    if failed == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

fn get<T>(socket: &OwnedFd, option: i32) -> Result<T> {
    // SAFETY: the types that are asked for are integers throughout.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is as long as said and outlives the call.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if failed == 0 { Ok(value) } else { Err(Error::last_os_error()) }
}

impl XskReceiver {
    /// Binds to a queue of an interface of the caller's namespace, in copy mode, which every driver can.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(ifindex: u32, queue: u32) -> Result<Self> {
        // SAFETY: socket takes numbers; the descriptor it returns is owned by nobody else.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let umem = Shared::map(UMEM, None)?;
        // SAFETY: all-zero bytes are a valid registration.
        let mut register: libc::xdp_umem_reg = unsafe { std::mem::zeroed() };
        register.addr = umem.start as u64;
        register.len = UMEM as u64;
        register.chunk_size = CHUNK as u32;
        set(&socket, libc::XDP_UMEM_REG, &register)?;
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING] {
            set(&socket, ring, &FRAMES)?;
        }
        let offsets: libc::xdp_mmap_offsets = get(&socket, libc::XDP_MMAP_OFFSETS)?;
        let rx = libc::XDP_PGOFF_RX_RING;
        let received = Ring::new(&socket, rx, offsets.rx, size_of::<libc::xdp_desc>())?;
        let at = libc::XDP_UMEM_PGOFF_FILL_RING as i64;
        let fill = Ring::new(&socket, at, offsets.fr, size_of::<u64>())?;
        let this = Self { socket, received, fill, umem };
        (0..FRAMES).for_each(|i| this.give(u64::from(i) * CHUNK as u64));
        // SAFETY: all-zero bytes are a valid address.
        let mut address: libc::sockaddr_xdp = unsafe { std::mem::zeroed() };
        address.sxdp_family = libc::AF_XDP as u16;
        address.sxdp_flags = libc::XDP_COPY;
        address.sxdp_ifindex = ifindex;
        address.sxdp_queue_id = queue;
        let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        // SAFETY: the address is as long as said and outlives the call.
        let failed =
            unsafe { libc::bind(this.socket.as_raw_fd(), (&raw const address).cast(), len) };
        if failed == 0 { Ok(this) } else { Err(Error::last_os_error()) }
    }

    /// Makes itself the socket of place `index` of map `XSKS`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn register(&self, map: &crate::bpf::Map, index: u32) -> Result<()> {
        map.update(&index.to_ne_bytes(), &self.socket.as_raw_fd().to_ne_bytes())
    }

    /// Frames that the kernel had for this socket and couldn't hand over: no room, too long.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lost(&self) -> Result<u64> {
        let seen: libc::xdp_statistics = get(&self.socket, libc::XDP_STATISTICS)?;
        Ok(seen.rx_dropped + seen.rx_ring_full)
    }

    /// Gives the kernel room for a frame.
    fn give(&self, address: u64) {
        let at = self.fill.producer().load(Ordering::Relaxed);
        // SAFETY: an entry of the ring that isn't the kernel's: there are as many entries as frames.
        unsafe { self.fill.entry::<u64>(at).write(address) };
        self.fill.producer().store(at.wrapping_add(1), Ordering::Release);
    }

    /// The next frame, or `None` after `limit`.
    pub fn receive(&self, limit: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + limit;
        loop {
            let at = self.received.consumer().load(Ordering::Relaxed);
            if at != self.received.producer().load(Ordering::Acquire) {
                // SAFETY: the kernel published this entry, and the frame that it speaks of is ours
                // until it is given back.
                let frame = unsafe {
                    let found = self.received.entry::<libc::xdp_desc>(at).read();
                    let (start, len) = (found.addr as usize, found.len as usize);
                    assert!(start + len <= UMEM, "a frame in our memory");
                    std::slice::from_raw_parts(self.umem.start.add(start), len).to_vec()
                };
                // SAFETY: as above.
                let address = unsafe { (*self.received.entry::<libc::xdp_desc>(at)).addr };
                self.received.consumer().store(at.wrapping_add(1), Ordering::Release);
                self.give(address & !(CHUNK as u64 - 1));
                return Some(frame);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let mut poll =
                libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, as said.
            unsafe { libc::poll(&raw mut poll, 1, left.as_millis().clamp(1, 1000) as i32) };
        }
    }
}
