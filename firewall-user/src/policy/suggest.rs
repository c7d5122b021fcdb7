//! "Did you mean": the nearest of the names there are.

/// The candidate nearest to `seen`, if it is near enough to be a slip of the finger: one edit for
/// short words, a third of the length for long ones.
pub fn nearest<'c>(seen: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let seen: Vec<char> = seen.to_lowercase().chars().collect();
    if seen.len() > 64 {
        return None;
    }
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other: Vec<char> = candidate.to_lowercase().chars().collect();
            let allowed = (seen.len().max(other.len()) / 3).max(1);
            let cost = distance(&seen, &other);
            (cost <= allowed && cost < other.len()).then_some((cost, candidate))
        })
        .min_by_key(|(cost, _)| *cost)
        .map(|(_, candidate)| candidate)
}

/// The hint for a name that isn't there: the nearest one, else all (up to twelve).
pub fn hint(seen: &str, what: &str, candidates: &[&str], sigil: &str) -> Option<String> {
    if let Some(name) = nearest(seen, candidates.iter().copied()) {
        return Some(format!("did you mean `{sigil}{name}`?"));
    }
    match candidates.len() {
        0 => None,
        1..=12 => Some(format!("the {what} are: {}", candidates.join(", "))),
        n => Some(format!("there are {n} {what}: {}, ...", candidates[..12].join(", "))),
    }
}

/// Edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let (mut before, mut last, mut row) =
        (vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>(), vec![0; b.len() + 1]);
    for i in 1..=a.len() {
        row[0] = i;
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_recognised() {
        assert_eq!(nearest("alow", ["allow", "drop"]), Some("allow"));
        assert_eq!(nearest("tpc", ["tcp", "udp"]), Some("tcp"));
        assert_eq!(nearest("admin", ["admins", "dmz"]), Some("admins"));
        assert_eq!(nearest("zebra", ["allow", "drop"]), None);
        assert_eq!(nearest("x", ["in", "y"]), None);
    }
}
