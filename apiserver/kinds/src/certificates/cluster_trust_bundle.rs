//! ClusterTrustBundles: the roots of trust of a signer, or of nobody in particular, for pods to mount. (KEP-3257)
//!
//! Who may write one for a signer is the matter of the plugin ClusterTrustBundleAttest.

use apimachinery::validation::{Cursor, names};
use std::collections::BTreeMap;

use super::pem;
use registry::edit::text;
use registry::printing::{NAME, column, name, or_none};
use registry::strategy::{NameRule, SelectableField, Strategy, Table};

/// Of the text of a bundle.
const BYTES_MAX: usize = 1 << 20;

pub const STRATEGY: Strategy = Strategy {
    // Names of bundles of a signer have colons; `named_after_signer` says the rest.
    name: NameRule::PathSegment,
    unconditional_update: false,
    validate: |bundle| {
        rules(bundle);
        trust_bundle(&bundle.dig("spec.trustBundle"));
    },
    validate_update: |new, old| {
        rules(new);
        let (after, before) = (new.dig("spec.trustBundle"), old.dig("spec.trustBundle"));
        // Reading certificates is dear, and what was stored under older rules stays writable.
        if after.str() != before.str() {
            trust_bundle(&after);
        }
        new.dig("spec.signerName").immutable(&old.dig("spec.signerName"));
    },
    fields: &[SelectableField { name: "spec.signerName", value: |bundle| text(bundle, "spec.signerName").into() }],
    table: Some(Table {
        columns: &[NAME, column("SignerName", ".spec.signerName")],
        cells: |bundle, _| vec![name(bundle), or_none(text(bundle, "spec.signerName"))],
    }),
    ..Strategy::GENERIC
};

fn rules(bundle: &Cursor<'_>) {
    let signer = bundle.dig("spec.signerName");
    signer.optional_shape(names::domain_prefixed_path);
    named_after_signer(&bundle.dig("metadata.name"), signer.str());
}

/// Checks the name of a bundle that is given without its signer: all but the last part before a colon is the signer.
pub fn name_of_bundle(name: &Cursor<'_>) {
    let own = name.str().rsplit_once(':').map_or(name.str(), |(_, own)| own);
    names::dns1123_subdomain(own)
        .into_iter()
        .for_each(|problem| name.invalid(format!("not a valid clustertrustbundlename: {problem}")));
}

/// `example.com:foo:` and more for the signer `example.com/foo`; without colons where there is no signer.
fn named_after_signer(name: &Cursor<'_>, signer: &str) {
    let prefix = if signer.is_empty() { String::new() } else { format!("{}:", signer.replace('/', ":")) };
    match name.str().strip_prefix(&prefix) {
        None => name.invalid(format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")),
        Some(own) if signer.is_empty() && own.contains(':') => {
            name.invalid("ClusterTrustBundle without signer name must not have \":\" in its name");
        }
        Some(own) => names::dns1123_subdomain(own).into_iter().for_each(|problem| name.invalid(problem)),
    }
}

fn trust_bundle(bundle: &Cursor<'_>) {
    const OMITTED: &str = "<value omitted>";
    if bundle.str().len() > BYTES_MAX {
        bundle.too_long(BYTES_MAX);
        return;
    }
    let blocks = match pem::certificates(bundle.str()) {
        Ok(blocks) => blocks,
        Err(problem) => return bundle.invalid_value(OMITTED, problem),
    };
    if blocks.is_empty() {
        bundle.invalid_value(OMITTED, "at least one trust anchor must be provided");
    }
    let mut places: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for (index, block) in blocks.iter().enumerate() {
        match block.parse_x509() {
            Err(_) => bundle.invalid_value(OMITTED, format!("entry {index} does not parse as X.509")),
            Ok(certificate) => {
                let constraints = certificate.basic_constraints().ok().flatten();
                if !constraints.is_some_and(|c| c.value.ca) {
                    bundle.invalid_value(OMITTED, format!("entry {index} does not have the CA bit set"));
                }
                places.entry(&block.contents).or_default().push(index);
            }
        }
    }
    for indices in places.values().filter(|indices| indices.len() > 1) {
        bundle.invalid_value(OMITTED, format!("duplicate trust anchor (indices {indices:?})"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::validation::Errors;
    use serde_json::json;

    fn authority(name: &str, ca: bool) -> String {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        if ca {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn bundles_are_anchors_named_after_their_signer() {
        let (one, leaf) = (authority("one", true), authority("leaf", false));
        let key = one.replace("CERTIFICATE", "PRIVATE KEY");
        let headed = one.replacen("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1);
        for (name, signer, bundle, want) in [
            ("a", "", one.clone(), vec![]),
            ("example.com:foo:a", "example.com/foo", format!("{one}\nbetween\n{}", authority("two", true)), vec![]),
            ("a:b", "", one.clone(), vec!["metadata.name"]),
            ("a", "example.com/foo", one.clone(), vec!["metadata.name"]),
            ("nodomain:a", "nodomain", one.clone(), vec!["spec.signerName"]),
            ("a", "", String::new(), vec!["spec.trustBundle"]),
            ("a", "", leaf, vec!["spec.trustBundle"]),
            ("a", "", key, vec!["spec.trustBundle"]),
            ("a", "", headed, vec!["spec.trustBundle"]),
            ("a", "", format!("{one}{one}"), vec!["spec.trustBundle"]),
            ("a", "", "x".repeat(BYTES_MAX + 1), vec!["spec.trustBundle"]),
        ] {
            let object = json!({"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": bundle}});
            let errors = Errors::new();
            (STRATEGY.validate)(&Cursor::root(&object, &errors));
            let got: Vec<String> = errors.into_vec().iter().map(|e| e.field.to_string()).collect();
            assert_eq!(got, want, "{name} {signer} {bundle:.40}");
        }
    }
}
