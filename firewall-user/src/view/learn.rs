//! Rows of `sluice learn`.

use serde::{Deserialize, Serialize};

/// Rules that let somebody do what was seen of them, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnView {
    /// `unit`, `exe`, `process` or `user`.
    pub by: String,
    /// Whose sockets were looked at.
    pub owner: String,
    /// Sockets that were looked at, live and ended.
    pub sockets: u64,
    /// When the first of them was made; `null`: before the monitor began.
    pub since: Option<String>,
    /// Of them, those in other network namespaces, which the rules aren't for.
    pub elsewhere: u64,
    /// Of them, those that live.
    #[serde(default)]
    pub live: u64,
    /// Of them, those that have ended and are kept.
    #[serde(default)]
    pub kept: u64,
    /// The rest: those of the history, where it was asked for.
    #[serde(default)]
    pub history: Option<LearnHistoryView>,
    /// Ended sockets, of anybody, that made room for later ones: what they did isn't known any more.
    pub forgotten: u64,
    /// The rules, in order; the last two refuse the rest.
    pub rules: Vec<LearntRuleView>,
    /// The same as a part of a policy, with comments.
    pub text: String,
}

/// What of the history was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnHistoryView {
    /// Sockets of the owner that aren't kept any more.
    pub sockets: u64,
    /// From when on was asked for.
    pub since: String,
    /// From when on nothing has been forgotten.
    pub whole_since: String,
    /// Whether that is after what was asked for.
    pub cut: bool,
    /// Sockets that weren't looked at: they are of more than 20,000 kinds.
    pub left_out: u64,
    /// Records, of anybody and anything, that were never written since the daemon began.
    pub lost: u64,
}

/// A rule that is proposed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearntRuleView {
    /// Its name.
    pub name: String,
    /// The statement.
    pub text: String,
    /// Sockets that did this; 0: it refuses what wasn't seen.
    pub sockets: u64,
    /// What is to be known of it.
    pub note: Option<String>,
}
