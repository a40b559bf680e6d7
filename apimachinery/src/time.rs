//! Times as objects carry them: `metav1.Time` to the second, `metav1.MicroTime` to the microsecond, both in UTC.

use jiff::Timestamp;

/// The form of a `metav1.Time` in an object.
pub const SECONDS: &str = "%Y-%m-%dT%H:%M:%SZ";
/// The form of a `metav1.MicroTime` in an object.
pub const MICROS: &str = "%Y-%m-%dT%H:%M:%S.%6fZ";

/// Go's zero time, which is written as `null`.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// An RFC 3339 time in UTC with whole seconds (a fraction is cut off), or `None` if `text` is not one.
pub fn canonical_time(text: &str) -> Option<String> {
    parse(text).map(format)
}

/// An RFC 3339 time in UTC with six digits of fraction. As upstream, the input must have exactly six as well.
pub fn canonical_micro_time(text: &str) -> Option<String> {
    let fraction = text.get(19..)?.strip_prefix('.')?;
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    (digits == 6).then(|| parse(text).map(format_micros))?
}

/// Reads an RFC 3339 time: capital `T` and `Z`, seconds always there, no leap second.
pub fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let like = |(b, s): (&u8, &u8)| if *s == b'd' { b.is_ascii_digit() } else { b == s };
    if bytes.len() <= shape.len() || !bytes.iter().zip(shape).all(like) || bytes[17] > b'5' {
        return None;
    }
    let zone = &bytes[shape.len()..];
    let zone = match zone {
        [b'.', rest @ ..] => {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            (1..=9).contains(&digits).then_some(&rest[digits..])?
        }
        _ => zone,
    };
    match zone {
        b"Z" => {}
        [b'+' | b'-', h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) => {}
        _ => return None,
    }
    text.parse().ok()
}

/// Seconds form.
pub fn format(time: Timestamp) -> String {
    time.strftime(SECONDS).to_string()
}

/// Microseconds form.
pub fn format_micros(time: Timestamp) -> String {
    time.strftime(MICROS).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_to_the_second() {
        for (text, canonical) in [
            ("2024-02-29T12:00:00Z", Some("2024-02-29T12:00:00Z")),
            ("2024-02-29T12:00:00.999Z", Some("2024-02-29T12:00:00Z")),
            ("2024-02-29T12:00:00+02:00", Some("2024-02-29T10:00:00Z")),
            ("1969-12-31T23:59:59.5Z", Some("1969-12-31T23:59:59Z")),
            ("0001-01-01T00:00:00Z", Some(ZERO)),
            ("2023-02-29T12:00:00Z", None),
            ("2024-02-29t12:00:00z", None),
            ("2024-02-29 12:00:00Z", None),
            ("2024-02-29T12:00:60Z", None),
            ("2024-02-29T12:00:00", None),
            ("2024-02-29", None),
            ("", None),
        ] {
            assert_eq!(canonical_time(text).as_deref(), canonical, "{text}");
        }
    }

    #[test]
    fn micro_times_have_six_digits() {
        for (text, canonical) in [
            ("2024-02-29T12:00:00.000001Z", Some("2024-02-29T12:00:00.000001Z")),
            ("2024-02-29T12:00:00.100000+01:00", Some("2024-02-29T11:00:00.100000Z")),
            ("2024-02-29T12:00:00Z", None),
            ("2024-02-29T12:00:00.1Z", None),
        ] {
            assert_eq!(canonical_micro_time(text).as_deref(), canonical, "{text}");
        }
    }
}
