//! Every way by which packets enter and leave this machine, and whether Sluice judges and counts them there.
//!
//! [`read`](read::read) asks the kernel (netlink, sysfs, procfs) and keeps what it says as [`facts`];
//! [`judge`] makes rows of facts, and does nothing else. [`Paths`] is the handle: it reads when somebody
//! asks, on a thread that may wait, and keeps the answer for a moment.

mod classifiers;
mod devices;
pub mod error;
pub mod facts;
mod hooks;
pub mod judge;
mod link;
mod netlink;
mod processes;
mod queues;
mod read;
mod sockets;
mod spaces;

pub use error::PathsError;
pub use read::Roots;

use crate::{
    daemon::control::{Control, ControlError},
    view::{PathsSummaryView, PathsView},
};
use judge::Gate;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// How old an answer may be for who asks for it.
const FRESH: Duration = Duration::from_millis(800);
/// How old the figures in the status may be.
const SETTLED: Duration = Duration::from_secs(30);
/// How long the status waits for figures.
const GLANCE: Duration = Duration::from_millis(400);

type Kept = Option<(Instant, Arc<PathsView>)>;

/// A handle on the report; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    roots: Arc<Roots>,
    kept: Arc<Mutex<Kept>>,
}

impl Paths {
    /// The report, read at most a moment ago. One reading serves all that ask meanwhile.
    ///
    /// # Errors
    /// The core has stopped.
    pub async fn view(&self, control: &Control) -> Result<Arc<PathsView>, ControlError> {
        self.no_older(control, FRESH).await
    }

    /// The report's figures; `None` where reading takes longer than a status should.
    pub async fn summary(&self, control: &Control) -> Option<PathsSummaryView> {
        let (this, control) = (self.clone(), control.clone());
        // A task of its own: the reading goes on, and the next status has it.
        let reading = tokio::spawn(async move { this.no_older(&control, SETTLED).await });
        let view = tokio::time::timeout(GLANCE, reading).await.ok()?.ok()?.ok()?;
        Some(view.summary.clone())
    }

    async fn no_older(
        &self,
        control: &Control,
        age: Duration,
    ) -> Result<Arc<PathsView>, ControlError> {
        let mut kept = self.kept.lock().await;
        if let Some((at, view)) = kept.as_ref()
            && at.elapsed() < age
        {
            return Ok(view.clone());
        }
        let (interfaces, ways) = control.ways().await?;
        let roots = self.roots.clone();
        let read = tokio::task::spawn_blocking(move || {
            judge::report(&read::read(&roots), &Gate { interfaces, ways })
        });
        let mut view = read.await.map_err(|_| ControlError::Stopping)?;
        view.summary.time = format!("{:.3}", jiff::Timestamp::now());
        let view = Arc::new(view);
        *kept = Some((Instant::now(), view.clone()));
        Ok(view)
    }
}
