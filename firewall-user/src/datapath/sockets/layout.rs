//! Where the running kernel's structures have what the socket monitor reads.

use super::btf::{BtfError, Structures};
use aya::util::KernelVersion;
use firewall_common::abi::socket::Layout;

/// Asks the kernel's own types.
///
/// # Errors
/// The kernel has no BTF, or lacks a member: it says which.
pub fn of_kernel() -> Result<Layout, BtfError> {
    let all = Structures::of_kernel()?;
    let sock = |path: &str| all.offset("sock", path);
    let common = |path: &str| all.offset("sock_common", path);
    let task = |path: &str| all.offset("task_struct", path);
    let tcp = |path: &str| all.offset("tcp_sock", path);
    Ok(Layout {
        family: common("skc_family")?,
        state: common("skc_state")?,
        local4: common("skc_rcv_saddr")?,
        remote4: common("skc_daddr")?,
        local6: common("skc_v6_rcv_saddr")?,
        remote6: common("skc_v6_daddr")?,
        local_port: common("skc_num")?,
        remote_port: common("skc_dport")?,
        net: common("skc_net.net")?,
        bound_to: common("skc_bound_dev_if")?,
        kind: sock("sk_type")?,
        protocol: sock("sk_protocol")?,
        uid: sock("sk_uid")?,
        error: sock("sk_err")?,
        net_inode: all.offset("net", "ns.inum")?,
        socket_sock: all.offset("socket", "sk")?,
        group_leader: task("group_leader")?,
        start_boottime: task("start_boottime")?,
        tgid: task("tgid")?,
        comm: task("comm")?,
        cred: task("cred")?,
        cred_uid: all.offset("cred", "uid")?,
        cgroups: task("cgroups")?,
        default_cgroup: all.offset("css_set", "dfl_cgrp")?,
        cgroup_node: all.offset("cgroup", "kn")?,
        node_id: all.offset("kernfs_node", "id")?,
        mm: task("mm")?,
        exe_file: all.offset("mm_struct", "exe_file")?,
        file_inode: all.offset("file", "f_inode")?,
        inode_number: all.offset("inode", "i_ino")?,
        inode_super: all.offset("inode", "i_sb")?,
        super_device: all.offset("super_block", "s_dev")?,
        bytes_acked: tcp("bytes_acked")?,
        bytes_received: tcp("bytes_received")?,
        segs_out: tcp("segs_out")?,
        segs_in: tcp("segs_in")?,
        srtt: tcp("srtt_us")?,
        cwnd: tcp("snd_cwnd")?,
        retransmits: tcp("total_retrans")?,
        source_port: tcp("inet_conn.icsk_inet.inet_sport")?,
        buffer_sock: all.offset("sk_buff", "sk")?,
        buffer_protocol: all.offset("sk_buff", "protocol")?,
        drop_receiver: KernelVersion::current()
            .is_ok_and(|version| version >= KernelVersion::new(6, 11, 0))
            .into(),
        signal: task("signal")?,
        signal_live: all.offset("signal_struct", "live")?,
    })
}

/// Where the kernel's tree of cgroups, and its network namespaces, have what rules by owner read: as `Tree` of their
/// programs.
pub fn both() -> Result<(Layout, [u32; 3]), BtfError> {
    let all = Structures::of_kernel()?;
    let node = |path: &str| all.offset("kernfs_node", path);
    let tree = [
        node("name")?,
        // Renamed in Linux 6.15.
        node("__parent").or_else(|_| node("parent"))?,
        all.offset("net", "net_cookie")?,
    ];
    Ok((of_kernel()?, tree))
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_kernel_has_it_all() {
        let layout = super::of_kernel().expect("a kernel with types");
        // `skc_daddr` and `skc_rcv_saddr` are the first two (include/net/sock.h).
        assert_eq!((layout.remote4, layout.local4), (0, 4));
    }
}
