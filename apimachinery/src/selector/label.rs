//! Label selectors: `app in (a,b),!legacy,tier!=front`, and the `LabelSelector` objects of specs.

use std::fmt;

use serde_json::Value;

use crate::validation::names;

/// How a requirement compares a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// What one label must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted, without duplicates.
    pub values: Vec<String>,
}

/// Requirements that all must hold, sorted by key.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
    /// Matches no object at all: what an absent selector means in most specs.
    nothing: bool,
}

/// Why a selector can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("unable to parse requirement: found '{found}', expected: {expected}")]
    Syntax { found: String, expected: &'static str },
    /// A key or value that no label can have, or an operator with the wrong number of values.
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
    #[error("\"{0}\" is not a valid label selector operator")]
    Operator(String),
}

impl Requirement {
    /// A requirement that is checked: the key is a qualified name, the values can be values of labels.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, SelectorError> {
        let invalid = |path: &str, value: &str, detail: &str| {
            SelectorError::Requirement(format!("{path}: Invalid value: {value}: {detail}"))
        };
        if let Some(detail) = names::qualified_name(key).first() {
            return Err(invalid("key", &format!("{key:?}"), detail));
        }
        let list = || format!("[{}]", values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(","));
        let number = || values.len() == 1 && values[0].parse::<i64>().is_ok();
        let wrong = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if !number() => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required and it must be an integer")
            }
            _ => None,
        };
        if let Some(detail) = wrong {
            return Err(invalid("values", &list(), detail));
        }
        for (i, value) in values.iter().enumerate() {
            if let Some(detail) = names::label_value(value).first() {
                return Err(invalid(&format!("values[{i}][{key}]"), &format!("{value:?}"), detail));
            }
        }
        let mut values = values;
        values.sort();
        values.dedup();
        Ok(Self { key: key.into(), operator, values })
    }

    /// Whether the label's value, if it has one, meets the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let among = |v: &str| self.values.iter().any(|x| x == v);
        let number = || Some((value?.parse::<i64>().ok()?, self.values.first()?.parse::<i64>().ok()?));
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(among),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => number().is_some_and(|(label, bound)| label > bound),
            Operator::LessThan => number().is_some_and(|(label, bound)| label < bound),
        }
    }
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Reads the form of query strings and of kubectl's `-l`. The empty string selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Parser { rest: text }.requirements()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// The selector of a spec (`matchLabels`, `matchExpressions`): absent or null selects nothing, empty everything.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(selector) = selector.filter(|s| !s.is_null()) else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement::new(key, Operator::In, vec![value])?);
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError::Operator(other.into())),
            };
            let values = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let key = expression["key"].as_str().unwrap_or_default();
            requirements.push(Requirement::new(key, operator, values.map(str::to_owned).collect())?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// The selector of a plain map of labels (`Service.spec.selector`). Absent or empty selects everything, as upstream's
    /// `SelectorFromSet` does: callers for which that means "no selector" look first.
    pub fn from_map(labels: Option<&Value>) -> Self {
        let labels = labels.and_then(Value::as_object).into_iter().flatten();
        let requirement = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.as_str().unwrap_or_default().to_owned()],
        };
        let mut requirements: Vec<_> = labels.map(requirement).collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// Whether labels, looked up by key, meet every requirement.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(label(&r.key)))
    }

    /// Whether an object's `metadata.labels` (or any map of strings) match.
    pub fn matches_object(&self, labels: Option<&Value>) -> bool {
        self.matches(|key| labels?.get(key)?.as_str())
    }

    /// Labels that must have one certain value.
    pub fn exact(&self) -> impl Iterator<Item = (&str, &str)> {
        self.requirements.iter().filter_map(|r| match (&r.operator, r.values.as_slice()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => {
                Some((r.key.as_str(), value.as_str()))
            }
            _ => None,
        })
    }

    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    pub fn is_nothing(&self) -> bool {
        self.nothing
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, list) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={list}"),
            Operator::DoubleEquals => write!(f, "{key}=={list}"),
            Operator::NotEquals => write!(f, "{key}!={list}"),
            Operator::In => write!(f, "{key} in ({list})"),
            Operator::NotIn => write!(f, "{key} notin ({list})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{list}"),
            Operator::LessThan => write!(f, "{key}<{list}"),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// Characters that are tokens, alone or in pairs.
const SPECIAL: &str = "=!(),<>";
const OPERATORS: [(&str, Operator); 8] = [
    ("=", Operator::Equals),
    ("==", Operator::DoubleEquals),
    ("!=", Operator::NotEquals),
    ("in", Operator::In),
    ("notin", Operator::NotIn),
    (">", Operator::GreaterThan),
    ("<", Operator::LessThan),
    ("!", Operator::DoesNotExist),
];

/// Reads the grammar `requirement *("," requirement)`.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// The next token without taking it; empty at the end.
    fn peek(&self) -> &'a str {
        let rest = self.rest.trim_start();
        let special = |c: char| SPECIAL.contains(c);
        let len = match rest.find(|c: char| special(c) || c.is_whitespace()) {
            Some(0) if rest.starts_with("==") || rest.starts_with("!=") => 2,
            Some(0) => 1,
            Some(end) => end,
            None => rest.len(),
        };
        &rest[..len]
    }

    fn take(&mut self) -> &'a str {
        let token = self.peek();
        self.rest = &self.rest.trim_start()[token.len()..];
        token
    }

    fn is_identifier(token: &str) -> bool {
        !token.is_empty() && !token.starts_with(|c| SPECIAL.contains(c))
    }

    fn expected<T>(found: &str, expected: &'static str) -> Result<T, SelectorError> {
        Err(SelectorError::Syntax { found: found.into(), expected })
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        if self.peek().is_empty() {
            return Ok(requirements);
        }
        loop {
            let token = self.peek();
            if token != "!" && !Self::is_identifier(token) {
                return Self::expected(token, "!, identifier, or 'end of string'");
            }
            requirements.push(self.requirement()?);
            match self.take() {
                "" => return Ok(requirements),
                "," => {
                    let next = self.peek();
                    if next != "!" && !Self::is_identifier(next) {
                        return Self::expected(next, "identifier after ','");
                    }
                }
                token => return Self::expected(token, "',' or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let negated = self.peek() == "!";
        if negated {
            self.take();
        }
        let key = self.take();
        if !Self::is_identifier(key) {
            return Self::expected(key, "identifier");
        }
        if negated || matches!(self.peek(), "" | ",") {
            let operator = if negated { Operator::DoesNotExist } else { Operator::Exists };
            return Requirement::new(key, operator, Vec::new());
        }
        let token = self.take();
        let Some((_, operator)) = OPERATORS.iter().find(|(name, _)| *name == token && *name != "!") else {
            return Self::expected(token, "in, notin, =, ==, !=, gt, lt");
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        Requirement::new(key, *operator, values)
    }

    fn exact_value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            "" | "," => Ok(String::new()),
            token if Self::is_identifier(token) => Ok(self.take().into()),
            token => Self::expected(token, "identifier"),
        }
    }

    /// `(a,b)`; nothing between two commas is the empty value.
    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        let open = self.take();
        if open != "(" {
            return Self::expected(open, "'('");
        }
        let mut values = Vec::new();
        loop {
            match self.peek() {
                token if Self::is_identifier(token) => values.push(self.take().to_owned()),
                "," | ")" => values.push(String::new()),
                token => return Self::expected(token, "',', ')' or identifier"),
            }
            match self.take() {
                "," => {}
                ")" => return Ok(values),
                token => return Self::expected(token, "',' or ')'"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_read_is_shown_again() {
        for (text, shown) in [
            ("", ""),
            ("a", "a"),
            ("!a", "!a"),
            ("! a", "!a"),
            ("b=1,a==2", "a==2,b=1"),
            ("a!=x", "a!=x"),
            ("a=", "a="),
            ("a=,b", "a=,b"),
            ("a in (z, b,c)", "a in (b,c,z)"),
            ("a notin (x,)", "a notin (,x)"),
            ("in in (in)", "in in (in)"),
            ("a>5,b<7", "a>5,b<7"),
            (" a = b ", "a=b"),
            ("example.com/a=b", "example.com/a=b"),
        ] {
            assert_eq!(LabelSelector::parse(text).map(|s| s.to_string()).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, error) in [
            ("a,", "found '', expected: identifier after ','"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("a b", "found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in x", "found 'x', expected: '('"),
            ("a in (x", "found '', expected: ',' or ')'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a==!", "found '!', expected: identifier"),
            ("a=b!", "found '!', expected: ',' or 'end of string'"),
            ("a>x", "values: Invalid value: [\"x\"]"),
            ("-a=b", "key: Invalid value: \"-a\""),
            ("a=-", "values[0][a]: Invalid value: \"-\""),
        ] {
            let shown = LabelSelector::parse(text).unwrap_err().to_string();
            assert!(shown.starts_with(&format!("unable to parse requirement: {error}")), "{text}: {shown}");
        }
    }

    #[test]
    fn labels_match() {
        let labels = json!({"app": "web", "n": "6"});
        for (selector, matches) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("app=web", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (web,db)", true),
            ("app notin (web)", false),
            ("other notin (web)", true),
            ("n>5", true),
            ("n<6", false),
            ("app>5", false),
            ("app=web,n=7", false),
        ] {
            let parsed = LabelSelector::parse(selector).unwrap();
            assert_eq!(parsed.matches_object(Some(&labels)), matches, "{selector}");
        }
    }

    #[test]
    fn selector_objects_select_nothing_when_absent_and_everything_when_empty() {
        assert!(LabelSelector::from_object(None).unwrap().is_nothing());
        assert!(LabelSelector::from_object(Some(&json!({}))).unwrap().is_everything());
        let selector = LabelSelector::from_object(Some(&json!({
            "matchLabels": {"b": "1"},
            "matchExpressions": [{"key": "a", "operator": "Exists"}]
        })));
        assert_eq!(selector.unwrap().to_string(), "a,b in (1)");
    }
}
