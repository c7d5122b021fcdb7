//! Sockets that have ended: a row each, with their owner and what they carried.

use super::{
    names::Names,
    past::{Dim, Hours, Numbers, Sums, time_of, word},
};
use rusqlite::{Connection, Row, params};
use std::net::IpAddr;

/// How the owner of a socket is known. The numbers are stored.
const CONFIDENCE: [&str; 3] = ["unknown", "stamped", "held"];

/// How the name of the other end is known. The numbers are stored.
const NAME_SOURCES: [&str; 3] = ["dns", "sni", "sni-outer"];

/// A socket that has ended. Words are those of `SocketView`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastSocket {
    /// When it ended, ms since 1970.
    pub end_ms: i64,
    /// The kernel's cookie for it.
    pub cookie: u64,
    /// Network namespace: its inode.
    pub netns: u32,
    /// Whether that was the daemon's own.
    pub own_netns: bool,
    /// 4 or 6; 0 where it had no addresses.
    pub family: u8,
    /// Protocol.
    pub proto: String,
    /// Its last state.
    pub state: String,
    /// Local address.
    pub local: Option<IpAddr>,
    /// Local port.
    pub local_port: u16,
    /// Remote address.
    pub remote: Option<IpAddr>,
    /// Remote port.
    pub remote_port: u16,
    /// User.
    pub uid: u32,
    /// Process.
    pub pid: Option<u32>,
    /// What the kernel called it.
    pub comm: Option<String>,
    /// Its executable.
    pub exe: Option<String>,
    /// Name of its user.
    pub user: Option<String>,
    /// Unit of systemd's.
    pub unit: Option<String>,
    /// Container.
    pub container: Option<String>,
    /// `stamped`, `held`, `unknown`.
    pub confidence: String,
    /// When it was made, ms since 1970.
    pub created_ms: Option<i64>,
    /// From the SYN to the end of the handshake, microseconds.
    pub connect_us: Option<u64>,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Calls that sent.
    pub sends: u64,
    /// Calls that received.
    pub receives: u64,
    /// TCP: segments out.
    pub segments_out: u64,
    /// TCP: segments in.
    pub segments_in: u64,
    /// Smoothed round trip, microseconds.
    pub rtt_us: Option<u64>,
    /// Segments sent again.
    pub retransmits: u64,
    /// Why it ended.
    pub ended: String,
    /// Flow that its packets met.
    pub flow: Option<u64>,
    /// Rule that let that in, or refused it.
    pub rule: Option<String>,
    /// What the other end was called, as it was observed.
    pub name: Option<String>,
    /// How that is known: `dns`, `sni`, `sni-outer`.
    pub name_source: Option<String>,
}

impl PastSocket {
    fn sums(&self) -> Sums {
        // Datagrams and calls are one to one; TCP's segments aren't.
        let packets =
            |segments: u64, calls: u64| if self.proto == "tcp" { segments } else { calls };
        Sums {
            count: 1,
            packets: packets(self.segments_out, self.sends),
            bytes: self.sent_bytes,
            reply_packets: packets(self.segments_in, self.receives),
            reply_bytes: self.received_bytes,
            first_ms: self.end_ms,
            last_ms: self.end_ms,
        }
    }
}

/// Sums of raw rows, as [`super::past::read_sums`] reads them behind a key.
pub(in crate::store) const SUMS: &str = "count(*), \
     sum(CASE WHEN proto = (SELECT id FROM names WHERE name = 'tcp') THEN segments_out ELSE sends END), \
     sum(sent_bytes), \
     sum(CASE WHEN proto = (SELECT id FROM names WHERE name = 'tcp') THEN segments_in ELSE receives END), \
     sum(received_bytes), min(row) >> 20, max(row) >> 20";

/// The columns that [`read`] reads, in its order.
pub(in crate::store) const COLUMNS: &str = "row, cookie, netns, own_netns, family, proto, state, local, \
     local_port, remote, remote_port, uid, pid, comm, exe, user, unit, container, confidence, created, \
     connect_us, sent_bytes, received_bytes, sends, receives, segments_out, segments_in, rtt_us, \
     retransmits, ended, flow, rule, name, name_source";

/// Writes one.
pub(in crate::store) fn insert(
    connection: &Connection,
    names: &mut Names,
    numbers: &mut Numbers,
    hours: &mut Hours,
    socket: &PastSocket,
) -> rusqlite::Result<()> {
    let mut number = |text: Option<&String>| word(connection, names, text.map(String::as_str));
    let (proto, state) = (number(Some(&socket.proto))?, number(Some(&socket.state))?);
    let (comm, exe) = (number(socket.comm.as_ref())?, number(socket.exe.as_ref())?);
    let (user, unit) = (number(socket.user.as_ref())?, number(socket.unit.as_ref())?);
    let container = number(socket.container.as_ref())?;
    let (ended, rule) = (number(Some(&socket.ended))?, number(socket.rule.as_ref())?);
    let name = number(socket.name.as_ref())?;
    let name_source =
        NAME_SOURCES.iter().position(|word| Some(*word) == socket.name_source.as_deref());
    let confidence =
        CONFIDENCE.iter().position(|word| *word == socket.confidence).unwrap_or_default();
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO past_sockets (row, cookie, netns, own_netns, family, proto, state, \
         local, local_port, remote, remote_port, uid, pid, comm, exe, user, unit, container, \
         confidence, created, connect_us, sent_bytes, received_bytes, sends, receives, segments_out, \
         segments_in, rtt_us, retransmits, ended, flow, rule, name, name_source) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, \
         ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, \
         ?28, ?29, ?30, ?31, ?32, ?33, ?34)",
    )?;
    numbers.place(socket.end_ms, |row| {
        insert.execute(params![
            row,
            socket.cookie as i64,
            socket.netns,
            socket.own_netns,
            socket.family,
            proto,
            state,
            socket.local.map(super::bytes),
            socket.local_port,
            socket.remote.map(super::bytes),
            socket.remote_port,
            socket.uid,
            socket.pid,
            comm,
            exe,
            user,
            unit,
            container,
            confidence as i64,
            socket.created_ms,
            socket.connect_us.map(|us| us as i64),
            socket.sent_bytes as i64,
            socket.received_bytes as i64,
            socket.sends as i64,
            socket.receives as i64,
            socket.segments_out as i64,
            socket.segments_in as i64,
            socket.rtt_us.map(|us| us as i64),
            socket.retransmits as i64,
            ended,
            socket.flow.map(|id| id as i64),
            rule,
            name,
            name_source.map(|at| at as i64),
        ])
    })?;
    let sums = socket.sums();
    for (dim, key) in [
        (Dim::Process, comm),
        (Dim::Exe, exe),
        (Dim::User, user),
        (Dim::Unit, container.or(unit)),
        (Dim::SocketRule, rule),
        (Dim::SocketProtocol, proto),
        (Dim::SocketEnded, ended),
    ] {
        hours.add(dim, key.unwrap_or_default(), &sums);
    }
    hours.add(Dim::Host, socket.remote.filter(|_| socket.remote_port != 0), &sums);
    hours.add(Dim::SocketMinute, socket.end_ms.div_euclid(60_000), &sums);
    Ok(())
}

/// A row of [`COLUMNS`].
pub(in crate::store) fn read(
    row: &Row<'_>,
    word: &dyn Fn(i64) -> rusqlite::Result<String>,
) -> rusqlite::Result<PastSocket> {
    let text = |at| -> rusqlite::Result<Option<String>> {
        row.get::<_, Option<i64>>(at)?.map(word).transpose()
    };
    let count = |at| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(at)? as u64) };
    let maybe = |at| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(at)?.map(|number| number as u64))
    };
    let confidence: u8 = row.get(18)?;
    Ok(PastSocket {
        end_ms: time_of(row.get(0)?),
        cookie: count(1)?,
        netns: row.get(2)?,
        own_netns: row.get(3)?,
        family: row.get(4)?,
        proto: text(5)?.unwrap_or_default(),
        state: text(6)?.unwrap_or_default(),
        local: super::maybe_address(row, 7)?,
        local_port: row.get(8)?,
        remote: super::maybe_address(row, 9)?,
        remote_port: row.get(10)?,
        uid: row.get(11)?,
        pid: row.get(12)?,
        comm: text(13)?,
        exe: text(14)?,
        user: text(15)?,
        unit: text(16)?,
        container: text(17)?,
        confidence: CONFIDENCE
            .get(usize::from(confidence))
            .copied()
            .unwrap_or("unknown")
            .to_owned(),
        created_ms: row.get(19)?,
        connect_us: maybe(20)?,
        sent_bytes: count(21)?,
        received_bytes: count(22)?,
        sends: count(23)?,
        receives: count(24)?,
        segments_out: count(25)?,
        segments_in: count(26)?,
        rtt_us: maybe(27)?,
        retransmits: count(28)?,
        ended: text(29)?.unwrap_or_default(),
        flow: maybe(30)?,
        rule: text(31)?,
        name: text(32)?,
        name_source: maybe(33)?
            .and_then(|at| NAME_SOURCES.get(usize::try_from(at).ok()?))
            .map(|word| (*word).to_owned()),
    })
}
