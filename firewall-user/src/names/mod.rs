//! Names of remote hosts, as they were seen on the wire: answers of DNS, and what a ClientHello asks for. No I/O, no clock.
//!
//! They are what others say. A resolver can give any address any name, and a client can ask any server for any name:
//! rows are marked as observed, and nothing is judged by them.

mod book;
mod dns;
mod hello;
#[cfg(test)]
mod tests;

pub use book::{Named, Names, Reached, Source};
pub use dns::DnsError;
pub use hello::HelloError;
