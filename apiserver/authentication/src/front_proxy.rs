//! A proxy in front of us that has authenticated the user itself: trusted by its own certificate, it tells in headers who
//! the user is.

use component_base::tls::{CaBundle, PeerCertificates, subject};
use http::HeaderMap;
use request::User;

pub struct FrontProxy {
    pub ca: CaBundle,
    /// Common names that may do this; empty allows every certificate of the CA.
    pub allowed_names: Vec<String>,
    pub username_headers: Vec<String>,
    pub uid_headers: Vec<String>,
    pub group_headers: Vec<String>,
    pub extra_prefixes: Vec<String>,
}

impl FrontProxy {
    pub fn authenticate(&self, peer: &PeerCertificates, headers: &HeaderMap) -> Option<User> {
        let text = |name: &String| headers.get(name.as_str()).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
        let name = self.username_headers.iter().find_map(text)?.to_owned();
        self.ca.verify(&peer.0).ok()?;
        let proxy = subject(peer.0.first()?)?;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&proxy.common_name) {
            return None;
        }
        let mut user = User {
            name,
            uid: self.uid_headers.iter().find_map(text).unwrap_or_default().to_owned(),
            ..User::default()
        };
        for header in &self.group_headers {
            user.groups
                .extend(headers.get_all(header.as_str()).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned));
        }
        for (header, value) in headers {
            let key = self.extra_prefixes.iter().find_map(|p| header.as_str().strip_prefix(&p.to_ascii_lowercase()));
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
                user.extra.entry(key).or_default().push(value.to_owned());
            }
        }
        Some(user)
    }
}
