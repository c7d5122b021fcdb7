//! The kernel program that the binary carries.

/// Room for the object at an alignment that ELF readers want.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/sluice.bpf.o")));

/// The object; empty if the binary was built without one.
pub fn bytes() -> &'static [u8] {
    &OBJECT.0
}
