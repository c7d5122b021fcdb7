//! What a rule matches, as a box: a set of values for each field of a packet. Boxes can be taken
//! out of one another, which tells whether anything is left for a later rule.

use super::super::ast::Conditions;
use super::super::compile::icmp_ranges;
use super::super::ranges::{AddrSet, Number, Ranges};
use super::super::resolved::Resolved;
use super::super::words::{ICMP, ICMPV6};
use firewall_common::abi::table::{Direction, State};
use std::collections::HashMap;
use std::rc::Rc;

/// A set of up to 256 values.
pub type Few = [u64; 4];

const ALL: Few = [u64::MAX; 4];

fn set(few: &mut Few, value: u8) {
    few[usize::from(value / 64)] |= 1 << (value % 64);
}

/// Fields with few values, by place.
const DIRECTION: usize = 0;
const IFACE: usize = 1;
const PROTO: usize = 2;
const STATE: usize = 3;
const FLAGS: usize = 4;

/// A box, for addresses of one family.
#[derive(Clone, Debug)]
pub struct Space<T> {
    few: [Few; 5],
    ports: [Rc<Ranges<u16>>; 2],
    addrs: [Rc<Ranges<T>>; 2],
}

/// One packet of a box: the least value of each field.
#[derive(Clone, Copy, Debug)]
pub struct Corner<T> {
    few: [u8; 5],
    ports: [u16; 2],
    /// Addresses: source's, destination's.
    pub addrs: [T; 2],
}

/// Steps that may still be taken. Checks are a courtesy: on a policy of thousands of rules over huge
/// sets that overlap they stop rather than keep the operator waiting.
pub struct Budget(pub u64);

impl Budget {
    fn spend(&mut self, steps: usize) {
        self.0 = self.0.saturating_sub(1 + steps as u64);
    }
    /// Whether nothing is left.
    pub const fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

impl<T: Number> Space<T> {
    /// Values of a field that has few.
    pub const fn few(&self, field: usize) -> &Few {
        &self.few[field]
    }

    /// Ports: source's, destination's.
    pub fn ports(&self, end: usize) -> &Ranges<u16> {
        &self.ports[end]
    }

    /// Addresses: source's, destination's.
    pub fn addrs(&self, end: usize) -> &Ranges<T> {
        &self.addrs[end]
    }

    /// Whether no packet is in it.
    pub fn is_empty(&self) -> bool {
        self.few.contains(&[0; 4])
            || self.ports.iter().any(|p| p.is_empty())
            || self.addrs.iter().any(|a| a.is_empty())
    }

    /// A packet of it; `None` where there is none.
    pub fn corner(&self) -> Option<Corner<T>> {
        let mut few = [0; 5];
        for (least, few) in few.iter_mut().zip(&self.few) {
            let word = few.iter().position(|word| *word != 0)?;
            *least = word as u8 * 64 + few[word].trailing_zeros() as u8;
        }
        let [sport, dport] = [0, 1].map(|d| self.ports[d].hull());
        let [src, dst] = [0, 1].map(|d| self.addrs[d].hull());
        Some(Corner { few, ports: [sport?.0, dport?.0], addrs: [src?.0, dst?.0] })
    }

    /// Whether this packet is in it.
    pub fn has(&self, packet: &Corner<T>) -> bool {
        let few = self.few.iter().zip(packet.few);
        few.into_iter().all(|(few, at)| few[usize::from(at / 64)] >> (at % 64) & 1 != 0)
            && (0..2).all(|d| self.addrs[d].has(packet.addrs[d]))
            && (0..2).all(|d| self.ports[d].has(packet.ports[d]))
    }

    /// Whether some packet is in both.
    pub fn meets(&self, other: &Self, budget: &mut Budget) -> bool {
        self.without(other, budget).is_some()
    }

    /// Whether `other` has all of it. Quicker than to see whether anything is left.
    pub fn is_within(&self, other: &Self, budget: &mut Budget) -> bool {
        let few = self.few.iter().zip(&other.few);
        if few.flat_map(|(a, b)| a.iter().zip(b)).any(|(a, b)| a & !b != 0) {
            return false;
        }
        (0..2).all(|d| within(&self.addrs[d], &other.addrs[d], budget))
            && (0..2).all(|d| within(&self.ports[d], &other.ports[d], budget))
    }

    /// `self` without `other`, as boxes that don't overlap. `None` where they have nothing in common.
    pub fn without(&self, other: &Self, budget: &mut Budget) -> Option<Vec<Self>> {
        let both: [Few; 5] =
            std::array::from_fn(|d| std::array::from_fn(|w| self.few[d][w] & other.few[d][w]));
        if both.contains(&[0; 4]) {
            return None;
        }
        let ports = [
            meet(&self.ports[0], &other.ports[0], budget)?,
            meet(&self.ports[1], &other.ports[1], budget)?,
        ];
        let addrs = [
            meet(&self.addrs[0], &other.addrs[0], budget)?,
            meet(&self.addrs[1], &other.addrs[1], budget)?,
        ];
        let mut rest = self.clone();
        let mut pieces = Vec::new();
        for (d, both) in both.into_iter().enumerate() {
            let left: Few = std::array::from_fn(|w| rest.few[d][w] & !both[w]);
            if left != [0; 4] {
                let mut piece = rest.clone();
                piece.few[d] = left;
                pieces.push(piece);
            }
            rest.few[d] = both;
        }
        for (d, both) in ports.into_iter().enumerate() {
            if let Some(left) = leave(&rest.ports[d], &both, budget) {
                let mut piece = rest.clone();
                piece.ports[d] = left;
                pieces.push(piece);
            }
            rest.ports[d] = both;
        }
        for (d, both) in addrs.into_iter().enumerate() {
            if let Some(left) = leave(&rest.addrs[d], &both, budget) {
                let mut piece = rest.clone();
                piece.addrs[d] = left;
                pieces.push(piece);
            }
            rest.addrs[d] = both;
        }
        Some(pieces)
    }
}

/// Whether `b` holds all that `a` does.
fn within<T: Number>(a: &Rc<Ranges<T>>, b: &Rc<Ranges<T>>, budget: &mut Budget) -> bool {
    if Rc::ptr_eq(a, b) || b.is_all() {
        return true;
    }
    budget.spend(a.as_slice().len());
    a.is_within(b)
}

/// What both hold; `None` if that is nothing.
fn meet<T: Number>(
    a: &Rc<Ranges<T>>,
    b: &Rc<Ranges<T>>,
    budget: &mut Budget,
) -> Option<Rc<Ranges<T>>> {
    if Rc::ptr_eq(a, b) || b.is_all() {
        return Some(Rc::clone(a));
    }
    if a.is_all() {
        return Some(Rc::clone(b));
    }
    budget.spend(a.as_slice().len() + b.as_slice().len());
    let both = a.intersect(b);
    if both == **a {
        return Some(Rc::clone(a));
    }
    (!both.is_empty()).then(|| Rc::new(both))
}

/// What `a` holds and `both`, a part of it, doesn't; `None` if that is nothing.
fn leave<T: Number>(
    a: &Rc<Ranges<T>>,
    both: &Rc<Ranges<T>>,
    budget: &mut Budget,
) -> Option<Rc<Ranges<T>>> {
    if Rc::ptr_eq(a, both) {
        return None;
    }
    budget.spend(a.as_slice().len() + both.as_slice().len());
    let left = a.subtract(both);
    (!left.is_empty()).then(|| Rc::new(left))
}

/// Makes boxes of conditions; equal lists share one allocation, so that most comparisons are of pointers.
pub struct Boxes<'p> {
    resolved: &'p Resolved,
    ifaces: HashMap<String, u8>,
    any: (Rc<Ranges<u32>>, Rc<Ranges<u128>>),
    ports_any: Rc<Ranges<u16>>,
    ports: HashMap<Ranges<u16>, Rc<Ranges<u16>>>,
    v4: HashMap<Ranges<u32>, Rc<Ranges<u32>>>,
    v6: HashMap<Ranges<u128>, Rc<Ranges<u128>>>,
}

impl<'p> Boxes<'p> {
    /// For the rules of one policy.
    pub fn new(resolved: &'p Resolved) -> Self {
        Self {
            resolved,
            ifaces: HashMap::new(),
            any: (Rc::new(Ranges::all()), Rc::new(Ranges::all())),
            ports_any: Rc::new(Ranges::all()),
            ports: HashMap::new(),
            v4: HashMap::new(),
            v6: HashMap::new(),
        }
    }

    /// The two boxes of a rule or translation: IPv4 and IPv6.
    pub fn of(&mut self, when: &Conditions) -> (Space<u32>, Space<u128>) {
        let mut few = [ALL; 5];
        few[DIRECTION] = [0; 4];
        for direction in Direction::ALL {
            if when.direction.is_none_or(|d| d == *direction) {
                set(&mut few[DIRECTION], direction.raw());
            }
        }
        if let Some(on) = &when.on {
            let mut named = [0; 4];
            for name in self.resolved.interfaces(on) {
                // Interface 255 and beyond are lumped together with those that no rule names.
                let next = self.ifaces.len().min(254) as u8;
                set(&mut named, *self.ifaces.entry(name).or_insert(next));
            }
            few[IFACE] = if on.negated { named.map(|w| !w) } else { named };
        }
        if let Some(protos) = &when.protos {
            few[PROTO] = [0; 4];
            protos.iter().for_each(|p| set(&mut few[PROTO], *p));
        }
        few[STATE] = [0; 4];
        for state in State::ALL {
            if when.states.as_ref().is_none_or(|s| s.contains(state)) {
                set(&mut few[STATE], state.raw());
            }
        }
        if let Some(flags) = when.flags {
            few[FLAGS] = [0; 4];
            for byte in 0..=u8::MAX {
                if byte & flags.mask == flags.value {
                    set(&mut few[FLAGS], byte);
                }
            }
        }
        let sport = when.src.ports.as_ref().map(|l| (l.negated, self.resolved.port_ranges(l)));
        let dport = when.dst.ports.as_ref().map(|l| (l.negated, self.resolved.port_ranges(l)));
        let dport = dport.or_else(|| when.icmp.as_ref().map(|icmp| (false, icmp_ranges(icmp))));
        let ports = [self.port_set(sport), self.port_set(dport)];
        let (src, dst) = (self.addr_sets(when, 0), self.addr_sets(when, 1));
        let (mut few4, mut few6) = (few, few);
        // ICMP of the other family is not a packet anyone sends.
        few4[PROTO][usize::from(ICMPV6 / 64)] &= !(1 << (ICMPV6 % 64));
        few6[PROTO][usize::from(ICMP / 64)] &= !(1 << (ICMP % 64));
        match when.family {
            Some(super::super::ast::Family::V4) => few6[DIRECTION] = [0; 4],
            Some(super::super::ast::Family::V6) => few4[DIRECTION] = [0; 4],
            None => {}
        }
        (
            Space { few: few4, ports: ports.clone(), addrs: [src.0, dst.0] },
            Space { few: few6, ports, addrs: [src.1, dst.1] },
        )
    }

    fn port_set(&mut self, list: Option<(bool, Ranges<u16>)>) -> Rc<Ranges<u16>> {
        let Some((negated, ranges)) = list else {
            return Rc::clone(&self.ports_any);
        };
        let ranges = if negated { ranges.complement() } else { ranges };
        share(&mut self.ports, ranges)
    }

    fn addr_sets(&mut self, when: &Conditions, end: usize) -> (Rc<Ranges<u32>>, Rc<Ranges<u128>>) {
        let list = if end == 0 { &when.src.addrs } else { &when.dst.addrs };
        let Some(list) = list else { return self.any.clone() };
        let mut addrs = self.resolved.addresses(list);
        if list.negated {
            addrs = AddrSet { v4: addrs.v4.complement(), v6: addrs.v6.complement() };
        }
        (share(&mut self.v4, addrs.v4), share(&mut self.v6, addrs.v6))
    }
}

fn share<T: Number>(
    known: &mut HashMap<Ranges<T>, Rc<Ranges<T>>>,
    ranges: Ranges<T>,
) -> Rc<Ranges<T>> {
    if let Some(shared) = known.get(&ranges) {
        return Rc::clone(shared);
    }
    let shared = Rc::new(ranges.clone());
    known.insert(ranges, Rc::clone(&shared));
    shared
}
