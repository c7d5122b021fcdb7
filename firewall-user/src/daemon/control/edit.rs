//! Single rules that join the live policy, or leave it, where it stands: the rest is neither read nor checked nor compiled
//! again. What this can't do, or can't tell, is `None`, and is done by a whole policy.

use super::{
    Control, Desk, GateError,
    actor::{Install, Job, PatchJob},
    change::change_view,
    in_background,
    persist::LastGood,
    scribe::Promise,
    types::{Applied, Change, ChangeOptions, ControlError, Place},
};
use crate::{
    datapath,
    monitor::RuleInfo,
    policy::{
        self, Diagnostic, Glance, Policy, Quiet, Slots, SshPeer,
        edit::Spot,
        live::{Live, Patch},
        splice,
    },
};
use std::sync::{Arc, Mutex, PoisonError};
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
    owners: Vec<u16>,
    /// Interfaces that the machine had when the policy was checked.
    interfaces: Vec<String>,
    /// Those that took part when it was installed.
    attached: Vec<String>,
    /// Extra parts that are free again.
    freed: Arc<Mutex<Vec<usize>>>,
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
        if policy.rules.len() < WORTH || !warnings.is_empty() || !policy.nats.is_empty() {
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
            freed: Arc::default(),
        })
    }

    /// Number of the rule of this name.
    fn index(&self, name: &str) -> Option<usize> {
        let slot = self.slots.rule(name)?;
        self.owners.iter().position(|owner| *owner == slot)
    }
}

/// An edit, ready.
struct Edit {
    next: Live,
    patch: Patch,
    index: usize,
    joins: Option<splice::Joining>,
    slot: u16,
    said: policy::Change,
}

impl Control {
    /// Makes the change, if it is one of those.
    ///
    /// # Errors
    /// The core has stopped.
    pub(super) async fn edited_in_place(
        &self,
        mut desk: OwnedMutexGuard<Desk>,
        change: &Change,
        options: &ChangeOptions,
    ) -> Result<Edited, ControlError> {
        let at_hand = !options.dry_run && desk.trouble.is_none();
        let Desk { policy, generation: at, known: known_or_not, .. } = &mut *desk;
        let Some(known) = known_or_not.as_mut().filter(|_| at_hand) else {
            return Ok(Edited::Not(desk));
        };
        for extra in known.freed.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            known.live.free(extra);
        }
        if matches!(change, Change::Add { .. }) && known.live.is_full() {
            // A grace period is still much shorter than to compile everything.
            in_background(|| {
                datapath::nobody_looks().map_err(|error| GateError(error.to_string()).into())
            })
            .await?;
            known.live.free_all();
        }
        let Some(edit) = prepared(known, policy, change, options, *at) else {
            return Ok(Edited::Not(desk));
        };
        let Edit { next, patch, index, joins, slot, said } = edit;
        let left = patch.left;
        let info = joins.as_ref().map(|joins| RuleInfo {
            position: u32::try_from(index + 1).unwrap_or(u32::MAX),
            slot,
            name: joins.rule.name.value.clone(),
            action: joins.rule.action.name(),
            enabled: true,
            log: joins.rule.log,
            text: joins.rule.text.clone(),
        });
        let job = PatchJob { patch, generation: *at, index, joins: info };
        let generation = match self.ask(|answer| Job::Patch(Box::new(job), answer)).await? {
            Ok(generation) => generation,
            Err(error) => {
                // A whole policy says what is wrong, if it isn't only this way that is.
                log::debug!("a rule can't be changed by itself: {error}");
                *known_or_not = None;
                return Ok(Edited::Not(desk));
            }
        };
        known.live = next;
        let freed = left.map(|extra| (extra, known.freed.clone()));
        desk.generation = generation;
        let promise = self.0.scribe.promise();
        // Whoever looks at the policy next waits until this is done; whoever changed it needn't.
        tokio::task::spawn_blocking(move || {
            follow(&mut desk, joins, index, slot, promise);
            drop(desk);
            if let Some((extra, freed)) = freed
                && datapath::nobody_looks().is_ok()
            {
                freed.lock().unwrap_or_else(PoisonError::into_inner).push(extra);
            }
        });
        let changes = vec![change_view(&said)];
        let applied = Applied { generation, dry_run: false, changes, warnings: Vec::new() };
        Ok(Edited::Done(applied))
    }
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
    slot: u16,
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
            let (next, patch) = known.live.join(policy, index, rule, &known.slots)?;
            let (name, text) = (rule.name.value.clone(), rule.text.clone());
            let said = policy::Change::RuleAdded { what, name, position: index + 1, text };
            Some(Edit { next, patch, index, joins: Some(joins), slot, said })
        }
        Change::Delete(name) => {
            let index = known.index(name)?;
            let rule = policy.rules.get(index)?;
            if !quiet.leaves(policy, index) || !splice::can_leave(policy, index) {
                return None;
            }
            let (next, patch) = known.live.leave(index)?;
            let (name, text) = (rule.name.value.clone(), rule.text.clone());
            let said = policy::Change::RuleRemoved { what, name, position: index + 1, text };
            Some(Edit { next, patch, index, joins: None, slot: 0, said })
        }
        _ => None,
    }
}

/// The port sshd listens on where nothing else is said.
const SSH: u16 = 22;
