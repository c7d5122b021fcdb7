//! What has ended, on its way to the history: flows from the monitor, sockets from their own monitor.
//!
//! A socket's row is to say which flow its packets met and which rule, as a live one's does. Its flow ends about
//! when it does, and is shown for a while longer: sockets wait for a moment, then all that wait look for their
//! flows at once.

use super::sockets::Sockets;
use crate::{
    monitor::{FlowRecord, Monitor},
    server::sockets::{blame, join},
    store::{History, PastFlow, PastSocket},
    view::{FlowView, SocketView},
};
use jiff::Timestamp;
use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Between two looks at sockets that ended: ten thousand are kept.
const LOOK: Duration = Duration::from_millis(100);
/// How long sockets wait for their flows, which the monitor learns of within a second.
const WAIT: Duration = Duration::from_secs(2);
/// More don't wait.
const WAITING: usize = 16_384;

/// ms since 1970 of a time as rows have it.
fn ms(time: &str) -> Option<i64> {
    time.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// A flow that ended at `end_ns` (since 1970), for the history.
pub fn flow((row, proto, end_ns): (FlowView, u8, i64)) -> PastFlow {
    PastFlow {
        end_ms: end_ns.div_euclid(1_000_000),
        id: u64::from_str_radix(&row.id, 16).unwrap_or_default(),
        family: row.family,
        proto,
        src: row.src.parse().ok(),
        sport: row.sport,
        dst: row.dst.parse().ok(),
        dport: row.dport,
        state: row.state,
        direction: row.direction,
        in_iface: row.in_iface,
        out_iface: row.out_iface,
        vlan: row.vlan,
        verdict: row.verdict,
        rule: row.rule,
        generation: row.generation,
        first_ms: row.first.as_deref().and_then(ms),
        last_ms: row.last.as_deref().and_then(ms),
        ended: row.ended.unwrap_or_default(),
        packets: row.packets,
        bytes: row.bytes,
        reply_packets: row.reply_packets,
        reply_bytes: row.reply_bytes,
    }
}

/// A socket that ended, for the history.
fn socket(row: SocketView) -> PastSocket {
    let id = |text: &str| u64::from_str_radix(text, 16).ok();
    PastSocket {
        end_ms: row.closed.as_deref().and_then(ms).unwrap_or_default(),
        cookie: id(&row.id).unwrap_or_default(),
        netns: row.netns,
        own_netns: row.own_netns,
        family: row.family,
        proto: row.proto,
        state: row.state,
        local: row.local.parse().ok(),
        local_port: row.local_port,
        remote: row.remote.parse().ok(),
        remote_port: row.remote_port,
        uid: row.uid,
        pid: row.pid,
        comm: row.comm,
        exe: row.exe,
        user: row.user,
        unit: row.unit,
        container: row.container,
        confidence: row.confidence,
        created_ms: row.created.as_deref().and_then(ms),
        connect_us: row.connect_us,
        sent_bytes: row.sent_bytes,
        received_bytes: row.received_bytes,
        sends: row.sends,
        receives: row.receives,
        segments_out: row.segments_out,
        segments_in: row.segments_in,
        rtt_us: row.rtt_us,
        retransmits: row.retransmits,
        ended: row.ended.unwrap_or_default(),
        flow: row.flow.as_deref().and_then(id),
        rule: row.rule,
        name: row.name,
        name_source: row.name_source,
    }
}

/// Both ends, in either order.
type Ends = (IpAddr, u16, IpAddr, u16);

fn ends(record: &FlowRecord) -> Option<Ends> {
    let address = |bytes: &[u8; 16]| match record.family {
        4 => Some(IpAddr::from(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
        6 => Some(IpAddr::from(Ipv6Addr::from(*bytes))),
        _ => None,
    };
    Some((address(&record.src)?, record.sport, address(&record.dst)?, record.dport))
}

/// Gives sockets their flows and rules, and those that failed the rule that refused them.
fn meet(rows: &mut [SocketView], monitor: &Mutex<Monitor>) {
    let mut wanted: HashSet<Ends> = HashSet::new();
    let mut ports: HashSet<(u16, u16)> = HashSet::new();
    for row in rows.iter().filter(|row| row.own_netns && row.remote_port != 0) {
        if let (Ok(local), Ok(remote)) = (row.local.parse(), row.remote.parse()) {
            wanted.insert((local, row.local_port, remote, row.remote_port));
            wanted.insert((remote, row.remote_port, local, row.local_port));
            ports.insert((row.local_port, row.remote_port));
            ports.insert((row.remote_port, row.local_port));
        }
    }
    if !wanted.is_empty() {
        // Ports first: most flows are somebody else's, and there may be a million.
        let flows = lock(monitor).flows_where(&|record| {
            ports.contains(&(record.sport, record.dport))
                && ends(record).is_some_and(|ends| wanted.contains(&ends))
        });
        join(rows, |each| flows.into_iter().for_each(each));
    }
    blame(rows, |each| lock(monitor).events().all().for_each(|(_, event)| each(&event)));
}

fn lock(monitor: &Mutex<Monitor>) -> MutexGuard<'_, Monitor> {
    monitor.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that brings sockets that ended to the history.
#[derive(Debug)]
pub struct Endings {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Endings {
    /// Starts it.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        sockets: Sockets,
        monitor: Arc<Mutex<Monitor>>,
        history: History,
    ) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = thread::Builder::new()
            .name("sluice-endings".into())
            .spawn(move || follow(&sockets, &monitor, &history, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Brings over what there is, and ends.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            log::error!("sockets that ended: the thread has panicked");
        }
    }
}

fn follow(sockets: &Sockets, monitor: &Mutex<Monitor>, history: &History, stopped: &Receiver<()>) {
    let mut seen = 0;
    let mut waiting: Vec<SocketView> = Vec::new();
    let mut since = Instant::now();
    loop {
        let stops = stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout);
        let (lost, rows) = sockets.ended_since(&mut seen);
        history.lost(lost);
        if waiting.is_empty() {
            since = Instant::now();
        }
        waiting.extend(rows);
        let due = stops || since.elapsed() >= WAIT || waiting.len() >= WAITING;
        if due && !waiting.is_empty() {
            meet(&mut waiting, monitor);
            history.sockets_ended(waiting.drain(..).map(socket).collect());
        }
        if stops {
            return;
        }
    }
}
