//! Certificates as kubeadm makes them: same files, subjects and names, so that its habits and tools apply.

use crate::layout::PKI;
use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use sha2::{Digest, Sha256};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use time::{Duration, OffsetDateTime};
use x509_parser::pem::Pem;

const CA_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 365;

/// Who a certificate is for.
pub struct Leaf<'a> {
    pub common_name: &'a str,
    pub organization: Option<&'a str>,
    /// DNS names and addresses; for servers.
    pub names: Vec<String>,
    pub server: bool,
    pub client: bool,
}

/// A CA that signs.
pub struct Authority {
    pub cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Signed {
    pub cert_pem: String,
    pub key_pem: String,
}

impl Authority {
    /// The CA in `<name>.crt` and `<name>.key` below the PKI folder, made if it is not there.
    pub fn ensure(name: &str, common_name: &str) -> anyhow::Result<Authority> {
        let (cert_path, key_path) = (format!("{PKI}/{name}.crt"), format!("{PKI}/{name}.key"));
        if !Path::new(&cert_path).exists() {
            let mut params = CertificateParams::default();
            params.distinguished_name = name_of(common_name, None);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyEncipherment,
                KeyUsagePurpose::KeyCertSign,
                KeyUsagePurpose::CrlSign,
            ];
            set_validity(&mut params, CA_DAYS);
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let cert = params.self_signed(&key)?;
            write(&cert_path, &cert.pem(), 0o644)?;
            write(&key_path, &key.serialize_pem(), 0o600)?;
        }
        let cert_pem = read(&cert_path)?;
        let key = KeyPair::from_pem(&read(&key_path)?).with_context(|| format!("in {key_path}"))?;
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key).with_context(|| format!("in {cert_path}"))?;
        Ok(Authority { cert_pem, issuer })
    }

    pub fn sign(&self, leaf: &Leaf) -> anyhow::Result<Signed> {
        let mut params = CertificateParams::new(leaf.names.clone())?;
        params.distinguished_name = name_of(leaf.common_name, leaf.organization);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        if leaf.server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if leaf.client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        set_validity(&mut params, LEAF_DAYS);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Signed { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }

    /// Signs into `<name>.crt` and `<name>.key` below the PKI folder, unless they are there.
    fn ensure_leaf(&self, name: &str, leaf: &Leaf) -> anyhow::Result<()> {
        let cert_path = format!("{PKI}/{name}.crt");
        if Path::new(&cert_path).exists() {
            return Ok(());
        }
        let signed = self.sign(leaf)?;
        write(&format!("{PKI}/{name}.key"), &signed.key_pem, 0o600)?;
        write(&cert_path, &signed.cert_pem, 0o644)
    }
}

fn name_of(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn set_validity(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::minutes(5); // clocks differ
    params.not_after = now + Duration::days(days);
}

/// What the certificates of a control plane depend on.
pub struct Names<'a> {
    pub node: &'a str,
    pub address: IpAddr,
    /// First address of the service range.
    pub service: IpAddr,
    pub domain: &'a str,
}

/// Makes every file of the PKI folder that is missing; returns the cluster's CA.
pub fn ensure(names: &Names) -> anyhow::Result<Authority> {
    fs::create_dir_all(format!("{PKI}/etcd")).with_context(|| format!("making {PKI}"))?;
    let ca = Authority::ensure("ca", "kubernetes")?;
    let front_proxy = Authority::ensure("front-proxy-ca", "front-proxy-ca")?;
    let etcd = Authority::ensure("etcd/ca", "etcd-ca")?;

    let server_names = vec![
        names.node.to_owned(),
        "kubernetes".into(),
        "kubernetes.default".into(),
        "kubernetes.default.svc".into(),
        format!("kubernetes.default.svc.{}", names.domain),
        "localhost".into(),
        names.service.to_string(),
        names.address.to_string(),
        "127.0.0.1".into(),
    ];
    let client =
        |common_name, organization| Leaf { common_name, organization, names: vec![], server: false, client: true };
    ca.ensure_leaf(
        "apiserver",
        &Leaf { common_name: "kube-apiserver", organization: None, names: server_names, server: true, client: false },
    )?;
    ca.ensure_leaf(
        "apiserver-kubelet-client",
        &client("kube-apiserver-kubelet-client", Some("kubeadm:cluster-admins")),
    )?;
    front_proxy.ensure_leaf("front-proxy-client", &client("front-proxy-client", None))?;

    let etcd_names =
        vec![names.node.to_owned(), "localhost".into(), names.address.to_string(), "127.0.0.1".into(), "::1".into()];
    let both =
        |common_name| Leaf { common_name, organization: None, names: etcd_names.clone(), server: true, client: true };
    etcd.ensure_leaf("etcd/server", &both(names.node))?;
    etcd.ensure_leaf("etcd/peer", &both(names.node))?;
    etcd.ensure_leaf("etcd/healthcheck-client", &client("kube-etcd-healthcheck-client", None))?;
    etcd.ensure_leaf("apiserver-etcd-client", &client("kube-apiserver-etcd-client", None))?;

    let key_path = format!("{PKI}/sa.key");
    if !Path::new(&key_path).exists() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        write(&format!("{PKI}/sa.pub"), &key.public_key_pem(), 0o600)?;
        write(&key_path, &key.serialize_pem(), 0o600)?;
    }
    Ok(ca)
}

/// The certificates in a PEM file; fails when there is none.
pub fn ders(pem: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let all: Vec<Vec<u8>> = Pem::iter_from_buffer(pem.as_bytes())
        .map(|pem| pem.map(|pem| pem.contents))
        .collect::<Result<_, _>>()
        .context("reading the CA certificate")?;
    anyhow::ensure!(!all.is_empty(), "there is no certificate in what should be the CA's");
    Ok(all)
}

/// `sha256:<hex>` of each certificate's public key, as `--discovery-token-ca-cert-hash` takes it.
pub fn hashes(ca_pem: &str) -> anyhow::Result<Vec<String>> {
    ders(ca_pem)?
        .iter()
        .map(|der| {
            let (_, certificate) = x509_parser::parse_x509_certificate(der).context("reading the CA certificate")?;
            let digest = Sha256::digest(certificate.public_key().raw);
            Ok(format!("sha256:{}", digest.iter().map(|b| format!("{b:02x}")).collect::<String>()))
        })
        .collect()
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

/// Writes a file so that nobody ever sees half of it, or more of it than `mode` allows.
pub fn write(path: &str, text: &str, mode: u32) -> anyhow::Result<()> {
    let partial = format!("{path}.partial");
    let _ = fs::remove_file(&partial);
    let act = || -> std::io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&partial, path)
    };
    act().with_context(|| format!("writing {path}"))
}
