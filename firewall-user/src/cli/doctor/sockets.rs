//! What the socket monitor finds here, and what isn't seen without it.

use super::Finding;
use crate::{daemon, datapath::sockets};

const HOOKS: &str = "socket hooks";
const KILL: &str = "ending sockets";

/// Typed tracepoints and the iterator over descriptors.
pub fn hooks() -> Finding {
    match sockets::lacking() {
        Ok(lacking) if lacking.is_empty() => {
            Finding::ok(HOOKS, "tracepoints and the iterator over descriptors are there")
        }
        Ok(lacking) => Finding::warn(
            HOOKS,
            format!("not in this kernel: {}", lacking.join("; ")),
            "Linux 6.3 has all of them",
        ),
        Err(error) => Finding::warn(
            HOOKS,
            format!("sockets can't be followed: {error}"),
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y; packet filtering works without",
        ),
    }
}

/// SOCK_DESTROY.
pub fn kill() -> Finding {
    match daemon::destroy_outlook() {
        Ok(()) => Finding::ok(KILL, "possible (SOCK_DESTROY)"),
        Err(error) => Finding::warn(
            KILL,
            error.to_string(),
            "`sluice socket kill` needs CONFIG_INET_DIAG_DESTROY=y and CAP_NET_ADMIN",
        ),
    }
}
