//! The kernel programs that the binary carries.

/// Room for the object at an alignment that ELF readers want.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/sluice.bpf.o")));

static MONITOR: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/sluice-sockets.bpf.o")));

static OWNERS: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/sluice-owners.bpf.o")));

static NAMES: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/sluice-names.bpf.o")));

/// The filter; empty if the binary was built without one.
pub fn bytes() -> &'static [u8] {
    &OBJECT.0
}

/// The socket monitor; as [`bytes`].
pub fn monitor() -> &'static [u8] {
    &MONITOR.0
}

/// The rules by owner; as [`bytes`].
pub fn owners() -> &'static [u8] {
    &OWNERS.0
}

/// What names are read from; as [`bytes`].
pub fn names() -> &'static [u8] {
    &NAMES.0
}
