//! `format` of strings in schemas of custom resources. A format that is not here says nothing, as upstream has it.

use crate::validation::names;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

/// Whether a text is of a format.
pub type Check = fn(&str) -> bool;

/// Name, without dashes, and what must be true of the text.
const FORMATS: &[(&str, Check)] = &[
    ("bsonobjectid", |t| t.len() == 24 && hex(t)),
    ("byte", |t| STANDARD.decode(t).is_ok()),
    ("cidr", |t| names::parse_cidr(t).is_some()),
    ("creditcard", |t| luhn(t)),
    ("date", |t| t.len() == 10 && t.parse::<jiff::civil::Date>().is_ok()),
    ("datetime", |t| date_time(t)),
    ("duration", |t| duration(t)),
    ("email", |t| matches(&EMAIL, t)),
    ("hexcolor", |t| {
        let digits = t.strip_prefix('#').unwrap_or(t);
        matches!(digits.len(), 3 | 6) && hex(digits)
    }),
    ("hostname", |t| t.len() <= 255 && matches(&HOSTNAME, t)),
    ("ipv4", |t| t.parse::<Ipv4Addr>().is_ok()),
    ("ipv6", |t| t.parse::<Ipv6Addr>().is_ok()),
    ("isbn", |t| isbn(t, 10) || isbn(t, 13)),
    ("isbn10", |t| isbn(t, 10)),
    ("isbn13", |t| isbn(t, 13)),
    ("k8slongname", |t| names::dns1123_subdomain(t).is_empty()),
    ("k8sshortname", |t| names::dns1123_label(t).is_empty()),
    ("mac", |t| matches(&MAC, t)),
    ("rgbcolor", |t| matches(&RGB, t)),
    ("ssn", |t| matches(&SSN, t)),
    ("uri", |t| matches(&URI, t)),
    ("uuid", |t| matches(&UUID, t)),
    ("uuid3", |t| matches(&UUID, t) && version(t, b'3')),
    ("uuid4", |t| matches(&UUID, t) && version(t, b'4') && variant(t)),
    ("uuid5", |t| matches(&UUID, t) && version(t, b'5') && variant(t)),
];

/// The check of a format; none if the format says nothing.
pub fn check(format: &str) -> Option<Check> {
    let name = format.replace('-', "");
    FORMATS.iter().find(|(known, _)| *known == name).map(|(_, check)| *check)
}

static EMAIL: LazyLock<Regex> = LazyLock::new(|| regex(r"^[^\s@<>,;]+@[^\s@<>,;.]+(\.[^\s@<>,;.]+)*$"));
static HOSTNAME: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^([a-zA-Z0-9\p{L}]([-_a-zA-Z0-9\p{L}]{0,61}[a-zA-Z0-9\p{L}])?)(\.([a-zA-Z0-9\p{L}]([-_a-zA-Z0-9\p{L}]{0,61}[a-zA-Z0-9\p{L}])?))*\.?$",
    )
});
static MAC: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^([0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){7}|([0-9A-Fa-f]{4}\.){2,3}[0-9A-Fa-f]{4})$",
    )
});
static RGB: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^rgb\(\s*(25[0-5]|2[0-4]\d|1\d\d|\d{1,2})\s*,\s*(25[0-5]|2[0-4]\d|1\d\d|\d{1,2})\s*,\s*(25[0-5]|2[0-4]\d|1\d\d|\d{1,2})\s*\)$",
    )
});
static SSN: LazyLock<Regex> = LazyLock::new(|| regex(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"));
static URI: LazyLock<Regex> = LazyLock::new(|| regex(r"^([A-Za-z][A-Za-z0-9+.-]*:[^\s]*|/[^\s]*)$"));
static UUID: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^[0-9A-Fa-f]{8}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{12}$"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|e| panic!("a pattern of our own: {e}"))
}

fn matches(pattern: &Regex, text: &str) -> bool {
    pattern.is_match(text)
}

fn hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn version(text: &str, version: u8) -> bool {
    text.bytes().filter(|b| *b != b'-').nth(12) == Some(version)
}

fn variant(text: &str) -> bool {
    text.bytes().filter(|b| *b != b'-').nth(16).is_some_and(|b| b"89abAB".contains(&b))
}

/// RFC 3339 with a zone; the `T` may be small.
fn date_time(text: &str) -> bool {
    let zoned = text.ends_with(['Z', 'z']) || text.len() > 6 && text[text.len() - 6..].starts_with(['+', '-']);
    text.is_ascii()
        && zoned
        && text.as_bytes().get(10).is_some_and(|c| b"Tt".contains(c))
        && text.parse::<jiff::Timestamp>().is_ok()
}

/// Go's durations, and a number with a unit in words: `1h30m`, `3 days`.
fn duration(text: &str) -> bool {
    static GO: LazyLock<Regex> = LazyLock::new(|| regex(r"^[-+]?(0|((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)$"));
    static WORDS: LazyLock<Regex> = LazyLock::new(|| {
        regex(
            r"(?i)^((\d+)\s*(ns|nanos?|nanoseconds?|us|µs|micros?|microseconds?|ms|millis?|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?|wks?)\s*)+$",
        )
    });
    matches(&GO, text) || matches(&WORDS, text)
}

/// ISO/IEC 7812's check digit.
fn luhn(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter(|c| !matches!(c, ' ' | '-')).filter_map(|c| c.to_digit(10)).collect();
    let separators = text.chars().filter(|c| matches!(c, ' ' | '-')).count();
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(i, d)| if i % 2 == 0 { *d } else { d * 2 / 10 + d * 2 % 10 }).sum();
    (12..=19).contains(&digits.len()) && digits.len() + separators == text.chars().count() && sum.is_multiple_of(10)
}

fn isbn(text: &str, length: usize) -> bool {
    let characters: Vec<char> = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    if characters.len() != length {
        return false;
    }
    let values: Option<Vec<u32>> = characters
        .iter()
        .enumerate()
        .map(|(i, c)| if length == 10 && i == 9 && matches!(c, 'X' | 'x') { Some(10) } else { c.to_digit(10) })
        .collect();
    values.is_some_and(|values| match length {
        10 => values.iter().enumerate().map(|(i, v)| (10 - i as u32) * v).sum::<u32>().is_multiple_of(11),
        _ => {
            values.iter().enumerate().map(|(i, v)| if i % 2 == 0 { *v } else { 3 * v }).sum::<u32>().is_multiple_of(10)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_tell_right_from_wrong() {
        for (format, right, wrong) in [
            ("date-time", "2024-01-02T03:04:05.678+01:00", "2024-01-02 03:04"),
            ("datetime", "2024-01-02T03:04:05Z", "2024-13-02T03:04:05Z"),
            ("date", "2024-02-29", "2023-02-29"),
            ("duration", "1h30m", "soon"),
            ("duration", "3 days", "h"),
            ("ipv4", "192.0.2.1", "192.0.2.256"),
            ("ipv6", "2001:db8::1", "192.0.2.1"),
            ("cidr", "192.0.2.0/24", "192.0.2.0"),
            ("email", "a@example.com", "a"),
            ("hostname", "a.example.com", "a..b"),
            ("uri", "https://example.com/a?b#c", "not a uri"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
            ("mac", "00:00:5e:00:53:01", "00:00:5e:00:53"),
            ("byte", "aGk=", "a"),
            ("hexcolor", "#ff00aa", "#ff00a"),
            ("rgbcolor", "rgb(1, 2, 255)", "rgb(1,2,256)"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("isbn", "0-306-40615-2", "0-306-40615-3"),
            ("isbn13", "978-0-306-40615-7", "978-0-306-40615-8"),
            ("k8s-short-name", "a-b", "a.b"),
            ("k8s-long-name", "a.b", "A"),
        ] {
            let check = check(format).unwrap();
            assert!(check(right) && !check(wrong), "{format}");
        }
        assert!(check("password").is_none());
    }
}
