//! Pure transitions of a flow; `now` is always an argument.

pub mod block;
pub mod key;
pub mod tcp;
pub mod timeout;
