//! Numbers with units, addresses with ports, words with colour.

use crate::view::FlowView;

/// Bytes: `999 B`, `1.2 kB`, `34 MB`.
pub fn bytes(count: u64) -> String {
    scaled(count, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

fn scaled(count: u64, units: &[&str]) -> String {
    if count < 1000 {
        return format!("{count} {}", units[0]);
    }
    let mut value = count as f64;
    let mut unit = 0;
    // 999.95 would be written as 1000.0.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 {
        format!("{value:.1} {}", units[unit])
    } else {
        format!("{value:.0} {}", units[unit])
    }
}

/// A count with its thousands apart: `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 4 min`, `5 d 3 h`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{large} {large_unit}")
        } else {
            format!("{large} {large_unit} {small} {small_unit}")
        }
    };
    match seconds {
        0..10 => format!("{}.{} s", seconds, ms % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// An address with its port; port 0 is left out.
pub fn endpoint(address: &str, port: u16) -> String {
    match (address.contains(':'), port) {
        (_, 0) => address.to_owned(),
        (true, port) => format!("[{address}]:{port}"),
        (false, port) => format!("{address}:{port}"),
    }
}

/// The part of an RFC 3339 time that changes while one looks: `22:13:20.123`, with the date in front
/// where it isn't `today` (the first ten characters of now).
pub fn time(rfc3339: &str, today: &str) -> String {
    match rfc3339.split_once('T') {
        Some((date, time)) if date == today => time.trim_end_matches('Z').to_owned(),
        Some((date, time)) => format!("{date} {}", time.trim_end_matches('Z')),
        None => rfc3339.to_owned(),
    }
}

/// A flow's state, or how it ended.
pub fn flow_state(flow: &FlowView) -> String {
    flow.ended.as_ref().map_or_else(|| flow.state.clone(), |ended| format!("ended: {ended}"))
}

/// Text that came from elsewhere, without what a terminal would obey.
pub fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// What a flow (source, destination) looks like behind its translation: the ends that are others.
pub fn translation(flow: [(&str, u16); 2], behind: [(&str, u16); 2]) -> String {
    let ends = ["from", "to"].iter().zip(flow).zip(behind);
    let others = ends.filter(|((_, before), behind)| before != behind);
    let words: Vec<String> =
        others.map(|((word, _), end)| format!("{word} {}", endpoint(end.0, end.1))).collect();
    // The same on both sides, as one to one and lucky ports can be.
    if words.is_empty() { "unchanged".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let shown: Vec<String> =
            [0, 999, 1000, 1234, 9949, 9950, 12_345, 999_499, 999_500, 5_600_000].map(bytes).into();
        assert_eq!(
            shown,
            [
                "0 B", "999 B", "1.0 kB", "1.2 kB", "9.9 kB", "10 kB", "12 kB", "999 kB", "1.0 MB",
                "5.6 MB"
            ]
        );
        assert_eq!(bytes(u64::MAX), "18 EB");
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let shown: Vec<String> =
            [450, 9_990, 10_000, 60_000, 200_000, 7_440_000, 86_400_000, 442_800_000]
                .map(duration)
                .into();
        assert_eq!(
            shown,
            ["0.4 s", "9.9 s", "10 s", "1 min", "3 min 20 s", "2 h 4 min", "1 d", "5 d 3 h"]
        );
    }

    #[test]
    fn endpoints_and_times() {
        assert_eq!(endpoint("10.0.0.1", 80), "10.0.0.1:80");
        assert_eq!(endpoint("2001:db8::1", 443), "[2001:db8::1]:443");
        assert_eq!(endpoint("2001:db8::1", 0), "2001:db8::1");
        assert_eq!(time("2023-11-14T22:13:20.123Z", "2023-11-14"), "22:13:20.123");
        assert_eq!(time("2023-11-13T22:13:20.123Z", "2023-11-14"), "2023-11-13 22:13:20.123");
    }
}
