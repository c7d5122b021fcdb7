//! How often, how much in all, least, most, and how spread: one operation of one row.

use crate::view::SummaryStatView;
use firewall_common::abi::socket::{SIZES, Sizes, class_limit};

/// Values of one kind, by count, sum, least, most, and in classes of powers of two: each holds those with the same
/// number of binary digits, 65 in all. Only those that hold something take memory: few do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    count: u64,
    sum: u64,
    least: u64,
    most: u64,
    /// Digits, and how many values have so many; by digits.
    classes: Vec<(u8, u32)>,
}

impl Default for Stat {
    fn default() -> Self {
        Self { count: 0, sum: 0, least: u64::MAX, most: 0, classes: Vec::new() }
    }
}

fn class_of(value: u64) -> u8 {
    (u64::BITS - value.leading_zeros()) as u8
}

impl Stat {
    /// One more value.
    pub fn add(&mut self, value: u64) {
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.least = self.least.min(value);
        self.most = self.most.max(value);
        self.put(class_of(value), 1);
    }

    fn put(&mut self, class: u8, values: u32) {
        match self.classes.binary_search_by_key(&class, |(class, _)| *class) {
            Ok(at) => {
                if let Some((_, held)) = self.classes.get_mut(at) {
                    *held = held.saturating_add(values);
                }
            }
            Err(at) => self.classes.insert(at, (class, values)),
        }
    }

    /// Calls that the kernel has put in classes already, and their bytes.
    pub fn add_calls(&mut self, sizes: &Sizes, bytes: u64) {
        let calls: u64 = sizes.calls.iter().map(|calls| u64::from(*calls)).sum();
        if calls == 0 {
            return;
        }
        self.count += calls;
        self.sum = self.sum.saturating_add(bytes);
        self.least = self.least.min(sizes.least.into());
        self.most = self.most.max(sizes.most.into());
        for (class, calls) in sizes.calls.iter().enumerate().filter(|(_, calls)| **calls > 0) {
            let largest =
                if class == SIZES - 1 { sizes.most } else { class_limit(class).min(sizes.most) };
            self.put(class_of(largest.into()), *calls);
        }
    }

    /// All values of another.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
        for (class, values) in &other.classes {
            self.put(*class, *values);
        }
    }

    /// A value that this share (of a hundred) is not above: the upper bound of its class, which is less than
    /// twice as much, and never more than the most. 0 where there is none.
    pub fn percentile(&self, share: u64) -> u64 {
        let total: u64 = self.classes.iter().map(|(_, values)| u64::from(*values)).sum();
        let wanted = (total * share).div_ceil(100);
        let mut seen = 0;
        for (class, values) in &self.classes {
            seen += u64::from(*values);
            if seen >= wanted && seen > 0 {
                let largest = u64::MAX.checked_shr(u64::BITS - u32::from(*class)).unwrap_or(0);
                return largest.min(self.most);
            }
        }
        0
    }

    /// How many values there were.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// As people see it; values are divided by `unit`.
    pub fn view(&self, unit: u64) -> SummaryStatView {
        let least = if self.count == 0 { 0 } else { self.least };
        SummaryStatView {
            count: self.count,
            sum: self.sum / unit,
            min: least / unit,
            avg: self.sum.checked_div(self.count).unwrap_or(0) / unit,
            max: self.most / unit,
            p50: self.percentile(50) / unit,
            p95: self.percentile(95) / unit,
            p99: self.percentile(99) / unit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firewall_common::abi::socket::size_class;

    #[test]
    fn percentiles_are_less_than_twice_too_much() {
        let mut stat = Stat::default();
        let mut values: Vec<u64> = (0..1000u64).map(|i| i * i * 7_000_000_000 + 3).collect();
        values.iter().for_each(|value| stat.add(*value));
        values.sort_unstable();
        for share in [50, 95, 99, 100] {
            let exact = values[(values.len() as u64 * share).div_ceil(100) as usize - 1];
            let said = stat.percentile(share);
            assert!(said >= exact && said < exact * 2, "{share}: {said}, {exact}");
        }
        let view = stat.view(1);
        let sum: u64 = values.iter().sum();
        assert_eq!((view.count, view.sum, view.avg), (1000, sum, sum / 1000));
        assert_eq!((view.min, view.max), (3, values[999]));
        assert_eq!(Stat::default().view(1), SummaryStatView::default());
    }

    #[test]
    fn the_kernels_classes_are_taken_over() {
        let mut sizes = Sizes::default();
        let all = [1u32, 15, 16, 100, 1500, 70_000, 5_000_000];
        for size in all {
            sizes.calls[size_class(size)] += 1;
        }
        (sizes.least, sizes.most) = (1, 5_000_000);
        let mut stat = Stat::default();
        let sum: u64 = all.iter().map(|size| u64::from(*size)).sum();
        stat.add_calls(&sizes, sum);
        stat.add_calls(&Sizes::default(), 0);
        let view = stat.view(1);
        assert_eq!((view.count, view.sum, view.min, view.max), (7, sum, 1, 5_000_000));
        assert!((100..200).contains(&view.p50), "{view:?}");
        assert_eq!(view.p99, 5_000_000);
    }

    #[test]
    fn merging_is_adding() {
        let (mut all, mut a, mut b) = (Stat::default(), Stat::default(), Stat::default());
        for value in [0, 1, 5, 1 << 50] {
            all.add(value);
            a.add(value);
        }
        for value in [3, 77] {
            all.add(value);
            b.add(value);
        }
        a.merge(&b);
        a.merge(&Stat::default());
        assert_eq!(a, all);
    }
}
