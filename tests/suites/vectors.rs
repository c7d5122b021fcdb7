//! Vectors: single packets and short exchanges through the kernel programs, each asserting the verdict,
//! the one reason it was counted under, the bytes of an answer, and what rules and flows counted.
//!
//! One file a topic below `vectors/`; this one holds what they share.

#[path = "vectors/answers.rs"]
mod answers;
#[path = "vectors/cookies.rs"]
mod cookies;
#[path = "vectors/flows.rs"]
mod flows;
#[path = "vectors/malformed.rs"]
mod malformed;
#[path = "vectors/nat.rs"]
mod nat;
#[path = "vectors/prefixes.rs"]
mod prefixes;
#[path = "vectors/rules.rs"]
mod rules;
#[path = "vectors/windows.rs"]
mod windows;

use sluice_tests::kernel::{Counters, Fate, Hook, Kernel, SeenFlow};
use sluice_tests::packet::{Packet, hex};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Client and server of most vectors.
const C: &str = "192.0.2.10";
const S: &str = "198.51.100.20";
const C6: &str = "2001:db8::10";
const S6: &str = "2001:db8:1::20";

/// All hooks.
const HOOKS: [Hook; 3] = [Hook::Xdp, Hook::TcIn, Hook::TcOut];

/// A kernel under test, asked packet by packet.
struct Bench {
    kernel: MutexGuard<'static, Kernel>,
    last: Counters,
    case: String,
}

/// What one packet met.
struct Met {
    fate: Fate,
    reason: &'static str,
    data: Vec<u8>,
    case: String,
}

/// One kernel for all vectors: the verifier takes seconds to load a program. A test that fails while
/// it has it leaves it as good as before: each case begins anew.
static KERNEL: OnceLock<Option<Mutex<Kernel>>> = OnceLock::new();

impl Met {
    #[track_caller]
    fn is(self, fate: Fate, reason: &str) -> Self {
        assert_eq!((self.fate, self.reason), (fate, reason), "{}", self.case);
        self
    }
    #[track_caller]
    fn passes(self, reason: &str) -> Self {
        self.is(Fate::Pass, reason)
    }
    #[track_caller]
    fn drops(self, reason: &str) -> Self {
        self.is(Fate::Drop, reason)
    }
    #[track_caller]
    fn answers(self, reason: &str) -> Self {
        self.is(Fate::Answer, reason)
    }
}

impl Bench {
    /// A kernel, or a skip.
    fn or_skip(test: &str) -> Option<Self> {
        let kernel = KERNEL.get_or_init(|| Kernel::or_skip(test).map(Mutex::new));
        let Some(kernel) = kernel else {
            // Said again under this test's name.
            Kernel::or_skip(test);
            return None;
        };
        let mut kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
        kernel.clear();
        Some(Self { kernel, last: Counters::default(), case: String::new() })
    }

    /// Whether a frame can be run at a hook at all.
    fn takes(&self, hook: Hook, frame: &[u8]) -> bool {
        self.kernel
            .namespace()
            .run(|| hook == Hook::Xdp || self.kernel.run(hook, 1, frame).is_some())
    }

    /// Begins a case: its policy, and nothing remembered.
    fn case(&mut self, label: &str, policy: &str) {
        self.swap(policy);
        self.kernel.clear();
        self.last = self.kernel.counters();
        self.case = label.to_owned();
    }

    /// Another policy within a case.
    fn swap(&mut self, policy: &str) {
        self.kernel.install(policy);
    }

    /// Sends a frame to a hook of interface number `interface`, where nothing is translated: what passes
    /// is left as it was.
    #[track_caller]
    fn at(&mut self, hook: Hook, interface: usize, frame: &[u8]) -> Met {
        let met = self.meet(hook, interface, frame);
        if met.fate == Fate::Pass {
            assert_eq!(met.data, frame, "what passes is left as it was; {}", met.case);
        }
        met
    }

    /// Sends a frame to a hook of interface number `interface`. Whatever it is, it must be counted
    /// exactly once, with its length.
    #[track_caller]
    fn meet(&mut self, hook: Hook, interface: usize, frame: &[u8]) -> Met {
        let ns = self.kernel.namespace().clone();
        let run = ns.run(|| self.kernel.run(hook, interface, frame));
        let (fate, data) = run.unwrap_or_else(|| panic!("{hook:?} takes no {}", hex(frame)));
        let now = self.kernel.counters();
        let context = format!("{} ({hook:?}): {}", self.case, hex(frame));
        let mut counted = Vec::new();
        for (key, [packets, bytes]) in &now.reasons {
            let [before, bytes_before] = self.last.reasons.get(key).copied().unwrap_or_default();
            if (*packets, *bytes) != (before, bytes_before) {
                counted.push((*key, packets - before, bytes - bytes_before));
            }
        }
        assert_eq!(counted.len(), 1, "one reason a packet, not {counted:?}; {context}");
        let ((verdict, reason), packets, bytes) = counted[0];
        assert_eq!((packets, bytes), (1, frame.len() as u64), "{context}");
        // A SYN that a cookie answers is allowed, and never arrives.
        let allowed = if reason == "syn-cookie-sent" { Fate::Answer } else { Fate::Pass };
        let same = match verdict {
            "allow" => fate == allowed,
            "drop" => fate == Fate::Drop,
            _ => (verdict, fate) == ("reject", Fate::Answer),
        };
        assert!(same, "counted as {verdict}, but {fate:?}; {context}");
        self.last = now;
        Met { fate, reason, data, case: context }
    }

    /// In at the first interface, by XDP.
    #[track_caller]
    fn xdp(&mut self, packet: &Packet) -> Met {
        self.at(Hook::Xdp, 0, &packet.build())
    }

    /// In at the first interface, by TC.
    #[track_caller]
    fn tc_in(&mut self, packet: &Packet) -> Met {
        self.at(Hook::TcIn, 0, &packet.build())
    }

    /// Out at the first interface.
    #[track_caller]
    fn out(&mut self, packet: &Packet) -> Met {
        self.at(Hook::TcOut, 0, &packet.build())
    }

    /// Hits, packets and bytes of a rule so far.
    fn rule(&self, name: &str) -> [u64; 3] {
        self.last.rules.get(name).copied().unwrap_or_default()
    }

    /// Events of a class that were due so far.
    fn events(&self, class: &str) -> u64 {
        self.last.events.get(class).map_or(0, |[produced, _, suppressed]| produced + suppressed)
    }

    /// The flows in the table.
    fn flows(&mut self) -> Vec<SeenFlow> {
        self.kernel.flows()
    }

    /// Totals of the only flow there is.
    #[track_caller]
    fn only_flow(&mut self) -> [u64; 4] {
        let flows = self.kernel.flows();
        assert_eq!(flows.len(), 1, "{}: {flows:?}", self.case);
        flows[0].totals
    }
}

/// Client to server.
fn forth() -> Packet {
    Packet::new().ipv4(C, S)
}

/// Server to client.
fn back() -> Packet {
    Packet::new().ipv4(S, C)
}

/// Client to server, IPv6.
fn forth6() -> Packet {
    Packet::new().ipv6(C6, S6)
}

/// Server to client, IPv6.
fn back6() -> Packet {
    Packet::new().ipv6(S6, C6)
}
