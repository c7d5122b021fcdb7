//! Interfaces go and come back: a link that was deleted and made anew has another index, and no
//! program. Looked at once a second, so that the gap is short and visible.

use super::{Datapath, HookMode, netdev};
use firewall_common::abi::iface::Iface;

impl Datapath {
    /// Attaches to interfaces that came back under another index, and marks those that are gone.
    /// Returns what changed, in words for the log.
    pub fn follow_interfaces(&mut self) -> Vec<String> {
        let mut told = self.follow_shortcuts();
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
                self.attached.retain(|place| place.dev.name != name);
                told.push(format!("{name} is gone; waiting for it to come back"));
                if let Some(i) = self.interfaces.iter_mut().find(|i| i.name == name) {
                    i.ifindex = 0;
                    (i.fast_path, i.xsk_first) = (String::new(), None);
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
        told
    }
}
