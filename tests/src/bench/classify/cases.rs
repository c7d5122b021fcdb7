//! The cases and their rules.

use crate::ruleset::{Rule, classbench, random, v6};
use crate::skip::shared_data;

/// A case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// Its name, without what is measured of it.
    pub name: &'static str,
    /// Whether the percentile over packets is told.
    pub has_p95: bool,
    source: Source,
}

/// Where rules come from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// So many that take no packet of each other's.
    Apart(usize),
    /// A file of the shared data.
    File,
    /// The IPv6 twin of one.
    Twin(&'static str),
    /// So many over the whole address space.
    FiveTuples(usize),
}

const fn case(name: &'static str, has_p95: bool, source: Source) -> Case {
    Case { name, has_p95, source }
}

/// In the order they are printed.
pub(super) const CASES: [Case; 11] = [
    case("1", false, Source::Apart(1)),
    case("10", false, Source::Apart(10)),
    case("100", false, Source::Apart(100)),
    case("acl1_1k", false, Source::File),
    case("fw1_1k", false, Source::File),
    case("ipc1_1k", false, Source::File),
    case("acl1_10k", true, Source::File),
    case("fw1_10k", true, Source::File),
    case("ipc1_10k", true, Source::File),
    case("v6_10k", true, Source::Twin("acl1_10k")),
    case("100k", false, Source::FiveTuples(100_000)),
];

impl Case {
    /// One packet over and over.
    pub fn hot(&self) -> String {
        format!("{} hot", self.name)
    }

    /// Many packets.
    pub fn many(&self) -> String {
        format!("{} 64k headers", self.name)
    }

    /// What the rules take.
    pub fn memory(&self) -> String {
        format!("{} memory", self.name)
    }

    /// Whether every rule takes packets of its own and an exact address tells them from each other.
    pub fn stands_apart(&self) -> bool {
        matches!(self.source, Source::Apart(_))
    }

    /// Its rules.
    ///
    /// # Errors
    /// In words, where the file is missing or none.
    pub fn rules(&self) -> Result<Vec<Rule>, String> {
        match self.source {
            Source::Apart(n) => Ok(random::apart(n)),
            Source::File => file(self.name),
            Source::Twin(name) => file(name).map(|rules| v6::twin(&rules)),
            Source::FiveTuples(n) => Ok(random::five_tuples(n, 1)),
        }
    }
}

fn file(name: &str) -> Result<Vec<Rule>, String> {
    let part = format!("classbench/{name}");
    let path = shared_data(&part).ok_or_else(|| format!("there is no ../shared/data/{part}"))?;
    classbench::load(&path).map_err(|error| error.to_string())
}
