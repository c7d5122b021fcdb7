//! What is to be explained: packets as people describe them, as hex dumps hold them, as captures have them; to
//! frames, and back to what the rules see of them. Pure: knows no kernel, no sockets, no clock.
//!
//! `docs/explain.md` describes the language.

pub mod capture;
mod describe;
mod frame;
pub mod hex;
mod parsed;
mod talk;

pub use describe::{Content, Description, Made, Piece, parse};
pub use frame::build;
pub use hex::{bytes as hex_bytes, text as hex_text};
pub use parsed::{Understood, understand};
pub use talk::{Opening, opening};

#[cfg(test)]
mod tests;
