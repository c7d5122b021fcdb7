//! The daemon's core: one thread owns the gate, one desk owns the policy.
//!
//! A change of the policy is looked at, compiled and written beside the file first; then it is
//! installed; then the file is put in place. Changes stand in a queue at the desk, so that each is
//! made on top of the one before, or refused if it was based on an older one.

mod actor;
mod change;
mod edit;
pub mod explain;
mod gate;
mod kernel;
mod persist;
mod plan;
mod scene;
mod scribe;
pub mod sets;
mod told;
mod types;
mod ways;
mod whose;

pub use actor::{Actor, GateFacts, Job, Kill, Killed, Part};
pub use gate::{Gate, GateError};
pub use persist::LastGood;
pub use scene::CheckScene;
pub use types::{
    Applied, Change, ChangeOptions, ChangeView, Checked, ControlError, Place, PolicyText,
};

use crate::{
    monitor::{FlowRecord, Monitor, NatReading},
    policy::{self, Policy},
    view::StatusView,
};
use change::{Next, looked_at};
use edit::{Edited, Known};
use firewall_common::abi::ABI_VERSION;
use scribe::Scribe;
use sets::Sets;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{SendError, Sender},
    },
};
use tokio::sync::oneshot;
use told::compiled;

/// What doesn't change while the daemon lives.
#[derive(Clone, Debug)]
pub struct Facts {
    /// This life of the daemon.
    pub epoch: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// Where the console listens.
    pub console: String,
    /// Where the last good policy is kept.
    pub last_good: PathBuf,
    /// Where files of live sets are looked for.
    pub set_files: PathBuf,
    /// Where entries of live sets are kept.
    pub kept_sets: PathBuf,
}

/// The policy desk.
#[derive(Debug)]
struct Desk {
    policy: Arc<Policy>,
    file: PathBuf,
    generation: u32,
    /// What is wrong with the file, if the live policy isn't what it says.
    trouble: Option<String>,
    /// What is known of the live tables, where single rules can be changed by themselves.
    known: Option<Known>,
}

#[derive(Debug)]
struct Core {
    jobs: Mutex<Sender<Job>>,
    desk: Arc<tokio::sync::Mutex<Desk>>,
    monitor: Arc<Mutex<Monitor>>,
    facts: Facts,
    scribe: Scribe,
    /// Live sets, once it is known where they stand.
    sets: OnceLock<Sets>,
}

/// A handle on the core; cheap to clone.
#[derive(Clone, Debug)]
pub struct Control(Arc<Core>);

/// How the policy came to be live at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The kernel had exactly this policy already.
    Kept,
    /// It was installed.
    Installed,
    /// The file couldn't be used: the last good policy is live instead. With what was wrong.
    LastGood(String),
}

impl Control {
    /// Takes the desk: makes the policy in `file` the live one, unless it is already.
    ///
    /// Where the file can't be used, the last good policy stays (or is put) in place: a machine that
    /// was guarded doesn't come up open because of a typing mistake.
    ///
    /// # Errors
    /// The file can't be used and there is no last good policy, or the kernel refused.
    pub async fn begin(
        jobs: Sender<Job>,
        monitor: Arc<Mutex<Monitor>>,
        facts: Facts,
        file: &Path,
    ) -> Result<(Self, Beginning), ControlError> {
        let empty = policy::parse("", "").map_err(ControlError::Invalid)?;
        let desk = Desk {
            policy: Arc::new(empty),
            file: file.to_owned(),
            generation: 0,
            trouble: None,
            known: None,
        };
        let control = Self(Arc::new(Core {
            jobs: Mutex::new(jobs),
            desk: Arc::new(tokio::sync::Mutex::new(desk)),
            monitor,
            scribe: Scribe::new(facts.last_good.clone()),
            facts,
            sets: OnceLock::new(),
        }));
        let mut desk = control.0.desk.lock().await;
        let last = LastGood::load(&control.0.facts.last_good);
        let (policy, mut beginning) = match read_policy(file) {
            Ok(policy) => (policy, Beginning::Installed),
            Err(error) => {
                let said = explain(&error);
                let Some(last) = last.as_ref() else { return Err(error) };
                let Ok(policy) = policy::parse(&last.text, &file.display().to_string()) else {
                    return Err(error);
                };
                log::error!("{said}");
                log::error!(
                    "the last good policy is used instead; `sluice check {}`, then `sluice apply` it",
                    file.display()
                );
                desk.trouble = Some(format!(
                    "{} can't be used; the last good policy is live: {error}",
                    file.display()
                ));
                (policy, Beginning::LastGood(said))
            }
        };
        let gate = control.gate().await?;
        control.begin_sets(&gate, last.as_ref()).await;
        let same = last.is_some_and(|last| {
            last.text == policy.source
                && last.version == env!("CARGO_PKG_VERSION")
                && last.generation == gate.installed
                && last.interfaces == attached(&gate)
        });
        if gate.adopted && gate.generation > 0 && same {
            // The slots are those of the live policy: compiling tells the rules' places in them.
            let install = compiled(&policy, gate.slots.clone(), gate.generation)?;
            control.settle_sets(&install.compiled).await?;
            control.send(Job::Announce(Box::new(install.told), install.whose.map(Box::new)))?;
            desk.generation = gate.installed;
            if beginning == Beginning::Installed {
                beginning = Beginning::Kept;
            }
        } else {
            let install = compiled(&policy, gate.slots.clone(), gate.generation + 1)?;
            desk.generation = control.install(install).await?;
        }
        desk.policy = Arc::new(policy);
        control.remember(&desk, &gate);
        drop(desk);
        Ok((control, beginning))
    }

    /// How things are.
    ///
    /// # Errors
    /// The core has stopped.
    pub async fn status(&self) -> Result<StatusView, ControlError> {
        let gate = self.gate().await?;
        let desk = self.0.desk.lock().await;
        let (flows, alarms) = {
            let monitor = self.0.monitor.lock().unwrap_or_else(PoisonError::into_inner);
            (monitor.live_flows(), monitor.alarms())
        };
        let mut limits = gate.limits;
        limits.extend(desk.trouble.clone().or_else(|| self.0.scribe.trouble()));
        Ok(StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi_version: ABI_VERSION,
            pid: std::process::id(),
            epoch: self.0.facts.epoch.clone(),
            started: self.0.facts.started.clone(),
            adopted: gate.adopted,
            generation: desk.generation,
            policy_file: desk.file.display().to_string(),
            rules: u32::try_from(desk.policy.rules.len()).unwrap_or(u32::MAX),
            flows,
            interfaces: gate.interfaces,
            limits,
            alarms,
            console: self.0.facts.console.clone(),
            // The API knows.
            history: None,
            paths: None,
        })
    }

    /// The live policy as written.
    pub async fn policy(&self) -> PolicyText {
        let desk = self.0.desk.lock().await;
        PolicyText {
            text: desk.policy.source.clone(),
            file: desk.file.display().to_string(),
            generation: desk.generation,
        }
    }

    /// Looks at a policy without touching anything.
    ///
    /// # Errors
    /// It has errors, or is too large.
    pub async fn check(
        &self,
        text: String,
        ssh_connection: Option<String>,
    ) -> Result<Checked, ControlError> {
        let gate = self.gate().await?;
        let sets = self.witness().await;
        in_background(move || {
            let policy = policy::parse(&text, "policy").map_err(ControlError::Invalid)?;
            let scene =
                CheckScene::of_this_machine(ssh_connection.as_deref()).with_sets(sets, &policy)?;
            let (_, warnings) = looked_at(&policy, &scene, gate.slots, gate.generation + 1)?;
            Ok(Checked {
                ok: true,
                rules: u32::try_from(policy.rules.len()).unwrap_or(u32::MAX),
                warnings,
            })
        })
        .await
    }

    /// Changes the policy, in the kernel and in its file.
    ///
    /// # Errors
    /// Whatever stands in the way; nothing is changed then, except with [`ControlError::File`], which
    /// says so.
    pub async fn change(
        &self,
        change: Change,
        options: ChangeOptions,
    ) -> Result<Applied, ControlError> {
        let desk = self.0.desk.clone().lock_owned().await;
        if let Some(base) = options.base_generation
            && base != desk.generation
        {
            return Err(ControlError::Conflict { generation: desk.generation, base });
        }
        let mut desk = match self.edited_in_place(desk, &change, &options).await? {
            Edited::Done(applied) => return Ok(applied),
            Edited::Not(desk) => desk,
        };
        self.written().await?;
        let gate = self.gate().await?;
        let facts = (gate.clone(), self.witness().await);
        let (old, file) = (desk.policy.clone(), desk.file.clone());
        let dry_run = options.dry_run;
        let next = in_background(move || Next::of(change, &old, options, facts, &file)).await?;
        let Next { policy, install, changes, warnings, prepared, known } = next;
        let Some(prepared) = prepared else {
            return Ok(Applied { generation: desk.generation, dry_run, changes, warnings });
        };
        let generation = self.install(install).await?;
        desk.policy = Arc::new(policy);
        desk.generation = generation;
        desk.trouble = None;
        desk.known = known;
        self.remember(&desk, &gate);
        log::info!("policy generation {generation} is live: {} changes", changes.len());
        prepared.commit().map_err(|error| {
            let said = format!(
                "generation {generation} is live, but {} couldn't be replaced: {error}",
                desk.file.display()
            );
            desk.trouble = Some(said.clone());
            ControlError::File(said)
        })?;
        self.0.scribe.is_well();
        Ok(Applied { generation, dry_run, changes, warnings })
    }

    /// Reads the policy file again (another one, if `file` says so) and makes it live.
    ///
    /// # Errors
    /// The file can't be used: what was live stays live, and `status` says so.
    pub async fn reload(&self, file: &Path) -> Result<u32, ControlError> {
        let mut desk = self.0.desk.lock().await;
        self.written().await?;
        let gate = self.gate().await?;
        let (path, facts) = (file.to_owned(), gate.clone());
        let read = in_background(move || {
            let policy = read_policy(&path)?;
            let install = compiled(&policy, facts.slots, facts.generation + 1)?;
            Ok((policy, install))
        })
        .await;
        let (policy, install) = match read {
            Ok(read) => read,
            Err(error) => {
                desk.trouble = Some(format!(
                    "{} can't be used; what was live stays live: {error}",
                    file.display()
                ));
                return Err(error);
            }
        };
        desk.generation = self.install(install).await?;
        desk.policy = Arc::new(policy);
        desk.file = file.to_owned();
        desk.trouble = None;
        desk.known = None;
        self.0.scribe.is_well();
        self.remember(&desk, &gate);
        Ok(desk.generation)
    }

    /// Takes flows out of the table; their next packets are judged as new ones.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn kill(&self, kill: Kill) -> Result<Killed, ControlError> {
        Ok(self.ask(|answer| Job::Kill(kill, answer)).await??)
    }

    /// The flows in a part of the table, as they are now.
    ///
    /// # Errors
    /// The core has stopped.
    pub async fn part(&self, part: Part) -> Result<Vec<FlowRecord>, ControlError> {
        self.ask(|answer| Job::Part(part, answer)).await
    }

    /// Accounts of translations, live flows included.
    ///
    /// # Errors
    /// The core has stopped.
    pub async fn nat_reading(&self) -> Result<NatReading, ControlError> {
        self.ask(Job::NatReading).await
    }

    /// Sets all counters to zero.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn reset_counters(&self) -> Result<(), ControlError> {
        Ok(self.ask(Job::ResetCounters).await??)
    }

    /// Returns when the model is as fresh as the kernel's tables are at this moment.
    pub async fn refresh(&self) {
        // A core that has stopped leaves its last state behind: that is what there is to show.
        let _ = self.ask(Job::Refresh).await;
    }

    /// Makes the interfaces that take part exactly these; the policy is compiled again for them.
    ///
    /// # Errors
    /// The first thing that couldn't be done; the rest is done all the same.
    pub async fn interfaces(&self, wanted: &[(String, &'static str)]) -> Result<(), ControlError> {
        let before = self.gate().await?.interfaces;
        let mut first_error = None;
        for iface in &before {
            if !wanted.iter().any(|(name, mode)| *name == iface.name && *mode == iface.mode_asked) {
                let name = iface.name.clone();
                first_error =
                    first_error.or(self.ask(|answer| Job::Detach(name, answer)).await?.err());
            }
        }
        for (name, mode) in wanted {
            if !before.iter().any(|iface| *name == iface.name && *mode == iface.mode_asked) {
                let name = name.clone();
                first_error =
                    first_error.or(self.ask(|answer| Job::Attach(name, mode, answer)).await?.err());
            }
        }
        first_error.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Ends the core; the filter stays.
    pub fn stop(&self) {
        self.0.scribe.flush();
        let _ = self.send(Job::Stop);
    }

    /// Returns when what single rules changed is in the file.
    async fn written(&self) -> Result<(), ControlError> {
        let scribe = self.0.scribe.clone();
        in_background(move || {
            scribe.flush();
            Ok(())
        })
        .await
    }

    /// Leaves what the next daemon needs if the file is of no use by then.
    fn remember(&self, desk: &Desk, gate: &GateFacts) {
        let last = LastGood {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: desk.generation,
            interfaces: attached(gate),
            file: desk.file.display().to_string(),
            text: desk.policy.source.clone(),
        };
        if let Err(error) = last.save(&self.0.facts.last_good) {
            log::warn!("{}: {error}", self.0.facts.last_good.display());
        }
    }

    async fn gate(&self) -> Result<GateFacts, ControlError> {
        Ok(self.ask(Job::Facts).await??)
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, ControlError> {
        let (answer, answered) = oneshot::channel();
        self.send(job(answer))?;
        answered.await.map_err(|_| ControlError::Stopping)
    }

    fn send(&self, job: Job) -> Result<(), ControlError> {
        let jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.send(job).map_err(|SendError(_)| ControlError::Stopping)
    }
}

/// Parsing and compiling take milliseconds: not on the threads that serve clients.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ControlError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ControlError::Stopping))
}

/// Whether a daemon could begin with this policy file, or the last good one: asked before anything
/// is loaded.
///
/// # Errors
/// What is wrong with the file.
pub fn usable(file: &Path, last_good: &Path) -> Result<(), ControlError> {
    match read_policy(file) {
        Err(error) if LastGood::load(last_good).is_none() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn read_policy(file: &Path) -> Result<Policy, ControlError> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| ControlError::File(format!("policy {name}: {error}")))?;
    policy::parse(&text, &name).map_err(ControlError::Invalid)
}

/// The error with all its findings, for the log.
pub(super) fn explain(error: &ControlError) -> String {
    match error {
        ControlError::Invalid(found) => found.render(false),
        other => other.to_string(),
    }
}

/// Names of the interfaces that take part, sorted.
fn attached(gate: &GateFacts) -> Vec<String> {
    let mut names: Vec<String> = gate.interfaces.iter().map(|iface| iface.name.clone()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
