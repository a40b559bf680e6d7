//! Addresses, ranges of them, URLs.

use super::{Call, Cost, Function, row, simple};
use crate::error::Error;
use crate::value::{Key, Map, Opaque, Value};
use apimachinery::validation::names;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

macro_rules! of_ip {
    ($name:literal, $test:expr) => {
        simple(
            $name,
            &["ip.() bool"],
            Call(|_, args| {
                let test: fn(&IpAddr) -> bool = $test;
                Ok(Value::Bool(test(&ip(&args[0])?)))
            }),
        )
    };
}

macro_rules! of_url {
    ($name:literal, $part:expr) => {
        simple(
            $name,
            &["url.() string"],
            Call(|_, args| {
                let part: fn(&url::Url, &str) -> String = $part;
                let Value::Opaque(opaque) = &args[0] else { return Err(Error::NoOverload) };
                let Opaque::Url(url, text) = &**opaque else { return Err(Error::NoOverload) };
                Ok(Value::text(part(url, text)))
            }),
        )
    };
}

pub const FUNCTIONS: &[Function] = &[
    row(
        "ip",
        &["(string) ip"],
        Cost::Scan(0, 1),
        Call(|_, args| {
            let text = args[0].as_str().ok_or(Error::NoOverload)?;
            parse_ip(text).map(|ip| Value::opaque(Opaque::Ip(ip))).map_err(Error::new)
        }),
    ),
    simple("ip", &["cidr.() ip"], Call(|_, args| Ok(Value::opaque(Opaque::Ip(cidr(&args[0])?.1))))),
    row(
        "isIP",
        &["(string) bool"],
        Cost::Scan(0, 1),
        Call(|_, args| Ok(Value::Bool(parse_ip(args[0].as_str().ok_or(Error::NoOverload)?).is_ok()))),
    ),
    row(
        "ip.isCanonical",
        &["(string) bool"],
        Cost::Scan(0, 2),
        Call(|_, args| {
            let text = args[0].as_str().ok_or(Error::NoOverload)?;
            Ok(Value::Bool(parse_ip(text).map_err(Error::new)?.to_string() == text))
        }),
    ),
    simple("family", &["ip.() int"], Call(|_, args| Ok(Value::Int(if ip(&args[0])?.is_ipv4() { 4 } else { 6 })))),
    of_ip!("isUnspecified", IpAddr::is_unspecified),
    of_ip!("isLoopback", IpAddr::is_loopback),
    of_ip!("isLinkLocalMulticast", |ip| match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }),
    of_ip!("isLinkLocalUnicast", |ip| match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }),
    of_ip!("isGlobalUnicast", |ip| match ip {
        IpAddr::V4(v4) =>
            !(v4.is_broadcast() || v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_link_local()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local()),
    }),
    row(
        "cidr",
        &["(string) cidr"],
        Cost::Scan(0, 1),
        Call(|_, args| {
            let text = args[0].as_str().ok_or(Error::NoOverload)?;
            let (net, ip) = parse_cidr(text).ok_or_else(|| {
                Error::new(format!(
                    "network address parse error during conversion from string: netip.ParsePrefix({text:?})"
                ))
            })?;
            Ok(Value::opaque(Opaque::Cidr(net, ip)))
        }),
    ),
    row(
        "isCIDR",
        &["(string) bool"],
        Cost::Scan(0, 1),
        Call(|_, args| Ok(Value::Bool(parse_cidr(args[0].as_str().ok_or(Error::NoOverload)?).is_some()))),
    ),
    simple("prefixLength", &["cidr.() int"], Call(|_, args| Ok(Value::Int(cidr(&args[0])?.0.prefix_len().into())))),
    simple(
        "masked",
        &["cidr.() cidr"],
        Call(|_, args| {
            let net = cidr(&args[0])?.0.trunc();
            Ok(Value::opaque(Opaque::Cidr(net, net.addr())))
        }),
    ),
    row(
        "containsIP",
        &["cidr.(ip) bool", "cidr.(string) bool"],
        Cost::Fixed(4),
        Call(|_, args| {
            let ip = match args[1].as_str() {
                Some(text) => parse_ip(text).map_err(Error::new)?,
                None => ip(&args[1])?,
            };
            Ok(Value::Bool(cidr(&args[0])?.0.contains(&ip)))
        }),
    ),
    row(
        "containsCIDR",
        &["cidr.(cidr) bool", "cidr.(string) bool"],
        Cost::Fixed(6),
        Call(|_, args| {
            let inner =
                match args[1].as_str() {
                    Some(text) => parse_cidr(text)
                        .ok_or_else(|| {
                            Error::new(format!(
                                "network address parse error during conversion from string: netip.ParsePrefix({text:?})"
                            ))
                        })?
                        .0,
                    None => cidr(&args[1])?.0,
                };
            Ok(Value::Bool(cidr(&args[0])?.0.contains(&inner.trunc())))
        }),
    ),
    simple(
        "string",
        &["(ip) string", "(cidr) string"],
        Call(|_, args| match &args[0] {
            Value::Opaque(opaque) => match &**opaque {
                Opaque::Ip(ip) => Ok(Value::text(ip.to_string())),
                Opaque::Cidr(net, ip) => Ok(Value::text(format!("{ip}/{}", net.prefix_len()))),
                _ => Err(Error::NoOverload),
            },
            _ => Err(Error::NoOverload),
        }),
    ),
    row(
        "url",
        &["(string) url"],
        Cost::Scan(0, 1),
        Call(|_, args| {
            let text = args[0].as_str().ok_or(Error::NoOverload)?;
            let url = parse_url(text).ok_or_else(|| {
                Error::new(format!(
                    "URL parse error during conversion from string: parse {text:?}: invalid URI for request"
                ))
            })?;
            Ok(Value::opaque(Opaque::Url(url, text.to_owned())))
        }),
    ),
    row(
        "isURL",
        &["(string) bool"],
        Cost::Scan(0, 1),
        Call(|_, args| Ok(Value::Bool(parse_url(args[0].as_str().ok_or(Error::NoOverload)?).is_some()))),
    ),
    of_url!("getScheme", |url, text| if text.starts_with('/') { String::new() } else { url.scheme().to_owned() }),
    of_url!("getHost", |_, text| authority(text).to_owned()),
    of_url!("getHostname", |_, text| {
        let host = authority(text);
        match host.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or("").to_owned(),
            None => host.split(':').next().unwrap_or("").to_owned(),
        }
    }),
    of_url!("getPort", |_, text| {
        let host = authority(text);
        let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
        after.rsplit_once(':').map_or(String::new(), |(_, port)| port.to_owned())
    }),
    of_url!("getEscapedPath", |url, text| {
        // The parser gives an absent path a slash.
        let absent = !text.starts_with('/') && text.split("://").nth(1).is_some_and(|rest| !rest.contains('/'));
        if absent { String::new() } else { url.path().to_owned() }
    }),
    simple(
        "getQuery",
        &["url.() map<string, list<string>>"],
        Call(|_, args| {
            let Value::Opaque(opaque) = &args[0] else { return Err(Error::NoOverload) };
            let Opaque::Url(url, _) = &**opaque else { return Err(Error::NoOverload) };
            let mut query: BTreeMap<Key, Vec<Value<'_>>> = BTreeMap::new();
            for (name, value) in url.query_pairs() {
                query.entry(Key::String((&*name).into())).or_default().push(Value::text(&*value));
            }
            let query = query.into_iter().map(|(name, values)| (name, Value::list(values))).collect();
            Ok(Value::Map(Map::Made(Rc::new(query))))
        }),
    ),
];

/// `user@host:port` without the user.
fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    host.rsplit_once('@').map_or(host, |(_, host)| host)
}

/// An absolute URI, or an absolute path. (Go's `ParseRequestURI`.)
fn parse_url(text: &str) -> Option<url::Url> {
    if text.is_empty()
        || text.chars().any(|c| c.is_ascii_control() || c == ' ')
        || text.contains('#') && text.starts_with('/')
    {
        return None;
    }
    if text.starts_with('/') {
        return url::Url::parse("http://localhost").ok()?.join(text).ok();
    }
    text.contains(':').then(|| url::Url::parse(text).ok()).flatten()
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let failed = |why: &str| format!("IP Address {text:?} parse error during conversion from string: {why}");
    if text.contains('%') {
        return Err(failed("IP address with zone value is not allowed"));
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => Err(failed("IPv4-mapped IPv6 address is not allowed")),
        Ok(ip) => Ok(ip),
        Err(_) => Err(failed(&format!("ParseAddr({text:?}): unable to parse IP"))),
    }
}

fn parse_cidr(text: &str) -> Option<(ipnet::IpNet, IpAddr)> {
    let (ip, length) = names::parse_cidr(text)?;
    let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if mapped { None } else { Some((ipnet::IpNet::new(ip, length).ok()?, ip)) }
}

fn ip(value: &Value<'_>) -> Result<IpAddr, Error> {
    match value {
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Ip(ip) => Ok(*ip),
            _ => Err(Error::NoOverload),
        },
        _ => Err(Error::NoOverload),
    }
}

fn cidr(value: &Value<'_>) -> Result<(ipnet::IpNet, IpAddr), Error> {
    match value {
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Cidr(net, ip) => Ok((*net, *ip)),
            _ => Err(Error::NoOverload),
        },
        _ => Err(Error::NoOverload),
    }
}
