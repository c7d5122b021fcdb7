//! The only place that knows HTTP, WebSocket, JSON, sessions and roles. docs/protocol.md is what it
//! speaks.

pub mod api;
mod arguments;
mod attributes;
mod audit;
pub mod auth;
pub mod client;
mod console;
mod denied;
mod dump;
pub mod error;
mod explain;
pub mod history;
mod learn;
pub mod listen;
mod mappings;
pub mod names;
mod nat;
pub mod origin;
pub mod query;
pub mod routes;
mod sets;
pub(crate) mod sockets;
mod summary;
pub mod ws;

#[cfg(test)]
mod tests;
