//! A filter for those who look rows up by themselves (in a database, by an index): the same condition as a tree
//! that they may translate.

use super::{
    Filter,
    expr::{Expr, Literal, Op},
    field::{Field, Kind},
};
use crate::policy::{ast::AddrRange, words};
use std::net::IpAddr;

/// A condition that may be translated; see [`Filter::simple`].
#[derive(Clone, Debug, PartialEq)]
pub enum Simple {
    /// All of them; none: always.
    All(Vec<Simple>),
    /// One of them.
    Any(Vec<Simple>),
    /// The opposite.
    Not(Box<Simple>),
    /// The field, or one of those that it stands for, has one of these values.
    Is(Field, Vec<Wanted>),
    /// Something else: only [`Filter::matches`] knows.
    Other,
}

/// A value that a field may have.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// A text.
    Text(String),
    /// A protocol, by every name it has and by its number in digits; and the number itself.
    Proto(Vec<String>, Option<u8>),
    /// A number from the first to the second.
    Numbers(u64, u64),
    /// An address from the first to the second.
    Addresses(IpAddr, IpAddr),
    /// Yes or no.
    Bool(bool),
}

impl Filter {
    /// The condition as a tree.
    pub fn simple(&self) -> Simple {
        simple(&self.expr)
    }

    /// The fields that it asks for, in order, and where in the text (bytes).
    pub fn fields(&self) -> impl Iterator<Item = (Field, std::ops::Range<usize>)> + '_ {
        self.fields.iter().cloned()
    }
}

fn simple(expr: &Expr) -> Simple {
    match expr {
        Expr::All => Simple::All(Vec::new()),
        Expr::And(all) => Simple::All(all.iter().map(simple).collect()),
        Expr::Or(any) => Simple::Any(any.iter().map(simple).collect()),
        Expr::Not(not) => Simple::Not(Box::new(simple(not))),
        Expr::Test(field, op, literals) => {
            let wanted = literals.iter().map(|literal| wanted(*op, literal));
            wanted.collect::<Option<Vec<_>>>().map_or(Simple::Other, |all| Simple::Is(*field, all))
        }
    }
}

fn wanted(op: Op, literal: &Literal) -> Option<Wanted> {
    match (literal, op) {
        (Literal::Numbers(from, to), Op::Equal) => Some(Wanted::Numbers(*from, *to)),
        (Literal::Numbers(n, _), Op::Less) => {
            // Nothing is less than zero: an empty range.
            Some(n.checked_sub(1).map_or(Wanted::Numbers(1, 0), |most| Wanted::Numbers(0, most)))
        }
        (Literal::Numbers(n, _), Op::LessOrEqual) => Some(Wanted::Numbers(0, *n)),
        (Literal::Numbers(n, _), Op::Greater) => {
            Some(n.checked_add(1).map_or(Wanted::Numbers(1, 0), |n| Wanted::Numbers(n, u64::MAX)))
        }
        (Literal::Numbers(n, _), Op::GreaterOrEqual) => Some(Wanted::Numbers(*n, u64::MAX)),
        (_, Op::Holds) => None,
        (Literal::Text(text), _) => Some(Wanted::Text(text.clone())),
        (Literal::Proto(number, text), _) => {
            let mut names = vec![text.to_lowercase()];
            if let Some(number) = number {
                let known = words::PROTOCOLS.iter().filter(|(_, n)| n == number);
                names.extend(known.map(|(name, _)| (*name).to_owned()));
                names.push(number.to_string());
            }
            names.dedup();
            Some(Wanted::Proto(names, *number))
        }
        (Literal::Addrs(AddrRange::V4(from, to)), _) => {
            let [from, to] = [from, to].map(|n| IpAddr::from(n.to_be_bytes()));
            Some(Wanted::Addresses(from, to))
        }
        (Literal::Addrs(AddrRange::V6(from, to)), _) => {
            let [from, to] = [from, to].map(|n| IpAddr::from(n.to_be_bytes()));
            Some(Wanted::Addresses(from, to))
        }
        (Literal::Bool(wanted), _) => Some(Wanted::Bool(*wanted)),
    }
}

impl Field {
    /// The fields that this one stands for: both ends where either is meant.
    pub fn stands_for(self) -> impl Iterator<Item = Self> {
        self.parts()
    }

    /// Whether it is compared as a duration.
    pub fn is_duration(self) -> bool {
        self.kind() == Kind::Duration
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{filter::parse_for, view::SocketView};

    #[test]
    fn a_tree_says_the_same_as_the_filter() {
        let of = |text: &str| parse_for::<SocketView>(text).expect("a filter").simple();
        let numbers = |field, from, to| Simple::Is(field, vec![Wanted::Numbers(from, to)]);
        assert_eq!(of(""), Simple::All(Vec::new()));
        assert_eq!(
            of("remote_port>=1024 and not sent_bytes<0"),
            Simple::All(vec![
                numbers(Field::RemotePort, 1024, u64::MAX),
                Simple::Not(Box::new(numbers(Field::SentBytes, 1, 0))),
            ])
        );
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(
            of("remote in (10.0.0.0/8, 2001:db8::1) or comm~ng"),
            Simple::Any(vec![
                Simple::Is(
                    Field::Remote,
                    vec![
                        Wanted::Addresses(address("10.0.0.0"), address("10.255.255.255")),
                        Wanted::Addresses(address("2001:db8::1"), address("2001:db8::1")),
                    ]
                ),
                Simple::Other,
            ])
        );
        let Simple::Is(Field::Proto, wanted) = of("proto=6") else { panic!("a protocol") };
        let Wanted::Proto(names, number) = &wanted[0] else { panic!("a protocol") };
        assert!(names.contains(&"tcp".to_owned()) && *number == Some(6), "{names:?}");
    }
}
