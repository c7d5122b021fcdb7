//! What ways past the stack there are at each interface: the fast path, and AF_XDP sockets.

use super::{
    Datapath, features,
    mode::Ingress,
    netdev::{self, NetDev},
};
use firewall_common::abi::{
    iface::{IFACE_FAST, IFACE_WIRE, xsk_index},
    reason::Reason,
    table::{ACTION_BYPASS, RuleTable, SETTING_FAST_PATH, Verdict},
};

/// What the live policy asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// Established forwarded flows may skip the stack.
    fast: bool,
    /// Some rule hands packets to AF_XDP sockets.
    bypass: bool,
}

impl Wanted {
    /// Of a table.
    pub(super) fn of(table: &RuleTable) -> Self {
        Self {
            fast: table.settings.flags & SETTING_FAST_PATH != 0,
            bypass: table.any_flags & u32::from(ACTION_BYPASS) != 0,
        }
    }

    /// Whether established forwarded flows may skip the stack.
    pub(super) const fn fast(self) -> bool {
        self.fast
    }

    /// Whether some rule hands packets to AF_XDP sockets.
    pub(super) const fn bypass(self) -> bool {
        self.bypass
    }
}

/// What the programs are told of an interface, and what people are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shortcut {
    /// `IFACE_*`.
    pub(super) flags: u32,
    /// Hardware address.
    pub(super) mac: [u8; 6],
    /// Whether flows that come in here may skip the stack, and why not.
    pub(super) fast_path: String,
}

impl Shortcut {
    /// Of an interface, as it is attached.
    pub(super) fn of(dev: &NetDev, how: Ingress) -> Self {
        let mac = netdev::mac(&dev.name).unwrap_or_default();
        Self { mac, ..Self::with(dev, how, features::takes_redirected(dev.ifindex)) }
    }

    fn with(dev: &NetDev, how: Ingress, takes: Option<bool>) -> Self {
        // A wire's driver says what it thinks of each checksum to the stack, not to XDP: but it never
        // hands out partial ones.
        let wire = dev.physical && how == Ingress::Xdp;
        let way_in = match how {
            Ingress::Tc => "from here at TC",
            Ingress::Xdp if wire => "from here in the driver",
            Ingress::Xdp => {
                "not from here: frames of a virtual link may carry partial checksums, which XDP can't see"
            }
            Ingress::XdpGeneric => "not from here: no fast path under generic XDP",
        };
        let way_out = match takes {
            Some(true) => "from drivers to here: yes",
            Some(false) => "from drivers to here: no, its driver takes no redirected frames",
            None => {
                "from drivers to here: no, the kernel doesn't tell whether its driver takes them"
            }
        };
        let flags =
            if wire { IFACE_WIRE } else { 0 } | if takes == Some(true) { IFACE_FAST } else { 0 };
        Self { flags, fast_path: format!("{way_in}; {way_out}"), ..Self::default() }
    }
}

/// Place in map `XSKS` of an interface's first queue; `None`: its frames reach no AF_XDP socket.
pub(super) fn first_queue(slot: u8, how: Ingress) -> Option<u32> {
    (how != Ingress::Tc).then(|| xsk_index(u32::from(slot), 0)).flatten()
}

impl Datapath {
    /// Looks again what the drivers take: a veth's changes with the other end's settings.
    pub(super) fn follow_shortcuts(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for place in &mut self.attached {
            let seen = Shortcut::of(&place.dev, place.how);
            if seen == place.shortcut {
                continue;
            }
            // The flags that were found here go, and no others.
            let changed = self.ifaces.get(&place.dev.ifindex, 0).and_then(|mut entry| {
                entry.flags = entry.flags & !place.shortcut.flags | seen.flags;
                entry.mac = seen.mac;
                self.ifaces.set(place.dev.ifindex, entry, 0)
            });
            if let Err(error) = changed {
                told.push(format!("{}: telling its programs of it: {error}", place.dev.name));
                continue;
            }
            if let Some(view) = self.interfaces.iter_mut().find(|i| i.name == place.dev.name) {
                view.fast_path.clone_from(&seen.fast_path);
            }
            if seen.fast_path != place.shortcut.fast_path {
                told.push(format!("{}: fast path: {}", place.dev.name, seen.fast_path));
            }
            place.shortcut = seen;
        }
        told
    }

    /// What the live policy asks for and can't have here, or what follows from it.
    pub(super) fn shortcut_limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        if self.wanted.fast {
            let packets = self.packets_for(Reason::FastPath);
            limits.push(format!(
                "fast path: {packets} packets went past the stack, and past netfilter, the kernel's \
                 IPsec policies and programs behind Sluice's at ingress"
            ));
        }
        if self.wanted.bypass {
            let packets = self.packets_for(Reason::Bypassed);
            limits.push(format!(
                "bypass: {packets} packets were handed to AF_XDP sockets; what their programs send is \
                 neither filtered nor counted. Which queues have a socket the kernel doesn't tell: \
                 packets of the others take the usual way"
            ));
            for place in self.attached.iter().filter(|place| place.how == Ingress::Tc) {
                limits.push(format!(
                    "{}: `bypass` rules only let packets in here: AF_XDP sockets take them from \
                     drivers, mode xdp",
                    place.dev.name
                ));
            }
        }
        limits
    }

    /// Packets let by for a reason so far, or 0 where the kernel doesn't tell.
    fn packets_for(&self, reason: Reason) -> u64 {
        let index = u32::from(Verdict::Allow.raw()) << 6 | u32::from(reason.raw());
        let each = self.reason_counters.get(&index, 0);
        each.map_or(0, |each| each.iter().map(|counter| counter.packets).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wires_in_native_mode_are_trusted_with_checksums() {
        let dev = |physical| NetDev { name: "x".into(), ifindex: 2, driver: "x".into(), physical };
        let flags = |physical, how, takes| Shortcut::with(&dev(physical), how, takes).flags;
        assert_eq!(flags(true, Ingress::Xdp, Some(true)), IFACE_WIRE | IFACE_FAST);
        assert_eq!(flags(true, Ingress::Xdp, None), IFACE_WIRE);
        assert_eq!(flags(false, Ingress::Xdp, Some(true)), IFACE_FAST, "a veth");
        assert_eq!(flags(true, Ingress::XdpGeneric, Some(false)), 0);
        assert_eq!(flags(true, Ingress::Tc, Some(true)), IFACE_FAST);
    }

    #[test]
    fn sockets_have_places_where_xdp_runs() {
        assert_eq!(first_queue(2, Ingress::Xdp), Some(128));
        assert_eq!(first_queue(2, Ingress::XdpGeneric), Some(128));
        assert_eq!(first_queue(2, Ingress::Tc), None);
    }
}
