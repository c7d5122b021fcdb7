//! Single rules that join the live policy, or leave it, where it stands: the rest is neither read nor checked nor compiled
//! again. What this can't do, or can't tell, is `None`, and is done by a whole policy.

use super::{
    Control, Desk, GateError,
    actor::{Install, Job},
    change::change_view,
    in_background,
    persist::{self, LastGood},
    scribe::Promise,
    types::{Applied, Change, ChangeOptions, ControlError, Place},
};
use crate::{
    datapath,
    monitor::RuleInfo,
    policy::{
        self, Diagnostic, Glance, Policy, Quiet, Slots, SshPeer,
        ast::Rule,
        edit::Spot,
        live::{Live, Patch},
        splice,
    },
};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// Rules from which on it is worth it: fewer are compiled in no time.
const WORTH: usize = 512;

/// What is known of the live policy's tables.
#[derive(Debug)]
pub struct Known {
    live: Live,
    slots: Slots,
    /// What a rule's conditions lie between, and its slot, by its number.
    glances: Vec<Glance>,
    owners: Vec<u32>,
    /// Interfaces that the machine had when the policy was checked.
    interfaces: Vec<String>,
    /// Those that took part when it was installed.
    attached: Vec<String>,
    /// Generation that it was installed as.
    installed: u32,
    /// Number of the last change or step, see [`Live`].
    turn: u64,
    /// Rules that joined or left, and programs may still not know of it.
    recent: Vec<Recent>,
}

/// A rule that joined or left lately.
#[derive(Debug)]
struct Recent {
    turn: u64,
    glance: Glance,
    name: String,
    text: String,
}

impl Recent {
    fn of(rule: &Rule, turn: u64) -> Self {
        let (name, text) = (rule.name.value.clone(), rule.text.clone());
        Self { turn, glance: Glance::of(&rule.when), name, text }
    }
}

impl Known {
    /// Of a policy that is about to be installed. `None` where single rules aren't worth it, can't be told apart, or where
    /// something was said about it: what is said of a policy may change with every rule.
    pub fn of(
        policy: &Policy,
        install: &Install,
        warnings: &[Diagnostic],
        interfaces: &[String],
        attached: Vec<String>,
    ) -> Option<Self> {
        let is_plain = policy.nats.is_empty() && policy.live.is_empty();
        if policy.rules.len() < WORTH || !warnings.is_empty() || !is_plain {
            return None;
        }
        let owners = policy.rules.iter().map(|rule| install.slots.rule(&rule.name.value));
        Some(Self {
            live: Live::of(policy, &install.compiled)?,
            glances: policy.rules.iter().map(|rule| Glance::of(&rule.when)).collect(),
            owners: owners.collect::<Option<_>>()?,
            slots: install.slots.clone(),
            interfaces: interfaces.to_owned(),
            attached,
            installed: install.generation,
            turn: 0,
            recent: Vec::new(),
        })
    }

    /// A grace period has passed since turn `turn`.
    fn passed(&mut self, turn: u64) {
        self.live.passed(turn);
        self.recent.retain(|recent| recent.turn > turn);
    }

    /// Whether a packet that is held up in the middle of its look-up might see this change and not one before it, so that
    /// it were judged by a policy that never was. The same rule in and out again is no such thing.
    fn is_early(&self, glance: &Glance, rule: &Rule) -> bool {
        self.recent.iter().any(|recent| {
            let is_same = recent.name == rule.name.value && recent.text == rule.text;
            !is_same && recent.glance.may_meet(glance)
        })
    }

    /// Number of the rule of this name.
    fn index(&self, name: &str) -> Option<usize> {
        let slot = self.slots.rule(name)?;
        self.owners.iter().position(|owner| *owner == slot)
    }
}

/// What is to be done to the live policy's tables.
pub struct PatchJob {
    /// It.
    pub patch: Patch,
    /// Generation that it is for.
    pub generation: u32,
    /// The rule that joins the live policy, or leaves it, if one does.
    pub edit: Option<RuleEdit>,
}

/// A rule that joins the live policy, or leaves it.
pub struct RuleEdit {
    /// Its number, from 0.
    pub index: usize,
    /// What it is, where it joins.
    pub joins: Option<RuleInfo>,
}

/// An edit, ready.
struct Edit {
    next: Live,
    patch: Patch,
    index: usize,
    joins: Option<splice::Joining>,
    slot: u32,
    said: policy::Change,
    recent: Recent,
    /// It has to wait for a grace period.
    is_early: bool,
}

impl Control {
    /// Makes the change, if it is one of those.
    ///
    /// # Errors
    /// The core has stopped.
    pub(super) async fn edited_in_place(
        &self,
        desk: OwnedMutexGuard<Desk>,
        change: &Change,
        options: &ChangeOptions,
    ) -> Result<Edited, ControlError> {
        // Where the file can't follow, a whole policy says so before anything has changed.
        let well = desk.trouble.is_none() && self.0.scribe.trouble().is_none();
        let is_one = matches!(change, Change::Add { .. } | Change::Delete(_)) && !options.dry_run;
        if !is_one || !well || desk.known.is_none() || !persist::can_prepare(&desk.file) {
            return Ok(Edited::Not(desk));
        }
        let (this, change, options) = (self.clone(), change.clone(), options.clone());
        // Whoever asked may hang up: what is begun is ended all the same.
        let work = tokio::spawn(async move { this.edit(desk, &change, &options).await });
        work.await.unwrap_or(Err(ControlError::Stopping))
    }

    async fn edit(
        &self,
        mut desk: OwnedMutexGuard<Desk>,
        change: &Change,
        options: &ChangeOptions,
    ) -> Result<Edited, ControlError> {
        if matches!(change, Change::Add { .. }) {
            // Grace periods are still much shorter than to compile everything.
            while let Some(known) = &desk.known
                && !known.live.has_room()
                && self.next_step(&mut desk).await?
            {}
        }
        let Desk { policy, generation: at, known: Some(known), .. } = &mut *desk else {
            return Ok(Edited::Not(desk));
        };
        let Some(edit) = prepared(known, policy, change, options, *at) else {
            return Ok(Edited::Not(desk));
        };
        let Edit { mut next, patch, index, joins, slot, said, recent, is_early } = edit;
        if is_early {
            all_know().await?;
            known.passed(known.turn);
            next.passed(known.turn);
        }
        let info = joins.as_ref().map(|joins| RuleInfo {
            position: u32::try_from(index + 1).unwrap_or(u32::MAX),
            slot,
            name: joins.rule.name.value.clone(),
            action: joins.rule.action.name(),
            enabled: true,
            log: joins.rule.log,
            text: joins.rule.text.clone(),
        });
        let edit = Some(RuleEdit { index, joins: info });
        let job = PatchJob { patch, generation: *at, edit };
        let generation = match self.ask(|answer| Job::Patch(Box::new(job), answer)).await? {
            Ok(generation) => generation,
            Err(error) => {
                // A whole policy says what is wrong, if it isn't only this way that is.
                log::debug!("a rule can't be changed by itself: {error}");
                desk.known = None;
                return Ok(Edited::Not(desk));
            }
        };
        known.turn = recent.turn;
        known.live = next;
        known.recent.push(recent);
        self.settle_soon(known.installed, known.turn);
        desk.generation = generation;
        let promise = self.0.scribe.promise();
        // Whoever looks at the policy next waits until this is done; whoever changed it needn't.
        tokio::task::spawn_blocking(move || follow(&mut desk, joins, index, slot, promise));
        let changes = vec![change_view(&said)];
        let applied = Applied { generation, dry_run: false, changes, warnings: Vec::new() };
        Ok(Edited::Done(applied))
    }

    /// Behind a change: what it left is given back, and what joined goes where packets look for it soonest. Ends where
    /// another change came since: that one begins again.
    fn settle_soon(&self, installed: u32, mut turn: u64) {
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                // A core that has stopped, or a kernel that refuses: the next change, or policy, finds things as they are.
                let Ok(()) = all_know().await else { return };
                let mut desk = this.0.desk.clone().lock_owned().await;
                let Some(known) = &mut desk.known else { return };
                if known.installed != installed {
                    return;
                }
                known.passed(turn);
                if known.turn != turn || !known.live.is_unsettled() {
                    return;
                }
                turn = match this.step(&mut desk).await {
                    Ok(Some(turn)) => turn,
                    Ok(None) | Err(_) => return,
                };
            }
        });
    }

    /// Waits for a grace period and makes the next step; false where there is nothing to be gained by another one.
    async fn next_step(&self, desk: &mut Desk) -> Result<bool, ControlError> {
        all_know().await?;
        let Some(known) = &mut desk.known else { return Ok(false) };
        known.passed(known.turn);
        Ok(self.step(desk).await?.is_some())
    }

    /// The next step by which what joined settles down, if there is one: its turn.
    async fn step(&self, desk: &mut Desk) -> Result<Option<u64>, ControlError> {
        let Desk { policy, generation, known: Some(known), .. } = desk else { return Ok(None) };
        let turn = known.turn + 1;
        let Some((next, patch)) = known.live.step(policy, &known.slots, turn) else {
            return Ok(None);
        };
        let job = PatchJob { patch, generation: *generation, edit: None };
        if let Err(error) = self.ask(|answer| Job::Patch(Box::new(job), answer)).await? {
            log::debug!("single rules can't be changed any more: {error}");
            desk.known = None;
            return Ok(None);
        }
        (known.live, known.turn) = (next, turn);
        Ok(Some(turn))
    }
}

/// Returns when every program that is running knows of all that was done.
async fn all_know() -> Result<(), ControlError> {
    in_background(|| datapath::nobody_looks().map_err(|error| GateError(error.to_string()).into()))
        .await
}

/// What became of a change.
pub enum Edited {
    /// It is made.
    Done(Applied),
    /// It isn't one of those: here is the desk again.
    Not(OwnedMutexGuard<Desk>),
}

/// The change in the policy's text, and to what is known of it.
fn follow(
    desk: &mut Desk,
    joins: Option<splice::Joining>,
    index: usize,
    slot: u32,
    promise: Promise,
) {
    let generation = desk.generation;
    let policy = Arc::make_mut(&mut desk.policy);
    let glance = joins.as_ref().map(|joins| Glance::of(&joins.rule.when));
    match joins {
        Some(joins) => splice::join(policy, joins),
        None => splice::leave(policy, index),
    }
    let Some(known) = &mut desk.known else { return };
    match glance {
        Some(glance) => {
            known.glances.insert(index, glance);
            known.owners.insert(index, slot);
        }
        None => {
            known.glances.remove(index);
            known.owners.remove(index);
        }
    }
    let last = LastGood {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation,
        interfaces: known.attached.clone(),
        file: desk.file.display().to_string(),
        text: policy.source.clone(),
    };
    promise.keep(desk.file.clone(), last);
}

fn prepared(
    known: &mut Known,
    policy: &Policy,
    change: &Change,
    options: &ChangeOptions,
    generation: u32,
) -> Option<Edit> {
    let own = options.ssh_connection.as_deref().and_then(SshPeer::from_ssh_connection);
    let quiet = Quiet {
        interfaces: datapath::interface_names(),
        ssh_ports: [SSH].into_iter().chain(own.map(|peer| peer.local_port)).collect(),
    };
    if quiet.interfaces != known.interfaces {
        return None;
    }
    let what = "rule".to_owned();
    let turn = known.turn + 1;
    match change {
        Change::Add { text, place } => {
            let spot = match place {
                Place::End => Spot::Last,
                Place::Position(position) => match (*position as usize).checked_sub(1)? {
                    index if index == policy.rules.len() => Spot::Last,
                    index => Spot::Above(index),
                },
                Place::Before(name) => Spot::Above(known.index(name)?),
                Place::After(name) => Spot::Below(known.index(name)?),
            };
            let joins = splice::joining(policy, text, spot)?;
            let (rule, index) = (&joins.rule, joins.index);
            if policy.rules.len() >= Slots::RULES
                || known.index(&rule.name.value).is_some()
                || !quiet.joins(policy, &known.glances, index, rule)
            {
                return None;
            }
            let on = rule.when.on.iter().flat_map(|on| &on.items);
            if on.into_iter().any(|item| known.slots.iface(&item.value).is_none()) {
                return None;
            }
            let slot = known.slots.take_rule(&rule.name.value, generation + 2)?;
            let (next, patch) = known.live.join(policy, index, rule, &known.slots, turn)?;
            let recent = Recent::of(rule, turn);
            let (name, text) = (recent.name.clone(), recent.text.clone());
            let is_early = known.is_early(&recent.glance, rule);
            let said = policy::Change::RuleAdded { what, name, position: index + 1, text };
            Some(Edit { next, patch, index, joins: Some(joins), slot, said, recent, is_early })
        }
        Change::Delete(name) => {
            let index = known.index(name)?;
            let rule = policy.rules.get(index)?;
            if !quiet.leaves(policy, index) || !splice::can_leave(policy, index) {
                return None;
            }
            let (next, patch) = known.live.leave(index, turn)?;
            let recent = Recent::of(rule, turn);
            let (name, text) = (recent.name.clone(), recent.text.clone());
            let is_early = known.is_early(&recent.glance, rule);
            let said = policy::Change::RuleRemoved { what, name, position: index + 1, text };
            Some(Edit { next, patch, index, joins: None, slot: 0, said, recent, is_early })
        }
        _ => None,
    }
}

/// The port sshd listens on where nothing else is said.
const SSH: u16 = 22;

#[cfg(test)]
mod tests {
    use super::{super::told::compiled, *};

    #[test]
    fn what_a_change_may_be_seen_without_is_waited_for() {
        let rules: String =
            (0..WORTH).map(|i| format!("rule r{i} drop in udp to port {}\n", 1_000 + i)).collect();
        let policy = policy::parse(&rules, "test").expect("a policy");
        let install = compiled(&policy, Slots::new(), 1).expect("compiled");
        let mut known = Known::of(&policy, &install, &[], &[], Vec::new()).expect("single rules");
        let rule = |text: &str| policy::parse(text, "test").expect("a rule").rules.remove(0);
        let early = |known: &Known, text: &str| {
            let rule = rule(text);
            known.is_early(&Glance::of(&rule.when), &rule)
        };
        let (old, new) = ("rule old allow in udp to port 7", "rule new drop in udp to port 7-9");
        assert!(!early(&known, new));
        let joined = rule(old);
        let glance = Glance::of(&joined.when);
        let (name, text) = (joined.name.value, joined.text);
        known.recent.push(Recent { turn: 3, glance, name, text });
        assert!(early(&known, new), "it may meet the same packets");
        assert!(!early(&known, old), "in and out again");
        assert!(early(&known, "rule old drop in udp to port 7"), "another one of that name");
        assert!(!early(&known, "rule new drop in udp to port 8-9"));
        known.passed(2);
        assert!(early(&known, new));
        known.passed(3);
        assert!(!early(&known, new));
    }
}
