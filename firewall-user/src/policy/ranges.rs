//! Sets of numbers as sorted, disjoint, non-adjacent ranges: addresses and ports.

use super::ast::AddrRange;

/// A number that ranges are made of.
pub trait Number: Into<u128> + Copy + Ord + std::hash::Hash + std::fmt::Debug {
    /// 0.
    const MIN: Self;
    /// The largest.
    const MAX: Self;
    /// The next one; `None` behind the largest.
    fn next(self) -> Option<Self>;
    /// The one before; `None` before 0.
    fn previous(self) -> Option<Self>;
}

macro_rules! number {
    ($($t:ty),*) => {$(
        impl Number for $t {
            const MIN: Self = 0;
            const MAX: Self = <$t>::MAX;
            fn next(self) -> Option<Self> { self.checked_add(1) }
            fn previous(self) -> Option<Self> { self.checked_sub(1) }
        }
    )*};
}
number!(u16, u32, u128);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ranges<T>(Vec<(T, T)>);

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Number> Ranges<T> {
    /// From ranges (both ends included) in any order, overlapping or not.
    pub fn new(mut ranges: Vec<(T, T)>) -> Self {
        ranges.sort_unstable();
        let mut out: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (a, b) in ranges {
            match out.last_mut() {
                Some((_, end)) if end.next().is_none_or(|next| a <= next) => *end = (*end).max(b),
                _ => out.push((a, b)),
            }
        }
        Self(out)
    }
    /// Every number.
    pub fn all() -> Self {
        Self(vec![(T::MIN, T::MAX)])
    }
    /// The ranges, ascending.
    pub fn as_slice(&self) -> &[(T, T)] {
        &self.0
    }
    /// The first and the last number; `None` where it holds nothing.
    pub fn hull(&self) -> Option<(T, T)> {
        Some((self.0.first()?.0, self.0.last()?.1))
    }
    /// Whether it holds every number.
    pub fn is_all(&self) -> bool {
        self.0.as_slice() == [(T::MIN, T::MAX)]
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether a number is in it.
    pub fn has(&self, number: T) -> bool {
        let behind = self.0.partition_point(|(start, _)| *start <= number);
        behind.checked_sub(1).is_some_and(|at| self.0[at].1 >= number)
    }
    /// Everything that isn't in it.
    pub fn complement(&self) -> Self {
        let mut out = Vec::with_capacity(self.0.len() + 1);
        let mut from = Some(T::MIN);
        for (a, b) in &self.0 {
            if let (Some(from), Some(to)) = (from, a.previous())
                && from <= to
            {
                out.push((from, to));
            }
            from = b.next();
        }
        if let Some(from) = from {
            out.push((from, T::MAX));
        }
        Self(out)
    }
    /// Whether `other` holds all that is in it.
    pub fn is_within(&self, other: &Self) -> bool {
        // Neither has ranges that touch: each lies in one of the other's.
        self.0.iter().all(|(a, b)| {
            let behind = other.0.partition_point(|(start, _)| start <= a);
            behind.checked_sub(1).is_some_and(|at| other.0[at].1 >= *b)
        })
    }
    /// What is in both.
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut i, mut j, mut out) = (0, 0, Vec::new());
        while let (Some((a, b)), Some((c, d))) = (self.0.get(i), other.0.get(j)) {
            let (from, to) = (*a.max(c), *b.min(d));
            if from <= to {
                out.push((from, to));
            }
            if b < d { i += 1 } else { j += 1 }
        }
        Self(out)
    }
    /// What is in `self` and not in `other`.
    pub fn subtract(&self, other: &Self) -> Self {
        self.intersect(&other.complement())
    }
}

/// Addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddrSet {
    /// IPv4.
    pub v4: Ranges<u32>,
    /// IPv6.
    pub v6: Ranges<u128>,
}

impl AddrSet {
    /// From ranges in any order.
    pub fn new(ranges: impl IntoIterator<Item = AddrRange>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in ranges {
            match range {
                AddrRange::V4(a, b) => v4.push((a, b)),
                AddrRange::V6(a, b) => v6.push((a, b)),
            }
        }
        Self { v4: Ranges::new(v4), v6: Ranges::new(v6) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn small() -> impl Strategy<Value = Ranges<u16>> {
        // Near both ends of the number line, where off-by-one lives.
        let end = prop_oneof![0u16..12, (u16::MAX - 11)..=u16::MAX];
        proptest::collection::vec((end.clone(), end), 0..6)
            .prop_map(|v| Ranges::new(v.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect()))
    }
    fn has(r: &Ranges<u16>, n: u16) -> bool {
        r.as_slice().iter().any(|(a, b)| (*a..=*b).contains(&n))
    }

    proptest! {
        #[test]
        fn algebra_agrees_with_membership(a in small(), b in small()) {
            let (both, less, not) = (a.intersect(&b), a.subtract(&b), a.complement());
            for n in (0..20).chain(u16::MAX - 20..=u16::MAX) {
                prop_assert_eq!(has(&both, n), has(&a, n) && has(&b, n));
                prop_assert_eq!(has(&less, n), has(&a, n) && !has(&b, n));
                prop_assert_eq!(has(&not, n), !has(&a, n));
            }
            prop_assert_eq!(a.is_within(&b), less.is_empty());
            prop_assert!(both.is_within(&a) && both.is_within(&b));
            prop_assert_eq!(a.hull().is_none(), a.is_empty());
            for r in [&a, &both, &less, &not] {
                prop_assert!(r.as_slice().windows(2).all(|w| w[0].1 < u16::MAX && w[0].1 + 1 < w[1].0), "{:?}", r);
            }
        }
    }
}
