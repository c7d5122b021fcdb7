//! Functions of the kernel that aren't helpers. Their numbers are those of the running kernel's types: the
//! object calls a placeholder, and whoever loads it writes the number in.

/// Placeholder of `bpf_sk_assign_tcp_reqsk` (Linux 6.8): gives a socket buffer at TC ingress the connection
/// request that a SYN cookie stands for. Where the kernel has none, the call becomes `r0 = -22`.
pub const SK_ASSIGN_TCP_REQSK: i32 = 0x0051_c0de;

/// Helper `bpf_skc_to_mptcp_sock` (Linux 5.19). Where cookies are impossible, the call becomes `r0 = 0`.
pub const SKC_TO_MPTCP_SOCK: i32 = 196;
