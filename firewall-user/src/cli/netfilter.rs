//! `sluice flows --netfilter`: the kernel's own connection tracking.

use super::{
    format,
    out::{CliError, Head, Out, Tone},
    page::{self, Page},
};
use crate::{
    server::client::{Client, escape},
    view::NetfilterFlowView,
};
use std::process::ExitCode;

const HEADS: [Head; 10] = [
    Head::text("PROTO"),
    Head::text("FROM"),
    Head::text("TO"),
    Head::text("STATE"),
    Head::text("NAT"),
    Head::number("PACKETS"),
    Head::number("BYTES"),
    Head::number("BACK"),
    Head::number("AGE"),
    Head::number("TIMEOUT"),
];

pub async fn flows(
    out: &Out,
    client: &Client,
    filter: &str,
    limit: usize,
) -> Result<ExitCode, CliError> {
    let path = format!("/api/v1/netfilter/flows?filter={}&limit={limit}", escape(filter));
    let answer: Page<NetfilterFlowView> = client.get(&path).await?;
    out.rows(&answer.rows, &HEADS, |flow| {
        let unreplied = !flow.status.iter().any(|word| word == "seen-reply");
        let tone = if unreplied { Tone::Dim } else { Tone::Plain };
        let packets = flow.packets.zip(flow.reply_packets).map(|(there, back)| there + back);
        [
            flow.proto.clone(),
            format::endpoint(&flow.src, flow.sport),
            format::endpoint(&flow.dst, flow.dport),
            flow.state.clone(),
            translation(flow),
            known(packets, format::count),
            known(flow.bytes, format::bytes),
            known(flow.reply_bytes, format::bytes),
            known(flow.age_ms, format::duration),
            known(flow.timeout_ms, format::duration),
        ]
        .map(|text| (text, tone))
        .into()
    })?;
    if out.json {
        return Ok(ExitCode::SUCCESS);
    }
    page::more(out, &answer, "flows")?;
    for limit in &answer.limits {
        out.line(out.paint(&format!("note: {limit}"), Tone::Odd))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn known(number: Option<u64>, show: fn(u64) -> String) -> String {
    number.map_or_else(|| "-".to_owned(), show)
}

/// What the flow looks like behind the translation: the ends that are others.
fn translation(flow: &NetfilterFlowView) -> String {
    let Some(nat) = &flow.nat else { return "-".to_owned() };
    format::translation(
        [(&flow.src, flow.sport), (&flow.dst, flow.dport)],
        [(&nat.src, nat.sport), (&nat.dst, nat.dport)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::NetfilterNatView;

    #[test]
    fn only_the_translated_ends_are_shown() {
        let mut flow = NetfilterFlowView {
            src: "10.0.0.7".into(),
            sport: 5000,
            dst: "192.0.2.1".into(),
            dport: 80,
            ..NetfilterFlowView::default()
        };
        assert_eq!(translation(&flow), "-");
        let mut nat = NetfilterNatView {
            src: "203.0.113.5".into(),
            sport: 40_021,
            dst: "192.0.2.1".into(),
            dport: 80,
        };
        flow.nat = Some(nat.clone());
        assert_eq!(translation(&flow), "from 203.0.113.5:40021");
        nat.dport = 8080;
        flow.nat = Some(nat);
        assert_eq!(translation(&flow), "from 203.0.113.5:40021 to 192.0.2.1:8080");
        assert_eq!(
            (known(None, format::bytes), known(Some(5), format::bytes)),
            ("-".into(), "5 B".into())
        );
    }
}
