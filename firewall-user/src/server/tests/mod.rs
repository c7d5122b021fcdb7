//! The server in-process, over a pretended kernel, with real clients.

mod http;
mod live;
mod misbehaving;
mod nat;
mod support;
