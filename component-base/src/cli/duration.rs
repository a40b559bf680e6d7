//! Durations in the syntax of flags and config files: `1m30s`, `100ms`, `0`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A non-negative duration that reads and prints in Go's syntax. In JSON and YAML it is that string, as
/// `metav1.Duration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

/// A text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    #[error("time: missing unit in duration {0:?}, write for example \"10s\"")]
    MissingUnit(String),
    #[error("time: unknown unit {1:?} in duration {0:?}, units are ns, us, ms, s, m, h")]
    UnknownUnit(String, String),
}

/// Unit and its length in nanoseconds.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

impl GoDuration {
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<GoDuration> for Duration {
    fn from(value: GoDuration) -> Self {
        value.0
    }
}

impl From<Duration> for GoDuration {
    fn from(value: Duration) -> Self {
        Self(value)
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError::Invalid(text.to_owned());
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.is_empty() || rest.starts_with('-') {
            return Err(invalid());
        }
        let mut nanos = 0f64;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
            rest = &rest[end..];
            if rest.is_empty() {
                return Err(DurationError::MissingUnit(text.to_owned()));
            }
            let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            let unit = &rest[..end];
            let (_, scale) = UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(|| DurationError::UnknownUnit(text.to_owned(), unit.to_owned()))?;
            nanos += number * scale;
            rest = &rest[end..];
        }
        // Go's durations are 64 bit signed nanoseconds.
        if !(0.0..=i64::MAX as f64).contains(&nanos) {
            return Err(invalid());
        }
        Ok(Self(Duration::from_nanos(nanos.round() as u64)))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        let below_second = [("ns", 1u128, 1_000u128), ("µs", 1_000, 1_000_000), ("ms", 1_000_000, 1_000_000_000)];
        if let Some((unit, scale, _)) = below_second.iter().find(|(_, _, limit)| nanos < *limit) {
            return write!(f, "{}{unit}", nanos as f64 / *scale as f64);
        }
        let total_secs = self.0.as_secs();
        let (hours, minutes, secs) = (total_secs / 3600, total_secs / 60 % 60, total_secs % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if total_secs >= 60 {
            write!(f, "{minutes}m")?;
        }
        let fraction = self.0.subsec_nanos();
        if fraction == 0 {
            write!(f, "{secs}s")
        } else {
            let digits = format!("{fraction:09}");
            write!(f, "{secs}.{}s", digits.trim_end_matches('0'))
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_syntax_and_prints_it_as_go_does() {
        for (text, nanos, printed) in [
            ("0", 0, "0s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("100ms", 100_000_000, "100ms"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("24h", 86_400_000_000_000, "24h0m0s"),
            ("1s500ms", 1_500_000_000, "1.5s"),
            ("10us", 10_000, "10µs"),
            ("7ns", 7, "7ns"),
        ] {
            let duration: GoDuration = text.parse().unwrap();
            assert_eq!(duration.0.as_nanos(), nanos, "{text}");
            assert_eq!(duration.to_string(), printed, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, message) in [
            ("10", "missing unit"),
            ("10d", "unknown unit \"d\""),
            ("", "invalid duration"),
            ("-1s", "invalid duration"),
            ("s", "invalid duration"),
            ("1.2.3s", "invalid duration"),
            ("9999999999h", "invalid duration"),
        ] {
            let error = text.parse::<GoDuration>().unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
