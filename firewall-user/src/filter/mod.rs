//! One filter language for `sluice flows`, `sluice watch`, the HTTP API and the WebSocket:
//! `proto=tcp and port in (22,80) and verdict=drop`. `docs/policy.md` lists the fields.
//!
//! ```
//! use firewall_user::{filter, view::FlowView};
//! let filter = filter::parse_for::<FlowView>("proto=tcp and port in (22, 80)")?;
//! let flow = FlowView { proto: "tcp".into(), dport: 80, ..FlowView::default() };
//! assert!(filter.matches(&flow));
//! # Ok::<(), filter::FilterError>(())
//! ```

mod error;
mod expr;
mod field;
mod grammar;
mod lex;
mod simple;
mod subject;

pub use error::FilterError;
pub use field::{Field, Kind};
pub use simple::{Simple, Wanted};
pub use subject::{Subject, SubjectKind, Value};

use expr::Expr;

/// A parsed filter. The empty one matches everything.
#[derive(Clone, Debug)]
pub struct Filter {
    text: String,
    expr: Expr,
    /// Fields it asks for, and where in the text (bytes).
    fields: Vec<(Field, std::ops::Range<usize>)>,
}

impl Filter {
    /// Matches everything.
    pub fn all() -> Self {
        Self { text: String::new(), expr: Expr::All, fields: Vec::new() }
    }

    /// Whether it matches. A field that the subject doesn't have, or has no value for, is neither
    /// equal, nor less, nor more: such a comparison is false (and `!=` true).
    pub fn matches<S: Subject>(&self, subject: &S) -> bool {
        self.expr.matches(subject)
    }

    /// Whether this kind of subject has every field the filter asks for.
    ///
    /// # Errors
    /// Names the first field that isn't there, and those that are.
    pub fn bind<S: Subject>(&self) -> Result<(), FilterError> {
        for (field, span) in &self.fields {
            if !field.of(S::KIND) {
                return Err(FilterError::no_such_field(&self.text, span.clone(), Some(S::KIND)));
            }
        }
        Ok(())
    }

    /// The text it was parsed from.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Parses a filter without asking what it will be used on; see [`Filter::bind`].
///
/// # Errors
/// The first mistake: its column, what was seen, what was expected.
pub fn parse(text: &str) -> Result<Filter, FilterError> {
    grammar::parse(text, None)
}

/// Parses a filter for one kind of subject.
///
/// # Errors
/// As [`parse`] and [`Filter::bind`].
pub fn parse_for<S: Subject>(text: &str) -> Result<Filter, FilterError> {
    let filter = grammar::parse(text, Some(S::KIND))?;
    filter.bind::<S>()?;
    Ok(filter)
}

#[cfg(test)]
mod tests;
