//! Facts to rows: pure, so that each case can be put in a table.

mod device;
mod interface;
mod order;
mod socket;
#[cfg(test)]
mod tests;

use super::facts::Facts;
use crate::{
    datapath::programs::Ways,
    view::{IfaceView, PathCountsView, PathView, PathsSummaryView, PathsView},
};

/// What is known of the filter.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// Interfaces that are filtered.
    pub interfaces: Vec<IfaceView>,
    /// Our programs, and the ways past the stack.
    pub ways: Ways,
}

impl Gate {
    fn interface(&self, name: &str, index: u32) -> Option<&IfaceView> {
        self.interfaces.iter().find(|iface| iface.name == name && iface.ifindex == index)
    }

    /// The name of a program of ours.
    fn own(&self, id: Option<u32>) -> Option<&str> {
        let program = self.ways.programs.iter().find(|program| Some(program.id) == id)?;
        Some(&program.name)
    }
}

/// How much of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// Nothing.
    No,
    /// Some.
    Part,
    /// All.
    Yes,
}

impl Share {
    /// As rows say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Part => "part",
            Self::No => "no",
        }
    }
}

/// What is said of a way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Judgement {
    filtered: Share,
    accounted: Share,
    why: String,
    todo: Option<String>,
}

impl Judgement {
    fn new(share: Share, why: impl Into<String>) -> Self {
        Self { filtered: share, accounted: share, why: why.into(), todo: None }
    }

    fn todo(self, todo: impl Into<String>) -> Self {
        Self { todo: Some(todo.into()), ..self }
    }

    /// Onto a row.
    fn on(self, row: PathView) -> PathView {
        PathView {
            count: row.count.max(1),
            filtered: self.filtered.name().to_owned(),
            accounted: self.accounted.name().to_owned(),
            why: self.why,
            todo: self.todo,
            ..row
        }
    }
}

/// The report; its time is for who read the facts.
pub fn report(facts: &Facts, gate: &Gate) -> PathsView {
    let interfaces = interface::judge_all(facts, gate);
    let mut rows: Vec<PathView> = interfaces.iter().map(|judged| judged.row.clone()).collect();
    rows.extend(device::fast_paths(facts, gate));
    rows.extend(socket::xdp(facts, gate));
    rows.extend(socket::packet(facts, &interfaces));
    rows.extend(device::queues(facts, &interfaces));
    rows.extend(device::cards(facts));
    rows.extend(device::rdma(facts));
    // Stable: within a namespace the order is that above.
    rows.sort_by_key(|row| row.netns.clone());
    PathsView { summary: summary(&rows, facts.unread.len()), rows, unread: facts.unread.clone() }
}

fn summary(rows: &[PathView], unread: usize) -> PathsSummaryView {
    let count = |of: fn(&PathView) -> &str| {
        let with = |word: &str| rows.iter().filter(|row| of(row) == word).count() as u32;
        PathCountsView { yes: with("yes"), part: with("part"), no: with("no") }
    };
    PathsSummaryView {
        time: String::new(),
        ways: rows.len() as u32,
        filtered: count(|row| &row.filtered),
        accounted: count(|row| &row.accounted),
        todo: rows.iter().filter(|row| row.todo.is_some()).count() as u32,
        unread: unread as u32,
    }
}
