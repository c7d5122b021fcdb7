//! `explain` and `replay`: what they take.

use super::error::ApiError;
use crate::{
    daemon::control::explain::{ExplainAsk, ReplayAsk, ReplayFrame},
    explain::hex_bytes,
    policy::ast::AddrRange,
};
use firewall_common::abi::table::Direction;
use serde::Deserialize;
use std::net::IpAddr;

/// Most addresses of this side.
const LOCAL: usize = 256;

/// `explain`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainArgs {
    /// The description.
    packet: String,
    /// The frame, hexadecimal, where the description has none.
    #[serde(default)]
    frame: Option<String>,
    /// Its length on the wire.
    #[serde(default)]
    length: Option<usize>,
    #[serde(default)]
    all: bool,
}

/// `replay`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayArgs {
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    interface: Option<String>,
    #[serde(default)]
    direction: Option<String>,
    #[serde(default)]
    local: Vec<String>,
    #[serde(default)]
    frames: Vec<FrameArgs>,
    #[serde(default)]
    against: Option<String>,
    #[serde(default)]
    last: bool,
}

/// A packet of a capture.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameArgs {
    frame: String,
    #[serde(default)]
    length: Option<usize>,
}

/// What is asked.
///
/// # Errors
/// The frame is no hexadecimal.
pub fn ask(args: ExplainArgs) -> Result<ExplainAsk, ApiError> {
    let ExplainArgs { packet, frame, length, all } = args;
    let frame = frame.map(|text| bytes("frame", &text)).transpose()?;
    Ok(ExplainAsk { packet, frame, length, all })
}

/// What is asked.
///
/// # Errors
/// A frame is no hexadecimal, or an argument is missing or none of those there are.
pub fn replay(args: ReplayArgs) -> Result<ReplayAsk, ApiError> {
    let ReplayArgs { session, interface, direction, local, frames, against, last } = args;
    let direction = match direction.as_deref() {
        None | Some("auto") => None,
        Some("in") => Some(Direction::In),
        Some("out") => Some(Direction::Out),
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "`direction` is `{other}`; expected `in`, `out` or `auto`"
            )));
        }
    };
    if session.is_none() && interface.is_none() {
        return Err(ApiError::bad_request("`interface` is missing: where do the packets pass?"));
    }
    if local.len() > LOCAL {
        return Err(ApiError::bad_request(format!("`local` has more than {LOCAL} addresses")));
    }
    let frames = frames.into_iter().enumerate().map(|(n, frame)| {
        let bytes = bytes(&format!("frames[{n}].frame"), &frame.frame)?;
        Ok(ReplayFrame { length: frame.length.unwrap_or(bytes.len()), bytes })
    });
    Ok(ReplayAsk {
        session,
        interface: interface.unwrap_or_default(),
        direction,
        local: local.iter().map(|text| range(text)).collect::<Result<_, _>>()?,
        frames: frames.collect::<Result<_, ApiError>>()?,
        against,
        last,
    })
}

fn bytes(field: &str, text: &str) -> Result<Vec<u8>, ApiError> {
    hex_bytes(text).map_err(|(what, span)| {
        ApiError::bad_request(format!("`{field}`, column {}: {what}", span.start + 1))
    })
}

/// An address or prefix.
fn range(text: &str) -> Result<AddrRange, ApiError> {
    let wrong = || {
        ApiError::bad_request(format!(
            "`local`: `{text}` is neither an address nor a prefix such as 10.0.0.0/8"
        ))
    };
    let (addr, len) = text.split_once('/').map_or((text, None), |(addr, len)| (addr, Some(len)));
    let addr: IpAddr = addr.parse().map_err(|_| wrong())?;
    let most = if addr.is_ipv4() { 32 } else { 128 };
    let len = len.map_or(Ok(most), |len| len.parse().map_err(|_| wrong()))?;
    if len > most { Err(wrong()) } else { Ok(AddrRange::prefix(addr, len)) }
}
