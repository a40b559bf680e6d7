//! Regular expressions as Go reads them (RE2 syntax, https://github.com/google/re2/wiki/Syntax), which is what patterns of schemas
//! and expressions are written in, made into those that the `regex` crate reads. Both match in linear time; they differ in a few
//! spellings, and in that `\d`, `\w`, `\s` and `\b` mean ASCII in Go.

use regex::{Regex, RegexBuilder};

/// The most that a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// The most times that Go repeats something.
const REPEATED_MAX: u32 = 1000;

/// Compiles a pattern that is written for Go. The error says what is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern)?;
    let built =
        RegexBuilder::new(&translated).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build();
    built.map_err(|e| e.to_string())
}

/// The same pattern for the `regex` crate.
pub fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escape(after, in_class, &mut out)?,
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                open_class(after, &mut out)
            }
            '[' => match posix_class(rest) {
                Some(class) => {
                    out.push_str(class);
                    &rest[class.len()..]
                }
                None => {
                    out.push_str("\\[");
                    after
                }
            },
            ']' if in_class => {
                in_class = false;
                out.push(']');
                after
            }
            // Two of these would be an operator on sets.
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
                after
            }
            // A range that ends in a dash, for Rust a difference of sets.
            '-' if in_class && after.starts_with('-') => {
                out.push_str("-\\-");
                &after[1..]
            }
            '{' if !in_class => match repetition(rest)? {
                Some(length) => {
                    out.push_str(&rest[..length]);
                    &rest[length..]
                }
                None => {
                    out.push_str("\\{");
                    after
                }
            },
            c => {
                out.push(c);
                after
            }
        };
    }
    Ok(out)
}

/// What means itself where it stands first in a class, behind `^` if that is there: a bracket or a dash.
fn open_class<'a>(mut rest: &'a str, out: &mut String) -> &'a str {
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    match rest.chars().next() {
        Some(first @ (']' | '-')) => {
            out.extend(['\\', first]);
            &rest[1..]
        }
        _ => rest,
    }
}

/// `[:alpha:]`, if the text begins with one.
fn posix_class(text: &str) -> Option<&str> {
    let name = text.strip_prefix("[:")?;
    let length = name.find(|c: char| c != '^' && !c.is_ascii_lowercase())?;
    name[length..].starts_with(":]").then(|| &text[..length + 4])
}

/// The length of a repetition such as `{2,5}`; none if the brace is a character like any other.
fn repetition(text: &str) -> Result<Option<usize>, String> {
    let Some(inside) = text[1..].split_once('}').map(|(inside, _)| inside) else { return Ok(None) };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    if !is_number(least) || !(most.is_empty() || is_number(most)) {
        return Ok(None);
    }
    let fits = |part: &str| part.is_empty() || part.parse::<u32>().is_ok_and(|n| n <= REPEATED_MAX);
    if !fits(least) || !fits(most) {
        return Err(format!("invalid repeat count: `{{{inside}}}`"));
    }
    Ok(Some(inside.len() + 2))
}

/// Translates what follows a backslash, and returns what follows that.
fn escape<'a>(text: &'a str, in_class: bool, out: &mut String) -> Result<&'a str, String> {
    let Some(c) = text.chars().next() else { return Err("trailing backslash at end of expression".into()) };
    let rest = &text[c.len_utf8()..];
    let bracketed = |class: &str| if in_class { class.to_owned() } else { format!("[{class}]") };
    match c {
        'd' => out.push_str(&bracketed("0-9")),
        'w' => out.push_str(&bracketed("0-9A-Za-z_")),
        's' => out.push_str(&bracketed("\\t\\n\\f\\r ")),
        'D' => out.push_str("[^0-9]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'S' => out.push_str("[^\\t\\n\\f\\r ]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        'B' if !in_class => out.push_str("(?-u:\\B)"),
        'A' | 'z' if !in_class => out.extend(['\\', c]),
        'a' | 'f' | 't' | 'n' | 'r' | 'v' | 'x' => out.extend(['\\', c]),
        'C' if !in_class => out.push_str("(?s:.)"),
        'p' | 'P' => match rest.strip_prefix("{^") {
            Some(negated) => {
                out.push_str(if c == 'p' { "\\P{" } else { "\\p{" });
                return Ok(negated);
            }
            None => out.extend(['\\', c]),
        },
        'Q' if !in_class => {
            let (quoted, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(quoted));
            return Ok(rest);
        }
        '0'..='7' => {
            let digits = text.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
            if c != '0' && digits == 1 {
                return Err(format!("invalid escape sequence: `\\{c}`"));
            }
            let code = u32::from_str_radix(&text[..digits], 8).unwrap_or_default();
            out.push_str(&format!("\\x{{{code:X}}}"));
            return Ok(&text[digits..]);
        }
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => out.push_str(&format!("\\x{{{:X}}}", u32::from(c))),
        c => return Err(format!("invalid escape sequence: `\\{c}`")),
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_they_match_in_go() {
        for (pattern, matching, other) in [
            (r"^[a[b]$", "[", "c"),
            (r"^[]a]+$", "]a", "b"),
            (r"^[^]]$", "a", "]"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[+--]$", ",", "a"),
            (r"^[--/]$", ".", "a"),
            (r"^[^-a]$", "b", "-"),
            (r"^[[:alpha:]_]+$", "ab_", "a1"),
            (r"^\d\w\s$", "1a ", "١a "),
            (r"^[\d\-]+$", "1-2", "a"),
            (r"^[^\W]$", "a", "-"),
            (r"^a{2,3}$", "aaa", "a"),
            (r"^a{,3}$", "a{,3}", "aaa"),
            (r"^\Qa.b\E.$", "a.bc", "axbc"),
            (r"^\<\_\/$", "<_/", "a"),
            (r"^\101\x41$", "AA", "BB"),
            (r"^\p{^Greek}\pL$", "ab", "αb"),
            (r"(?i)^A\z", "a", "b"),
            (r"^é\b.$", "é", "e"),
        ] {
            let regex = compile(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert!(pattern.ends_with(r"\b.$") || regex.is_match(matching), "{pattern} {matching}");
            assert!(!regex.is_match(other), "{pattern} {other}");
        }
    }

    #[test]
    fn what_go_does_not_take_is_refused() {
        for pattern in ["a{1001}", "[a", "(a", r"\8", r"\y", "a\\", "*a", r"(?=a)", r"(a)\1"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
