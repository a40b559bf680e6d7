//! Text to steps. Brackets and filters are found first and read afterwards, as by the parser that everybody writes for: a bracket
//! ends at the first `]`, a filter at the first `)` outside of its first pair of quotes.

use super::{JsonPath, Operator, Path, Slice, Step};
use serde_json::{Number, Value};

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("unclosed action")]
    Unclosed,
    #[error("unrecognized character in action: {0:?}")]
    Character(char),
    #[error("unterminated {0}")]
    Unterminated(&'static str),
    #[error("invalid multiple recursive descent")]
    TwiceRecursive,
    #[error("cannot parse number {0}")]
    Number(String),
    #[error("invalid array index {0}")]
    Index(String),
    #[error("unclosed array expect ]")]
    Bracket,
    #[error("unquote string {0}: invalid syntax")]
    Quote(String),
}

type Result<T> = std::result::Result<T, ParseError>;

impl JsonPath {
    /// Reads what stands between the braces of a template, such as `.status.conditions[?(@.type=="Ready")].status`.
    pub fn parse(text: &str) -> Result<JsonPath> {
        Ok(JsonPath { paths: template(&format!("{{{text}}}"))? })
    }
}

/// Paths in braces, and the text between them.
fn template(text: &str) -> Result<Vec<Path>> {
    let mut paths = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        if at > 0 {
            paths.push(vec![Step::Literal(rest[..at].into())]);
        }
        let mut reader = Reader { rest: &rest[at + 1..] };
        paths.push(reader.path()?);
        rest = reader.rest;
    }
    if !rest.is_empty() {
        paths.push(vec![Step::Literal(rest.into())]);
    }
    Ok(paths)
}

/// A path inside of another.
fn inner(text: &str) -> Result<Path> {
    Ok(template(&format!("{{{text}}}"))?.into_iter().next().unwrap_or_default())
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Takes as much as `end` says.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    /// Takes what is in front of the first character that ends it.
    fn take_until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        self.take(self.rest.find(ends).unwrap_or(self.rest.len()))
    }

    fn skip(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Steps up to the closing brace.
    fn path(&mut self) -> Result<Path> {
        let mut steps = Path::new();
        loop {
            if self.skip("}") {
                return Ok(steps);
            }
            if self.skip("[?(") {
                steps.push(self.filter()?);
                continue;
            }
            if self.skip("..") {
                if steps.last() == Some(&Step::Recursive) {
                    return Err(ParseError::TwiceRecursive);
                }
                steps.push(Step::Recursive);
                if self.rest.starts_with(is_alphanumeric) {
                    steps.push(self.field());
                }
                continue;
            }
            let before = self.rest;
            match self.next() {
                None | Some('\r' | '\n') => return Err(ParseError::Unclosed),
                Some(' ' | '@' | '$') => {} // the object itself
                Some('[') => self.bracket(&mut steps)?,
                Some(quote @ ('"' | '\'')) => {
                    self.rest = before;
                    steps.push(self.quoted(quote)?);
                }
                Some('.') => steps.push(self.field()),
                Some(c) if matches!(c, '+' | '-') || c.is_numeric() => {
                    self.rest = before;
                    steps.push(self.number()?);
                }
                Some(c) if is_alphanumeric(c) => {
                    self.rest = before;
                    steps.push(match self.take_until(is_terminator) {
                        "true" => Step::Literal(true.into()),
                        "false" => Step::Literal(false.into()),
                        word => Step::Identifier(word.to_owned()),
                    });
                }
                Some(c) => return Err(ParseError::Character(c)),
            }
        }
    }

    /// A name up to the next sign that ends it and is not escaped.
    fn field(&mut self) -> Step {
        let mut name = String::new();
        let mut is_escaped = false;
        while let Some(c) = self.rest.chars().next().filter(|c| is_escaped || !is_terminator(*c)) {
            self.next();
            is_escaped = c == '\\' && !is_escaped;
            if c != '\\' {
                name.push(c);
            }
        }
        if name == "*" { Step::Wildcard } else { Step::Field(name) }
    }

    fn number(&mut self) -> Result<Step> {
        let sign = usize::from(self.rest.starts_with(['+', '-']));
        let end = self.rest[sign..].find(|c: char| c != '.' && !c.is_numeric());
        let text = self.take(end.map_or(self.rest.len(), |end| sign + end));
        let number = match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => Some(number.into()),
            (_, Ok(number)) => Number::from_f64(number),
            _ => None,
        };
        number.map(|n| Step::Literal(Value::Number(n))).ok_or_else(|| ParseError::Number(text.to_owned()))
    }

    fn quoted(&mut self, quote: char) -> Result<Step> {
        let mut before = quote;
        let mut length = None;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                c if c == quote && before != '\\' => {
                    length = Some(at + 1);
                    break;
                }
                c => before = c,
            }
        }
        let text = self.take(length.ok_or(ParseError::Unterminated("quoted string"))?);
        let inside = &text[1..text.len() - 1];
        let value = unquote(inside, quote).ok_or_else(|| ParseError::Quote(text.to_owned()))?;
        Ok(Step::Literal(value.into()))
    }

    fn bracket(&mut self, steps: &mut Path) -> Result<()> {
        let text = self.take_until(|c| matches!(c, ']' | '\n'));
        if !self.skip("]") {
            return Err(ParseError::Unterminated("array"));
        }
        let quoted = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).filter(|t| !t.contains('\''));
        if text.contains(',') {
            let paths = text.split(',').map(|part| inner(&format!("[{}]", part.trim_matches(' '))));
            steps.push(Step::Union(paths.collect::<Result<_>>()?));
        } else if let Some(name) = quoted {
            steps.append(&mut inner(&format!(".{name}"))?);
        } else {
            steps.push(slice(if text == "*" { ":" } else { text })?);
        }
        Ok(())
    }

    fn filter(&mut self) -> Result<Step> {
        let mut before = '(';
        // The first quote, and whether its pair was seen.
        let (mut quote, mut is_closed) = (None, false);
        let mut end = None;
        for (at, c) in self.rest.char_indices() {
            match c {
                '\n' => break,
                '"' | '\'' if quote.is_none() => quote = Some(c),
                '"' | '\'' => is_closed |= before != '\\' && Some(c) == quote,
                ')' if quote.is_some() == is_closed => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
            before = c;
        }
        let text = self.take(end.ok_or(ParseError::Unterminated("filter"))?);
        if !self.skip(")]") {
            return Err(ParseError::Bracket);
        }
        let is_sign = |c: char| matches!(c, '!' | '<' | '>' | '=');
        let (left, rest) = text.split_at(text.find(is_sign).unwrap_or(text.len()));
        let (operator, right) = rest.split_at(rest.find(|c| !is_sign(c)).unwrap_or(rest.len()));
        if left.is_empty() || operator.is_empty() || right.is_empty() {
            return Ok(Step::Exists(inner(text)?));
        }
        let operator = match operator {
            "<" => Operator::Less,
            "<=" => Operator::LessEqual,
            "==" => Operator::Equal,
            "!=" => Operator::NotEqual,
            ">=" => Operator::GreaterEqual,
            ">" => Operator::Greater,
            _ => Operator::Unknown,
        };
        Ok(Step::Filter(inner(left)?, operator, inner(right)?))
    }
}

/// `start:end:step`.
fn slice(text: &str) -> Result<Step> {
    let invalid = || ParseError::Index(text.to_owned());
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 {
        return Err(invalid());
    }
    let number = |at: usize| match parts.get(at) {
        None | Some(&"") => Ok(None),
        Some(part) if part.starts_with('+') => Err(invalid()),
        Some(part) => part.parse::<i64>().map(Some).map_err(|_| invalid()),
    };
    let start = number(0)?.unwrap_or(0);
    let one = parts.len() == 1;
    let end = if one { Some(start.saturating_add(1)) } else { number(1)? };
    Ok(Step::Slice(Slice { start, end, one, step: number(2)? }))
}

fn is_terminator(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphabetic() || c.is_numeric()
}

/// The text in quotes, escapes as in Go. None if one of them is none.
fn unquote(text: &str, quote: char) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == quote {
            return None;
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        let c = chars.next()?;
        let (radix, count, first) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => {
                let known =
                    [('a', '\x07'), ('b', '\x08'), ('f', '\x0c'), ('n', '\n'), ('r', '\r'), ('t', '\t'), ('v', '\x0b')];
                out.push(known.iter().find(|(name, _)| *name == c).map_or('\\', |(_, is)| *is));
                continue;
            }
            c if c == quote => {
                out.push(c);
                continue;
            }
            'x' => (16, 2, 0),
            'u' => (16, 4, 0),
            'U' => (16, 8, 0),
            '0'..='7' => (8, 2, c.to_digit(8)?),
            _ => return None,
        };
        let digit = |n: u32, c: char| n.checked_mul(radix)?.checked_add(c.to_digit(radix)?);
        let code = (0..count).try_fold(first, |n, _| digit(n, chars.next()?))?;
        out.push(char::from_u32(code)?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Path> {
        JsonPath::parse(text).map(|path| path.paths.into_iter().next().unwrap_or_default())
    }

    fn field(name: &str) -> Step {
        Step::Field(name.into())
    }

    fn slice(start: i64, end: Option<i64>, one: bool, step: Option<i64>) -> Step {
        Step::Slice(Slice { start, end, one, step })
    }

    #[test]
    fn paths_are_steps() {
        let all = || slice(0, None, false, None);
        for (text, want) in [
            (".", vec![field("")]),
            ("$.a.b", vec![field("a"), field("b")]),
            (".a\\.b/c", vec![field("a.b/c")]),
            ("['a\\.b'].c", vec![field("a.b"), field("c")]),
            ("['a.b']", vec![field("a"), field("b")]),
            (".a[0]", vec![field("a"), slice(0, Some(1), true, None)]),
            (".a[-1]", vec![field("a"), slice(-1, Some(0), true, None)]),
            (".a[1:]", vec![field("a"), slice(1, None, false, None)]),
            (".a[:2:2]", vec![field("a"), slice(0, Some(2), false, Some(2))]),
            (".a[*].*", vec![field("a"), all(), Step::Wildcard]),
            ("..a", vec![Step::Recursive, field("a")]),
            (".a..[0]", vec![field("a"), Step::Recursive, slice(0, Some(1), true, None)]),
            ("[0, 'b']", vec![Step::Union(vec![vec![slice(0, Some(1), true, None)], vec![field("b")]])]),
            (
                "[?(@.a == \"x)\")].b",
                vec![Step::Filter(vec![field("a")], Operator::Equal, vec![Step::Literal("x)".into())]), field("b")],
            ),
            ("[?(@.a)]", vec![Step::Exists(vec![field("a")])]),
            (
                "[?(@.n>=-1.5)]",
                vec![Step::Filter(vec![field("n")], Operator::GreaterEqual, vec![Step::Literal((-1.5).into())])],
            ),
            (
                "[?(@.b!=true)]",
                vec![Step::Filter(vec![field("b")], Operator::NotEqual, vec![Step::Literal(true.into())])],
            ),
            ("'\\x41\\'\\101\\u00e4'", vec![Step::Literal("A'A\u{e4}".into())]),
            (".a word", vec![field("a"), Step::Identifier("word".into())]),
        ] {
            assert_eq!(one(text), Ok(want), "{text}");
        }
        assert_eq!(JsonPath::parse(".a} and {.b").map(|path| path.paths.len()), Ok(3));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for (text, want) in [
            (".a[0", ParseError::Unterminated("array")),
            (".a[x]", ParseError::Index("x".into())),
            (".a[1:2:3:4]", ParseError::Index("1:2:3:4".into())),
            (".a[\"b\"]", ParseError::Index("\"b\"".into())),
            (".a[-]", ParseError::Index("-".into())),
            ("....a", ParseError::TwiceRecursive),
            (".a[?(@.b]", ParseError::Unterminated("filter")),
            (".a[?(@.b)", ParseError::Bracket),
            (".a[?(@.b==\"x)]", ParseError::Unterminated("filter")),
            (".a]", ParseError::Character(']')),
            ("'a", ParseError::Unterminated("quoted string")),
            ("'\\q'", ParseError::Quote("'\\q'".into())),
            ("1.2.3", ParseError::Number("1.2.3".into())),
            (".a\n", ParseError::Unclosed),
        ] {
            assert_eq!(one(text), Err(want), "{text}");
        }
    }
}
