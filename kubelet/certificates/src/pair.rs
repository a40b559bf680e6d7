//! A certificate with its key, and what it may be used for. Nothing in here reads a clock or a file.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use component_base::tls;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use crate::Template;

/// Why a certificate can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("{0}")]
    Malformed(String),
    #[error("it is not valid before {0}")]
    NotYetValid(Timestamp),
    #[error("it has expired at {0}")]
    Expired(Timestamp),
    #[error("its common name is {found:?}, not {wanted:?}")]
    CommonName { found: String, wanted: String },
    #[error("it lacks the {what} {}", .names.join(", "))]
    Lacks { what: &'static str, names: Vec<String> },
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub not_before: Timestamp,
    /// The end of the first to end of its chain.
    pub not_after: Timestamp,
    pub common_name: String,
    pub organizations: BTreeSet<String>,
    pub dns_names: BTreeSet<String>,
    pub ips: BTreeSet<IpAddr>,
}

/// A certificate that belongs to its key.
#[derive(Debug)]
pub struct Pair {
    pub certified: Arc<CertifiedKey>,
    pub facts: Facts,
}

impl Pair {
    /// Of PEM texts; one text may hold both.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, Unusable> {
        let certified = tls::certified_from_pem(cert, key).map_err(|error| Unusable::Malformed(error.to_string()))?;
        let facts = Facts::of(&certified.cert)?;
        Ok(Self { certified: Arc::new(certified), facts })
    }
}

impl Facts {
    fn of(chain: &[CertificateDer<'_>]) -> Result<Self, Unusable> {
        let parsed: Vec<X509Certificate<'_>> = chain.iter().map(parse).collect::<Result<_, _>>()?;
        let malformed = |what: &str| Unusable::Malformed(what.to_owned());
        let leaf = parsed.first().ok_or_else(|| malformed("there is no certificate"))?;
        let end = |cert: &X509Certificate<'_>| cert.validity().not_after.timestamp();
        let not_after = parsed.iter().map(end).min().unwrap_or_default();
        let time = |secs| Timestamp::from_second(secs).map_err(|_| malformed("its validity is out of range"));
        let subject = tls::subject(&chain[0]).unwrap_or_default();
        let mut facts = Self {
            not_before: time(leaf.validity().not_before.timestamp())?,
            not_after: time(not_after)?,
            common_name: subject.common_name,
            organizations: subject.organizations.into_iter().collect(),
            dns_names: BTreeSet::new(),
            ips: BTreeSet::new(),
        };
        let names = leaf.subject_alternative_name().map_err(|_| malformed("its alternative names can't be read"))?;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => {
                    facts.dns_names.insert((*name).to_owned());
                }
                GeneralName::IPAddress(bytes) => facts.ips.extend(ip(bytes)),
                _ => {}
            }
        }
        Ok(facts)
    }

    /// Whether it is valid at a time.
    pub fn valid(&self, now: Timestamp) -> Result<(), Unusable> {
        match (now < self.not_before, now > self.not_after) {
            (true, _) => Err(Unusable::NotYetValid(self.not_before)),
            (_, true) => Err(Unusable::Expired(self.not_after)),
            _ => Ok(()),
        }
    }

    /// Whether it says all that is wanted. It may say more.
    pub fn satisfies(&self, template: &Template) -> Result<(), Unusable> {
        if self.common_name != template.common_name {
            let (found, wanted) = (self.common_name.clone(), template.common_name.clone());
            return Err(Unusable::CommonName { found, wanted });
        }
        let missing = |what, names: Vec<String>| match names.is_empty() {
            true => Ok(()),
            false => Err(Unusable::Lacks { what, names }),
        };
        let organizations = template.organizations.iter().filter(|name| !self.organizations.contains(*name));
        missing("organizations", organizations.cloned().collect())?;
        missing("DNS names", template.dns_names.difference(&self.dns_names).cloned().collect())?;
        missing("IP addresses", template.ips.difference(&self.ips).map(ToString::to_string).collect())
    }

    /// When to ask for the next: at 70 to 90 % of its life, by a `fraction` from 0 to 1. A random one keeps nodes that came
    /// together from asking together for ever after.
    pub fn rotation_deadline(&self, fraction: f64) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        let part = SignedDuration::from_secs_f64(life.as_secs_f64() * (0.7 + 0.2 * fraction.clamp(0.0, 1.0)));
        self.not_before.checked_add(part).unwrap_or(self.not_after)
    }
}

fn parse<'a>(cert: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Unusable> {
    let parsed = x509_parser::parse_x509_certificate(cert);
    parsed.map(|(_, cert)| cert).map_err(|error| Unusable::Malformed(format!("no certificate: {error}")))
}

/// An address of 4 or 16 bytes.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn set<T: std::str::FromStr + Ord>(items: &[&str]) -> BTreeSet<T> {
        items.iter().filter_map(|item| item.parse().ok()).collect()
    }

    fn facts() -> Facts {
        Facts {
            not_before: time("2026-01-01T00:00:00Z"),
            not_after: time("2026-01-11T00:00:00Z"),
            common_name: "system:node:n1".into(),
            organizations: set(&["system:nodes"]),
            dns_names: set(&["n1"]),
            ips: set(&["10.0.0.1", "2001:db8::1"]),
        }
    }

    #[test]
    fn rotation_is_due_at_seventy_to_ninety_percent() {
        for (fraction, expected) in [
            (0.0, "2026-01-08T00:00:00Z"),
            (0.5, "2026-01-09T00:00:00Z"),
            (1.0, "2026-01-10T00:00:00Z"),
            (-1.0, "2026-01-08T00:00:00Z"),
            (7.0, "2026-01-10T00:00:00Z"),
        ] {
            let found = facts().rotation_deadline(fraction);
            let apart = found.duration_since(time(expected)).abs();
            assert!(apart < SignedDuration::from_secs(1), "{fraction}: {found}");
        }
        // What lives for no time at all is due at once.
        let dead = Facts { not_after: facts().not_before, ..facts() };
        assert_eq!(dead.rotation_deadline(1.0), dead.not_before);
    }

    #[test]
    fn a_certificate_is_valid_from_its_first_second_to_its_last() {
        for (now, usable) in [
            ("2025-12-31T23:59:59Z", false),
            ("2026-01-01T00:00:00Z", true),
            ("2026-01-11T00:00:00Z", true),
            ("2026-01-11T00:00:01Z", false),
        ] {
            assert_eq!(facts().valid(time(now)).is_ok(), usable, "{now}");
        }
    }

    #[test]
    fn a_certificate_has_to_say_all_that_is_wanted_and_may_say_more() {
        let client = Template::client("n1");
        let serving = |dns: &[&str], ips: &[&str]| Template { dns_names: set(dns), ips: set(ips), ..client.clone() };
        for (template, usable) in [
            (client.clone(), true),
            (Template::client("n2"), false),
            (Template { organizations: vec!["system:nodes".into(), "more".into()], ..client.clone() }, false),
            (serving(&["n1"], &["10.0.0.1"]), true),
            (serving(&["n1", "n1.example"], &[]), false),
            (serving(&[], &["2001:db8::1"]), true),
            (serving(&[], &["10.0.0.2"]), false),
        ] {
            assert_eq!(facts().satisfies(&template).is_ok(), usable, "{template:?}");
        }
    }

    #[test]
    fn a_pair_is_read_with_all_its_names() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let template = Template {
            dns_names: set(&["n1", "n1.example"]),
            ips: set(&["10.0.0.1", "::1"]),
            ..Template::client("n1")
        };
        let mut params = template.params().expect("parameters");
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 11);
        let cert = params.self_signed(&key).expect("a certificate").pem();
        let pair = Pair::from_pem(cert.as_bytes(), key.serialize_pem().as_bytes()).expect("a pair");
        assert_eq!(pair.facts.satisfies(&template), Ok(()));
        assert_eq!((pair.facts.not_before, pair.facts.not_after), (facts().not_before, facts().not_after));
        let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        for (cert, key) in [(cert.as_str(), other.as_str()), (&cert, ""), ("", &other), ("junk", "junk")] {
            let found = Pair::from_pem(cert.as_bytes(), key.as_bytes());
            assert!(matches!(found, Err(Unusable::Malformed(_))), "{found:?}");
        }
    }
}
