//! Real traffic for the lab: `xtask traffic server` and `xtask traffic client`, each run inside a
//! namespace by `run`. Rates are bounded, so that two cores have room for what is being shown.

mod client;
mod server;

use std::os::unix::process::parent_id;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::step::interrupted;

/// Ports that the server answers at.
const HTTP: [u16; 2] = [80, 8080];
const DNS: u16 = 53;
const BULK: u16 = 5001;
/// A port with nobody behind it, that the lab's policy rejects.
const TELNET: u16 = 23;

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Asks.
    Client,
    /// Answers.
    Server,
}

/// Plays a role until Ctrl-C, or until whoever started it is gone.
pub fn play(role: Role) -> Result<()> {
    let stop = Stop { parent: parent_id() };
    match role {
        Role::Client => client::play(&stop),
        Role::Server => server::play(&stop),
    }
}

/// When to end: asked to, or the parent is gone.
#[derive(Debug, Clone, Copy)]
struct Stop {
    parent: u32,
}

impl Stop {
    fn now(self) -> bool {
        interrupted() || parent_id() != self.parent
    }

    /// Sleeps, but ends early when it is time to stop. Returns whether to go on.
    fn sleep(self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            if self.now() {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(200)));
        }
    }
}
