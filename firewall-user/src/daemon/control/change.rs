//! From what was asked for to what can be installed: the new policy, looked at, compiled, compared and written beside
//! its file.

use super::{
    actor::{GateFacts, Install},
    attached,
    edit::Known,
    persist::{self, Prepared},
    scene::CheckScene,
    sets::Witness,
    told::compiled,
    types::{Change, ChangeOptions, ChangeView, ControlError, Place},
};
use crate::policy::{
    self, Diagnostic, Policy, Slots,
    edit::{self as edits, EditError},
};
use std::{path::Path, thread};

/// A change that only has to be installed.
pub struct Next {
    pub policy: Policy,
    pub install: Install,
    pub changes: Vec<ChangeView>,
    pub warnings: Vec<Diagnostic>,
    /// The text beside its file, unless it is only looked at.
    pub prepared: Option<Prepared>,
    /// What single rules will have to know, if they can be changed by themselves.
    pub known: Option<Known>,
}

impl Next {
    /// What a change makes of the policy in `file`.
    ///
    /// # Errors
    /// It isn't one, can't be compiled, would lock the operator out, or can't be written down.
    pub fn of(
        change: Change,
        old: &Policy,
        options: ChangeOptions,
        (facts, sets): (GateFacts, Witness),
        file: &Path,
    ) -> Result<Self, ControlError> {
        let ChangeOptions { dry_run, force, ssh_connection, base_generation: _ } = options;
        let policy = changed(change, old)?;
        let attached = attached(&facts);
        let scene =
            CheckScene::of_this_machine(ssh_connection.as_deref()).with_sets(sets, &policy)?;
        let unwritable =
            |error| ControlError::File(format!("{}: {error}; nothing was changed", file.display()));
        // The disk is the slowest of all: it begins first.
        let (prepared, changes, looked) = thread::scope(|scope| {
            let prepared =
                scope.spawn(|| (!dry_run).then(|| persist::prepare(file, &policy.source)));
            let changes = scope.spawn(|| -> Vec<ChangeView> {
                policy::diff(old, &policy).iter().map(change_view).collect()
            });
            let looked = looked_at(&policy, &scene, facts.slots, facts.generation + 1);
            (prepared.join(), changes.join(), looked)
        });
        let (install, warnings) = looked?;
        if !force {
            refuse_lock_out(&warnings)?;
        }
        let changes = changes.map_err(|_| ControlError::Stopping)?;
        let prepared = prepared.map_err(|_| ControlError::Stopping)?;
        let prepared = prepared.transpose().map_err(unwritable)?;
        let known = Known::of(&policy, &install, &warnings, scene.interfaces(), attached);
        Ok(Self { policy, install, changes, warnings, prepared, known })
    }
}

/// Compiles a policy, and looks for what is odd about it meanwhile: the two take the same time, and most machines have a
/// second core.
pub fn looked_at(
    policy: &Policy,
    scene: &CheckScene,
    slots: Slots,
    generation: u32,
) -> Result<(Install, Vec<Diagnostic>), ControlError> {
    let (install, oddities) = thread::scope(|scope| {
        let oddities = scope.spawn(|| scene.oddities(policy));
        (compiled(policy, slots, generation), oddities.join())
    });
    let install = install?;
    let oddities = oddities.map_err(|_| ControlError::Stopping)?;
    let warnings = scene.with_lockouts(oddities, policy, &install.compiled, &install.slots);
    Ok((install, warnings))
}

/// The policy as the change would leave it.
fn changed(change: Change, old: &Policy) -> Result<Policy, ControlError> {
    let place = |place: Place| match place {
        Place::End => edits::Place::Last,
        Place::Position(position) => edits::Place::At(position as usize),
        Place::Before(name) => edits::Place::Before(name),
        Place::After(name) => edits::Place::After(name),
    };
    let edited = match change {
        Change::Replace(text) => {
            return policy::parse(&text, &old.file).map_err(ControlError::Invalid);
        }
        Change::Add { text, place: to } => edits::add(old, &text, &place(to)),
        Change::Delete(name) => edits::delete(old, &name),
        Change::Move { name, place: to } => edits::move_to(old, &name, &place(to)),
        Change::Enable(name) => edits::enable(old, &name),
        Change::Disable(name) => edits::disable(old, &name),
    };
    edited.map_err(|error| match error {
        EditError::UnknownRule { .. } => ControlError::NoSuchRule(error.to_string()),
        EditError::Broken(found) => ControlError::Invalid(found),
        EditError::NotOneRule { .. } | EditError::NoSuchPlace { .. } => {
            ControlError::Unusable(error.to_string())
        }
    })
}

/// A difference, as it is answered.
pub fn change_view(change: &policy::Change) -> ChangeView {
    use policy::Change as C;
    let (kind, what) = match change {
        C::Default { direction, .. } => ("changed", format!("default {direction}")),
        C::Option { name, .. } => ("changed", format!("option {name}")),
        C::List { what, name, .. } => ("changed", format!("{what} {name}")),
        C::RuleAdded { what, name, .. } => ("added", format!("{what} {name}")),
        C::RuleRemoved { what, name, .. } => ("removed", format!("{what} {name}")),
        C::RuleChanged { what, name, .. } => ("changed", format!("{what} {name}")),
        C::RuleMoved { what, name, .. } => ("moved", format!("{what} {name}")),
    };
    ChangeView { kind: kind.to_owned(), what, text: change.to_string() }
}

fn refuse_lock_out(warnings: &[Diagnostic]) -> Result<(), ControlError> {
    let findings: Vec<Diagnostic> =
        warnings.iter().filter(|warning| warning.code == policy::SSH_LOCKOUT).cloned().collect();
    match findings.first() {
        None => Ok(()),
        Some(first) => Err(ControlError::LockOut { connection: first.message.clone(), findings }),
    }
}
