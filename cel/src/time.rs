//! Times and durations as texts.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Years 1 to 9999.
pub const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
pub const NANOS: i64 = 1_000_000_000;

/// RFC 3339.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20 && bytes[4] == b'-' && bytes[7] == b'-' && matches!(bytes[10], b'T' | b't');
    let zone = text.ends_with(['Z', 'z']) || bytes.len() > 6 && matches!(bytes[bytes.len() - 6], b'+' | b'-');
    let time: Timestamp = if shaped && zone { text.parse().ok()? } else { return None };
    SECONDS.contains(&time.as_second()).then_some(time)
}

/// The formats `date-time` and `date` of schemas.
pub fn parse_date_or_timestamp(text: &str) -> Option<Timestamp> {
    if text.len() == 10 {
        let date: jiff::civil::Date = text.parse().ok()?;
        return date.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp());
    }
    parse_timestamp(text)
}

pub fn show_timestamp(time: Timestamp) -> String {
    time.to_string()
}

/// Nanoseconds of `1h2m3.5s`, as Go writes durations.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let length = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let unit: i128 = match &after[..length] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() > 19 || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let digits = &fraction[..fraction.len().min(18)];
        let fraction: i128 =
            if digits.is_empty() { 0 } else { digits.parse::<i128>().ok()? * unit / 10i128.pow(digits.len() as u32) };
        total = total.checked_add(whole.checked_mul(unit)?)?.checked_add(fraction)?;
        rest = &after[length..];
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A duration in seconds: `90s`, `1.5s`.
pub fn show_duration(nanos: i64) -> String {
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (seconds, fraction) = (nanos / NANOS as u64, nanos % NANOS as u64);
    let fraction =
        if fraction == 0 { String::new() } else { format!(".{fraction:09}").trim_end_matches('0').to_owned() };
    format!("{sign}{seconds}{fraction}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, nanos) in [
            ("1h2m3.5s", Some(3_723_500_000_000)),
            ("-1.5h", Some(-5_400_000_000_000)),
            ("100ms", Some(100_000_000)),
            ("0", Some(0)),
            (".5s", Some(500_000_000)),
            ("1", None),
            ("1d", None),
            ("", None),
            ("s", None),
            ("9999999999h", None),
            ("1.2.3s", None),
        ] {
            assert_eq!(parse_duration(text), nanos, "{text}");
        }
        assert_eq!(show_duration(-1_500_000_000), "-1.5s");
    }
}
