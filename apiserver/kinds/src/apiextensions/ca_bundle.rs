//! The certificates that a conversion webhook is known by.

use apimachinery::validation::Cursor;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::pem::Pem;

/// Checks a `caBundle` that is not empty: one of its certificates must be one. What was not checked when it was written, as
/// `old` shows, may stay.
pub fn validate(bundle: &Cursor<'_>, old: Option<&str>) {
    if !bundle.is_empty()
        && let Err(why) = check(bundle.str())
        && !old.is_some_and(|old| !old.is_empty() && check(old).is_err())
    {
        bundle.invalid(format!("unable to load root certificates: {why}"));
    }
}

/// Upstream's words for what keeps certificates from being read.
fn check(bundle: &str) -> Result<(), String> {
    let bytes = STANDARD.decode(bundle).unwrap_or_default();
    let mut first = None;
    for block in Pem::iter_from_buffer(&bytes) {
        let problem = match block {
            Err(_) => "unable to parse bytes as PEM block".to_owned(),
            Ok(block) if block.label != "CERTIFICATE" => continue,
            Ok(block) => match block.parse_x509() {
                Ok(_) => return Ok(()),
                Err(error) => format!("failed to parse certificate: {error}"),
            },
        };
        first.get_or_insert(problem);
    }
    let nothing = if bytes.windows(11).any(|w| w == b"-----BEGIN ") {
        "no valid certificate authority data seen"
    } else {
        "unable to parse bytes as PEM block"
    };
    Err(first.unwrap_or_else(|| nothing.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::validation::Errors;
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::json;

    #[test]
    fn a_bundle_holds_a_certificate() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["a".into()]).unwrap().self_signed(&key).unwrap().pem();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let problems = |bundle: &str, old: Option<&str>| {
            let (value, errors) = (json!({"caBundle": STANDARD.encode(bundle)}), Errors::new());
            validate(&Cursor::root(&value, &errors).field("caBundle"), old.map(|old| STANDARD.encode(old)).as_deref());
            errors.into_vec().iter().map(ToString::to_string).collect::<String>()
        };
        for (bundle, why) in [
            ("\n", "unable to load root certificates: unable to parse bytes as PEM block"),
            ("PEM", "unable to load root certificates: unable to parse bytes as PEM block"),
            (broken, "unable to load root certificates: failed to parse certificate: "),
            (&key.serialize_pem(), "unable to load root certificates: no valid certificate authority data seen"),
        ] {
            let problems = problems(bundle, None);
            assert!(problems.contains(why), "{bundle}: {problems}");
        }
        for (bundle, old) in [
            (certificate.clone(), None),
            (format!("a comment\n{certificate}"), None),
            (format!("{broken}{certificate}"), None),
            (String::new(), None),
            // It was so before.
            ("PEM".into(), Some("\n")),
        ] {
            assert_eq!(problems(&bundle, old), "", "{bundle}");
        }
        assert_ne!(problems("\n", Some(&certificate)), "");
        assert_ne!(problems("\n", Some("")), "");
    }
}
