//! Literals: numbers, and strings with their escapes.

use crate::ast::Literal;

/// Reads a number: `1`, `0x1f`, `1u`, `1.5e3`.
pub fn number(text: &str) -> Result<Literal, String> {
    let unsigned = text.strip_suffix(['u', 'U']);
    let digits = unsigned.unwrap_or(text);
    let hex = digits.strip_prefix('-').unwrap_or(digits);
    let hex = hex.strip_prefix("0x").or_else(|| hex.strip_prefix("0X"));
    if unsigned.is_some() {
        let value = hex.map_or_else(|| digits.parse(), |hex| u64::from_str_radix(hex, 16));
        return value.map(Literal::Uint).map_err(|_| "invalid uint literal".into());
    }
    if let Some(hex) = hex {
        let sign = if digits.starts_with('-') { "-" } else { "" };
        return i64::from_str_radix(&format!("{sign}{hex}"), 16)
            .map(Literal::Int)
            .map_err(|_| "invalid int literal".into());
    }
    if digits.contains(['.', 'e', 'E']) {
        return match digits.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Literal::Double(value)),
            _ => Err("invalid double literal".into()),
        };
    }
    digits.parse().map(Literal::Int).map_err(|_| "invalid int literal".into())
}

/// What stands between the quotes, as a string.
pub fn string(inner: &str, raw: bool) -> Result<Literal, String> {
    if raw || !inner.contains('\\') {
        return Ok(Literal::String(inner.into()));
    }
    let mut text = String::with_capacity(inner.len());
    escapes(inner, |piece| match piece {
        Piece::Char(c) => text.push(c),
        Piece::Byte(b) => text.push(char::from(b)),
    })?;
    Ok(Literal::String(text.into()))
}

/// What stands between the quotes, as bytes: `\x` and octal escapes are bytes here, other characters their UTF-8.
pub fn bytes(inner: &str, raw: bool) -> Result<Literal, String> {
    if raw {
        return Ok(Literal::Bytes(inner.as_bytes().into()));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    escapes(inner, |piece| match piece {
        Piece::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        Piece::Byte(b) => bytes.push(b),
    })?;
    Ok(Literal::Bytes(bytes.into()))
}

enum Piece {
    Char(char),
    Byte(u8),
}

fn escapes(inner: &str, mut take: impl FnMut(Piece)) -> Result<(), String> {
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            take(Piece::Char(c));
            continue;
        }
        let bad = || "unable to unescape string".to_owned();
        let escape = chars.next().ok_or_else(bad)?;
        let mut digits = |count: usize, radix: u32, first: Option<char>| {
            let mut value = first.and_then(|c| c.to_digit(radix)).unwrap_or(0);
            for _ in 0..count {
                let digit = chars.next().and_then(|c| c.to_digit(radix)).ok_or_else(bad)?;
                value = value * radix + digit;
            }
            Ok::<u32, String>(value)
        };
        let unicode = |value: u32| char::from_u32(value).map(Piece::Char).ok_or_else(bad);
        take(match escape {
            'a' => Piece::Char('\x07'),
            'b' => Piece::Char('\x08'),
            'f' => Piece::Char('\x0c'),
            'n' => Piece::Char('\n'),
            'r' => Piece::Char('\r'),
            't' => Piece::Char('\t'),
            'v' => Piece::Char('\x0b'),
            '\\' | '\'' | '"' | '`' | '?' => Piece::Char(escape),
            'x' | 'X' => Piece::Byte(digits(2, 16, None)? as u8),
            'u' => unicode(digits(4, 16, None)?)?,
            'U' => unicode(digits(8, 16, None).ok().filter(|v| *v <= 0x10ffff).ok_or_else(bad)?)?,
            '0'..='3' => Piece::Byte(digits(2, 8, Some(escape))? as u8),
            _ => return Err(bad()),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read() {
        for (text, want) in [
            ("0", Some(Literal::Int(0))),
            ("-9223372036854775808", Some(Literal::Int(i64::MIN))),
            ("9223372036854775808", None),
            ("0x1F", Some(Literal::Int(31))),
            ("-0x10", Some(Literal::Int(-16))),
            ("18446744073709551615u", Some(Literal::Uint(u64::MAX))),
            ("0x10u", Some(Literal::Uint(16))),
            ("1.5e3", Some(Literal::Double(1500.0))),
            (".5", Some(Literal::Double(0.5))),
            ("1e999", None),
        ] {
            assert_eq!(number(text).ok(), want, "{text}");
        }
        assert_eq!(string(r"a\n\u00e9\x41\101\U0001F600", false), Ok(Literal::String("a\né\u{41}A😀".into())));
        assert_eq!(string(r"\n", true), Ok(Literal::String(r"\n".into())));
        assert_eq!(bytes(r"\xff\377é", false), Ok(Literal::Bytes([0xff, 0xff, 0xc3, 0xa9].into())));
        for bad in [r"\", r"\q", r"\x1", r"\ud800", r"\U00110000", r"\Uffffffff", r"\400"] {
            assert!(string(bad, false).is_err(), "{bad}");
        }
    }
}
