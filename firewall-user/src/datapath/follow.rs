//! Interfaces go and come back: a link that was deleted and made anew has another index, and no
//! program. Their addresses and MTUs change, which translation goes by. Looked at whenever the kernel says
//! that something changed, and once a second, so that the gap is short and visible.

use super::{Datapath, HookMode, netdev};
use firewall_common::abi::iface::Iface;

impl Datapath {
    /// Whether the kernel told of a change of interfaces since the last call.
    pub fn interfaces_changed(&self) -> bool {
        self.notices.as_ref().is_some_and(super::notify::LinkNotices::heard)
    }

    /// Addresses that the programs translate to, by interface slot.
    pub(super) fn addresses(&self) -> Vec<(u8, [u8; 4])> {
        let entries = self.interfaces.iter().filter_map(|i| self.ifaces.get(&i.ifindex, 0).ok());
        let known = entries.filter(|entry| entry.slot != 0 && entry.address != [0; 4]);
        known.map(|entry| (entry.slot as u8, entry.address)).collect()
    }

    /// Tells the programs what has changed about the interfaces that are there: address, MTU. Returns what
    /// did, in words for the log.
    fn follow_entries(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        let names: Vec<(String, u32)> =
            self.interfaces.iter().map(|i| (i.name.clone(), i.ifindex)).collect();
        for (name, ifindex) in names {
            let Ok(old) = self.ifaces.get(&ifindex, 0) else { continue };
            // Slot 0: not ours, or gone.
            if old.slot == 0 {
                continue;
            }
            // A link that is down for a moment keeps its MTU, and has no address.
            let new = Iface {
                address: netdev::address(&name).unwrap_or_default(),
                mtu: netdev::mtu(&name).unwrap_or(old.mtu),
                ..old
            };
            if (new.address, new.mtu) == (old.address, old.mtu) {
                continue;
            }
            if let Err(e) = self.ifaces.set(ifindex, new, 0) {
                told.push(format!("{name} has changed, but the programs can't be told: {e}"));
                continue;
            }
            let address = match new.address {
                [0, 0, 0, 0] => "no IPv4 address".to_owned(),
                address => std::net::Ipv4Addr::from(address).to_string(),
            };
            told.push(format!("{name} has {address} and an MTU of {} now", new.mtu));
        }
        told
    }

    /// Attaches to interfaces that came back under another index, and marks those that are gone.
    /// Returns what changed, in words for the log.
    pub fn follow_interfaces(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        let moved: Vec<_> = self
            .interfaces
            .iter()
            .filter(|i| netdev::index(&i.name).unwrap_or(0) != i.ifindex)
            .cloned()
            .collect();
        for old in moved {
            let name = old.name.as_str();
            if old.ifindex != 0 {
                // Its index may go to a link that isn't ours. A failure leaves the slot as it was.
                let _ = self.ifaces.set(old.ifindex, Iface::default(), 0);
            }
            if netdev::index(name).is_none() {
                told.push(format!("{name} is gone; waiting for it to come back"));
                if let Some(i) = self.interfaces.iter_mut().find(|i| i.name == name) {
                    i.ifindex = 0;
                    (i.ingress, i.egress) = ("none".to_owned(), "none".to_owned());
                    i.why = "the interface is gone; Sluice attaches when it comes back".to_owned();
                }
                continue;
            }
            let mode: HookMode = old.mode_asked.parse().unwrap_or_default();
            match self.attach(name, mode) {
                Ok(()) => told.push(format!("{name} came back; attached")),
                Err(e) => told.push(format!("{name} came back, but {e}")),
            }
        }
        told.extend(self.follow_entries());
        told
    }
}
