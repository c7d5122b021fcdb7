//! Calls that a rule by owner refused, as rows among the sockets that have ended: nothing of them was ever connected.

use crate::view::{EventView, SocketView};

/// The row of a refused call; `None`: the event is another. `netns`: the daemon's own, which those rules are for.
pub fn row(event: &EventView, netns: u32) -> Option<SocketView> {
    let caller = event.caller.as_ref()?;
    if event.direction != "out" || !matches!(event.verdict.as_str(), "drop" | "reject") {
        return None;
    }
    let nowhere = if event.family == 4 { "0.0.0.0" } else { "::" };
    Some(SocketView {
        id: caller.socket.clone(),
        proto: event.proto.clone(),
        family: event.family,
        state: if event.proto == "tcp" { "closed" } else { "unconnected" }.to_owned(),
        local: nowhere.to_owned(),
        remote: event.dst.clone(),
        remote_port: event.dport,
        netns,
        own_netns: true,
        uid: caller.uid,
        pid: Some(caller.pid),
        comm: Some(caller.comm.clone()),
        confidence: "stamped".to_owned(),
        rule: Some(event.rule.clone()),
        closed: Some(event.time.clone()),
        ended: Some("denied".to_owned()),
        ..SocketView::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::CallerView;

    #[test]
    fn refused_calls_are_rows() {
        let mut event = EventView {
            class: "call".into(),
            family: 4,
            proto: "tcp".into(),
            dst: "192.0.2.1".into(),
            dport: 80,
            direction: "out".into(),
            verdict: "drop".into(),
            rule: "no".into(),
            caller: Some(CallerView { pid: 7, comm: "curl".into(), uid: 0, socket: "a1".into() }),
            ..EventView::default()
        };
        let row = super::row(&event, 4).expect("a row");
        assert_eq!((row.pid, row.ended.as_deref()), (Some(7), Some("denied")));
        assert_eq!((row.remote.as_str(), row.rule.as_deref()), ("192.0.2.1", Some("no")));
        event.verdict = "allow".into();
        assert_eq!(super::row(&event, 4), None, "logged, and let by");
        event.caller = None;
        event.verdict = "drop".into();
        assert_eq!(super::row(&event, 4), None, "a packet");
    }
}
