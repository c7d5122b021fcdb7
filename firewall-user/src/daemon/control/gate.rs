//! What the core needs of the kernel's side: the seam to `datapath`.

use crate::{
    datapath::{
        owners::{OwnerKeys, OwnerPolicy},
        programs::Ways,
        table::Kept,
    },
    monitor::{Clock, CounterInput, FlowRecord, NatReading},
    policy::{Compiled, Slots, live::Patch},
    sets::Ground,
    view::IfaceView,
};
use firewall_common::{abi::event::Event, wire::Facts};
use std::{path::PathBuf, sync::Arc};
use thiserror::Error;

/// What the kernel's side said when it couldn't do something; it also says what to do.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct GateError(pub String);

/// The kernel's side, owned by one thread.
pub trait Gate: Send {
    /// Whether a running filter was found and taken over.
    fn adopted(&self) -> bool;
    /// The live generation; 0 if no policy was ever installed.
    fn generation(&self) -> u32;
    /// The live policy's own generation: [`Self::generation`] as it was when it was installed. Judging anew goes on from
    /// there.
    fn installed(&self) -> u32 {
        self.generation()
    }
    /// Which names own which slots; those of attached interfaces are held.
    ///
    /// # Errors
    /// The kernel refused.
    fn slots(&self) -> Result<Slots, GateError>;
    /// Makes a policy that was compiled for `generation` (the live one plus one) the live one;
    /// returns its generation. `owners`: its rules by owner, if it has any.
    ///
    /// # Errors
    /// The kernel refused; the old policy stays live.
    fn install(
        &mut self,
        compiled: &Compiled,
        slots: &Slots,
        generation: u32,
        owners: Option<&OwnerPolicy>,
    ) -> Result<u32, GateError>;
    /// Changes single rules of the live policy, the one of `generation`; returns the new generation. `named`: the slot and
    /// name of the rule that joins.
    ///
    /// # Errors
    /// That can't be done here, or the kernel refused; the old policy stays live.
    fn patch(&mut self, _: &Patch, _: u32, _: Option<(u32, &str)>) -> Result<u32, GateError> {
        Err(GateError("single rules can't be changed at this gate".to_owned()))
    }
    /// Waits for whoever began with the policy before the live one, and tidies up: what may take a while and nobody needs
    /// to wait for.
    ///
    /// # Errors
    /// The kernel refused.
    fn settle(&mut self) -> Result<(), GateError> {
        Ok(())
    }
    /// Asks `look` who is meant by the live rules by owner now; `None`: nothing has changed.
    ///
    /// # Errors
    /// The kernel refused.
    fn refresh_owners(
        &mut self,
        look: &mut dyn FnMut() -> Option<OwnerKeys>,
    ) -> Result<(), GateError>;
    /// Filters one more interface; `mode` as in the configuration (`auto`, `xdp`, `xdp-generic`, `tc`).
    ///
    /// # Errors
    /// There is no such interface, or the kernel refused.
    fn attach(&mut self, name: &str, mode: &str) -> Result<(), GateError>;
    /// Filters an interface no more.
    ///
    /// # Errors
    /// The kernel refused.
    fn detach(&mut self, name: &str) -> Result<(), GateError>;
    /// The interfaces that take part.
    fn interfaces(&self) -> Vec<IfaceView>;
    /// The flows with a packet at or after tick `since`; without it, all of them.
    ///
    /// # Errors
    /// The kernel refused.
    fn flows(&self, since: Option<u64>) -> Result<Vec<FlowRecord>, GateError>;
    /// The flows in part `part` of `parts` of the table; `translated`: only those that are, of as many parts
    /// of their own.
    fn part(&self, part: usize, parts: usize, translated: bool) -> Vec<FlowRecord>;
    /// Accounts of translations, live flows included.
    fn nat_reading(&mut self) -> NatReading;
    /// Takes flows past their time-out out of the next of `parts` parts of the table; returns them.
    ///
    /// # Errors
    /// The kernel refused.
    fn sweep(&mut self, parts: usize) -> Result<Vec<FlowRecord>, GateError>;
    /// Takes out the flows that `choose` says; returns them.
    ///
    /// # Errors
    /// The kernel refused.
    fn kill(
        &mut self,
        choose: &mut dyn FnMut(&FlowRecord) -> bool,
    ) -> Result<Vec<FlowRecord>, GateError>;
    /// Whether something changed about the interfaces since the last call.
    fn interfaces_changed(&mut self) -> bool;
    /// Follows interfaces that went and came back, or have another address.
    fn follow(&mut self);
    /// All counters.
    ///
    /// # Errors
    /// The kernel refused.
    fn counters(&self) -> Result<CounterInput, GateError>;
    /// Sets all counters to zero.
    ///
    /// # Errors
    /// The kernel refused.
    fn reset_counters(&mut self) -> Result<(), GateError>;
    /// Hands over what is in the ring; returns how many.
    fn drain(&mut self, each: &mut dyn FnMut(&Event)) -> usize;
    /// Now, on all clocks.
    fn clock(&self) -> Clock;
    /// Our programs, and the ways past the stack that the live policy opens.
    fn ways(&self) -> Ways;
    /// What can't be seen or done here, in plain words.
    fn limits(&self) -> Vec<String>;
    /// Where the filter is pinned, if twins of it can be loaded beside it.
    fn pinned(&self) -> Option<PathBuf> {
        None
    }
    /// Where live sets stand, if there is such a place.
    fn sets(&self) -> Option<Arc<dyn Ground>> {
        None
    }
    /// Lets flows that were let in be judged anew, each by its next packet.
    ///
    /// # Errors
    /// The kernel refused.
    fn rejudge(&mut self) -> Result<(), GateError> {
        Ok(())
    }
    /// The live flow that a packet belongs to, with its record.
    fn find(&self, _: &Facts) -> Option<(FlowRecord, Kept)> {
        None
    }
}
