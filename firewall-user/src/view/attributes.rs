//! What is known of one socket.

use super::SocketView;
use serde::{Deserialize, Serialize};

/// One socket, and all that is known of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SocketDetailsView {
    /// As in lists of sockets.
    pub socket: SocketView,
    /// What is known of it besides, by name.
    pub attributes: Vec<SocketAttributeView>,
}

/// Something that is known of a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketAttributeView {
    /// `exe`, `cmdline`, `user`, `cgroup`, `unit`, `container`, `pod`, `process_start_ns`, `exe_file`, `cgroup_id`,
    /// `netns`, `netns_name`, `note`.
    pub name: String,
    /// In words.
    pub value: String,
    /// How it is known: `kernel` (stamped), `proc` (read from /proc while the process lived), `others` (of a process
    /// that was gone: others had the same file or cgroup), `users` (the machine's list of them), `cgroup` (its path
    /// says so), `netns` (a name of the namespace), `operator`.
    pub source: String,
}

/// The same in a list of many sockets' attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketAttributeRowView {
    /// Id of the socket.
    pub socket: String,
    /// Process that owns it; `null`: unknown.
    pub pid: Option<u32>,
    /// What the kernel calls that.
    pub comm: Option<String>,
    /// Place among the attributes of the socket, from 1 on.
    pub ordinal: u32,
    /// As in `SocketAttributeView`.
    pub name: String,
    /// In words.
    pub value: String,
    /// As in `SocketAttributeView`.
    pub source: String,
}
