//! Captures, a part at a time: what flows come of it stays in the twin until the next part.

use super::{ReplayAsk, Scene, stage::Stage, whole};
use crate::{
    daemon::control::{ControlError, gate::GateError},
    datapath::twin::{self, Post},
    explain::{Understood, understand},
    policy::{self, ast::AddrRange},
    view::{FateView, ReplayRowView, ReplayView},
};
use firewall_common::abi::table::Direction;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Packets of a part.
pub const MOST: usize = 4096;
/// How long a twin waits for the next part.
const PATIENCE: Duration = Duration::from_secs(30);

/// A packet of a capture.
#[derive(Clone, Debug, Default)]
pub struct ReplayFrame {
    /// What was captured of it, from its Ethernet header on.
    pub bytes: Vec<u8>,
    /// Its length on the wire, bytes.
    pub length: usize,
}

type Answer = Result<ReplayView, ControlError>;

struct Part {
    frames: Vec<ReplayFrame>,
    last: bool,
    answer: oneshot::Sender<Answer>,
}

/// Replays that go on.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Mutex<HashMap<String, Sender<Part>>>>);

impl Sessions {
    /// Begins one; its name.
    pub(super) fn begin(
        &self,
        scene: Scene,
        ask: &ReplayAsk,
        turn: OwnedSemaphorePermit,
    ) -> Result<String, ControlError> {
        let iface = scene.interface(&ask.interface).map_err(ControlError::Unusable)?;
        let place = Place {
            mac: twin::mac(&iface.name),
            posts: [Direction::In, Direction::Out].map(|way| scene.post_at(iface, way)),
            direction: ask.direction,
            local: ask.local.clone(),
        };
        let against = ask
            .against
            .as_ref()
            .map(|text| policy::parse(text, "against").map_err(ControlError::Invalid));
        let against = against.transpose()?;
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes)
            .map_err(|error| ControlError::Unusable(format!("no random numbers: {error}")))?;
        let name = format!("{:016x}", u64::from_ne_bytes(bytes));
        let (parts, jobs) = channel();
        self.lock().insert(name.clone(), parts);
        let (sessions, own) = (self.clone(), name.clone());
        let thread = std::thread::Builder::new().name("replay".to_owned());
        let spawned = thread.spawn(move || {
            let _turn = turn;
            work(&scene, against.as_ref(), &place, &own, &jobs);
            sessions.lock().remove(&own);
        });
        spawned.map_err(|error| {
            self.lock().remove(&name);
            ControlError::Unusable(format!("no thread for a replay: {error}"))
        })?;
        Ok(name)
    }

    /// Hands a part over, and waits for what comes of it.
    pub(super) async fn go_on(&self, name: String, ask: ReplayAsk) -> Answer {
        if ask.frames.len() > MOST {
            let seen = ask.frames.len();
            return Err(ControlError::Unusable(format!(
                "{seen} packets in a part; expected at most {MOST}"
            )));
        }
        let over = || {
            ControlError::NoSession(format!(
                "there is no replay `{name}`: one that isn't gone on with for {} s is forgotten",
                PATIENCE.as_secs()
            ))
        };
        let parts = self.lock().get(&name).cloned().ok_or_else(over)?;
        let (answer, answered) = oneshot::channel();
        let part = Part { frames: ask.frames, last: ask.last, answer };
        parts.send(part).map_err(|_| over())?;
        answered.await.map_err(|_| over())?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Sender<Part>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a capture is replayed.
struct Place {
    mac: Option<[u8; 6]>,
    /// In, out.
    posts: [Post; 2],
    direction: Option<Direction>,
    local: Vec<AddrRange>,
}

impl Place {
    fn post(&self, frame: &[u8], packet: &Understood) -> &Post {
        let direction = self.direction.unwrap_or_else(|| {
            let from_here = if self.local.is_empty() {
                self.mac.is_some_and(|mac| frame.get(6..12) == Some(&mac[..]))
            } else {
                packet
                    .ends()
                    .is_some_and(|(src, _)| self.local.iter().any(|range| holds(*range, src)))
            };
            if from_here { Direction::Out } else { Direction::In }
        });
        &self.posts[usize::from(direction.raw())]
    }
}

fn holds(range: AddrRange, addr: IpAddr) -> bool {
    match (range, addr) {
        (AddrRange::V4(a, b), IpAddr::V4(addr)) => (a..=b).contains(&u32::from(addr)),
        (AddrRange::V6(a, b), IpAddr::V6(addr)) => (a..=b).contains(&u128::from(addr)),
        _ => false,
    }
}

/// A session's thread.
fn work(
    scene: &Scene,
    against: Option<&crate::policy::Policy>,
    place: &Place,
    name: &str,
    parts: &Receiver<Part>,
) {
    let mut stages = None;
    loop {
        let part = match parts.recv_timeout(PATIENCE) {
            Ok(part) => part,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        };
        if stages.is_none() {
            let made = Stage::new(scene, &scene.policy).and_then(|stage| {
                let other = against.map(|policy| Stage::new(scene, policy)).transpose()?;
                Ok((stage, other))
            });
            match made {
                Ok(made) => stages = Some(made),
                Err(error) => {
                    let _ = part.answer.send(Err(error));
                    return;
                }
            }
        }
        let Some((stage, other)) = stages.as_mut() else { return };
        let rows: Vec<ReplayRowView> =
            part.frames.into_iter().map(|frame| row(stage, other.as_mut(), place, frame)).collect();
        let view = stage.evicted().map(|evicted| ReplayView {
            session: (!part.last).then(|| name.to_owned()),
            generation: scene.generation,
            interface: place.posts[0].iface.clone(),
            rows,
            evicted,
        });
        // Whoever asked may have gone.
        let gone = part.answer.send(view.map_err(ControlError::Gate)).is_err();
        if part.last || gone {
            return;
        }
    }
}

fn row(
    stage: &mut Stage,
    other: Option<&mut Stage>,
    place: &Place,
    frame: ReplayFrame,
) -> ReplayRowView {
    let frame = whole(frame.bytes, frame.length);
    let packet = understand(&frame);
    let post = place.post(&frame, &packet);
    let mut row = ReplayRowView {
        direction: post.direction.name().to_owned(),
        packet: packet.line(),
        length: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        ..ReplayRowView::default()
    };
    let fate = |stage: &mut Stage| -> Result<FateView, GateError> {
        let judged = stage.run(post, &frame, &packet.facts)?;
        Ok(FateView {
            verdict: judged.verdict.name().to_owned(),
            reason: judged.reason.name().to_owned(),
            rule: judged.slot.map(|slot| stage.name(slot)),
        })
    };
    match fate(stage) {
        Ok(said) => row.fate = Some(said),
        Err(error) => row.error = Some(error.to_string()),
    }
    if let Some(other) = other {
        match fate(other) {
            Ok(said) => row.against = Some(said),
            Err(error) => row.error = Some(error.to_string()),
        }
        if let (Some(now), Some(then)) = (&row.fate, &row.against) {
            row.changed = now.verdict != then.verdict;
        }
    }
    row
}
