//! `sluice learn unit|exe|process|user NAME`.

use super::out::{CliError, Out};
use crate::{
    server::client::{Client, escape},
    view::LearnView,
};
use std::process::ExitCode;

pub async fn learn(
    out: &Out,
    client: &Client,
    by: &str,
    owner: &str,
    since: Option<&str>,
) -> Result<ExitCode, CliError> {
    let since = since.map(|since| format!("&since={}", escape(since))).unwrap_or_default();
    let path = format!("/api/v1/learn?by={by}&owner={}{since}", escape(owner));
    let view: LearnView = client.get(&path).await?;
    if out.json {
        out.object(&view)?;
    } else {
        out.line(view.text.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}
