//! From text to tokens.

use crate::ast::{Issue, Literal};
use crate::literal;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Ident(String),
    Literal(Literal),
    /// Operators and brackets; also the word `in`.
    Punct(&'static str),
    End,
}

/// A token, where it starts in characters, and its text.
#[derive(Clone, Debug)]
pub struct Spanned {
    pub token: Token,
    pub offset: u32,
    pub text: String,
}

/// Longer ones first.
const PUNCTUATION: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "(", ")", "[", "]", "{", "}", ".", ",", "+", "-", "*", "/", "%", "<", ">", "!",
    "?", ":",
];

/// Splits an expression into tokens, the last of which is [`Token::End`].
pub fn tokens(source: &str) -> Result<Vec<Spanned>, Issue> {
    let mut tokens = Vec::new();
    let (mut rest, mut offset) = (source, 0u32);
    loop {
        let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']);
        offset += (rest.len() - trimmed.len()) as u32;
        rest = trimmed;
        if let Some(comment) = rest.strip_prefix("//") {
            let line = comment.split('\n').next().unwrap_or("");
            offset += 2 + line.chars().count() as u32;
            rest = &comment[line.len()..];
            continue;
        }
        let Some(first) = rest.chars().next() else { break };
        let (token, length) = one(rest, first).map_err(|message| Issue { offset: Some(offset), message })?;
        tokens.push(Spanned { token, offset, text: rest[..length].to_owned() });
        offset += rest[..length].chars().count() as u32;
        rest = &rest[length..];
    }
    tokens.push(Spanned { token: Token::End, offset, text: "<EOF>".into() });
    Ok(tokens)
}

/// The token at the start of `rest`, and how many bytes it takes.
fn one(rest: &str, first: char) -> Result<(Token, usize), String> {
    let second = rest[first.len_utf8()..].chars().next();
    if first.is_ascii_digit() || first == '.' && second.is_some_and(|c| c.is_ascii_digit()) {
        let length = number_length(rest);
        return Ok((Token::Literal(literal::number(&rest[..length])?), length));
    }
    if let Some(found) = quoted(rest) {
        return found;
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let token = match &rest[..length] {
            "true" => Token::Literal(Literal::Bool(true)),
            "false" => Token::Literal(Literal::Bool(false)),
            "null" => Token::Literal(Literal::Null),
            "in" => Token::Punct("in"),
            word => Token::Ident(word.into()),
        };
        return Ok((token, length));
    }
    match PUNCTUATION.iter().find(|p| rest.starts_with(**p)) {
        Some(punct) => Ok((Token::Punct(punct), punct.len())),
        None => Err(format!("Syntax error: token recognition error at: '{first}'")),
    }
}

fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let run = |from: usize, accept: fn(&u8) -> bool| from + bytes[from..].iter().take_while(|b| accept(b)).count();
    let mut end;
    if bytes.len() > 2 && bytes[0] == b'0' && matches!(bytes[1], b'x' | b'X') && bytes[2].is_ascii_hexdigit() {
        end = run(2, u8::is_ascii_hexdigit);
    } else {
        end = run(0, u8::is_ascii_digit);
        let mut double = false;
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            end = run(end + 1, u8::is_ascii_digit);
            double = true;
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                end = run(end + 1 + sign, u8::is_ascii_digit);
                double = true;
            }
        }
        if double {
            return end;
        }
    }
    end + usize::from(matches!(bytes.get(end), Some(b'u' | b'U')))
}

/// A string or bytes literal, if one starts here.
fn quoted(rest: &str) -> Option<Result<(Token, usize), String>> {
    let at = rest.bytes().take(3).position(|b| b == b'"' || b == b'\'')?;
    let prefix = &rest[..at];
    let (mut raw, mut bytes) = (false, false);
    for c in prefix.chars() {
        match c {
            'r' | 'R' if !raw => raw = true,
            'b' | 'B' if !bytes => bytes = true,
            _ => return None,
        }
    }
    let body = &rest[prefix.len()..];
    let quote = if body.starts_with("\"\"\"") || body.starts_with("'''") { &body[..3] } else { &body[..1] };
    let inner = &body[quote.len()..];
    let (mut escaped, mut end) = (false, None);
    for (at, c) in inner.char_indices() {
        if !escaped && inner[at..].starts_with(quote) {
            end = Some(at);
            break;
        }
        if quote.len() == 1 && matches!(c, '\n' | '\r') {
            break;
        }
        escaped = !escaped && !raw && c == '\\';
    }
    let Some(end) = end else {
        return Some(Err(format!("Syntax error: token recognition error at: '{}'", rest.lines().next().unwrap_or(""))));
    };
    let read = if bytes { literal::bytes(&inner[..end], raw) } else { literal::string(&inner[..end], raw) };
    Some(read.map(|l| (Token::Literal(l), prefix.len() + 2 * quote.len() + end)))
}
