//! Timestamps and durations.

use super::{Call, Function, simple};
use crate::eval::Error;
use crate::value::Value;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const NANOS: i64 = 1_000_000_000;

macro_rules! part_of_time {
    ($name:literal, $part:expr) => {
        simple(
            $name,
            &["timestamp.() int", "timestamp.(string) int"],
            Call(|_, args| {
                let part: fn(&jiff::Zoned) -> i64 = $part;
                Ok(Value::Int(part(&zoned(args)?)))
            }),
        )
    };
}

macro_rules! part_of_either {
    ($name:literal, $part:expr, $nanos:expr) => {
        simple(
            $name,
            &["timestamp.() int", "timestamp.(string) int", "duration.() int"],
            Call(|_, args| match args {
                [Value::Duration(nanos)] => Ok(Value::Int(nanos / $nanos)),
                _ => {
                    let part: fn(&jiff::Zoned) -> i64 = $part;
                    Ok(Value::Int(part(&zoned(args)?)))
                }
            }),
        )
    };
}

pub const FUNCTIONS: &[Function] = &[
    simple(
        "timestamp",
        &["(string) timestamp"],
        Call(|_, args| {
            let text = args[0].as_str().ok_or(Error::NoOverload)?;
            let time = parse_timestamp(text).ok_or_else(|| Error::new(format!("invalid timestamp: {text:?}")))?;
            Ok(Value::Timestamp(time))
        }),
    ),
    simple("timestamp", &["(timestamp) timestamp"], Call(|_, args| Ok(args[0].clone()))),
    simple(
        "timestamp",
        &["(int) timestamp"],
        Call(|_, args| match args {
            [Value::Int(seconds)] if SECONDS.contains(seconds) => {
                Timestamp::from_second(*seconds).map(Value::Timestamp).map_err(|_| overflow())
            }
            _ => Err(overflow()),
        }),
    ),
    simple(
        "duration",
        &["(string) duration"],
        Call(|_, args| {
            let text = args[0].as_str().ok_or(Error::NoOverload)?;
            parse_duration(text).map(Value::Duration).ok_or_else(|| Error::new(format!("invalid duration: {text:?}")))
        }),
    ),
    simple("duration", &["(duration) duration"], Call(|_, args| Ok(args[0].clone()))),
    part_of_time!("getFullYear", |t| t.year().into()),
    part_of_time!("getMonth", |t| i64::from(t.month()) - 1),
    part_of_time!("getDayOfYear", |t| i64::from(t.day_of_year()) - 1),
    part_of_time!("getDayOfMonth", |t| i64::from(t.day()) - 1),
    part_of_time!("getDate", |t| t.day().into()),
    part_of_time!("getDayOfWeek", |t| t.weekday().to_sunday_zero_offset().into()),
    part_of_either!("getHours", |t| t.hour().into(), 3600 * NANOS),
    part_of_either!("getMinutes", |t| t.minute().into(), 60 * NANOS),
    part_of_either!("getSeconds", |t| t.second().into(), NANOS),
    simple(
        "getMilliseconds",
        &["timestamp.() int", "timestamp.(string) int", "duration.() int"],
        Call(|_, args| match args {
            [Value::Duration(nanos)] => Ok(Value::Int(nanos / 1_000_000)),
            _ => Ok(Value::Int(zoned(args)?.millisecond().into())),
        }),
    ),
];

fn overflow() -> Error {
    Error::new("timestamp overflow")
}

/// The time in the zone of the second argument: a name of the time zone database, or an offset such as `-08:00`.
fn zoned(args: &[Value<'_>]) -> Result<jiff::Zoned, Error> {
    let Value::Timestamp(time) = &args[0] else { return Err(Error::NoOverload) };
    let name = args.get(1).and_then(Value::as_str).unwrap_or("UTC");
    let bad = || Error::new(format!("unknown time zone {name}"));
    let zone = match name {
        "" | "UTC" => TimeZone::UTC,
        _ => match name.split_once(':') {
            Some((hours, minutes)) => {
                let negative = hours.starts_with('-');
                let number = |text: &str| text.trim_start_matches(['+', '-']).parse::<i32>().ok();
                let (hours, minutes) = (number(hours).ok_or_else(bad)?, number(minutes).ok_or_else(bad)?);
                let seconds =
                    hours.checked_mul(3600).and_then(|h| minutes.checked_mul(60)?.checked_add(h)).ok_or_else(bad)?;
                let offset =
                    jiff::tz::Offset::from_seconds(if negative { -seconds } else { seconds }).map_err(|_| bad())?;
                TimeZone::fixed(offset)
            }
            None => TimeZone::get(name).map_err(|_| bad())?,
        },
    };
    Ok(time.to_zoned(zone))
}

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

/// A time moved by a duration.
pub fn shift<'a>(time: Timestamp, nanos: i64) -> Result<Value<'a>, Error> {
    let moved = Timestamp::from_nanosecond(time.as_nanosecond() + i128::from(nanos)).map_err(|_| overflow())?;
    if SECONDS.contains(&moved.as_second()) { Ok(Value::Timestamp(moved)) } else { Err(overflow()) }
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
