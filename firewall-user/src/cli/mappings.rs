//! `sluice nat mappings|rules|hosts|pools`.

use super::{
    format,
    list::today,
    out::{CliError, Head, Out, Tone},
    page::{print, sorted},
};
use crate::{
    server::client::{Client, escape},
    view::{NatAccountView, NatHostView, NatMappingView, NatPoolView, NatRuleView},
};
use std::process::ExitCode;

fn plain(text: String) -> (String, Tone) {
    (text, Tone::Plain)
}

fn number(count: u64) -> (String, Tone) {
    plain(format::count(count))
}

fn bytes(count: u64) -> (String, Tone) {
    plain(format::bytes(count))
}

fn failures(count: u64) -> (String, Tone) {
    (format::count(count), if count > 0 { Tone::Bad } else { Tone::Plain })
}

/// Columns of an account.
const ACCOUNT: [Head; 7] = [
    Head::number("LIVE"),
    Head::number("MAPPINGS"),
    Head::number("ENDED"),
    Head::number("REFUSED"),
    Head::number("PACKETS"),
    Head::number("BYTES"),
    Head::number("BACK"),
];

fn account(account: &NatAccountView) -> [(String, Tone); 7] {
    [
        number(account.live),
        number(account.mappings),
        number(account.ended),
        failures(account.failures),
        number(account.packets + account.reply_packets),
        bytes(account.bytes),
        bytes(account.reply_bytes),
    ]
}

/// What may be unknown.
fn maybe<T>(value: Option<T>, show: impl Fn(T) -> String) -> (String, Tone) {
    value.map_or_else(|| ("-".to_owned(), Tone::Dim), |value| plain(show(value)))
}

pub async fn mappings(
    out: &Out,
    client: &Client,
    filter: &str,
    limit: usize,
    sort: Option<&str>,
) -> Result<ExitCode, CliError> {
    const HEADS: [Head; 11] = [
        Head::text("PROTO"),
        Head::text("INSIDE"),
        Head::text("PUBLIC"),
        Head::text("REMOTE"),
        Head::text("REALLY TO"),
        Head::text("KIND"),
        Head::text("RULE"),
        Head::text("BEGAN"),
        Head::number("PACKETS"),
        Head::number("BYTES"),
        Head::number("BACK"),
    ];
    let sort = sorted(sort);
    let path = format!("/api/v1/nat/mappings?filter={}&limit={limit}{sort}", escape(filter));
    let today = today();
    print(out, client, &path, "mappings", &HEADS, |row: &NatMappingView| {
        let kind = match row.origin.as_str() {
            "sluice" => row.kind.clone(),
            origin => format!("{} ({origin})", row.kind),
        };
        let packets = row.packets.zip(row.reply_packets).map(|(there, back)| there + back);
        vec![
            plain(row.proto.clone()),
            (format::endpoint(&row.inside, row.inside_port), Tone::Good),
            plain(format::endpoint(&row.public, row.public_port)),
            plain(format::endpoint(&row.remote, row.remote_port)),
            maybe(row.remote_inside.as_deref(), |address| {
                format::endpoint(address, row.remote_inside_port.unwrap_or_default())
            }),
            plain(kind),
            maybe(row.rule.as_ref(), String::clone),
            maybe(row.began.as_deref(), |time| format::time(time, &today)),
            maybe(packets, format::count),
            maybe(row.bytes, format::bytes),
            maybe(row.reply_bytes, format::bytes),
        ]
    })
    .await
}

pub async fn rules(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    let mut heads = vec![Head::text("NAME"), Head::text("KIND")];
    heads.extend(ACCOUNT);
    heads.push(Head::text("WHAT"));
    print(out, client, "/api/v1/nat/rules", "translations", &heads, |row: &NatRuleView| {
        // Name and kind have columns of their own.
        let what = row.text.as_deref().map(|text| {
            let mut words = text.split_whitespace().peekable();
            for known in ["disabled", "nat", row.name.as_str(), row.kind.as_str()] {
                words.next_if(|word| *word == known);
            }
            words.collect::<Vec<_>>().join(" ")
        });
        let off = row.text.as_deref().is_some_and(|text| text.starts_with("disabled"));
        let tone = if off || what.is_none() { Tone::Dim } else { Tone::Plain };
        let mut cells = vec![(row.name.clone(), tone), (row.kind.clone(), tone)];
        cells.extend(account(&row.account));
        cells.push((what.unwrap_or_else(|| "(not in the policy any more)".to_owned()), tone));
        cells
    })
    .await
}

pub async fn hosts(
    out: &Out,
    client: &Client,
    limit: usize,
    sort: Option<&str>,
) -> Result<ExitCode, CliError> {
    let mut heads = vec![Head::text("HOST")];
    heads.extend(ACCOUNT);
    let path = format!("/api/v1/nat/hosts?limit={limit}{}", sorted(sort));
    print(out, client, &path, "hosts", &heads, |row: &NatHostView| {
        let mut cells = vec![(row.host.clone(), Tone::Good)];
        cells.extend(account(&row.account));
        cells
    })
    .await
}

pub async fn pools(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    const HEADS: [Head; 9] = [
        Head::text("ADDRESS"),
        Head::text("PROTO"),
        Head::number("PORTS"),
        Head::number("IN USE"),
        Head::number("PEAK"),
        Head::number("USED"),
        Head::number("MADE"),
        Head::number("REFUSED"),
        Head::text("RULES"),
    ];
    print(out, client, "/api/v1/nat/pools", "public ports in use", &HEADS, |row: &NatPoolView| {
        let address = match (&row.interface, row.address.as_str()) {
            (Some(interface), "") => interface.clone(),
            (Some(interface), address) => format!("{address} ({interface})"),
            (None, "") => "(in no pool any more)".to_owned(),
            (None, address) => address.to_owned(),
        };
        let tone = match row.used_percent {
            used if used >= 95.0 => Tone::Bad,
            used if used >= 80.0 => Tone::Odd,
            _ => Tone::Plain,
        };
        vec![
            (address, Tone::Good),
            plain(row.proto.clone()),
            number(row.ports),
            number(row.in_use),
            number(row.peak),
            (format!("{} %", row.used_percent), tone),
            number(row.made),
            failures(row.failures),
            plain(row.rules.join(", ")),
        ]
    })
    .await
}
