//! Pure transitions of a flow; `now` is always an argument.

pub mod block;
pub mod cookie;
pub mod hash;
pub mod key;
pub mod nptv6;
pub mod resync;
pub mod tcp;
pub mod timeout;
pub mod window;
