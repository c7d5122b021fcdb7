//! `sluice sockets --drops`.

use super::{
    format,
    out::{CliError, Head, Out, Tone},
};
use crate::{server::client::Client, view::SocketDropsView};
use std::process::ExitCode;

pub async fn drops(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    let view: SocketDropsView = client.get("/api/v1/sockets/drops").await?;
    if out.json {
        out.object(&view)?;
        return Ok(ExitCode::SUCCESS);
    }
    const HEADS: [Head; 3] =
        [Head::text("THE STACK DROPPED"), Head::number("PACKETS"), Head::number("OF A SOCKET")];
    out.rows(&view.rows, &HEADS, |row| {
        let counts = [row.packets, row.known].map(|count| (format::count(count), Tone::Plain));
        std::iter::once((row.reason.clone(), Tone::Plain)).chain(counts).collect()
    })?;
    out.line(format!(
        "TCP: {} segments sent again, {} resets sent, {} received",
        format::count(view.retransmits),
        format::count(view.resets_sent),
        format::count(view.resets_received)
    ))?;
    Ok(ExitCode::SUCCESS)
}
