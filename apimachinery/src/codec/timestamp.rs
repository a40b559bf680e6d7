//! Times between text and the seconds and nanoseconds of protobuf.

use jiff::Timestamp;

/// `2006-01-02T15:04:05Z` of a time since the epoch; `None` outside the years that can be written.
pub fn from_unix(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// The same with microseconds.
pub fn from_unix_micro(seconds: i64, nanos: i64) -> Option<String> {
    let t = Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()?;
    Some(t.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}

/// Seconds and nanoseconds since the epoch of RFC 3339 text.
pub fn to_unix(text: &str) -> Option<(i64, i32)> {
    let t: Timestamp = text.parse().ok()?;
    Some((t.as_second(), t.subsec_nanosecond()))
}
