//! Client, gate and server in network namespaces of their own, and real traffic between them.
//!
//! The namespaces have no names: they live as long as a file descriptor of this process, so that a
//! test that is killed leaves none behind, and any number of labs stand side by side.

mod daemon;
mod descriptors;
mod flood;
mod http;
mod nat;
mod netns;
mod raw;
mod sockets;
mod tools;
mod topology;
mod traffic;
mod websocket;
mod wire;
mod xsk;

pub use daemon::{CliOutput, Daemon, DaemonOptions, sluice_bin};
pub use descriptors::{pass, passed};
pub use flood::Flood;
pub use http::HttpServer;
pub use nat::{Checksums, NatLab};
pub use netns::NetNs;
pub use raw::RawSocket;
pub use tools::{Run, missing_tools, run};
pub use topology::Lab;
pub(crate) use topology::link;
pub use traffic::{TcpEcho, Transfer, UdpEcho, udp_exchange};
pub use websocket::{WsClient, python_with_websockets};
pub use wire::{Capture, Sums};
pub use xsk::XskReceiver;

use std::time::{Duration, Instant};

/// What can go wrong while a lab is built or used. A test has no use for telling these apart, so
/// each carries words.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A command ended with an error.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// Something didn't happen in time.
    #[error("{0}")]
    Late(String),
}

impl LabError {
    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// Asks `probe` every 10 ms until it has an answer. The clock is only a limit, never a wait.
///
/// # Errors
/// [`LabError::Late`] after `limit`.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> Result<T, LabError> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if start.elapsed() > limit {
            return Err(LabError::Late(format!("{what}: not within {limit:?}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
