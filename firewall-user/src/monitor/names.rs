//! Names of rule slots and interfaces.

use firewall_common::abi::{
    iface::IFACE_SLOTS,
    table::{SLOT_DEFAULT_IN, SLOT_DEFAULT_OUT, SLOT_NONE},
};
use std::{collections::HashMap, sync::Arc};

/// Name of the slot that counts the default for incoming packets.
pub const DEFAULT_IN: &str = "default in";
/// Name of the slot that counts the default for outgoing packets.
pub const DEFAULT_OUT: &str = "default out";

/// The directory. A slot keeps its last name after its rule has gone: live flows and old events
/// still point at it.
#[derive(Clone, Debug, Default)]
pub struct Names {
    rules: HashMap<u32, Arc<str>>,
    slots: HashMap<u8, Arc<str>>,
    indices: HashMap<u32, Arc<str>>,
}

impl Names {
    /// Rule `name` owns `slot`.
    pub fn set_rule(&mut self, slot: u32, name: &str) {
        self.rules.insert(slot, name.into());
    }
    /// Interface `name` owns interface slot `slot`.
    pub fn set_iface_slot(&mut self, slot: u8, name: &str) {
        self.slots.insert(slot, name.into());
    }
    /// Interface `name` has this index now.
    pub fn set_iface_index(&mut self, ifindex: u32, name: &str) {
        self.indices.insert(ifindex, name.into());
    }
    /// Name of the rule behind a slot; empty for "no rule".
    pub fn rule(&self, slot: u32) -> String {
        rule_text(slot, self.rules.get(&slot).map(|name| &**name))
    }
    /// Name of the rule behind a slot, if that is known: to be given to [`rule_text`] later.
    pub(super) fn shared_rule(&self, slot: u32) -> Option<Arc<str>> {
        self.rules.get(&slot).cloned()
    }
    /// Name of the interface with this index, if that is known: to be given to [`iface_text`] later.
    pub(super) fn shared_iface(&self, ifindex: u32) -> Option<Arc<str>> {
        self.indices.get(&ifindex).cloned()
    }
    /// Name of the rule behind a slot, if that is known.
    pub fn known_rule(&self, slot: u32) -> Option<String> {
        self.rules.get(&slot).map(|name| name.to_string())
    }
    /// Name of the interface behind an interface slot; `None` for slot 0.
    pub fn iface_slot(&self, slot: u8) -> Option<String> {
        (slot != 0 && usize::from(slot) < IFACE_SLOTS).then(|| {
            self.slots.get(&slot).map_or_else(|| format!("slot {slot}"), |name| name.to_string())
        })
    }
    /// Name of the interface with this index.
    pub fn iface_index(&self, ifindex: u32) -> String {
        iface_text(ifindex, self.indices.get(&ifindex).map(|name| &**name))
    }
}

/// What is said of the rule behind a slot, which had this name; empty for "no rule".
pub(super) fn rule_text(slot: u32, name: Option<&str>) -> String {
    match slot {
        SLOT_NONE => String::new(),
        SLOT_DEFAULT_IN => DEFAULT_IN.to_owned(),
        SLOT_DEFAULT_OUT => DEFAULT_OUT.to_owned(),
        slot => name.map_or_else(|| format!("slot {slot}"), str::to_owned),
    }
}

/// What is said of the interface with this index, which had this name.
pub(super) fn iface_text(ifindex: u32, name: Option<&str>) -> String {
    name.map_or_else(|| format!("if{ifindex}"), str::to_owned)
}
