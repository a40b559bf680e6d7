//! IP addresses and ranges: strictly, as new fields want them, and as old fields have always taken them (KEP-4858).

use std::net::IpAddr;

use super::Cursor;
use super::names::Problems;

const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Reads an address in which numbers may have zeros in front; an IPv4 address in the clothes of IPv6 is one of IPv4.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    parse(text).map(|ip| ip.to_canonical())
}

fn parse(text: &str) -> Option<IpAddr> {
    let (head, tail) = text.rsplit_once(':').map_or(("", text), |(head, tail)| (head, tail));
    if !tail.contains('.') {
        return text.parse().ok();
    }
    let parts: Vec<&str> = tail.split('.').map(unpadded).collect();
    let colon = if head.is_empty() && tail.len() == text.len() { "" } else { ":" };
    format!("{head}{colon}{}", parts.join(".")).parse().ok()
}

fn unpadded(number: &str) -> &str {
    let short = number.trim_start_matches('0');
    if short.is_empty() && !number.is_empty() { "0" } else { short }
}

/// Reads a range in which numbers may have zeros in front; bits behind the prefix may be set.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, length) = text.split_once('/')?;
    let ip = parse(ip)?;
    let length: u8 = Some(unpadded(length)).filter(|l| l.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    match (length <= bits, ip, ip.to_canonical()) {
        (false, ..) => None,
        (true, IpAddr::V6(_), mapped @ IpAddr::V4(_)) if length >= 96 => Some((mapped, length - 96)),
        (true, ip, _) => Some((ip, length)),
    }
}

/// The first address of a range.
fn masked(ip: IpAddr, length: u8) -> IpAddr {
    let keep = |bits: u32| bits - u32::from(length);
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(keep(32)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(keep(128)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

fn is_mapped(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() && ip.to_canonical().is_ipv4())
}

/// Problems of an address in a new field: it is written in its canonical form.
pub fn ip(text: &str) -> Problems {
    ip_problem(text, true).or_else(|| not_canonical(text, &parse_ip(text)?.to_string())).into_iter().collect()
}

fn not_canonical(text: &str, canonical: &str) -> Option<String> {
    (text != canonical).then(|| format!("must be in canonical form ({canonical:?})"))
}

fn ip_problem(text: &str, strict: bool) -> Option<String> {
    let why = match (parse_ip(text), text.parse::<IpAddr>()) {
        (None, _) => NOT_AN_IP,
        (Some(_), Err(_)) if strict => "must not have leading 0s",
        (Some(_), Ok(_)) if strict && is_mapped(text) => "must not be an IPv4-mapped IPv6 address",
        _ => return None,
    };
    Some(why.into())
}

/// Problems of a range in a new field: it is written in its canonical form, without bits behind the prefix.
pub fn cidr(text: &str) -> Problems {
    let canonical = || {
        let (ip, length) = parse_cidr(text)?;
        not_canonical(text, &format!("{}/{length}", masked(ip, length)))
    };
    cidr_problem(text, true).or_else(canonical).into_iter().collect()
}

fn cidr_problem(text: &str, strict: bool) -> Option<String> {
    let why = match (parse_cidr(text), super::names::parse_cidr(text)) {
        (None, _) => NOT_A_CIDR,
        (Some(_), None) if strict => "must not have leading 0s in IP or prefix length",
        (Some(_), Some(_)) if strict && text.split_once('/').is_some_and(|(ip, _)| is_mapped(ip)) => {
            "must not have an IPv4-mapped IPv6 address"
        }
        (Some((ip, length)), Some(_)) if strict && masked(ip, length) != ip => {
            "must not have bits set beyond the prefix length"
        }
        _ => return None,
    };
    Some(why.into())
}

/// Checks an address in a field that is older than the strict rules.
pub fn legacy_ip(at: &Cursor<'_>) {
    ip_problem(at.str(), at.gate("StrictIPCIDRValidation")).into_iter().for_each(|problem| at.invalid(problem));
}

/// Checks a range in a field that is older than the strict rules.
pub fn legacy_cidr(at: &Cursor<'_>) {
    cidr_problem(at.str(), at.gate("StrictIPCIDRValidation")).into_iter().for_each(|problem| at.invalid(problem));
}

/// What to warn of about an address in such a field at `path`.
pub fn ip_warning(path: &str, text: &str) -> Option<String> {
    let lenient = parse_ip(text)?;
    match text.parse::<IpAddr>() {
        Ok(ip) if !is_mapped(text) => (ip.is_ipv6() && ip.to_string() != text).then(|| {
            format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({:?})", ip.to_string())
        }),
        _ => Some(format!(
            "{path}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use {:?}",
            lenient.to_string()
        )),
    }
}

/// What to warn of about a range in such a field at `path`.
pub fn cidr_warnings(path: &str, text: &str) -> Vec<String> {
    let Some((ip, length)) = parse_cidr(text) else { return Vec::new() };
    let range = format!("{}/{length}", masked(ip, length));
    let mut warnings = Vec::new();
    if masked(ip, length) != ip {
        let alone = format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 });
        warnings.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be {range:?} or {alone:?}?)"
        ));
    }
    let mapped = text.split_once('/').is_some_and(|(ip, _)| is_mapped(ip));
    if super::names::parse_cidr(text).is_none() || mapped {
        warnings.push(format!(
            "{path}: non-standard CIDR value {text:?} will be considered invalid in a future Kubernetes release: use {range:?}"
        ));
    }
    if warnings.is_empty() && ip.is_ipv6() && range != text {
        warnings.push(format!("{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({range:?})"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        // (text, read at all, valid in a new field, warned of in an old one)
        for (text, read, strict, warned) in [
            ("10.0.0.1", true, true, false),
            ("010.0.000.1", true, false, true),
            ("::1", true, true, false),
            ("0:0::1", true, false, true),
            ("::ffff:1.2.3.4", true, false, true),
            ("::ffff:01.2.3.4", true, false, true),
            ("10.0.0.256", false, false, false),
            ("10.0.0", false, false, false),
            ("", false, false, false),
            ("a.b", false, false, false),
        ] {
            let found = (parse_ip(text).is_some(), ip(text).is_empty(), ip_warning("p", text).is_some());
            assert_eq!(found, (read, strict, warned), "{text}");
        }
    }

    #[test]
    fn ranges() {
        for (text, read, strict, warnings) in [
            ("10.0.0.0/8", true, true, 0),
            ("10.0.0.1/8", true, false, 1),
            ("010.0.0.0/08", true, false, 1),
            ("fd00::/64", true, true, 0),
            ("FD00::/64", true, false, 1),
            ("::/0", true, true, 0),
            ("10.0.0.0/33", false, false, 0),
            ("10.0.0.0/", false, false, 0),
            ("10.0.0.0/+8", false, false, 0),
            ("x/8", false, false, 0),
        ] {
            let found = (parse_cidr(text).is_some(), cidr(text).is_empty(), cidr_warnings("p", text).len());
            assert_eq!(found, (read, strict, warnings), "{text}");
        }
    }
}
