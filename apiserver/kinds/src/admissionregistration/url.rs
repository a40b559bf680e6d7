//! Which texts Go's `net/url` reads as a URL at all: it takes nearly everything, and what it refuses is another error than what
//! a webhook must not have.

/// Whether a text can be read as a URL or as a reference relative to one.
pub fn is_readable(text: &str) -> bool {
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) || text.starts_with(':') {
        return false;
    }
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (scheme, rest) = scheme(text);
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    if !escapes_are_whole(fragment) {
        return false;
    }
    let Some(path) = rest.strip_prefix("//").filter(|_| scheme || !rest.starts_with("///")) else {
        // What follows a scheme without a slash is taken as it is; without a scheme it must not look like one.
        let opaque = scheme && !rest.starts_with('/');
        let first = rest.split('/').next().unwrap_or_default();
        return opaque || (scheme || !first.contains(':')) && escapes_are_whole(rest);
    };
    let (authority, path) = path.split_at(path.find('/').unwrap_or(path.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    is_host(host) && escapes_are_whole(path)
}

/// Whether the text begins with a scheme, and what stands behind it.
fn scheme(text: &str) -> (bool, &str) {
    let Some((scheme, rest)) = text.split_once(':') else { return (false, text) };
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    let fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(inner);
    if fits { (true, rest) } else { (false, text) }
}

/// A name or an address with a port that may be empty.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(']') {
        Some((name, rest)) if host.starts_with('[') => (name, rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
        _ if host.starts_with('[') => return false,
        _ => host.rsplit_once(':').map_or((host, Some("")), |(name, port)| (name, Some(port))),
    };
    let allowed = |b: u8| !b.is_ascii() || b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"".contains(&b);
    port.is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit())) && name.bytes().all(allowed)
}

/// Each percent sign has two hexadecimal digits behind it.
fn escapes_are_whole(text: &str) -> bool {
    let is_hex = |b: Option<&u8>| b.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(i, b)| *b != b'%' || is_hex(bytes.get(i + 1)) && is_hex(bytes.get(i + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads() {
        for text in
            ["", " ", "../x", "x", "https://h/p%20q", "https://h:1/", "https://[::1]:2/", "mailto:a b", "a:b", "//h"]
        {
            assert!(is_readable(text), "{text}");
        }
        for text in [":", "1:2", "https://h:p/", "https://[::1", "https://a b/", "https://h/%z", "a\nb", "https://h#%"]
        {
            assert!(!is_readable(text), "{text}");
        }
    }
}
