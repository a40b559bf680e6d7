//! What a certificate should say.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::NodeAddress;
use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};

/// Subject and names of a certificate that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: BTreeSet<String>,
    pub ips: BTreeSet<IpAddr>,
}

impl Template {
    /// A node as a client.
    pub fn client(node_name: &str) -> Self {
        Self {
            common_name: format!("system:node:{node_name}"),
            organizations: vec!["system:nodes".into()],
            ..Self::default()
        }
    }

    /// A node as a server under these addresses. `None` without an IP address: the gate AllowDNSOnlyNodeCSR is off, as
    /// signers refuse such requests.
    pub fn serving(node_name: &str, addresses: &[NodeAddress]) -> Option<Self> {
        let mut template = Self::client(node_name);
        for NodeAddress { type_, address } in addresses.iter().filter(|address| !address.address.is_empty()) {
            match (type_.as_str(), address.parse()) {
                ("Hostname" | "InternalIP" | "ExternalIP", Ok(ip)) => {
                    template.ips.insert(ip);
                }
                ("Hostname", Err(_)) | ("InternalDNS" | "ExternalDNS", _) => {
                    template.dns_names.insert(address.clone());
                }
                _ => {}
            }
        }
        (!template.ips.is_empty()).then_some(template)
    }

    /// The same in the words of the certificate request.
    pub(crate) fn params(&self) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for organization in &self.organizations {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        for name in &self.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(self.ips.iter().map(|ip| SanType::IpAddress(*ip)));
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serving_certificate_names_what_the_status_says() {
        let none: &[&str] = &[];
        for (addresses, dns_names, ips) in [
            (&[("InternalIP", "10.0.0.1"), ("Hostname", "n1")][..], &["n1"][..], &["10.0.0.1"][..]),
            (&[("Hostname", "10.0.0.2")], none, &["10.0.0.2"]),
            (
                &[("ExternalIP", "2001:db8::1"), ("ExternalDNS", "b.example"), ("InternalDNS", "a.example")],
                &["a.example", "b.example"],
                &["2001:db8::1"],
            ),
            (&[("InternalIP", "no address"), ("InternalIP", ""), ("ExternalIP", "192.0.2.1")], none, &["192.0.2.1"]),
            (&[("Hostname", "n1")], none, none),
            (&[], none, none),
        ] {
            let list: Vec<_> = addresses
                .iter()
                .map(|(type_, address)| NodeAddress { type_: (*type_).into(), address: (*address).into() })
                .collect();
            let template = Template::serving("n1", &list);
            assert_eq!(template.is_none(), ips.is_empty(), "{addresses:?}");
            let Some(template) = template else { continue };
            assert_eq!(template.common_name, "system:node:n1");
            assert_eq!(template.organizations, ["system:nodes"]);
            assert!(template.dns_names.iter().eq(dns_names), "{addresses:?}: {template:?}");
            assert!(
                template.ips.iter().map(ToString::to_string).eq(ips.iter().copied()),
                "{addresses:?}: {template:?}"
            );
        }
    }
}
