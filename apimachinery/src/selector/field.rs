//! Field selectors: `spec.nodeName=n1,status.phase!=Running`.

use std::fmt;

/// What one field must or must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    pub value: String,
    /// `!=` instead of `=`.
    pub negated: bool,
}

/// Requirements that all must hold, in the order given.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(char),
}

impl FieldSelector {
    /// Reads comma separated `field=value`, `field==value` and `field!=value`. In values, `\` stands before a `\`, `,` or `=` that
    /// is meant literally.
    pub fn parse(selector: &str) -> Result<Self, FieldSelectorError> {
        let mut requirements = Vec::new();
        for term in terms(selector).into_iter().filter(|t| !t.is_empty()) {
            let Some((field, operator, value)) = split_term(term) else {
                return Err(FieldSelectorError::Term { selector: selector.into(), term: term.into() });
            };
            let value = unescape(value)?;
            requirements.push(FieldRequirement { field: field.into(), value, negated: operator == "!=" });
        }
        Ok(Self { requirements })
    }

    /// Whether the fields, looked up by name, meet every requirement; an absent field is the empty string.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|r| (field(&r.field).unwrap_or_default() == r.value) != r.negated)
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that a field must have exactly, if the selector demands one: what indexes are asked with.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| !r.negated && r.field == field).map(|r| r.value.as_str())
    }
}

/// Splits at commas that are not escaped.
fn terms(selector: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in selector.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&selector[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&selector[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, &str, &str)> {
    term.char_indices().find_map(|(i, _)| {
        let operator = ["!=", "==", "="].into_iter().find(|op| term[i..].starts_with(op))?;
        Some((&term[..i], operator, &term[i + operator.len()..]))
    })
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => return Err(FieldSelectorError::Escape(format!("\\{other}"))),
                None => return Err(FieldSelectorError::Escape("\\".into())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(c)),
            _ => plain.push(c),
        }
    }
    Ok(plain)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let (comma, operator) = (if i > 0 { "," } else { "" }, if r.negated { "!=" } else { "=" });
            let value = r.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{operator}{value}", r.field)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shown_again() {
        for (text, shown) in [
            ("", ""),
            ("a=b", "a=b"),
            ("a==b,c!=d", "a=b,c!=d"),
            ("a=", "a="),
            (",a=b,", "a=b"),
            (r"a=x\,y\=z\\", r"a=x\,y\=z\\"),
        ] {
            assert_eq!(FieldSelector::parse(text).map(|s| s.to_string()).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, error) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
            ("a=b=c", "invalid field selector: unescaped character in value: ="),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), error, "{text}");
        }
    }

    #[test]
    fn absent_fields_are_empty() {
        let fields = |name: &str| (name == "a").then_some("1");
        for (text, matches) in [("a=1", true), ("a!=1", false), ("b=", true), ("b!=", false), ("b!=1", true)] {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(fields), matches, "{text}");
        }
        assert_eq!(FieldSelector::parse("a!=1,b=2").unwrap().exact("b"), Some("2"));
    }
}
