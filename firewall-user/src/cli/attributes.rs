//! `sluice socket attributes`.

use super::{
    format,
    out::{CliError, Head, Out, Tone},
    page,
};
use crate::{
    server::client::{Client, escape},
    view::SocketAttributeRowView,
};
use clap::Args;
use std::process::ExitCode;

/// `sluice socket attributes`.
#[derive(Debug, Args)]
pub struct AttributeArgs {
    /// Only of sockets that match, such as `comm=nginx and state=listen`
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Only attributes of this name, such as `note` or `unit`
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Of sockets that have ended, as long as they are kept
    #[arg(long)]
    ended: bool,
    /// How many at most
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: usize,
}

pub async fn list(out: &Out, client: &Client, args: AttributeArgs) -> Result<ExitCode, CliError> {
    let AttributeArgs { filter, name, ended, limit } = args;
    let name = name.map(|name| format!("&name={}", escape(&name))).unwrap_or_default();
    let filter = escape(&filter.join(" "));
    let path =
        format!("/api/v1/sockets/attributes?filter={filter}&ended={ended}&limit={limit}{name}");
    const HEADS: [Head; 6] = [
        Head::text("SOCKET"),
        Head::text("OWNER"),
        Head::number("#"),
        Head::text("NAME"),
        Head::text("VALUE"),
        Head::text("SOURCE"),
    ];
    let cells = |row: &SocketAttributeRowView| {
        let tone = if row.source == "operator" { Tone::Odd } else { Tone::Plain };
        let owner = row.pid.map_or_else(
            || "?".to_owned(),
            |pid| format!("{}/{pid}", format::clean(row.comm.as_deref().unwrap_or("?"))),
        );
        let cells = [
            row.socket.clone(),
            owner,
            row.ordinal.to_string(),
            format::clean(&row.name),
            format::clean(&row.value),
            row.source.clone(),
        ];
        cells.map(|text| (text, tone)).into()
    };
    page::print(out, client, &path, "attributes", &HEADS, cells).await
}
