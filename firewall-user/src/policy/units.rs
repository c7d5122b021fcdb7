//! Numbers with units, as policies and filters write them.

/// `30s`, `2h4m`, `500ms`, `1d` in milliseconds; `None` if it is none, or more than fits.
pub fn duration_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut last_scale = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let scale = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        if scale >= last_scale {
            return None;
        }
        last_scale = scale;
        rest = &rest[letters..];
        total = total.checked_add(number.checked_mul(scale)?)?;
    }
    (last_scale != u64::MAX).then_some(total)
}

/// Milliseconds as [`duration_ms`] reads them, in the largest units that are exact.
pub fn show_ms(ms: u64) -> String {
    let mut out = String::new();
    let mut rest = ms;
    for (scale, unit) in
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")]
    {
        if rest >= scale {
            out.push_str(&format!("{}{unit}", rest / scale));
            rest %= scale;
        }
    }
    if out.is_empty() { "0s".into() } else { out }
}

/// `1500`, `10k`, `2.5M`, `1G` (powers of 1000), `4Ki`, `1Mi`, `1Gi` (powers of 1024).
pub fn count(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let scale: u64 = match &text[digits..] {
        "" => 1,
        "k" | "K" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    let (whole, part) = text[..digits].split_once('.').unwrap_or((&text[..digits], ""));
    let whole: u64 = whole.parse().ok()?;
    let mut value = whole.checked_mul(scale)?;
    if text[..digits].contains('.') {
        if part.is_empty() || part.len() > 9 || scale == 1 {
            return None;
        }
        let numerator: u64 = part.parse().ok()?;
        let scaled = u128::from(numerator) * u128::from(scale) / 10u128.pow(part.len() as u32);
        value = value.checked_add(u64::try_from(scaled).ok()?)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration_ms("2h4m"), Some(7_440_000));
        assert_eq!(duration_ms("500ms"), Some(500));
        for wrong in
            ["", "30", "s", "4m2h", "1m1m", "1y", "99999999999999999999s", "99999999999999999d"]
        {
            assert_eq!(duration_ms(wrong), None, "{wrong}");
        }
        for ms in [1, 999, 1000, 7_500_000, 86_400_001] {
            assert_eq!(duration_ms(&show_ms(ms)), Some(ms));
        }
    }

    #[test]
    fn counts() {
        assert_eq!(count("1500"), Some(1500));
        assert_eq!(count("2.5M"), Some(2_500_000));
        assert_eq!(count("4Ki"), Some(4096));
        for wrong in
            ["", "k", "1.5", "1.", "1.k", "1e3", "-1", "99999999999999999999", "99999999999G"]
        {
            assert_eq!(count(wrong), None, "{wrong}");
        }
    }
}
