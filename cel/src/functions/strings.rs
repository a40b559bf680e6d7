//! Strings. Positions count characters.

use super::{Call, Cost, Function, Growth, growing, row};
use crate::error::Error;
use crate::functions::core::{double, show};
use crate::meter::{Meter, scan};
use crate::value::{List, Map, Value};

macro_rules! test {
    ($method:ident) => {
        Call(|_, args| match args {
            [Value::String(text), Value::String(part)] => Ok(Value::Bool(text.$method(&**part))),
            _ => Err(Error::NoOverload),
        })
    };
}

macro_rules! change {
    ($change:expr) => {
        Call(|_, args| match args {
            [Value::String(text)] => Ok(Value::text($change(text))),
            _ => Err(Error::NoOverload),
        })
    };
}

pub const FUNCTIONS: &[Function] = &[
    row("startsWith", &["string.(string) bool"], Cost::Scan(1, 1), test!(starts_with)),
    row("endsWith", &["string.(string) bool"], Cost::Scan(1, 1), test!(ends_with)),
    row("contains", &["string.(string) bool"], Cost::Product, test!(contains)),
    growing(
        "lowerAscii",
        &["string.() string"],
        Cost::Scan(0, 1),
        Growth::Like(0, 1),
        change!(|t: &str| t.to_ascii_lowercase()),
    ),
    growing(
        "upperAscii",
        &["string.() string"],
        Cost::Scan(0, 1),
        Growth::Like(0, 1),
        change!(|t: &str| t.to_ascii_uppercase()),
    ),
    growing(
        "trim",
        &["string.() string"],
        Cost::Scan(0, 1),
        Growth::Like(0, 1),
        change!(|t: &str| t.trim().to_owned()),
    ),
    growing("strings.quote", &["(string) string"], Cost::Scan(0, 1), Growth::Like(0, 2), change!(quote)),
    growing(
        "charAt",
        &["string.(int) string"],
        Cost::Scan(0, 1),
        Growth::Like(0, 1),
        Call(|_, args| match args {
            [Value::String(text), Value::Int(at)] => {
                let at = usize::try_from(*at).map_err(|_| out_of_range(*at))?;
                let mut chars = text.chars().skip(at);
                match chars.next() {
                    Some(c) => Ok(Value::text(c.to_string())),
                    None if at == text.chars().count() => Ok(Value::text("")),
                    None => Err(out_of_range(at as i64)),
                }
            }
            _ => Err(Error::NoOverload),
        }),
    ),
    growing(
        "substring",
        &["string.(int) string", "string.(int, int) string"],
        Cost::Scan(0, 1),
        Growth::Like(0, 1),
        Call(|_, args| match args {
            [Value::String(text), Value::Int(from)] => part(text, *from, text.chars().count() as i64),
            [Value::String(text), Value::Int(from), Value::Int(to)] => part(text, *from, *to),
            _ => Err(Error::NoOverload),
        }),
    ),
    row(
        "indexOf",
        &["string.(string) int", "string.(string, int) int"],
        Cost::Product,
        Call(|_, args| position(args, false)),
    ),
    row(
        "lastIndexOf",
        &["string.(string) int", "string.(string, int) int"],
        Cost::Product,
        Call(|_, args| position(args, true)),
    ),
    growing(
        "replace",
        &["string.(string, string) string", "string.(string, string, int) string"],
        Cost::Scan(0, 2),
        Growth::Replace,
        Call(|meter, args| match args {
            [Value::String(text), Value::String(old), Value::String(new)] => replace(meter, text, old, new, -1),
            [Value::String(text), Value::String(old), Value::String(new), Value::Int(count)] => {
                replace(meter, text, old, new, *count)
            }
            _ => Err(Error::NoOverload),
        }),
    ),
    growing(
        "split",
        &["string.(string) list<string>", "string.(string, int) list<string>"],
        Cost::Scan(0, 2),
        Growth::Like(0, 1),
        Call(|_, args| match args {
            [Value::String(text), Value::String(by)] => split(text, by, -1),
            [Value::String(text), Value::String(by), Value::Int(count)] => split(text, by, *count),
            _ => Err(Error::NoOverload),
        }),
    ),
    growing(
        "join",
        &["list<string>.() string", "list<string>.(string) string"],
        Cost::Join,
        Growth::Join,
        Call(|meter, args| {
            let Value::List(list) = &args[0] else { return Err(Error::NoOverload) };
            let by = args.get(1).and_then(Value::as_str).unwrap_or("");
            let mut joined = String::new();
            for (i, item) in list.iter().enumerate() {
                let text = item.as_str().ok_or(Error::NoOverload)?;
                meter.pay(scan((text.len() + by.len()) as u64))?;
                if i > 0 {
                    joined.push_str(by);
                }
                joined.push_str(text);
            }
            Ok(Value::text(joined))
        }),
    ),
    row(
        "format",
        &["string.(list<dyn>) string"],
        Cost::Scan(0, 1),
        Call(|meter, args| match args {
            [Value::String(text), Value::List(values)] => format(meter, text, values),
            _ => Err(Error::NoOverload),
        }),
    ),
];

fn out_of_range(index: i64) -> Error {
    Error::new(format!("index out of range: {index}"))
}

fn part<'a>(text: &str, from: i64, to: i64) -> Result<Value<'a>, Error> {
    let length = text.chars().count() as i64;
    if !(0..=length).contains(&from) {
        return Err(out_of_range(from));
    }
    if !(0..=length).contains(&to) {
        return Err(out_of_range(to));
    }
    if from > to {
        return Err(Error::new(format!("invalid substring range. start: {from}, end: {to}")));
    }
    let part: String = text.chars().skip(from as usize).take((to - from) as usize).collect();
    Ok(Value::text(part))
}

fn position<'a>(args: &[Value<'a>], last: bool) -> Result<Value<'a>, Error> {
    let [Value::String(text), Value::String(part), rest @ ..] = args else { return Err(Error::NoOverload) };
    let length = text.chars().count();
    let start = match rest {
        [Value::Int(start)] => usize::try_from(*start).map_err(|_| out_of_range(*start))?,
        _ if last => length,
        _ => 0,
    };
    if start > length {
        return if last { Err(out_of_range(start as i64)) } else { Ok(Value::Int(-1)) };
    }
    let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    let found = if last {
        // The match may start at `start` at the latest.
        let end = (byte(start) + part.len()).min(text.len());
        let end = (end..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
        text[..end].rfind(&**part)
    } else {
        let from = byte(start);
        text[from..].find(&**part).map(|at| from + at)
    };
    Ok(Value::Int(found.map_or(-1, |at| text[..at].chars().count() as i64)))
}

fn replace<'a>(meter: &mut Meter<'_>, text: &str, old: &str, new: &str, count: i64) -> Result<Value<'a>, Error> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let places = text.matches(old).take(count).count();
    meter.pay(scan((places as u64).saturating_mul(new.len() as u64)))?;
    Ok(Value::text(text.replacen(old, new, count)))
}

fn split<'a>(text: &str, by: &str, count: i64) -> Result<Value<'a>, Error> {
    let parts: Vec<&str> = match (count, by) {
        (0, _) => Vec::new(),
        (1, _) => vec![text],
        // Between all characters, without the empty ends.
        (_, "") => {
            let max = usize::try_from(count).unwrap_or(usize::MAX);
            let mut parts: Vec<&str> = Vec::new();
            let mut rest = text;
            while let Some(c) = rest.chars().next().filter(|_| parts.len() < max.saturating_sub(1)) {
                let (one, after) = rest.split_at(c.len_utf8());
                parts.push(one);
                rest = after;
            }
            if !rest.is_empty() {
                parts.push(rest);
            }
            parts
        }
        (..0, _) => text.split(by).collect(),
        (count, _) => text.splitn(usize::try_from(count).unwrap_or(usize::MAX), by).collect(),
    };
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Digits after the point that a format may ask for: more would only be zeroes.
const PRECISION_MAX: usize = 1000;

/// `'%s is %d'.format([a, b])`
fn format<'a>(meter: &mut Meter<'_>, text: &str, values: &List<'_>) -> Result<Value<'a>, Error> {
    let (mut made, mut next) = (String::new(), 0);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            made.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            made.push('%');
            continue;
        }
        let mut precision = None;
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let bad =
                || Error::new(format!("could not parse formatting clause: error while parsing precision {digits:?}"));
            precision = Some(digits.parse::<usize>().ok().filter(|p| *p <= PRECISION_MAX).ok_or_else(bad)?);
        }
        let verb = chars.next().ok_or_else(|| Error::new("unexpected end of string"))?;
        let value = values.get(next).ok_or_else(|| Error::new(format!("index {next} out of range")))?;
        next += 1;
        meter.pay(scan(value.weight()))?;
        let clause = clause(verb, precision.unwrap_or(6), &value).ok_or_else(|| {
            Error::new(format!("error during formatting: no formatting function for verb {verb:?} on this value"))
        })?;
        meter.pay(scan(clause.len() as u64))?;
        made.push_str(&clause);
    }
    Ok(Value::text(made))
}

fn clause(verb: char, precision: usize, value: &Value<'_>) -> Option<String> {
    Some(match (verb, value) {
        ('s', value) => plain(value, 0)?,
        ('d', Value::Int(n)) => n.to_string(),
        ('d', Value::Uint(n)) => n.to_string(),
        ('d', Value::Double(n)) if !n.is_finite() => special(*n),
        ('f' | 'e', value) => {
            let n = match value {
                Value::Double(n) => *n,
                Value::Int(n) => *n as f64,
                Value::Uint(n) => *n as f64,
                _ => return None,
            };
            match verb {
                _ if !n.is_finite() => special(n),
                'f' => format!("{n:.precision$}"),
                _ => {
                    let text = format!("{n:.precision$e}");
                    let (mantissa, exponent) = text.split_once('e')?;
                    let exponent: i32 = exponent.parse().ok()?;
                    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
                }
            }
        }
        ('b', Value::Bool(b)) => u8::from(*b).to_string(),
        ('b' | 'x' | 'X' | 'o', Value::Int(n)) => {
            let sign = if *n < 0 { "-" } else { "" };
            format!("{sign}{}", radix(verb, n.unsigned_abs()))
        }
        ('b' | 'x' | 'X' | 'o', Value::Uint(n)) => radix(verb, *n),
        ('x' | 'X', Value::String(text)) => hex(verb, text.as_bytes()),
        ('x' | 'X', Value::Bytes(bytes)) => hex(verb, bytes),
        _ => return None,
    })
}

fn radix(verb: char, n: u64) -> String {
    match verb {
        'b' => format!("{n:b}"),
        'o' => format!("{n:o}"),
        'x' => format!("{n:x}"),
        _ => format!("{n:X}"),
    }
}

fn hex(verb: char, bytes: &[u8]) -> String {
    bytes.iter().map(|b| if verb == 'x' { format!("{b:02x}") } else { format!("{b:02X}") }).collect()
}

fn special(n: f64) -> String {
    if n.is_nan() {
        "NaN".into()
    } else if n > 0.0 {
        "Infinity".into()
    } else {
        "-Infinity".into()
    }
}

/// `%s` of anything. Values nest as deep as objects do, which decoding bounds; `depth` guards all the same.
fn plain(value: &Value<'_>, depth: usize) -> Option<String> {
    if depth > 200 {
        return None;
    }
    Some(match value {
        Value::Null => "null".into(),
        Value::Double(n) if !n.is_finite() => special(*n),
        Value::Double(n) => double(*n),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Type(ty) => ty.to_string(),
        Value::List(list) => {
            let items: Option<Vec<String>> = list.iter().map(|item| plain(&item, depth + 1)).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Map(map @ (Map::Json(..) | Map::Made(_))) => {
            let entry =
                |(k, v): &(Value<'_>, Value<'_>)| Some(format!("{}: {}", plain(k, depth + 1)?, plain(v, depth + 1)?));
            let entries: Option<Vec<String>> = map.entries().iter().map(entry).collect();
            format!("{{{}}}", entries?.join(", "))
        }
        value => show(value)?,
    })
}
