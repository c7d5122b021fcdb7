//! `sluice socket show`, `sluice socket note`.

use super::{
    format,
    out::{CliError, Out, Tone},
    samples,
    sockets::{end, millis, owner, rule},
};
use crate::{
    server::client::{Client, escape},
    view::{SocketDetailsView, SocketView},
};
use serde_json::{Value, json};
use std::process::ExitCode;

pub async fn show(out: &Out, client: &Client, id: &str) -> Result<ExitCode, CliError> {
    let details: SocketDetailsView = client.get(&format!("/api/v1/sockets/{}", escape(id))).await?;
    if out.json {
        out.object(&details)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = facts(&details.socket);
    lines.extend(
        samples::lines(client, id).await?.into_iter().map(|(name, line)| (name, line, Tone::Plain)),
    );
    let named: Vec<&str> = details.attributes.iter().map(|one| one.name.as_str()).collect();
    // What an attribute says isn't said twice.
    lines.retain(|(name, _, _)| !named.contains(name));
    let plain = lines.iter().map(|(name, value, tone)| (*name, value.clone(), "", *tone));
    let attributes = details.attributes.iter().map(|one| {
        let tone = if one.source == "operator" { Tone::Odd } else { Tone::Plain };
        (one.name.as_str(), one.value.clone(), one.source.as_str(), tone)
    });
    let width = lines.iter().map(|(name, ..)| *name).chain(named.iter().copied());
    let width = width.map(str::len).max().unwrap_or(0);
    for (name, value, source, tone) in plain.chain(attributes) {
        let source = if source.is_empty() { String::new() } else { format!("  ({source})") };
        let value = out.paint(&format::clean(&value), tone);
        out.line(format!("{name:width$}  {value}{}", out.paint(&source, Tone::Dim)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A socket's row, a line a fact.
fn facts(socket: &SocketView) -> Vec<(&'static str, String, Tone)> {
    let mut lines = Vec::new();
    let mut say = |name, value: String| lines.push((name, value, Tone::Plain));
    let either = |value: Option<&String>| value.cloned();
    say("id", socket.id.clone());
    say("proto", socket.proto.clone());
    say("state", socket.state.clone());
    say("local", end(socket, &socket.local, socket.local_port));
    say("remote", end(socket, &socket.remote, socket.remote_port));
    if let Some(name) = &socket.name {
        let how = match socket.name_source.as_deref() {
            Some("sni") => "its ClientHello asked for it".to_owned(),
            Some("sni-outer") => {
                "its ClientHello asked for it, perhaps as a front for another".to_owned()
            }
            _ if socket.other_names > 0 => {
                format!("as DNS answered last; {} other names then", socket.other_names)
            }
            _ => "as DNS answered".to_owned(),
        };
        say("name", format!("{name}, {how}"));
    }
    say("owner", format!("{}, {}", owner(socket), socket.confidence));
    if let Some(at) = &socket.owner_exited {
        say("owner exited", at.clone());
    }
    let uid = format!("uid {}", socket.uid);
    say("user", socket.user.as_ref().map_or_else(|| uid.clone(), |name| format!("{name} ({uid})")));
    for holder in &socket.holders {
        let name = format::clean(&holder.comm);
        say("holder", format!("{name}/{} as descriptor {}", holder.pid, holder.descriptor));
    }
    say("made", either(socket.created.as_ref()).unwrap_or_else(|| "before the monitor".to_owned()));
    if let (Some(closed), Some(why)) = (&socket.closed, &socket.ended) {
        say("ended", format!("{closed}, {why}"));
    }
    if let Some(us) = socket.connect_us {
        say("handshake", millis(us));
    }
    let carried = |bytes, calls, segments| {
        let (bytes, calls) = (format::bytes(bytes), format::count(calls));
        if socket.proto == "tcp" {
            format!("{bytes} in {calls} calls, {} segments", format::count(segments))
        } else {
            format!("{bytes} in {calls} calls")
        }
    };
    say("sent", carried(socket.sent_bytes, socket.sends, socket.segments_out));
    say("received", carried(socket.received_bytes, socket.receives, socket.segments_in));
    if let Some(us) = socket.rtt_us {
        say("round trip", millis(us));
    }
    if socket.retransmits > 0 {
        say("resent", format!("{} segments", format::count(socket.retransmits)));
    }
    say("rule", rule(socket));
    if let Some(flow) = &socket.flow {
        say("flow", flow.clone());
    }
    if let Some(nat) = &socket.nat {
        let (src, dst) =
            (format::endpoint(&nat.src, nat.sport), format::endpoint(&nat.dst, nat.dport));
        say("translated", format!("from {src} to {dst} by {}", nat.rule));
    }
    if let Some(note) = &socket.note {
        lines.push(("beside the filter", note.clone(), Tone::Odd));
    }
    lines
}

pub async fn note(out: &Out, client: &Client, id: &str, text: &str) -> Result<ExitCode, CliError> {
    let path = format!("/api/v1/sockets/{}/note", escape(id));
    let answer: Value = client.post(&path, &json!({"text": text})).await?;
    if out.json {
        out.object(&answer)?;
    } else {
        out.line(if text.trim().is_empty() { "the note is gone" } else { "noted" })?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::SocketHolderView;

    #[test]
    fn a_socket_is_told_line_by_line() {
        let socket = SocketView {
            id: "2a".into(),
            proto: "tcp".into(),
            family: 4,
            local: "10.0.0.1".into(),
            local_port: 80,
            remote: "10.0.0.2".into(),
            remote_port: 4000,
            pid: Some(7),
            comm: Some("nginx".into()),
            uid: 33,
            confidence: "stamped".into(),
            holders: vec![SocketHolderView { pid: 8, comm: "wor\nker".into(), descriptor: 5 }],
            rule: Some("web".into()),
            note: Some("sees packets".into()),
            ..SocketView::default()
        };
        let lines = facts(&socket);
        let of = |name| {
            lines.iter().find(|(other, ..)| *other == name).map(|(_, value, _)| value.as_str())
        };
        assert_eq!(of("local"), Some("10.0.0.1:80"));
        assert_eq!((of("user"), of("rule")), (Some("uid 33"), Some("web")));
        assert_eq!(of("owner"), Some("nginx/7, stamped"));
        assert!(of("holder").is_some_and(|text| text.ends_with("/8 as descriptor 5")));
        assert_eq!((of("ended"), of("beside the filter")), (None, Some("sees packets")));
    }
}
