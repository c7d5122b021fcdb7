//! What would become of a packet: it is run through a twin of the filter, and the policy says why.
//!
//! A twin takes some memory and, to load, some hundred milliseconds. So there are never more than a few, and those of
//! a replay that nobody goes on with are gone after a while.

mod replay;
mod report;
mod stage;

pub use replay::ReplayFrame;

use super::{Control, ControlError, Job, in_background, sets::Witness};
use crate::{
    datapath::twin::{Ingress, Post},
    explain::{self, Content, Description, hex},
    policy::{Diagnostic, Policy, Severity, Slots, meet::Meeting},
    view::{ExplainView, IfaceView, ReplayView},
};
use firewall_common::abi::table::State;
use replay::Sessions;
use stage::Stage;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Packets explained and captures replayed at once.
const AT_ONCE: usize = 2;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(20);

/// A packet to be explained.
#[derive(Clone, Debug, Default)]
pub struct ExplainAsk {
    /// The description.
    pub packet: String,
    /// The frame, where the description has none.
    pub frame: Option<Vec<u8>>,
    /// Its length on the wire where less of it was captured, bytes.
    pub length: Option<usize>,
    /// Each rule, however many conditions it misses.
    pub all: bool,
}

/// A part of a capture to be replayed.
#[derive(Clone, Debug, Default)]
pub struct ReplayAsk {
    /// What the part before said; `None`: this is the first.
    pub session: Option<String>,
    /// Interface, or a group that stands for one.
    pub interface: String,
    /// Which way all packets go; `None`: those from this side go out.
    pub direction: Option<firewall_common::abi::table::Direction>,
    /// Addresses of this side. Where there are none, the interface's hardware address tells.
    pub local: Vec<crate::policy::ast::AddrRange>,
    /// The packets, in order.
    pub frames: Vec<ReplayFrame>,
    /// Another policy, to compare with.
    pub against: Option<String>,
    /// Whether no part follows.
    pub last: bool,
}

/// Explains packets; cheap to clone.
#[derive(Clone, Debug)]
pub struct Explainer {
    control: Control,
    turns: Arc<Semaphore>,
    sessions: Sessions,
}

/// What a packet is judged by.
pub(super) struct Scene {
    pinned: PathBuf,
    policy: Arc<Policy>,
    sets: Witness,
    generation: u32,
    slots: Slots,
    interfaces: Vec<IfaceView>,
}

impl Explainer {
    /// Over the daemon's core.
    pub fn new(control: Control) -> Self {
        Self { control, turns: Arc::new(Semaphore::new(AT_ONCE)), sessions: Sessions::default() }
    }

    /// Says what would become of a packet, and why.
    ///
    /// # Errors
    /// The description has a mistake, there is no such interface, or the kernel refused.
    pub async fn explain(&self, ask: ExplainAsk) -> Result<ExplainView, ControlError> {
        let about = explain::parse(&ask.packet).map_err(ControlError::Packet)?;
        let scene = self.scene().await?;
        let post = scene.post(&about, &ask.packet)?;
        let frame = frame(&about, &ask)?;
        let packet = explain::understand(&frame);
        let wants_live = about.state.is_none() && packet.is_ip();
        let found = if wants_live {
            let facts = Box::new(packet.facts);
            self.control.ask(|answer| Job::Find(facts, answer)).await?
        } else {
            None
        };
        let turn = self.turn().await?;
        in_background(move || {
            let _turn = turn;
            let mut stage = Stage::new(&scene, &scene.policy)?;
            let mut notes = Vec::new();
            if let Some(found) = &found
                && !stage.enter(&found.kept)?
            {
                notes.push("the twin had no room for the live flow: judged without it".to_owned());
            }
            if about.state == Some(State::Established) {
                notes.push(stage.open_flow(&scene, &post, &packet, about.reply)?);
            }
            let question = report::Question {
                scene: &scene,
                post: &post,
                frame: &frame,
                packet: &packet,
                found: found.as_deref(),
                all: ask.all,
                notes,
            };
            report::report(&mut stage, question)
        })
        .await
    }

    /// Says what would become of the packets of a part of a capture.
    ///
    /// # Errors
    /// There is no such interface, the session is over, the other policy has errors, or the kernel refused.
    pub async fn replay(&self, ask: ReplayAsk) -> Result<ReplayView, ControlError> {
        let session = match &ask.session {
            Some(session) => session.clone(),
            None => {
                let scene = self.scene().await?;
                let turn = self.turn().await?;
                self.sessions.begin(scene, &ask, turn)?
            }
        };
        self.sessions.go_on(session, ask).await
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, ControlError> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        match turn {
            Ok(turn) => turn.map_err(|_| ControlError::Stopping),
            Err(_) => Err(ControlError::Busy(format!(
                "{AT_ONCE} packets or captures are being explained; try again later"
            ))),
        }
    }

    async fn scene(&self) -> Result<Scene, ControlError> {
        // The policy at the desk is the live one while the desk is held.
        let desk = self.control.0.desk.lock().await;
        let gate = self.control.gate().await?;
        let pinned = gate.pinned.ok_or_else(|| {
            ControlError::Unusable("this gate can't run packets of one's own".to_owned())
        })?;
        Ok(Scene {
            pinned,
            policy: Arc::clone(&desk.policy),
            sets: self.control.witness().await,
            generation: gate.generation.max(1),
            slots: gate.slots,
            interfaces: gate.interfaces,
        })
    }
}

impl Scene {
    /// The interface that a name stands for.
    fn interface(&self, name: &str) -> Result<&IfaceView, String> {
        let meant = Meeting::new(&self.policy).interfaces(name);
        let found: Vec<&IfaceView> =
            self.interfaces.iter().filter(|iface| meant.contains(&iface.name)).collect();
        let names = |all: &mut dyn Iterator<Item = &str>| all.collect::<Vec<_>>().join(", ");
        match found[..] {
            [one] => Ok(one),
            [] => Err(format!(
                "`{name}` is no interface that is filtered; those that are: {}",
                names(&mut self.interfaces.iter().map(|iface| iface.name.as_str()))
            )),
            _ => Err(format!(
                "`{name}` stands for several interfaces, name one: {}",
                names(&mut found.iter().map(|iface| iface.name.as_str()))
            )),
        }
    }

    fn post(&self, about: &Description, text: &str) -> Result<Post, ControlError> {
        let iface = self.interface(&about.iface.value).map_err(|message| {
            let fault = Diagnostic::new(
                Severity::Error,
                "packet",
                "packet",
                text,
                about.iface.span,
                message,
            );
            let expected = "an interface that is filtered, or a group of one".to_owned();
            ControlError::Packet(Box::new(fault.expected(expected)))
        })?;
        Ok(self.post_at(iface, about.direction))
    }

    fn post_at(
        &self,
        iface: &IfaceView,
        direction: firewall_common::abi::table::Direction,
    ) -> Post {
        Post {
            iface: iface.name.clone(),
            slot: self.slots.iface(&iface.name).unwrap_or_default(),
            ingress: Ingress::named(&iface.ingress),
            direction,
        }
    }
}

/// The frame that was asked about.
fn frame(about: &Description, ask: &ExplainAsk) -> Result<Vec<u8>, ControlError> {
    let fault = |message: String, expected: &str| {
        let end = crate::policy::span::Span::new(ask.packet.len(), ask.packet.len());
        let fault = Diagnostic::new(Severity::Error, "packet", "packet", &ask.packet, end, message);
        ControlError::Packet(Box::new(fault.expected(expected.to_owned())))
    };
    let frame = match (&about.content, &ask.frame) {
        (Content::Elsewhere, Some(frame)) => frame.clone(),
        (Content::Elsewhere, None) => {
            return Err(fault(
                "the packet ends too early".to_owned(),
                "a protocol (tcp, udp, icmp, icmpv6, sctp, udplite, proto N), `arp` or `hex`",
            ));
        }
        (_, Some(_)) => {
            return Err(fault(
                "the frame is given already".to_owned(),
                "only direction and interface, such as `in on eth0`",
            ));
        }
        (Content::Dump(frame), None) => frame.clone(),
        (Content::Made(made), None) => explain::build(made),
    };
    let length = ask.length.unwrap_or(0);
    if length > hex::LONGEST || frame.len() < 14 {
        let seen = length.max(frame.len());
        return Err(fault(format!("a frame of {seen} bytes"), "14 to 65557 bytes"));
    }
    Ok(whole(frame, length))
}

/// A frame with zeroes for what wasn't captured of it.
fn whole(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    if frame.len() < length {
        frame.resize(length.min(hex::LONGEST), 0);
    }
    frame
}
