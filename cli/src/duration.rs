//! Durations as people write them: `90s`, `15m`, `24h`, `7d`, `250ms`.

use std::time::Duration;

/// Parses a whole number with a unit; no unit is an error, because seconds and milliseconds are too easily mixed up.
pub fn parse(text: &str) -> Result<Duration, String> {
    let refused =
        || format!("{text:?} is no duration: a whole number and ms, s, m, h or d, as in 24h");
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(refused)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return Err(refused()),
    };
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_needs_its_unit() {
        assert_eq!(parse("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for text in [
            "",
            "24",
            "h",
            "-1h",
            "1.5h",
            "1 h",
            "1w",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
