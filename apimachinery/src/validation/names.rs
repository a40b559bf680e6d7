//! The shapes of names: each function returns what is wrong, in sentences that go into an error; nothing wrong is an empty list.
//!
//! Sources: RFC 1123 and RFC 1035 for DNS names, RFC 6335 §5.1 for port names, the API conventions for labels and qualified names.

use std::net::IpAddr;

/// What is wrong with a name.
pub type Problems = Vec<String>;

pub const LABEL_MAX: usize = 63;
pub const SUBDOMAIN_MAX: usize = 253;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                              must start and end with an alphanumeric character";

fn shape_problem(rule: &str, shape: &str, examples: &[&str]) -> String {
    let examples: Vec<_> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{rule} (e.g. {}regex used for validation is '{shape}')", examples.join(" or "))
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn check(text: &str, max: usize, matches: bool, problem: impl FnOnce() -> String) -> Problems {
    let mut problems = Vec::new();
    if text.len() > max {
        problems.push(too_long(max));
    }
    if !matches {
        problems.push(problem());
    }
    problems
}

fn alphanumeric_ends(text: &str, inner: impl Fn(u8) -> bool, ends: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    ends(*first) && ends(*last) && bytes.iter().all(|b| inner(*b))
}

fn lower_or_digit(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    alphanumeric_ends(text, |b| lower_or_digit(b) || b == b'-', lower_or_digit)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_qualified_part(text: &str) -> bool {
    alphanumeric_ends(text, |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b), |b| b.is_ascii_alphanumeric())
}

/// Names of namespaces, containers, volumes, and so on.
pub fn dns1123_label(text: &str) -> Problems {
    check(text, LABEL_MAX, is_label(text), || {
        let rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
                    with an alphanumeric character";
        shape_problem(rule, LABEL, &["my-name", "123-abc"])
    })
}

/// Names of most objects.
pub fn dns1123_subdomain(text: &str) -> Problems {
    check(text, SUBDOMAIN_MAX, is_subdomain(text), || {
        shape_problem(SUBDOMAIN_RULE, &format!("{LABEL}(\\.{LABEL})*"), &["example.com"])
    })
}

/// Names of Services: a letter comes first.
pub fn dns1035_label(text: &str) -> Problems {
    let matches = is_label(text) && text.as_bytes()[0].is_ascii_lowercase();
    check(text, LABEL_MAX, matches, || {
        let rule = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                    character, and end with an alphanumeric character";
        shape_problem(rule, LABEL_1035, &["my-name", "abc-123"])
    })
}

/// A subdomain whose first label may be `*`.
pub fn wildcard_dns1123_subdomain(text: &str) -> Problems {
    let matches = text.strip_prefix("*.").is_some_and(is_subdomain);
    check(text, SUBDOMAIN_MAX, matches, || {
        let rule = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
                    lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        shape_problem(rule, &format!("\\*\\.{LABEL}(\\.{LABEL})*"), &["*.example.com"])
    })
}

/// A name with at least one dot, as groups of custom resources and third parties' conditions have.
pub fn fully_qualified_name(text: &str) -> Problems {
    if text.is_empty() {
        return vec!["must not be empty".into()];
    }
    let problems = dns1123_subdomain(text);
    if problems.is_empty() && text.split('.').count() < 3 {
        return vec!["should be a domain with at least three segments separated by dots".into()];
    }
    problems
}

/// `example.com/path`: what signers and dynamic resources are called.
pub fn domain_prefixed_path(text: &str) -> Problems {
    let Some((domain, path)) = text.split_once('/') else {
        return vec!["must be a domain-prefixed path (such as \"acme.io/foo\")".into()];
    };
    let mut problems: Problems = dns1123_subdomain(domain).into_iter().map(|p| format!("prefix part {p}")).collect();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/".contains(&b);
    if path.is_empty() || !path.bytes().all(allowed) {
        problems.push("path part must be a valid URL path".into());
    }
    problems
}

/// Keys of labels and annotations: a name of up to 63 characters, optionally after a DNS prefix and `/`.
pub fn qualified_name(text: &str) -> Problems {
    let mut problems = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            let rule = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                        alphanumeric character";
            let mut problem = shape_problem(rule, QUALIFIED, &["MyName", "my.name", "123-abc"]);
            problem += " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![problem];
        }
        Some(("", name)) => {
            problems.push("prefix part must be non-empty".into());
            name
        }
        Some((prefix, name)) => {
            problems.extend(dns1123_subdomain(prefix).into_iter().map(|p| format!("prefix part {p}")));
            name
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    } else if name.len() > LABEL_MAX {
        problems.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !is_qualified_part(name) {
        let rule = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                    alphanumeric character";
        problems.push(shape_problem(rule, QUALIFIED, &["MyName", "my.name", "123-abc"]));
    }
    problems
}

pub fn label_value(text: &str) -> Problems {
    check(text, LABEL_MAX, text.is_empty() || is_qualified_part(text), || {
        let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
                    and end with an alphanumeric character";
        shape_problem(rule, &format!("({QUALIFIED})?"), &["MyValue", "my_value", "12345"])
    })
}

/// An identifier of the C language.
pub fn c_identifier(text: &str) -> Problems {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let matches = text.bytes().next().is_some_and(first) && text.bytes().all(|b| first(b) || b.is_ascii_digit());
    check(text, usize::MAX, matches, || {
        let rule = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
                    characters or '_'";
        shape_problem(rule, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])
    })
}

/// Names of environment variables: printable ASCII without `=` (KEP-4369).
pub fn env_var_name(text: &str) -> Problems {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".into()];
    }
    check(text, usize::MAX, text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'='), || {
        "a valid environment variable name must consist only of printable ASCII characters other than '='".into()
    })
}

/// Keys of ConfigMaps and Secrets, which become file names.
pub fn config_map_key(text: &str) -> Problems {
    let matches = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let mut problems = check(text, SUBDOMAIN_MAX, matches, || {
        let rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        shape_problem(rule, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"])
    });
    problems.extend(dot_problems(text));
    problems
}

fn dot_problems(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".into()),
        ".." => Some("must not be '..'".into()),
        _ if text.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

/// Names that stand as one segment in a path of the API (roles, bindings).
pub fn path_segment(text: &str) -> Problems {
    let mut problems = Vec::new();
    if text == "." || text == ".." {
        problems.push(format!("may not be '{text}'"));
    }
    problems.extend(['/', '%'].into_iter().filter(|c| text.contains(*c)).map(|c| format!("may not contain '{c}'")));
    problems
}

/// Names of ports (RFC 6335): up to 15 of `a-z0-9-`, one letter at least.
pub fn port_name(text: &str) -> Problems {
    let mut problems = Vec::new();
    if text.len() > 15 {
        problems.push("must be no more than 15 bytes".into());
    }
    if !text.bytes().all(|b| lower_or_digit(b) || b == b'-') {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen".into());
    }
    problems
}

pub fn port_number(port: i64) -> Problems {
    if (1..=65535).contains(&port) { Vec::new() } else { vec!["must be between 1 and 65535, inclusive".into()] }
}

pub fn http_header_name(text: &str) -> Problems {
    let matches = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    check(text, usize::MAX, matches, || {
        let rule = "a valid HTTP header must consist of alphanumeric characters or '-'";
        shape_problem(rule, "[-A-Za-z0-9]+", &["X-Header-Name"])
    })
}

/// `25%`
pub fn percent(text: &str) -> Problems {
    let digits = text.strip_suffix('%').unwrap_or_default();
    let matches = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    check(text, usize::MAX, matches, || {
        let rule = "a valid percent string must be a numeric string followed by an ending '%'";
        shape_problem(rule, "[0-9]+%", &["1%", "93%"])
    })
}

pub fn ip(text: &str) -> Problems {
    if text.parse::<IpAddr>().is_ok() {
        return Vec::new();
    }
    vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()]
}

/// `10.0.0.0/8`; bits behind the prefix may be set.
pub fn cidr(text: &str) -> Problems {
    if parse_cidr(text).is_some() {
        return Vec::new();
    }
    vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into()]
}

/// Address and prefix length.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, length) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    let plain = length == "0" || !length.starts_with('0') && length.bytes().all(|b| b.is_ascii_digit());
    let length: u8 = length.parse().ok().filter(|_| plain)?;
    (length <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(check: fn(&str) -> Problems, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(check(text), Problems::new(), "{text:?}");
        }
        for text in bad {
            assert!(!check(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn dns_names() {
        let (long_label, long_domain) = ("a".repeat(64), format!("{}a", "a.".repeat(127)));
        table(dns1123_label, &["a", "a-b", "0a", &"a".repeat(63)], &["", "A", "-a", "a-", "a.b", "a_b", &long_label]);
        table(dns1123_subdomain, &["a", "a.b", "0.a-b.c"], &["", ".", "a..b", "a.", "A.b", &long_domain]);
        table(dns1035_label, &["a", "a0-b"], &["0a", "", "a."]);
        table(wildcard_dns1123_subdomain, &["*.a", "*.a.b"], &["*", "a", "*.", "*.*.a"]);
        table(fully_qualified_name, &["a.b.c"], &["", "a", "a.b"]);
    }

    #[test]
    fn keys_and_values() {
        table(
            qualified_name,
            &["a", "A_b.c-d", "example.com/a", "1/2"],
            &["", "/a", "a/", "a/b/c", "Ex/a", "-a", "a-", &"a".repeat(64)],
        );
        table(label_value, &["", "a", "A.b_c-d"], &["-", "a ", "a/b", &"a".repeat(64)]);
        table(config_map_key, &["a", ".a", "A_b-c.d"], &["", ".", "..", "..a", "a b", "a/b"]);
        table(env_var_name, &["A", "a.b", "0 x"], &["", "a=b", "ä"]);
        table(c_identifier, &["_a0"], &["0a", "", "a-b"]);
        table(path_segment, &["a:b", "..."], &[".", "..", "a/b", "a%b"]);
    }

    #[test]
    fn ports_and_addresses() {
        table(port_name, &["http", "a-1"], &["", "1", "-a", "a--b", "A", "abcdefghijklmnop"]);
        assert!(port_number(0).len() == 1 && port_number(65535).is_empty());
        table(ip, &["1.2.3.4", "::1"], &["", "1.2.3", "01.2.3.4", "1.2.3.4/8"]);
        table(cidr, &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/+8"]);
        table(percent, &["0%", "25%"], &["", "%", "-1%", "25"]);
    }

    #[test]
    fn a_shape_problem_gives_examples() {
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
              with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
    }
}
