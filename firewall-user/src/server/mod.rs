//! The only place that knows HTTP, WebSocket, JSON, sessions and roles. docs/protocol.md is what it
//! speaks.

pub mod api;
pub mod auth;
pub mod client;
mod console;
pub mod error;
pub mod listen;
pub mod nat;
pub mod origin;
pub mod query;
pub mod routes;
pub mod ws;

#[cfg(test)]
mod tests;
