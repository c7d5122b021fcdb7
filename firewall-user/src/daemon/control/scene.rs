//! What a policy is checked against: the interfaces there are, and the SSH connections that mustn't
//! be cut.

use super::{sets::Witness, types::ControlError};
use crate::{
    datapath,
    policy::{self, CheckContext, Compiled, Diagnostic, Policy, Slots, SshPeer},
};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The port sshd listens on where nothing else is said.
const SSH_PORT: u16 = 22;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct CheckScene {
    interfaces: Vec<String>,
    /// The operator's own connection first.
    ssh: Vec<SshPeer>,
    sets: Witness,
}

impl CheckScene {
    /// This machine as it is now: `operator` is the caller's `SSH_CONNECTION`; every established
    /// connection to port 22 that the kernel lists counts as well.
    pub fn of_this_machine(operator: Option<&str>) -> Self {
        let mut ssh: Vec<SshPeer> =
            operator.and_then(SshPeer::from_ssh_connection).into_iter().collect();
        let seen = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok());
        for peer in seen.flat_map(|table| established(&table)) {
            // The operator's own may carry its interface, which the kernel's table doesn't tell.
            if !ssh.iter().any(|known| (known.peer, known.peer_port) == (peer.peer, peer.peer_port))
            {
                ssh.push(peer);
            }
        }
        Self { interfaces: datapath::interface_names(), ssh, sets: Witness::default() }
    }

    /// With live sets as somebody knows them; what `policy` would read from files is read.
    ///
    /// # Errors
    /// A file can't be read or understood.
    pub fn with_sets(mut self, mut sets: Witness, policy: &Policy) -> Result<Self, ControlError> {
        sets.read_files(policy)?;
        self.sets = sets;
        Ok(self)
    }

    /// Interfaces of this machine.
    pub fn interfaces(&self) -> &[String] {
        &self.interfaces
    }

    /// What is odd about `policy` here.
    pub fn check(&self, policy: &Policy) -> Vec<Diagnostic> {
        let oddities = self.oddities(policy);
        if self.ssh.is_empty() {
            return oddities;
        }
        let mut slots = Slots::new();
        // A policy that can't be compiled is somebody else's error.
        match policy::compile(policy, &mut slots, 1) {
            Ok(compiled) => self.with_lockouts(oddities, policy, &compiled, &slots),
            Err(_) => oddities,
        }
    }

    /// What is odd about it but for whom it cuts off.
    pub fn oddities(&self, policy: &Policy) -> Vec<Diagnostic> {
        let context = CheckContext {
            interfaces: Some(self.interfaces.clone()),
            addresses: datapath::addresses(),
            ssh: None,
        };
        policy::check(policy, &context)
    }

    /// That, and whom it cuts off.
    pub fn with_lockouts(
        &self,
        mut found: Vec<Diagnostic>,
        policy: &Policy,
        compiled: &Compiled,
        slots: &Slots,
    ) -> Vec<Diagnostic> {
        let holds = self.sets.by_index(policy, compiled);
        for (i, peer) in self.ssh.iter().enumerate() {
            let cut = policy::lockouts(policy, peer, compiled, slots, &*holds);
            if i == 0 {
                found.extend(cut);
                found.sort_by_key(|finding| (finding.line, finding.column));
            } else {
                // Of the others, only what isn't said yet is news.
                let news = cut.into_iter().filter(|finding| !found.contains(finding));
                found.extend(news.collect::<Vec<_>>());
            }
        }
        found
    }
}

/// Established connections to the SSH port in a /proc/net/tcp{,6} table; loopback left out.
fn established(table: &str) -> Vec<SshPeer> {
    let line = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, local_port) = endpoint(words.next()?)?;
        let (peer, peer_port) = endpoint(words.next()?)?;
        let open = words.next()? == "01";
        (open && local_port == SSH_PORT && !peer.is_loopback()).then_some(SshPeer {
            peer,
            peer_port,
            local,
            local_port,
            iface: None,
        })
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// `0100007F:0016`: 32-bit words in host order.
fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).map(Ipv4Addr::from).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).map(Ipv6Addr::from).ok()?),
        _ => return None,
    };
    Some((unmapped(address), port))
}

/// An IPv4 peer on an IPv6 socket is still an IPv4 packet on the wire.
fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn what_the_kernel_lists() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
            0: 00000000:0016 00000000:0000 0A 00000000:00000000\n\
            1: 0100000A:0016 070200C0:C366 01 00000000:00000000\n\
            2: 0100007F:0016 0100007F:C366 01 00000000:00000000\n\
            3: 0100000A:0050 070200C0:C366 01 00000000:00000000\n";
        let found = established(table);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].peer.to_string().as_str(), found[0].peer_port), ("192.0.2.7", 50022));
        let table = "head\n 0: 0000000000000000FFFF00000100000A:0016 0000000000000000FFFF0000070200C0:C366 01\n";
        assert_eq!(established(table)[0].local.to_string(), "10.0.0.1");
    }
}
