//! Where a certificate is kept, under upstream's names: `<prefix>-<time>.pem` holds certificate and key, the link
//! `<prefix>-current.pem` points at the one in use. Whoever reads sees the old file or the new one, never a part.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::KeyPair;

use crate::Error;
use crate::pair::Pair;

/// Which request a key is for. Their keys differ, as a request is found again by its key: a renewal that waits must not be
/// taken for the request of a bootstrap, whose credentials may have a right that the node itself lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// There is no valid certificate.
    First,
    Renewal,
}

/// The files of one certificate.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    prefix: &'static str,
}

impl Store {
    pub fn new(folder: &Path, prefix: &'static str) -> Self {
        // What refers to a file of it should do so from any working directory. This fails for an empty path only.
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Self { folder, prefix }
    }

    /// The link to the certificate in use.
    pub fn current_path(&self) -> PathBuf {
        self.folder.join(format!("{}-current.pem", self.prefix))
    }

    /// The certificate in use, if there is one that can be read.
    pub fn load(&self) -> Option<Pair> {
        let path = self.current_path();
        let text = std::fs::read(&path).ok()?;
        Pair::from_pem(&text, &text)
            .inspect_err(|error| tracing::warn!(file = %path.display(), %error, "Can't use the certificate"))
            .ok()
    }

    /// Keeps a certificate and makes it the current one.
    pub fn save(&self, cert: &[u8], key: &str) -> Result<Pair, Error> {
        let pair = Pair::from_pem(cert, key.as_bytes())?;
        let current = self.current_path();
        if current.symlink_metadata().is_ok_and(|metadata| !metadata.is_symlink()) {
            return Err(Error::NoLink(current));
        }
        let name = Timestamp::now().strftime(&format!("{}-%Y-%m-%d-%H-%M-%S.pem", self.prefix)).to_string();
        let separator: &[u8] = if cert.ends_with(b"\n") { b"" } else { b"\n" };
        write(&self.folder.join(&name), &[cert, separator, key.as_bytes()].concat())?;
        let updated = self.folder.join(format!("{}-updated.pem", self.prefix));
        let _ = std::fs::remove_file(&updated);
        symlink(&name, &updated).map_err(failed("make", &updated))?;
        std::fs::rename(&updated, &current).map_err(failed("replace", &current))?;
        Ok(pair)
    }

    /// The key of the request that is under way: that of an earlier start, so that its request is found again, or a new
    /// one.
    pub fn pending_key(&self, request: Request) -> Result<KeyPair, Error> {
        let path = self.pending_key_path(request);
        let kept = std::fs::read_to_string(&path).ok().and_then(|text| KeyPair::from_pem(&text).ok());
        if let Some(key) = kept {
            return Ok(key);
        }
        let key = KeyPair::generate()?;
        write(&path, key.serialize_pem().as_bytes())?;
        Ok(key)
    }

    /// Has the next request begin with a key of its own.
    pub fn forget_pending_key(&self, request: Request) {
        let path = self.pending_key_path(request);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(file = %path.display(), %error, "Can't remove the key of a request that is over");
        }
    }

    fn pending_key_path(&self, request: Request) -> PathBuf {
        let suffix = match request {
            Request::First => "",
            Request::Renewal => "-renewal",
        };
        self.folder.join(format!("{}{suffix}.key.tmp", self.prefix))
    }
}

/// Writes a file whole or not at all, for its owner's eyes only.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed("make", folder))?;
    }
    // One that an earlier start left behind may be open to others.
    let _ = std::fs::remove_file(&new);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(failed("write", &new))?;
    std::fs::rename(&new, path).map_err(failed("replace", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Template;
    use std::os::unix::fs::PermissionsExt as _;

    fn certified(name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = Template::client(name).params().expect("parameters");
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    }

    #[test]
    fn the_link_leads_to_the_latest_and_keys_are_their_owners() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(&folder.path().join("pki"), "kubelet-client");
        assert!(store.load().is_none());
        for name in ["a", "b"] {
            let (cert, key) = certified(name);
            // Without a line's end between them the two would be one block.
            store.save(cert.trim_end().as_bytes(), &key).expect("saved");
            assert_eq!(store.load().expect("a pair").facts.common_name, format!("system:node:{name}"));
        }
        let target = std::fs::read_link(store.current_path()).expect("a link");
        assert!(target.to_string_lossy().starts_with("kubelet-client-2"), "{target:?}");
        store.pending_key(Request::First).expect("a key");
        for file in std::fs::read_dir(folder.path().join("pki")).expect("a folder").flatten() {
            let mode = file.path().metadata().expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
        }
    }

    #[test]
    fn what_does_not_belong_together_is_not_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(folder.path(), "kubelet-client");
        let ((cert, _), (_, key)) = (certified("a"), certified("a"));
        assert!(matches!(store.save(cert.as_bytes(), &key), Err(Error::Unusable(_))));
        assert!(store.load().is_none());
        std::fs::write(store.current_path(), "somebody's").expect("written");
        let (cert, key) = certified("a");
        assert!(matches!(store.save(cert.as_bytes(), &key), Err(Error::NoLink(_))));
        assert_eq!(std::fs::read_to_string(store.current_path()).expect("kept"), "somebody's");
    }

    #[test]
    fn the_key_of_a_request_outlives_a_restart_until_it_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = || Store::new(folder.path(), "kubelet-client");
        let key = || store().pending_key(Request::First).expect("a key").serialize_pem();
        let first = key();
        assert_ne!(store().pending_key(Request::Renewal).expect("a key").serialize_pem(), first);
        assert_eq!(key(), first);
        std::fs::write(folder.path().join("kubelet-client.key.tmp"), "half a k").expect("written");
        let second = key();
        assert_ne!(second, first);
        store().forget_pending_key(Request::First);
        assert_ne!(key(), second);
    }
}
