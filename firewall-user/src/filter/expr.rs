//! A filter as a tree, and its meaning.

use super::field::{Field, Kind};
use super::subject::{Subject, SubjectKind, Value};
use crate::policy::ast::AddrRange;
use crate::policy::units;
use crate::policy::words;
use std::cmp::Ordering;
use std::net::IpAddr;

/// A condition.
#[derive(Clone, Debug)]
pub enum Expr {
    /// Always met.
    All,
    /// All of them.
    And(Vec<Expr>),
    /// One of them.
    Or(Vec<Expr>),
    /// The opposite.
    Not(Box<Expr>),
    /// A comparison.
    Test(Field, Op, Vec<Literal>),
}

/// A comparison. `!=`, `not in` are [`Expr::Not`] of [`Op::Equal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Equal to one of the values, or within one.
    Equal,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// More.
    Greater,
    /// More or equal.
    GreaterOrEqual,
    /// Holds the text, whatever the case of its letters.
    Holds,
}

/// What is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// A text.
    Text(String),
    /// A protocol: its number, if it has one.
    Proto(Option<u8>, String),
    /// Numbers from the first to the second.
    Numbers(u64, u64),
    /// Addresses.
    Addrs(AddrRange),
    /// Yes or no.
    Bool(bool),
}

impl Literal {
    /// Reads a value for a field; `None` if the field can't have it.
    pub fn read(field: Field, of: Option<SubjectKind>, op: Op, text: &str) -> Option<Self> {
        if op == Op::Holds {
            return Some(Self::Text(text.to_lowercase()));
        }
        match field.kind() {
            Kind::Text => Some(Self::Text(text.to_owned())),
            Kind::Word => field.vocabulary(of).contains(&text).then(|| Self::Text(text.to_owned())),
            Kind::Proto => Some(Self::Proto(proto(text), text.to_owned())),
            Kind::Number => match text.split_once('-') {
                Some((a, b)) if op == Op::Equal => {
                    let (a, b) = (units::count(a)?, units::count(b)?);
                    (a <= b).then_some(Self::Numbers(a, b))
                }
                Some(_) => None,
                None => units::count(text).map(|n| Self::Numbers(n, n)),
            },
            Kind::Duration => match text {
                "0" => Some(Self::Numbers(0, 0)),
                _ => units::duration_ms(text).map(|n| Self::Numbers(n, n)),
            },
            Kind::Addr => addrs(text).map(Self::Addrs),
            Kind::Bool => match text {
                "true" | "yes" | "on" => Some(Self::Bool(true)),
                "false" | "no" | "off" => Some(Self::Bool(false)),
                _ => None,
            },
        }
    }
}

fn proto(text: &str) -> Option<u8> {
    words::number(words::PROTOCOLS, &text.to_lowercase()).or_else(|| text.parse().ok())
}

fn addrs(text: &str) -> Option<AddrRange> {
    if let Some((a, b)) = text.split_once('-') {
        return match (a.parse().ok()?, b.parse().ok()?) {
            (IpAddr::V4(a), IpAddr::V4(b)) if a <= b => Some(AddrRange::V4(a.into(), b.into())),
            (IpAddr::V6(a), IpAddr::V6(b)) if a <= b => Some(AddrRange::V6(a.into(), b.into())),
            _ => None,
        };
    }
    let (addr, len) = match text.split_once('/') {
        None => (text, 128),
        Some((addr, len)) => (addr, len.parse().ok()?),
    };
    let addr: IpAddr = addr.parse().ok()?;
    let fits = len <= 32 || addr.is_ipv6() && len <= 128 || !text.contains('/');
    fits.then(|| AddrRange::prefix(addr, len))
}

impl Expr {
    /// See [`super::Filter::matches`].
    pub fn matches<S: Subject>(&self, subject: &S) -> bool {
        match self {
            Self::All => true,
            Self::And(all) => all.iter().all(|e| e.matches(subject)),
            Self::Or(any) => any.iter().any(|e| e.matches(subject)),
            Self::Not(expr) => !expr.matches(subject),
            Self::Test(field, op, literals) => field.parts().any(|part| {
                let value = subject.field(part);
                literals.iter().any(|literal| test(&value, *op, literal))
            }),
        }
    }
}

fn test(value: &Value<'_>, op: Op, literal: &Literal) -> bool {
    match (value, literal) {
        (Value::Text(value), Literal::Text(wanted)) if op == Op::Holds => {
            value.to_lowercase().contains(wanted)
        }
        (Value::Number(value), Literal::Text(wanted)) => {
            op == Op::Holds && value.to_string().contains(wanted)
        }
        (Value::Text(value), Literal::Text(wanted)) => op == Op::Equal && value == wanted,
        (Value::Text(value), Literal::Proto(number, wanted)) => {
            value.eq_ignore_ascii_case(wanted) || number.is_some() && proto(value) == *number
        }
        (Value::Number(value), Literal::Numbers(from, to)) => match op {
            Op::Equal => (from..=to).contains(&value),
            Op::Less => value < from,
            Op::LessOrEqual => value <= from,
            Op::Greater => value > from,
            Op::GreaterOrEqual => value >= from,
            Op::Holds => false,
        },
        (Value::Text(value), Literal::Addrs(range)) => match (value.parse::<IpAddr>(), *range) {
            (Ok(IpAddr::V4(addr)), AddrRange::V4(a, b)) => within(u32::from(addr), a, b),
            (Ok(IpAddr::V6(addr)), AddrRange::V6(a, b)) => within(u128::from(addr), a, b),
            _ => false,
        },
        (Value::Bool(value), Literal::Bool(wanted)) => value == wanted,
        _ => false,
    }
}

fn within<T: Ord>(value: T, from: T, to: T) -> bool {
    value.cmp(&from) != Ordering::Less && value.cmp(&to) != Ordering::Greater
}
