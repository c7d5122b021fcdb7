//! Pure transitions of a flow; `now` is always an argument.

pub mod hash;
pub mod key;
pub mod tcp;
pub mod timeout;
pub mod window;
