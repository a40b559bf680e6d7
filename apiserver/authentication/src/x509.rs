//! Client certificates: the common name is the user, each organization a group.

use component_base::tls::{CaBundle, PeerCertificates, subject};
use request::User;

pub struct X509 {
    pub ca: CaBundle,
}

impl X509 {
    pub fn authenticate(&self, peer: &PeerCertificates) -> Option<User> {
        self.ca.verify(&peer.0).ok()?;
        let subject = subject(peer.0.first()?)?;
        Some(User { name: subject.common_name, groups: subject.organizations, ..User::default() })
    }
}
