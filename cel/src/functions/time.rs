//! Timestamps and durations.

use super::{Call, Function, simple};
use crate::error::Error;
use crate::time::{NANOS, SECONDS, parse_duration, parse_timestamp};
use crate::value::Value;
use jiff::Timestamp;
use jiff::tz::TimeZone;

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

/// A time moved by a duration.
pub fn shift<'a>(time: Timestamp, nanos: i64) -> Result<Value<'a>, Error> {
    let moved = Timestamp::from_nanosecond(time.as_nanosecond() + i128::from(nanos)).map_err(|_| overflow())?;
    if SECONDS.contains(&moved.as_second()) { Ok(Value::Timestamp(moved)) } else { Err(overflow()) }
}
