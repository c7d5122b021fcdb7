//! What verbs take, as it comes.

use super::error::ApiError;
use crate::daemon::control::Place;
use serde::Deserialize;

/// Of verbs that take nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// `flows.kill`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillArgs {
    pub filter: String,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default)]
    pub limit: Option<usize>,
}

/// `policy.check`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckArgs {
    pub text: String,
    #[serde(default)]
    pub ssh_connection: Option<String>,
}

/// `policy.apply`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyArgs {
    pub text: String,
    #[serde(default)]
    pub base_generation: Option<u32>,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default)]
    pub force: bool,
    #[serde(default)]
    pub ssh_connection: Option<String>,
}

/// `rule.*`: each verb takes its part of these.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleArgs {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub text: Option<String>,
    #[serde(default)]
    pub position: Option<u32>,
    #[serde(default)]
    pub before: Option<String>,
    #[serde(default)]
    pub after: Option<String>,
    #[serde(default)]
    pub base_generation: Option<u32>,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default)]
    pub force: bool,
    #[serde(default)]
    pub ssh_connection: Option<String>,
}

impl RuleArgs {
    pub fn name(&mut self) -> Result<String, ApiError> {
        self.name.take().ok_or_else(|| ApiError::bad_request("`name` is missing: which rule?"))
    }
    pub fn place(&mut self) -> Result<Option<Place>, ApiError> {
        match (self.position.take(), self.before.take(), self.after.take()) {
            (None, None, None) => Ok(None),
            (Some(0), None, None) => Err(ApiError::bad_request("positions count from 1")),
            (Some(position), None, None) => Ok(Some(Place::Position(position))),
            (None, Some(name), None) => Ok(Some(Place::Before(name))),
            (None, None, Some(name)) => Ok(Some(Place::After(name))),
            _ => Err(ApiError::bad_request("give only one of `position`, `before`, `after`")),
        }
    }
}
