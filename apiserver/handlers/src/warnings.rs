//! `Warning` headers (RFC 7234 §5.5, code 299): what a client should know of a request that was done all the same. Bounded, since
//! clients and proxies bound the head of an answer.

use crate::Response;
use http::HeaderValue;
use std::collections::HashSet;

/// Characters of all warnings together; where there are more, each is cut to [`WARNING_CHARS`] and those beyond are left out.
const WARNINGS_CHARS: usize = 4096;
const WARNING_CHARS: usize = 256;
/// Some HTTP libraries, hyper among them, take a hundred headers in all.
const WARNINGS_MAX: usize = 64;

/// Adds a header for each text.
pub fn warn(mut response: Response, warnings: &[String]) -> Response {
    let mut seen = HashSet::new();
    let texts: Vec<&str> = warnings.iter().map(String::as_str).filter(|text| seen.insert(*text)).collect();
    let is_long = texts.iter().map(|text| text.chars().count()).sum::<usize>() > WARNINGS_CHARS;
    let each = if is_long { WARNING_CHARS } else { WARNINGS_CHARS };
    let mut left = WARNINGS_CHARS;
    for text in texts.into_iter().take(WARNINGS_MAX) {
        let mut quoted = String::with_capacity(text.len() + 8);
        quoted.push_str("299 - \"");
        for c in text.chars().take(each.min(left)).filter(|c| !c.is_control()) {
            if matches!(c, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        quoted.push('"');
        if let Ok(value) = HeaderValue::from_bytes(quoted.as_bytes()) {
            response.headers_mut().append("warning", value);
        }
        left = left.saturating_sub(text.chars().count().min(each));
        if left == 0 {
            break;
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(warnings: &[String]) -> Vec<String> {
        let response = warn(http::Response::new(component_base::serving::full("")), warnings);
        response
            .headers()
            .get_all("warning")
            .iter()
            .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
            .collect()
    }

    #[test]
    fn texts_are_quoted_and_told_once() {
        let warnings = ["unknown field \"spec.a\\b\"", "line\nbreak", "ä", "ä"].map(str::to_owned);
        assert_eq!(
            warned(&warnings),
            ["299 - \"unknown field \\\"spec.a\\\\b\\\"\"", "299 - \"linebreak\"", "299 - \"ä\""]
        );
    }

    #[test]
    fn all_together_they_are_bounded() {
        let long = "x".repeat(3000);
        assert_eq!(warned(std::slice::from_ref(&long))[0].len(), 3000 + "299 - \"\"".len());
        let two = warned(&[long.clone(), format!("{long}y")]);
        assert_eq!(two, vec![format!("299 - \"{}\"", "x".repeat(WARNING_CHARS)); 2]);
        let many: Vec<String> = (0..1000).map(|i| format!("{i} {}", "\"".repeat(500))).collect();
        let heads = warned(&many);
        assert_eq!(heads.len(), WARNINGS_CHARS / WARNING_CHARS);
        assert!(heads.iter().map(String::len).sum::<usize>() < 3 * WARNINGS_CHARS);
        let short: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
        assert_eq!(warned(&short).len(), WARNINGS_MAX);
    }
}
