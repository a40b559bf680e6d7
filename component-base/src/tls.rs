//! TLS on the server's side: certificates that are re-read when their files change, client certificates that are asked
//! for but checked later, self-signed certificates.
//!
//! ```no_run
//! use component_base::tls::{self, CertifiedFiles, ServerTls};
//! # fn demo() -> Result<(), tls::Error> {
//! let files = CertifiedFiles { cert: "/etc/kubernetes/pki/apiserver.crt".into(), key: "/etc/kubernetes/pki/apiserver.key".into() };
//! let config = tls::server_config(ServerTls::new(tls::from_files(files)?))?;
//! let client_ca = tls::CaBundle::from_file("/etc/kubernetes/pki/ca.crt")?;
//! # Ok(()) }
//! ```
//!
//! A client's certificate is requested, never demanded, and only its possession is proven in the handshake: several
//! authenticators with different CAs may look at it. [`crate::serving`] puts the chain into the request's extensions as
//! [`PeerCertificates`]; [`CaBundle::verify`] checks it.

use std::{
    fmt,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        ClientHello, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};

/// What is wrong with certificates or keys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} holds no PEM block of a certificate")]
    NoCertificate { path: PathBuf },
    #[error("{path} holds no usable PEM private key: {reason}")]
    Key { path: PathBuf, reason: String },
    #[error("certificate and key do not work together: {0}")]
    Mismatch(String),
    #[error("cannot make a self-signed certificate: {0}")]
    SelfSigned(String),
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error(
        "{there} is there, {missing} is not: a certificate and its key go together; remove the one, or supply the other"
    )]
    Half { there: PathBuf, missing: PathBuf },
    #[error("the client's certificate is not acceptable: {0}")]
    Untrusted(String),
}

/// The certificate chain a client presented, its own first. Its key was proven, its issuer was not.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// A pair of PEM files; the certificate's may hold its intermediates after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// How a server speaks TLS.
#[derive(Debug)]
pub struct ServerTls {
    pub cert: Arc<dyn ResolvesServerCert>,
    /// Ask clients for a certificate.
    pub request_client_cert: bool,
    /// Names of CAs to send as hints with that request.
    pub client_ca_hints: Vec<DistinguishedName>,
    pub versions: &'static [&'static SupportedProtocolVersion],
    /// The cipher suites of TLS 1.2 by their IANA names; all that are safe if empty.
    pub cipher_suites: Vec<String>,
    /// Protocols by preference.
    pub alpn: Vec<Vec<u8>>,
}

impl ServerTls {
    /// HTTP/2 and HTTP/1.1 over TLS 1.2 and 1.3, client certificates requested.
    pub fn new(cert: Arc<dyn ResolvesServerCert>) -> Self {
        Self {
            cert,
            request_client_cert: true,
            client_ca_hints: Vec::new(),
            versions: rustls::ALL_VERSIONS,
            cipher_suites: Vec::new(),
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }

    /// Takes the names of `--tls-cipher-suites`; one that nobody knows is an error.
    pub fn restrict_cipher_suites(&mut self, names: &[String]) -> Result<(), Error> {
        let known = |name: &&String| CIPHER_SUITES.contains(&name.as_str());
        match names.iter().find(|name| !known(name)) {
            Some(name) => Err(Error::Mismatch(format!("Cipher suite {name} not supported or doesn't exist"))),
            None => {
                self.cipher_suites = names.to_vec();
                Ok(())
            }
        }
    }
}

/// TLS 1.3 and nothing else.
pub const ONLY_TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The names that upstream's flag takes. Those that are not safe are accepted and never spoken.
#[rustfmt::skip]
const CIPHER_SUITES: [&str; 27] = [
    "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA", "TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_256_CBC_SHA", "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// The rustls form of `tls`.
pub fn server_config(tls: ServerTls) -> Result<Arc<ServerConfig>, Error> {
    let mut provider = quick_first(ring::default_provider());
    if !tls.cipher_suites.is_empty() {
        // Older names stand for the same suites.
        let named = |suite: &str| {
            tls.cipher_suites
                .iter()
                .any(|name| suite.strip_suffix("_SHA256").is_some_and(|short| short == name) || suite == name)
        };
        provider.cipher_suites.retain(|suite| suite.tls13().is_some() || suite.suite().as_str().is_some_and(named));
    }
    let provider = Arc::new(provider);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(tls.versions)
        .map_err(|error| Error::Mismatch(error.to_string()))?;
    let builder = if tls.request_client_cert {
        builder.with_client_cert_verifier(Arc::new(ProofOnly { provider, hints: tls.client_ca_hints }))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(tls.cert);
    config.alpn_protocols = tls.alpn;
    config.ignore_client_order = true;
    // One buffer of this size per connection and direction; larger records only cost memory here.
    config.max_fragment_size = None;
    Ok(Arc::new(config))
}

/// Ciphers in the order in which Go's servers, upstream's among them, choose: AES with 128 bits, which no attack is known to come near,
/// before the same with 256, which costs a third more for every event that a watcher is sent.
fn quick_first(mut provider: CryptoProvider) -> CryptoProvider {
    provider.cipher_suites.sort_by_key(|suite| {
        use rustls::CipherSuite as S;
        match suite.suite() {
            S::TLS13_AES_128_GCM_SHA256 => 0,
            S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 | S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 1,
            _ => 2,
        }
    });
    provider
}

/// A server certificate that follows its files.
pub fn from_files(files: CertifiedFiles) -> Result<Arc<dyn ResolvesServerCert>, Error> {
    Ok(Arc::new(FileCert(following(files)?)))
}

/// A certificate and key that follow their files. An unreadable change keeps what was read before.
pub fn following(files: CertifiedFiles) -> Result<Watched<CertifiedKey>, Error> {
    Watched::new(vec![files.cert.clone(), files.key.clone()], move || read_certified(&files))
}

/// A fresh certificate for these names (DNS names or IP addresses), for a component that was given none.
pub fn self_signed(names: &[String]) -> Result<Arc<dyn ResolvesServerCert>, Error> {
    let (cert, key) = self_signed_pem(names)?;
    let certs = vec![CertificateDer::from_pem_slice(cert.as_bytes()).map_err(|e| Error::SelfSigned(e.to_string()))?];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| Error::SelfSigned(e.to_string()))?;
    Ok(Arc::new(FixedCert(Arc::new(certified(certs, key)?))))
}

/// The certificate in `<pair>.crt` and its key in `<pair>.key` of a folder: those of an earlier start, or else fresh ones for these names,
/// kept for the next. Clients that trusted it once can go on.
pub fn self_signed_in(folder: &Path, pair: &str, names: &[String]) -> Result<Arc<dyn ResolvesServerCert>, Error> {
    let files = CertifiedFiles { cert: folder.join(format!("{pair}.crt")), key: folder.join(format!("{pair}.key")) };
    match (files.cert.exists(), files.key.exists()) {
        (true, true) => {}
        (true, false) => return Err(Error::Half { there: files.cert, missing: files.key }),
        (false, true) => return Err(Error::Half { there: files.key, missing: files.cert }),
        (false, false) => {
            let (cert, key) = self_signed_pem(names)?;
            let failed = |path: &Path| {
                let path = path.to_owned();
                move |source| Error::Write { path, source }
            };
            std::fs::create_dir_all(folder).map_err(failed(folder))?;
            write(&files.key, &key, 0o600).map_err(failed(&files.key))?;
            write(&files.cert, &cert, 0o644).map_err(failed(&files.cert))?;
        }
    }
    from_files(files)
}

/// A new file, readable to none but whom the mode names from its first moment.
fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut options = File::options();
    options.write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

/// As [`self_signed`], as the PEM texts of certificate and key. The first name is the common name.
pub fn self_signed_pem(names: &[String]) -> Result<(String, String), Error> {
    let make = || {
        let mut params = rcgen::CertificateParams::new(names.to_vec())?;
        let common_name = names.first().map_or("localhost", String::as_str);
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        let key = rcgen::KeyPair::generate()?;
        let cert = params.self_signed(&key)?;
        Ok((cert.pem(), key.serialize_pem()))
    };
    make().map_err(|error: rcgen::Error| Error::SelfSigned(error.to_string()))
}

/// Every certificate in a PEM file.
pub fn read_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let certs: Vec<_> = CertificateDer::pem_reader_iter(BufReader::new(file)).filter_map(Result::ok).collect();
    if certs.is_empty() { Err(Error::NoCertificate { path: path.to_owned() }) } else { Ok(certs) }
}

/// The certificate, its intermediates and their key of PEM texts; one text may hold all of them.
pub fn certified_from_pem(cert: &[u8], key: &[u8]) -> Result<CertifiedKey, Error> {
    let certs: Vec<_> = CertificateDer::pem_slice_iter(cert).filter_map(Result::ok).collect();
    if certs.is_empty() {
        return Err(Error::Mismatch("there is no certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| Error::Mismatch(format!("no usable key: {error}")))?;
    certified(certs, key)
}

fn read_certified(files: &CertifiedFiles) -> Result<CertifiedKey, Error> {
    let certs = read_certs(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| Error::Key { path: files.key.clone(), reason: error.to_string() })?;
    certified(certs, key)
}

fn certified(certs: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, Error> {
    CertifiedKey::from_der(certs, key, &ring::default_provider()).map_err(|error| Error::Mismatch(error.to_string()))
}

/// A value read from files, read again when one of them changes.
///
/// The check is made by whoever asks, at most once per [`CHECK_EVERY`]: there is no task to own.
pub struct Watched<T> {
    paths: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, Error> + Send + Sync>,
    state: Mutex<WatchedState<T>>,
}

/// The longest that a changed file goes unnoticed while it is used.
pub const CHECK_EVERY: Duration = Duration::from_secs(5);

struct WatchedState<T> {
    value: Arc<T>,
    stamps: Vec<Option<SystemTime>>,
    checked: Instant,
}

impl<T> Watched<T> {
    pub fn new(
        paths: Vec<PathBuf>,
        read: impl Fn() -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let stamps = stamps(&paths);
        let value = Arc::new(read()?);
        let state = Mutex::new(WatchedState { value, stamps, checked: Instant::now() });
        Ok(Self { paths, read: Box::new(read), state })
    }

    /// The value, as of the files' latest readable state.
    pub fn get(&self) -> Arc<T> {
        let mut state = self.state.lock();
        if state.checked.elapsed() >= CHECK_EVERY {
            state.checked = Instant::now();
            let stamps = stamps(&self.paths);
            if stamps != state.stamps {
                match (self.read)() {
                    Ok(value) => {
                        tracing::info!(file = %self.paths[0].display(), "Loaded changed certificates");
                        state.value = Arc::new(value);
                        state.stamps = stamps;
                    }
                    // Both files of a pair are replaced one after the other; the next check sees both.
                    Err(error) => tracing::warn!(%error, "Cannot load changed certificates, keeping the ones in use"),
                }
            }
        }
        state.value.clone()
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("paths", &self.paths).finish_non_exhaustive()
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<SystemTime>> {
    paths.iter().map(|path| path.metadata().and_then(|metadata| metadata.modified()).ok()).collect()
}

#[derive(Debug)]
struct FileCert(Watched<CertifiedKey>);

impl ResolvesServerCert for FileCert {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }
}

#[derive(Debug)]
struct FixedCert(Arc<CertifiedKey>);

impl ResolvesServerCert for FixedCert {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A bundle of CAs in a file that is followed.
#[derive(Debug)]
pub struct CaBundle(Watched<Bundle>);

struct Bundle {
    verifier: Arc<dyn ClientCertVerifier>,
    pem: Vec<u8>,
}

impl CaBundle {
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        Watched::new(vec![path.clone()], move || read_bundle(&path)).map(Self)
    }

    /// Whether a chain leads from its first certificate, valid now and for client authentication, to one of the CAs.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let (leaf, intermediates) = chain.split_first().ok_or_else(|| Error::Untrusted("it is missing".into()))?;
        let verifier = self.0.get().verifier.clone();
        match verifier.verify_client_cert(leaf, intermediates, UnixTime::now()) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::Untrusted(error.to_string())),
        }
    }

    /// Subject names of the CAs, as hints for [`ServerTls`].
    pub fn hints(&self) -> Vec<DistinguishedName> {
        self.0.get().verifier.root_hint_subjects().to_vec()
    }

    /// The bundle's file as it was read.
    pub fn pem(&self) -> Vec<u8> {
        self.0.get().pem.clone()
    }
}

fn read_bundle(path: &Path) -> Result<Bundle, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read_certs(path)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
        .build()
        .map_err(|_| Error::NoCertificate { path: path.to_owned() })?;
    let pem = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(Bundle { verifier, pem })
}

/// Takes any client certificate whose key the client proves to hold.
#[derive(Debug)]
struct ProofOnly {
    provider: Arc<CryptoProvider>,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for ProofOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Who a client certificate says it is: the common name is the user, the organizations are the groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
}

/// The subject of a certificate; `None` if it cannot be parsed or has no common name, or an empty one: that is nobody.
pub fn subject(cert: &CertificateDer<'_>) -> Option<Subject> {
    let (_, cert) = x509_parser::parse_x509_certificate(cert).ok()?;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    let subject = cert.subject();
    let common_name = subject.iter_common_name().filter_map(text).last().filter(|name| !name.is_empty())?;
    Some(Subject { common_name, organizations: subject.iter_organization().filter_map(text).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pki {
        dir: tempfile::TempDir,
        leaf: CertificateDer<'static>,
    }

    /// A CA in `ca.crt` and a client certificate of it.
    fn pki() -> Pki {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "ca");
        let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:n1");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), issuer.pem()).unwrap();
        Pki { dir, leaf: leaf.der().clone() }
    }

    #[test]
    fn a_self_signed_certificate_is_kept_for_the_next_start() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        let (cert, key) = (folder.join("apiserver.crt"), folder.join("apiserver.key"));
        let start = || self_signed_in(&folder, "apiserver", &["kubernetes".into(), "127.0.0.1".into()]);
        start().unwrap();
        let first = std::fs::read(&cert).unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        start().unwrap();
        assert_eq!(std::fs::read(&cert).unwrap(), first);
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(start(), Err(Error::Half { .. })), "a half is nobody's to replace");
        assert_eq!(std::fs::read(&cert).unwrap(), first);
    }

    #[test]
    fn a_bundle_judges_chains() {
        let (ours, other) = (pki(), pki());
        let bundle = CaBundle::from_file(ours.dir.path().join("ca.crt")).unwrap();
        assert!(bundle.verify(std::slice::from_ref(&ours.leaf)).is_ok());
        assert!(bundle.verify(std::slice::from_ref(&other.leaf)).is_err());
        assert!(bundle.verify(&[]).is_err());
        assert_eq!(bundle.hints().len(), 1);
    }

    #[test]
    fn subject_names_user_and_groups() {
        let subject = subject(&pki().leaf).unwrap();
        assert_eq!(subject.common_name, "system:node:n1");
        assert_eq!(subject.organizations, ["system:nodes"]);
    }

    #[test]
    fn who_has_no_common_name_is_nobody() {
        use rcgen::DnType::{CommonName, OrganizationName};
        for (names, expected) in [
            (&[(CommonName, "alice"), (OrganizationName, "users")][..], Some("alice")),
            (&[(OrganizationName, "system:masters")], None),
            (&[(CommonName, ""), (OrganizationName, "system:masters")], None),
            (&[], None),
        ] {
            let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            names.iter().for_each(|(kind, name)| params.distinguished_name.push(kind.clone(), *name));
            let cert = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            assert_eq!(subject(cert.der()).map(|subject| subject.common_name).as_deref(), expected, "{names:?}");
        }
    }

    #[test]
    fn files_that_do_not_fit_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = CertifiedFiles { cert: dir.path().join("tls.crt"), key: dir.path().join("tls.key") };
        assert!(matches!(from_files(files.clone()), Err(Error::Read { .. })));
        let (cert, _) = self_signed_pem(&["a".into()]).unwrap();
        let (_, key) = self_signed_pem(&["b".into()]).unwrap();
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, "no key").unwrap();
        assert!(matches!(from_files(files.clone()), Err(Error::Key { .. })));
        std::fs::write(&files.key, key).unwrap();
        assert!(matches!(from_files(files), Err(Error::Mismatch(_))));
    }
}
