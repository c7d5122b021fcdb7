//! Which rule let a socket's packets in, or refused them: sockets meet what the filter judged, by their two ends.
//!
//! Flows and sockets are told of by different rings, a moment apart: whatever was judged meets the sockets of this
//! look and of the next, and a socket that has ended is looked for twice before it is said to have had no rule.

use super::{ESTABLISHED, Ended, INET, INET6, KeysOf, SYN_SENT, Socket, SocketTable, TCP};
use crate::monitor::judged::{Ends, Visit};
use crate::monitor::summary::By;
use firewall_common::abi::socket::SocketRow;
use std::{collections::HashMap, sync::Arc};

/// Why a connection failed that a rule refused.
pub(super) const DROPPED: &str = "dropped";
/// Ended sockets without a rule that are looked at again, at most so often.
const LOOKS: u8 = 2;
/// As many as wait for their rule before it is time for a look.
const MANY: u64 = 2_048;

/// Where a socket is.
#[derive(Clone, Copy)]
enum At {
    Live(u64),
    Ended(usize),
}

impl SocketTable {
    /// Shows sockets what was judged, by way of `judged`. `netns`: the filter's network namespace; flows are of
    /// sockets there, refusals of whoever's packets came by. `again`: also to those that have a rule already.
    pub fn meet(
        &mut self,
        netns: u32,
        again: bool,
        judged: impl FnOnce(Visit<'_>),
        keys: KeysOf<'_>,
    ) {
        let mut flows: HashMap<Ends, At> = HashMap::new();
        let mut begun: HashMap<Ends, At> = HashMap::new();
        let mut put = |socket: &Socket, fails: bool, at: At| {
            let Some(ends) = ends(&socket.row) else { return };
            if socket.row.netns == netns && (again || socket.rule.is_none()) {
                flows.insert(ends, at);
            }
            if fails {
                begun.insert(ends, at);
            }
        };
        // The latest of the same ends is meant.
        let waiting = self.first_waiting();
        for (i, ended) in self.ended.iter().enumerate().skip(waiting).filter(|(_, e)| !e.settled) {
            put(&ended.socket, has_failed(&ended.socket.row, ended.why), At::Ended(i));
        }
        for (cookie, socket) in &self.live {
            let row = &socket.row;
            put(socket, row.protocol == TCP && row.state == SYN_SENT, At::Live(*cookie));
        }
        if !flows.is_empty() || !begun.is_empty() {
            let (live, ended) = (&mut self.live, &mut self.ended);
            judged(&mut |ends, refused, rule| {
                let mut tell = |at: &At| {
                    let socket = match at {
                        At::Live(cookie) => live.get_mut(cookie),
                        At::Ended(i) => ended.get_mut(*i).map(|ended| &mut ended.socket),
                    };
                    if let Some(socket) = socket {
                        let to = if refused { &mut socket.refused } else { &mut socket.rule };
                        *to = Some(rule());
                    }
                };
                if refused {
                    begun.get(ends).into_iter().for_each(tell);
                } else {
                    flows
                        .get(ends)
                        .into_iter()
                        .chain(flows.get(&ends.turned()))
                        .for_each(&mut tell);
                }
            });
        }
        self.settle(keys);
    }

    /// Where the first is that isn't settled.
    fn first_waiting(&self) -> usize {
        self.settled.saturating_sub(self.ended_dropped) as usize
    }

    /// Whether many wait for their rule.
    pub fn waits_for_rules(&self) -> bool {
        (self.ended.len() - self.first_waiting().min(self.ended.len())) as u64 >= MANY
    }

    /// Puts those that have ended, and have their rule or never will, in the table of rules. One look of theirs.
    pub fn settle(&mut self, keys: KeysOf<'_>) {
        let waiting = self.first_waiting();
        let mut all = std::mem::take(&mut self.ended);
        for ended in all.iter_mut().skip(waiting).filter(|ended| !ended.settled) {
            blame(ended);
            ended.looks += 1;
            if ended.looks >= LOOKS || of(&ended.socket).is_some() {
                ended.settled = true;
                self.sum_up(By::Rule.mask(), &ended.socket, ended.at_ns, keys);
            }
        }
        let done = all.iter().skip(waiting).take_while(|ended| ended.settled).count();
        self.settled = self.ended_dropped + (waiting + done) as u64;
        self.ended = all;
    }
}

/// The rule that refused a socket's packets, or let them in.
pub(super) fn of(socket: &Socket) -> Option<&Arc<str>> {
    let begun = socket.row.usage.established_ns != 0 || socket.row.state == ESTABLISHED;
    socket.refused.as_ref().filter(|_| !begun).or(socket.rule.as_ref())
}

/// A connection that failed, and was refused here, failed for that: whatever the caller's own stack made of it.
pub(super) fn blame(ended: &mut Ended) {
    if ended.socket.refused.is_some() && has_failed(&ended.socket.row, ended.why) {
        ended.why = DROPPED;
    }
}

/// Whether it never came to a connection.
fn has_failed(row: &SocketRow, why: &str) -> bool {
    let failed = matches!(why, "refused" | "timed-out" | "no-route" | "abandoned" | "failed");
    failed && row.protocol == TCP && row.usage.established_ns == 0 && row.local_port != 0
}

/// The ends of a socket that has two.
fn ends(row: &SocketRow) -> Option<Ends> {
    let family = match row.family {
        INET => 4,
        INET6 => 6,
        _ => return None,
    };
    let ends = Ends {
        proto: u8::try_from(row.protocol).ok()?,
        family,
        local: row.local,
        local_port: row.local_port,
        remote: row.remote,
        remote_port: row.remote_port,
    };
    (row.remote_port != 0).then(|| ends.plain())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::sockets::tests::{event, keys, live, place, row};
    use firewall_common::abi::socket::SocketClass;

    const SECOND: u64 = 1_000_000_000;
    /// TCP_LAST_ACK.
    const LAST_ACK: u8 = 9;

    /// A flow that a client at this port began, or a packet of its that was refused, or nothing.
    fn judged(port: u16, refused: bool, rule: &'static str) -> impl Fn(Visit<'_>) {
        move |visit| {
            let there = ends(&SocketRow { remote_port: port, ..row(1, ESTABLISHED) });
            let there = there.expect("both ends");
            visit(&there.turned(), refused, &|| rule.into());
        }
    }

    fn nothing(_: Visit<'_>) {}

    fn by_rule(table: &SocketTable) -> Vec<(String, u64, u64)> {
        let view = table.summary(By::Rule, 9 * SECOND, &keys);
        let mut rows: Vec<_> =
            view.rows.into_iter().map(|row| (row.key, row.live, row.total)).collect();
        rows.sort();
        rows
    }

    #[test]
    fn a_socket_meets_its_rule_while_it_lives_and_afterwards() {
        let mut table = SocketTable::default();
        for (cookie, port) in [(1, 4000), (2, 4001), (3, 4002)] {
            let row = SocketRow { remote_port: port, ..row(cookie, ESTABLISHED) };
            table.event(&event(SocketClass::Established, 3, row, SECOND), &keys);
        }
        table.meet(1, false, judged(4000, false, "web"), &keys);
        assert_eq!(live(&table)[0].rule.as_deref(), Some("web"));
        // Its flow is told of after its end; another's never is; and the first has its rule already.
        for (cookie, port) in [(1, 4000), (2, 4001), (3, 4002)] {
            let row = SocketRow { remote_port: port, ..row(cookie, 7) };
            table.event(&event(SocketClass::Closed, ESTABLISHED, row, 2 * SECOND), &keys);
        }
        let all = [("?".into(), 0, 2), ("web".into(), 0, 1)];
        assert_eq!(by_rule(&table), all, "also those whose rule is still looked for");
        table.meet(1, false, judged(4001, false, "echo"), &keys);
        let all = [("?".into(), 0, 1), ("echo".into(), 0, 1), ("web".into(), 0, 1)];
        assert_eq!(by_rule(&table), all);
        table.meet(1, false, nothing, &keys);
        table.meet(1, false, judged(4002, false, "late"), &keys);
        assert_eq!(by_rule(&table), all, "each once, and for good");
        assert_eq!(table.first_waiting(), 3);
        let place = place();
        let rules: Vec<_> = table.ended(&place).map(|(row, _)| row.rule).collect();
        assert_eq!(rules, [None, Some("echo".into()), Some("web".into())]);
        table.reset_summary(Some(By::Rule), 3 * SECOND);
        assert_eq!(by_rule(&table), []);
    }

    #[test]
    fn flows_are_of_the_filters_namespace_and_refusals_of_anybodys() {
        let mut table = SocketTable::default();
        // As the other end has it: it began.
        let begins = |cookie, netns| {
            let (local, remote) = (row(1, 2).remote, row(1, 2).local);
            SocketRow {
                local,
                remote,
                local_port: 4000,
                remote_port: 80,
                netns,
                ..row(cookie, SYN_SENT)
            }
        };
        table.event(&event(SocketClass::Connecting, 7, begins(1, 9), SECOND), &keys);
        table.meet(1, false, judged(4000, false, "web"), &keys);
        assert_eq!(live(&table)[0].rule, None, "another place's flow");
        // Long before its end.
        table.meet(1, false, judged(4000, true, "default in"), &keys);
        for _ in 0..3 {
            table.meet(1, false, nothing, &keys);
        }
        let last = SocketRow { error: libc::ETIMEDOUT as u32, state: 7, ..begins(1, 9) };
        table.event(&event(SocketClass::Closed, SYN_SENT, last, 8 * SECOND), &keys);
        table.meet(1, false, nothing, &keys);
        let place = place();
        let ended = table.ended(&place).next().expect("one").0;
        assert_eq!(
            (ended.ended.as_deref(), ended.rule.as_deref()),
            (Some("dropped"), Some("default in"))
        );
        assert_eq!(by_rule(&table), [("default in".into(), 0, 1)]);
        // What came to a connection wasn't refused, whatever happened to one of its packets.
        let mut open = begins(2, 1);
        (open.state, open.usage.established_ns) = (ESTABLISHED, 5);
        table.event(&event(SocketClass::Connecting, 7, begins(2, 1), SECOND), &keys);
        table.meet(1, false, judged(4000, true, "limit"), &keys);
        table.event(&event(SocketClass::Established, SYN_SENT, open, SECOND), &keys);
        table.meet(1, false, judged(4000, false, "web"), &keys);
        table.event(
            &event(SocketClass::Closed, LAST_ACK, SocketRow { state: 7, ..open }, SECOND),
            &keys,
        );
        table.meet(1, false, nothing, &keys);
        let ended = table.ended(&place).next().expect("one").0;
        assert_eq!((ended.ended.as_deref(), ended.rule.as_deref()), (Some("closed"), Some("web")));
    }

    #[test]
    fn who_makes_room_too_early_is_counted() {
        let mut table = SocketTable::default();
        let many = crate::monitor::sockets::ENDED as u64 + 7;
        for cookie in 1..=many {
            table.event(&event(SocketClass::Closed, 1, row(cookie, 7), SECOND), &keys);
        }
        assert!(table.waits_for_rules());
        assert_eq!(table.stats(&Default::default()).rules_unsettled, 7);
        assert_eq!(by_rule(&table), [("?".into(), 0, many)], "and none is lost");
        table.meet(1, false, nothing, &keys);
        table.meet(1, false, nothing, &keys);
        assert!(!table.waits_for_rules());
        assert_eq!(by_rule(&table), [("?".into(), 0, many)]);
    }
}
