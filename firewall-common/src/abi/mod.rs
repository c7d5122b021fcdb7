//! What crosses the kernel line, as bytes.
//!
//! No enum, bool or Option: raw integers behind constructors and `TryFrom`, padding explicit, sizes
//! asserted with `const _`, so that the BPF target checks them too. Fields that mirror the wire are
//! big-endian byte arrays; all other integers are host-endian. Times are *ticks* (`jiffies64`,
//! the one clock that costs a packet nothing); [`clock`] carries what turns them into seconds.
//!
//! `docs/abi.md` describes every map and is hash-locked to this folder by `cargo xtask tidy`.

pub mod bucket;
pub mod clock;
pub mod control;
pub mod counter;
pub mod drops;
pub mod event;
pub mod flow;
pub mod frag;
pub mod iface;
pub mod kfunc;
pub mod limit;
pub mod names;
pub mod nat;
pub mod observed;
pub mod owner;
pub mod reason;
pub mod set;
pub mod small;
pub mod socket;
pub mod source;
pub mod stage;
pub mod table;

/// Raised whenever a pinned map's layout or meaning changes. Compared with [`control::Control`] at
/// every adoption: a mismatch is an error that names both numbers.
pub const ABI_VERSION: u32 = 8;

/// Marks a plain-bytes ABI type: `bytemuck` everywhere, `aya::Pod` in user space.
macro_rules! plain_bytes {
    ($($t:ty => $size:expr),* $(,)?) => {$(
        const _: () = assert!(core::mem::size_of::<$t>() == $size);
        const _: () = assert!(core::mem::align_of::<$t>() <= 8);
        #[cfg(feature = "user")]
        // SAFETY: `repr(C)`, integers only, no implicit padding (bytemuck's derive checks it).
        unsafe impl aya::Pod for $t {}
    )*};
}
pub(crate) use plain_bytes;

/// A named raw integer: the number is the ABI, the names are for people.
macro_rules! numbers {
    ($(#[$m:meta])* $name:ident($raw:ty) { $($(#[$vm:meta])* $variant:ident = $value:literal => $text:literal),* $(,)? }) => {
        $(#[$m])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr($raw)]
        pub enum $name { $($(#[$vm])* $variant = $value),* }
        impl $name {
            /// Every value, in numeric order of declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            /// The raw number that crosses the kernel line.
            #[inline(always)]
            pub const fn raw(self) -> $raw { self as $raw }
            /// The name people read and write (policy files, filters, JSON).
            pub const fn name(self) -> &'static str { match self { $($name::$variant => $text),* } }
            /// The value with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some($name::$variant),)* _ => None }
            }
        }
        impl TryFrom<$raw> for $name {
            type Error = $raw;
            fn try_from(raw: $raw) -> Result<Self, $raw> {
                match raw { $($value => Ok($name::$variant),)* other => Err(other) }
            }
        }
    };
}
pub(crate) use numbers;
